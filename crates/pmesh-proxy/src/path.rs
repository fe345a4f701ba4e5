//! Paths: what patterns and files see of a request's path, and whether a program behind may see another.

use std::borrow::Cow;

/// A request's path, read once for routes and files.
///
/// The app gets it as the client wrote it. Since it may read that in another way than the routes did,
/// [`other_readings`](Self::other_readings) are to lead there too.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    raw: &'a str,
    /// What patterns see, and where files are looked for: percent-decoded once, `%2f` too, repeated slashes
    /// merged, dot segments removed. `%`, control characters and what is no UTF-8 stay encoded (in upper
    /// case), so that decoding this gives the bytes that the path stands for.
    pub(crate) seen: Cow<'a, str>,
    has_other_readings: bool,
}

/// A path that two programs may read differently; answered 400.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// How segments are put together.
#[derive(Clone, Copy, Default)]
struct Reading {
    /// Dot segments are names like any other.
    keeps_dots: bool,
    /// `..` removes one segment, and the empty one between two slashes is one (RFC 3986, section 5.2.4).
    merges_last: bool,
    /// What stands behind a `;` in a segment is no part of its name (RFC 3986, section 3.3; servlet containers).
    drops_parameters: bool,
}

impl<'a> Path<'a> {
    /// Reads a path that starts with `/` (RFC 3986, sections 5.2.4 and 6.2.2). One that is spelled plainly
    /// costs a look at each byte.
    pub(crate) fn read(raw: &'a str) -> Result<Self, Ambiguous> {
        let (mut is_plain, mut has_parameters, mut before) = (true, false, b' ');
        for byte in raw.bytes() {
            match byte {
                b'/' | b'.' if before == b'/' => is_plain = false,
                b'%' => is_plain = false,
                b';' => has_parameters = true,
                0x21..=0x5b | 0x5d..=0x7e => {}
                _ => return Err(Ambiguous),
            }
            before = byte;
        }
        if !raw.starts_with('/') {
            return Err(Ambiguous);
        }
        if is_plain {
            return Ok(Self { raw, seen: Cow::Borrowed(raw), has_other_readings: has_parameters });
        }
        let segments = segments_of(raw)?;
        let has_other_readings =
            segments.iter().any(|segment| matches!(segment.as_str(), "." | "..") || segment.contains(';'));
        let seen = joined(&segments, Reading::default())?;
        Ok(Self { raw, seen: Cow::Owned(seen), has_other_readings })
    }

    /// What a program may see in this path that leaves dot segments, or merges slashes behind them, or takes
    /// parameters off. Empty for nearly every path.
    pub(crate) fn other_readings(&self) -> Result<Vec<String>, Ambiguous> {
        if !self.has_other_readings {
            return Ok(Vec::new());
        }
        let segments = segments_of(self.raw)?;
        let readings = [
            Reading { keeps_dots: true, ..Reading::default() },
            Reading { merges_last: true, ..Reading::default() },
            Reading { drops_parameters: true, ..Reading::default() },
            Reading { drops_parameters: true, keeps_dots: true, ..Reading::default() },
        ];
        let mut others = Vec::new();
        for reading in readings {
            let other = joined(&segments, reading)?;
            if other != self.seen && !others.contains(&other) {
                others.push(other);
            }
        }
        Ok(others)
    }

    /// The bytes that the path stands for, behind its first slash; only whole escapes are in what is seen.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, Ambiguous> {
        percent_decode(self.seen.strip_prefix('/').ok_or(Ambiguous)?.as_bytes())
    }

    /// A target with what was seen as its path, for a redirect: it never begins with two slashes, which would
    /// be another host.
    pub(crate) fn as_target(&self) -> String {
        let mut target = String::with_capacity(self.seen.len());
        for byte in self.seen.bytes() {
            // RFC 3986, section 3.3, and the `%` of what is encoded.
            if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte) {
                target.push(char::from(byte));
            } else {
                push_encoded(&mut target, &[byte]);
            }
        }
        target
    }
}

/// A text that starts with `/`, as it stands in a pattern, in the spelling that paths are seen in; an error if
/// no path is ever seen so.
pub(crate) fn as_seen(text: &str) -> Result<String, Ambiguous> {
    joined(&segments_of(text)?, Reading::default())
}

/// The segments of a path, decoded; `%2f` parts them as `/` does.
fn segments_of(raw: &str) -> Result<Vec<String>, Ambiguous> {
    let mut segments = Vec::new();
    for written in raw.split('/').skip(1) {
        let segment = decoded_once(written)?;
        let mut parts = segment.split('/');
        // Some Java servers take `..;x` for `..`, and servers that decode first take `..%2f` for it.
        let is_dots = |part: &str| matches!(part.split(';').next(), Some("." | ".."));
        if !matches!(segment.as_str(), "." | "..") && parts.any(is_dots) {
            return Err(Ambiguous);
        }
        segments.extend(segment.split('/').map(str::to_owned));
    }
    Ok(segments)
}

