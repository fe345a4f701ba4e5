//! What looks like a token.

/// Stands where a value was taken out.
pub(super) const HIDDEN: &str = "***";

/// How the tokens of well-known hosts begin: those of GitHub, GitLab, Gitea's and Bitbucket's documentation.
const KNOWN: [&str; 17] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "glcbt-",
    "glrt-",
    "gloas-",
    "glsoat-",
    "glft-",
    "ATBB",
    "ATCTT",
    "ATATT",
    "x-token-",
];

/// Whether a segment of a path could be a token; `is_last` is whether it is the repository's own name.
///
/// A name is made of words with digits at their ends. What changes between letters and digits more often, begins as known
/// tokens do, or calls itself one (`secret`), could be a token. Where a name is taken for one, all that happens is that it
/// is not shown.
pub(super) fn is_token(segment: &str, is_last: bool) -> bool {
    let decoded = super::percent::percent_decoded(segment);
    let name = decoded.strip_suffix(b".git").unwrap_or(&decoded);
    let text = String::from_utf8_lossy(name);
    if KNOWN.iter().any(|known| text.starts_with(known) && text.len() > known.len() + 8) {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    if !is_last
        && ["token", "t0ken", "tok3n", "secret", "s3cret", "passw"].iter().any(|word| lower.contains(word))
    {
        return true;
    }
    let changes = name
        .windows(2)
        .filter(|pair| {
            let [one, next] = pair else { return false };
            (one.is_ascii_digit() && next.is_ascii_alphabetic())
                || (one.is_ascii_alphabetic() && next.is_ascii_digit())
        })
        .count();
    changes >= 3 && name.len() >= 10
}

/// `text` with each word hidden that begins as the tokens of well-known hosts do.
pub(super) fn without_known(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '=');
    let mut shown = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c| !is_part(c)) {
        let word = piece.trim_end_matches(|c| !is_part(c));
        if KNOWN.iter().any(|known| word.starts_with(known) && word.len() > known.len() + 8) {
            shown.push_str(HIDDEN);
            shown.push_str(&piece[word.len()..]);
        } else {
            shown.push_str(piece);
        }
    }
    shown
}

/// What in a header field (`Name: value`) must not be shown: the value, its last word, which follows the scheme of an
/// `Authorization`, and what that word says in base64.
pub(crate) fn secrets_of_header(field: &str) -> Vec<String> {
    let value = field.split_once(':').map_or(field, |(_, value)| value).trim();
    let word = value.split_whitespace().next_back().unwrap_or_default();
    let mut secrets = vec![value.to_owned(), word.to_owned()];
    if let Some(decoded) = from_base64(word) {
        if let Some((_, password)) = decoded.split_once(':') {
            secrets.push(password.to_owned());
        }
        secrets.push(decoded);
    }
    secrets.retain(|secret| !secret.is_empty());
    secrets
}

/// How user and password of a URL are sent (RFC 7617, 2).
pub(crate) fn basic(user: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(user.len().div_ceil(3) * 4);
    for three in user.chunks(3) {
        let byte = |place: usize| u32::from(three.get(place).copied().unwrap_or_default());
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4_usize {
            let digit = usize::try_from(number >> (18 - 6 * place) & 63).unwrap_or_default();
            text.push(if place <= three.len() { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    text
}

/// The text that is written so (RFC 4648, 4), if it is one.
fn from_base64(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut number, mut bits) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        number = (number << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(number >> bits & 0xff).expect("eight bits are a byte"));
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_from_a_name() {
        for token in [
            "x7Kq9Zp2Lm4Rt8Wv",
            "550e8400-e29b-41d4-a716-446655440000",
            "d41d8cd98f00b204e9800998ecf8427e",
            "ghp_abcdefghijklmnop",
            "glpat-abcdefghijkl",
            "my-t0ken",
            "SECRET",
            "path%2Dtok3n",
        ] {
            assert!(is_token(token, false), "{token}");
        }
        for name in [
            "app",
            "app.git",
            "web2",
            "k8s",
            "log4j",
            "v1.2.3",
            "2024-01-15",
            "my-long-project-name",
            "@scope",
            "",
            "ghp_",
            "python3.11",
            "e2e-tests",
            "~user",
        ] {
            assert!(!is_token(name, false), "{name}");
        }
        assert!(!is_token("token-service.git", true), "a repository may be called so");
        assert!(is_token("d41d8cd98f00b204e9800998ecf8427e.git", true));
    }

    #[test]
    fn a_word_that_begins_like_a_token_is_hidden() {
        assert_eq!(
            without_known("bad ghp_0123456789abc, (glpat-x_y-0123456789) ghp_ ATBB"),
            "bad ***, (***) ghp_ ATBB"
        );
    }

    #[test]
    fn of_a_header_the_value_is_secret_in_every_form() {
        assert_eq!(secrets_of_header("PRIVATE-TOKEN: abc"), ["abc", "abc"]);
        assert_eq!(
            secrets_of_header("Authorization: Basic Ym90OnMzY3JldA=="),
            ["Basic Ym90OnMzY3JldA==", "Ym90OnMzY3JldA==", "s3cret", "bot:s3cret"]
        );
        assert_eq!(secrets_of_header("X"), ["X", "X"]);
        assert_eq!(basic(b"bot:s3cret"), "Ym90OnMzY3JldA==");
        assert_eq!(from_base64(&basic(b"bot:s3cre")).as_deref(), Some("bot:s3cre"));
    }
}
