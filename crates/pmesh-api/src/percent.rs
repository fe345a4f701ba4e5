//! Percent-encoding of paths, queries and forms (RFC 3986, 2.1; URL standard, 5).

use std::fmt::Write as _;

/// Why a text is not percent-encoded UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodingError {
    /// A `%` without two hexadecimal digits after it.
    #[error("a % stands for a byte only with two hexadecimal digits after it; write a bare one as %25")]
    Broken,
    /// The bytes are not UTF-8.
    #[error("the decoded bytes are not UTF-8")]
    NotUtf8,
}

/// Decodes once: what comes out of it is not decoded again.
pub(crate) fn decode(text: &str) -> Result<String, EncodingError> {
    String::from_utf8(decode_bytes(text)?).map_err(|_| EncodingError::NotUtf8)
}

/// As [`decode`], for what need not be text.
pub(crate) fn decode_bytes(text: &str) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else { return Err(EncodingError::Broken) };
                u8::try_from(high * 16 + low).expect("two hexadecimal digits make a byte")
            }
            byte => byte,
        });
    }
    Ok(bytes)
}

/// One name of a query or form, and its value if there is a `=`.
pub(crate) type Pair = (String, Option<String>);

/// The pairs of a query or of a form: split at `&`, `+` is a space, empty pieces do not count.
pub(crate) fn pairs(text: &str) -> Result<Vec<Pair>, EncodingError> {
    let decoded = |text: &str| decode(&text.replace('+', " "));
    text.split('&')
        .filter(|piece| !piece.is_empty())
        .map(|piece| match piece.split_once('=') {
            Some((name, value)) => Ok((decoded(name)?, Some(decoded(value)?))),
            None => Ok((decoded(piece)?, None)),
        })
        .collect()
}

/// Encodes `text` as one segment of a path: all but the unreserved characters (RFC 3986, 2.3).
pub(crate) fn encode(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::{EncodingError, decode, encode, pairs};

    #[test]
    fn a_text_is_decoded_once() {
        assert_eq!(decode("w%65b").as_deref(), Ok("web"));
        assert_eq!(decode("%2565").as_deref(), Ok("%65"));
        assert_eq!(decode("a+b").as_deref(), Ok("a+b"), "a plus in a path is a plus");
    }

    #[test]
    fn broken_encoding_and_bytes_that_are_not_text_are_told_apart() {
        for broken in ["%", "%4", "%zz", "a%4", "%-1", "%+1"] {
            assert_eq!(decode(broken), Err(EncodingError::Broken), "{broken}");
        }
        assert_eq!(decode("%ff"), Err(EncodingError::NotUtf8));
    }

    #[test]
    fn pairs_are_those_of_a_form() {
        let pair = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(
            pairs("a&b=&c=1%262&&d+e=f+g=h").unwrap(),
            [pair("a", None), pair("b", Some("")), pair("c", Some("1&2")), pair("d e", Some("f g=h"))]
        );
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        for text in ["web", "a/b", "é ?#%", "..", "my-api.v2_x~"] {
            let encoded = encode(text.as_bytes());
            assert!(!encoded.contains(['/', '?', '#', ' ']), "{encoded}");
            assert_eq!(decode(&encoded).as_deref(), Ok(text));
        }
    }
}