/// The path of these segments. Above the root there is nothing that all programs agree on.
fn joined(segments: &[String], reading: Reading) -> Result<String, Ambiguous> {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_with_slash = true;
    for segment in segments {
        let name = segment.split(';').next().filter(|_| reading.drops_parameters).unwrap_or(segment);
        ends_with_slash = true;
        match name {
            "" if !reading.merges_last => {}
            "." if !reading.keeps_dots => {}
            ".." if !reading.keeps_dots => drop(kept.pop().ok_or(Ambiguous)?),
            name => {
                kept.push(name);
                ends_with_slash = name.is_empty();
            }
        }
    }
    let mut path = String::new();
    for segment in kept.iter().filter(|segment| !segment.is_empty()) {
        path.push('/');
        path.push_str(segment);
    }
    if ends_with_slash || path.is_empty() {
        path.push('/');
    }
    Ok(path)
}

/// All of it decoded; an error if a `%` is not followed by two hexadecimal digits.
fn percent_decode(text: &[u8]) -> Result<Vec<u8>, Ambiguous> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        if first == b'%' {
            let (&[high, low], behind) = behind.split_first_chunk::<2>().ok_or(Ambiguous)?;
            bytes.push(hex(high)? * 16 + hex(low)?);
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

fn decoded_once(segment: &str) -> Result<String, Ambiguous> {
    let bytes = percent_decode(segment.as_bytes())?;
    let mut decoded = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\0' | '\\' => return Err(Ambiguous),
                // A `%` in what was decoded was `%25`: one that begins an escape is gone.
                '%' => push_encoded(&mut decoded, b"%"),
                character if character.is_control() => {
                    push_encoded(&mut decoded, character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                character => decoded.push(character),
            }
        }
        push_encoded(&mut decoded, chunk.invalid());
    }
    if has_overlong_ascii(&bytes) { Err(Ambiguous) } else { Ok(decoded) }
}

/// Whether a decoder that does not look closely finds ASCII in sequences that are no UTF-8 (RFC 3629, section
/// 10): `C0 AF` is a slash to it.
fn has_overlong_ascii(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| matches!(pair, [0xc0 | 0xc1, 0x80..=0xbf]))
        || bytes.windows(3).any(|three| matches!(three, [0xe0, 0x80 | 0x81, 0x80..=0xbf]))
        || bytes.windows(4).any(|four| matches!(four, [0xf0, 0x80, 0x80 | 0x81, 0x80..=0xbf]))
}

