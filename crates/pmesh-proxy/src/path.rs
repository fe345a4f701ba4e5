//! Paths: the one that a request is routed by, and the same one as it is passed on.

use std::borrow::Cow;

/// A request's path without dot segments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    /// What the upstream gets: as the client wrote it, unless that had dot segments.
    pub(crate) forwarded: Cow<'a, str>,
    /// What patterns see: `forwarded`, percent-decoded once. What decodes to `/`, `\`, `%`, a control
    /// character or no UTF-8 stays encoded (in upper case), so that no two readings exist.
    pub(crate) compared: Cow<'a, str>,
}

/// A path that two programs may read differently; answered 400.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ambiguous;

impl<'a> Path<'a> {
    /// Reads a path that starts with `/` (RFC 3986, sections 5.2.4 and 6.2.2).
    ///
    /// Repeated slashes are kept: they belong to the path, for routes as for the app.
    pub(crate) fn read(raw: &'a str) -> Result<Self, Ambiguous> {
        if !raw.starts_with('/') || raw.bytes().any(|byte| !(0x21..=0x7e).contains(&byte) || byte == b'\\') {
            return Err(Ambiguous);
        }
        if !raw.contains('%') && !raw.contains("/.") {
            return Ok(Self { forwarded: Cow::Borrowed(raw), compared: Cow::Borrowed(raw) });
        }
        let forwarded = without_dot_segments(raw)?;
        let compared = if raw.contains('%') { decoded_once(&forwarded) } else { forwarded.clone() };
        Ok(Self { forwarded, compared })
    }
}

fn without_dot_segments(raw: &str) -> Result<Cow<'_, str>, Ambiguous> {
    let mut kept: Vec<&str> = Vec::new();
    let mut changed = false;
    let mut ends_with_dots = false;
    for segment in raw.split('/').skip(1) {
        let bytes = percent_decode(segment.as_bytes())?;
        if bytes.contains(&0) {
            return Err(Ambiguous);
        }
        ends_with_dots = false;
        match bytes.as_slice() {
            b"." => (changed, ends_with_dots) = (true, true),
            b".." => {
                kept.pop().ok_or(Ambiguous)?;
                (changed, ends_with_dots) = (true, true);
            }
            // `..;x` is `..` to some Java servers, `..%2f` and `..%5c` to whatever decodes first.
            other => {
                let parts = || other.split(|byte| matches!(byte, b'/' | b'\\'));
                let is_dots =
                    |part: &[u8]| matches!(part.split(|byte| *byte == b';').next(), Some(b"." | b".."));
                if parts().any(is_dots) {
                    return Err(Ambiguous);
                }
                kept.push(segment);
            }
        }
    }
    if !changed {
        return Ok(Cow::Borrowed(raw));
    }
    let mut path = String::with_capacity(raw.len());
    for segment in &kept {
        path.push('/');
        path.push_str(segment);
    }
    if ends_with_dots || path.is_empty() {
        path.push('/');
    }
    Ok(Cow::Owned(path))
}

/// All of it decoded; an error if a `%` is not followed by two hexadecimal digits.
pub(crate) fn percent_decode(text: &[u8]) -> Result<Vec<u8>, Ambiguous> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        if first == b'%' {
            let (&[high, low], behind) = behind.split_first_chunk::<2>().ok_or(Ambiguous)?;
            bytes.push(hex(high)? << 4 | hex(low)?);
            rest = behind;
        } else {
            bytes.push(first);
            rest = behind;
        }
    }
    Ok(bytes)
}

fn hex(digit: u8) -> Result<u8, Ambiguous> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or(Ambiguous)
}

fn decoded_once<'a>(path: &Cow<'a, str>) -> Cow<'a, str> {
    let Ok(bytes) = percent_decode(path.as_bytes()) else {
        return path.clone();
    };
    let mut compared = String::with_capacity(bytes.len());
    let mut decoded = path.as_bytes();
    // Walks both: what was written as an octet of its own stays, what was encoded may have to.
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut was_encoded = false;
            for _ in 0..character.len_utf8() {
                let width = if decoded[0] == b'%' { 3 } else { 1 };
                was_encoded |= width == 3;
                decoded = &decoded[width..];
            }
            if was_encoded && (matches!(character, '/' | '\\' | '%') || character.is_control()) {
                push_encoded(&mut compared, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                compared.push(character);
            }
        }
        decoded = &decoded[3 * chunk.invalid().len()..];
        push_encoded(&mut compared, chunk.invalid());
    }
    Cow::Owned(compared)
}

fn push_encoded(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("%{byte:02X}"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_routed_is_what_is_passed_on() {
        for (raw, forwarded, compared) in [
            ("/", "/", "/"),
            ("/a/b", "/a/b", "/a/b"),
            ("/a/b/", "/a/b/", "/a/b/"),
            ("//a//b", "//a//b", "//a//b"),
            ("/a/../b", "/b", "/b"),
            ("/a/./b", "/a/b", "/a/b"),
            ("/a/..", "/", "/"),
            ("/a/b/..", "/a/", "/a/"),
            ("/a/.", "/a/", "/a/"),
            ("/a/%2e%2E/b", "/b", "/b"),
            ("/a/.%2e/b", "/b", "/b"),
            ("/%61dmin", "/%61dmin", "/admin"),
            ("/gr%C3%B6%C3%9Fe", "/gr%C3%B6%C3%9Fe", "/gr\u{f6}\u{df}e"),
            ("/a%20b", "/a%20b", "/a b"),
            ("/a%2fb", "/a%2fb", "/a%2Fb"),
            ("/a%5cb", "/a%5cb", "/a%5Cb"),
            ("/a%252fb", "/a%252fb", "/a%252fb"),
            ("/%ff%41", "/%ff%41", "/%FFA"),
            ("/a%0ab", "/a%0ab", "/a%0Ab"),
            ("/.well-known/x", "/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/...", "/a/..."),
            ("/a;v=1/b", "/a;v=1/b", "/a;v=1/b"),
        ] {
            let path = Path::read(raw).unwrap();
            assert_eq!((path.forwarded.as_ref(), path.compared.as_ref()), (forwarded, compared), "{raw}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for raw in [
            "",
            "a",
            "*",
            "/..",
            "/../a",
            "/a/../../b",
            "/%00",
            "/a%00b",
            "/a\\b",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/a b",
            "/\u{f6}",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/.;/b",
            "/..%2fb",
            "/a/..%5cb",
            "/a/b%2f..",
            "/a/%2e%2e%2fb",
        ] {
            assert_eq!(Path::read(raw), Err(Ambiguous), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn a_path_that_was_read_reads_as_itself(raw in "/([ab.;%2eEfF5cC/]|%2e|%2f|%41|\\.\\./){0,20}") {
            if let Ok(path) = Path::read(&raw) {
                let again = Path::read(&path.forwarded).unwrap();
                prop_assert_eq!(&again.forwarded, &path.forwarded);
                prop_assert_eq!(&again.compared, &path.compared);
                prop_assert!(path.compared.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