fn push_encoded(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push('%');
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_see_one_spelling_of_a_path() {
        for (raw, seen) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a//b", "/a/b"),
            ("//", "/"),
            ("/a//", "/a/"),
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/./a", "/a"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a//../b", "/b"),
            ("/%61dmin", "/admin"),
            ("/admin%2fx", "/admin/x"),
            ("/admin%2F", "/admin/"),
            ("/%2fadmin%2F%2fx", "/admin/x"),
            ("/gr%C3%B6%C3%9Fe", "/gr\u{f6}\u{df}e"),
            ("/a%20b%3f%23", "/a b?#"),
            // Decoded once: what is behind may do it twice, and that is its own affair.
            ("/a%252fb", "/a%252fb"),
            ("/%252e%252e/b", "/%252e%252e/b"),
            ("/100%25", "/100%25"),
            ("/%ff%41", "/%FFA"),
            ("/%e9t%e9", "/%E9t%E9"),
            ("/a%0ab", "/a%0Ab"),
            ("/%c2%85", "/%C2%85"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/a%3bv", "/a;v"),
        ] {
            assert_eq!(Path::read(raw).unwrap().seen, seen, "{raw}");
        }
    }

    #[test]
    fn a_path_that_is_spelled_plainly_is_not_copied() {
        for raw in ["/", "/a/b.c/", "/a;v=1/b"] {
            assert!(matches!(Path::read(raw).unwrap().seen, Cow::Borrowed(seen) if seen == raw), "{raw}");
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
            "/a%2f../../../b",
            "/%00",
            "/a%00b",
            "/a\\b",
            "/a%5cb",
            "/a%5C",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/a b",
            "/\u{f6}",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/..%3bx/b",
            "/a/.;/b",
            "/..%2fb",
            "/a/..%5cb",
            "/a/b%2f..",
            "/a/%2e%2e%2fb",
            "/a/%2e%2fb",
            // Overlong: `/`, `.` and a backslash to a decoder that does not look closely.
            "/a%c0%afb",
            "/%c0%ae%c0%ae/b",
            "/%C1%9cb",
            "/%e0%80%af",
            "/%f0%80%80%af",
        ] {
            assert_eq!(Path::read(raw), Err(Ambiguous), "{raw}");
        }
    }

    #[test]
    fn what_a_program_may_see_otherwise_is_known() {
        for (raw, others) in [
            ("/a/b", Ok(&[][..])),
            ("//a%2fb", Ok(&[])),
            ("/a/./b", Ok(&["/a/./b"])),
            ("/a/../b", Ok(&["/a/../b"])),
            ("/a%2f/x/%2e%2e/b", Ok(&["/a/x/../b"])),
            ("/a//../b", Ok(&["/a/../b", "/a/b"])),
            ("/a;v=1/b;w", Ok(&["/a/b"])),
            ("/;v/a", Ok(&["/a"])),
            ("/a;v/../b", Ok(&["/a;v/../b", "/a/../b"])),
            ("/;v/../b", Err(Ambiguous)),
        ] {
            let read = Path::read(raw).unwrap().other_readings();
            let expected = others.map(|others| others.iter().map(|&other| other.to_owned()).collect());
            assert_eq!(read, expected, "{raw}");
        }
    }

    #[test]
    fn a_redirect_leads_to_the_path_that_was_seen() {
        for (raw, target) in [
            ("/a/b", "/a/b"),
            ("//host/b", "/host/b"),
            ("/%2fhost", "/host"),
            ("/a%20b%3f%23%25%C3%B6%ff%0a", "/a%20b%3F%23%25%C3%B6%FF%0A"),
            ("/x/../~a;b=1", "/~a;b=1"),
        ] {
            assert_eq!(Path::read(raw).unwrap().as_target(), target, "{raw}");
        }
    }

    /// A path in the spelling that patterns see, without anything that stays encoded.
    fn plain() -> impl Strategy<Value = String> {
        "(/[a-c;=~\u{f6}]{1,3}){1,4}/?"
    }

    /// The same path, spelled by a client that would rather not be recognized.
    fn spelled(path: &str, whims: &[u8]) -> String {
        let mut whims = whims.iter().copied().cycle();
        let mut whim = move || whims.next().unwrap_or(0);
        let mut spelled = String::new();
        for (index, byte) in path.bytes().enumerate() {
            match (byte, whim() % 8) {
                (b'/', 0) if index > 0 => spelled.push_str("%2f"),
                (b'/', 1) if index > 0 => spelled.push_str("%2F"),
                (b'/', 2) => spelled.push_str("//"),
                (b'/', 3) => spelled.push_str("/./"),
                (b'/', 4) => spelled.push_str("/x/../"),
                (b'/', 5) => spelled.push_str("/%78/%2e%2E/"),
                (b'/', _) => spelled.push('/'),
                (byte, 0..4) if byte.is_ascii() => spelled.push(char::from(byte)),
                (byte, choice) => {
                    let [upper, lower] = [format!("%{byte:02X}"), format!("%{byte:02x}")];
                    spelled.push_str(if choice % 2 == 0 { &upper } else { &lower });
                }
            }
        }
        spelled
    }

    proptest! {
        #[test]
        fn two_spellings_that_a_decoder_treats_alike_are_seen_alike(
            path in plain(),
            whims in prop::collection::vec(any::<u8>(), 1..40),
        ) {
            let spelled = spelled(&path, &whims);
            prop_assert_eq!(&Path::read(&spelled).unwrap().seen, &path, "{}", spelled);
        }

        #[test]
        fn what_is_seen_is_seen_as_itself_and_stands_for_the_bytes_of_one_decoding(
            raw in "/([ab.;%2eEfF5cC/]|%2e|%2f|%41|%25|\\.\\./){0,20}",
        ) {
            if let Ok(path) = Path::read(&raw) {
                let target = path.as_target();
                let again = Path::read(&target).unwrap();
                prop_assert_eq!(&again.seen, &path.seen);
                prop_assert_eq!(again.bytes(), path.bytes());
                prop_assert_eq!(as_seen(&path.seen), Ok(path.seen.to_string()));
                prop_assert!(!path.seen.contains("//"));
                prop_assert!(path.seen.split('/').all(|segment| segment != "." && segment != ".."));
                if !raw.contains("//") && !raw.contains("/.") && !raw.to_lowercase().contains("%2") {
                    prop_assert_eq!(path.bytes(), percent_decode(&raw.as_bytes()[1..]));
                }
            }
        }
    }
}
