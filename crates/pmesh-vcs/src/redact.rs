//! What strangers and configurations say, as it may be shown: without credentials, and without what steers a terminal.
//!
//! A URL of a remote often carries a token, and git repeats the URL in what it prints.

mod percent;
mod token;

pub(crate) use percent::percent_decoded;
use token::{HIDDEN, is_token};
pub(crate) use token::{basic, secrets_of_header};

/// `url` as it may be shown: without user name and password, with the values of its query, its fragment and what looks like
/// a token in its path hidden, and [`printable`].
///
/// The user name of an ssh URL stays (`git@host:path`, `ssh://git@host/path`), as it says which account is
/// asked and opens nothing; in other schemes a user name alone can be a token. The paths of ssh and of files are left as they are.
///
/// ```
/// use pmesh_vcs::redact::url;
/// assert_eq!(url("https://bot:s3cret@example.org/app.git"), "https://example.org/app.git");
/// assert_eq!(url("https://s3cret@example.org/app.git"), "https://example.org/app.git");
/// assert_eq!(url("https://example.org/x7Kq9Zp2Lm4Rt8Wv/app.git"), "https://example.org/***/app.git");
/// assert_eq!(url("git@example.org:app.git"), "git@example.org:app.git");
/// ```
pub fn url(url: &str) -> String {
    printable(&without_secrets(url))
}

/// `text` without characters that move a terminal's cursor, change its colours, break a line or have text read in another
/// order: they are escaped as in a string of Rust.
///
/// These are the controls of ASCII and Latin 1 (ECMA-48), line and paragraph separators, and those that set the direction
/// of text (Unicode Standard Annex 9; Technical Report 36, 2.1).
///
/// ```
/// use pmesh_vcs::redact::printable;
/// assert_eq!(printable("a\u{1b}[2Jb\u{9b}\u{202e}ü\n"), "a\\u{1b}[2Jb\\u{9b}\\u{202e}ü\\n");
/// ```
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// JSON with those characters escaped in its strings, so that it is the same value (RFC 8259, 7). The controls of ASCII
/// stay: in strings there are none, and between values they are white space.
///
/// ```
/// use pmesh_vcs::redact::printable_json;
/// assert_eq!(printable_json("{\"a\":\"\u{9b}2J\"}\n"), "{\"a\":\"\\u009b2J\"}\n");
/// ```
pub fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c > '~' && is_unprintable(c) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether [`printable`] escapes `c`.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn without_secrets(url: &str) -> String {
    if let Some((helper, address)) = helper(url) {
        return format!("{helper}::{}", without_secrets(address));
    }
    match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            let is_ssh = ["ssh", "git+ssh", "ssh+git"].iter().any(|ssh| scheme.eq_ignore_ascii_case(ssh));
            if scheme.eq_ignore_ascii_case("file") {
                return url.to_owned();
            }
            let (user, host_and_path) = split_user(rest);
            let user = match user {
                Some(user) if is_ssh => {
                    let name = user.split(':').next().unwrap_or_default();
                    if name.is_empty() { String::new() } else { format!("{name}@") }
                }
                _ => String::new(),
            };
            let shown = if is_ssh { without_query(host_and_path) } else { without_tokens(host_and_path) };
            format!("{scheme}://{user}{shown}")
        }
        _ => scp_style(url),
    }
}

/// `text` with every URL in it redacted as by [`url`], and each of `secrets`, and every word that begins as the tokens of
/// well-known hosts do, hidden wherever it stands; and [`printable`].
///
/// URLs end at white space and at quotes. Secrets of fewer than 4 bytes are left: they would tear words
/// apart and keep nobody out.
pub fn text(text: &str, secrets: &[String]) -> String {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | '<' | '>' | '\u{0}');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let scheme_length =
            rest[..at].bytes().rev().take_while(|b| b.is_ascii_alphanumeric() || b"+-.:".contains(b)).count();
        let start = at - scheme_length;
        let end = rest[at + 3..].find(is_end).map_or(rest.len(), |length| at + 3 + length);
        shown.push_str(&rest[..start]);
        // A colon before the scheme belongs to the sentence, unless it names a remote helper.
        let (before, address) = sentence_colon(&rest[start..end]);
        shown.push_str(before);
        shown.push_str(&without_secrets(address));
        rest = &rest[end..];
    }
    shown.push_str(rest);
    // The longest first, so that no part of one is left when another is its beginning.
    let mut secrets: Vec<_> = secrets.iter().filter(|secret| secret.len() >= 4).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        shown = shown.replace(secret.as_str(), HIDDEN);
    }
    printable(&token::without_known(&shown))
}

/// What in `url` must not be shown, as it stands there and percent-decoded: for [`text`].
pub(crate) fn secrets_of(url: &str) -> Vec<String> {
    let shown = without_secrets(url);
    let mut secrets = Vec::new();
    let Some((scheme, rest)) = url.split_once("://") else { return secrets };
    if let Some(user) = split_user(rest).0 {
        let kept = shown.strip_prefix(&format!("{scheme}://")).and_then(|shown| split_user(shown).0);
        for part in [Some(user), user.split_once(':').map(|(_, password)| password), user.split(':').next()]
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty() && Some(*part) != kept)
        {
            secrets.push(part.to_owned());
            secrets.push(String::from_utf8_lossy(&percent_decoded(part)).into_owned());
        }
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let segments: Vec<_> = split_user(path).1.split('/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    let tokens = segments.iter().enumerate().filter(|(place, segment)| is_token(segment, *place == last));
    for value in values.chain([fragment]).chain(tokens.map(|(_, segment)| *segment)) {
        secrets.push(value.to_owned());
        secrets.push(String::from_utf8_lossy(&percent_decoded(value)).into_owned());
    }
    secrets.retain(|secret| !secret.is_empty());
    secrets.dedup();
    secrets
}

/// `ext::ssh …` and the like: the helper and the address it gets (gitremote-helpers(7)).
fn helper(url: &str) -> Option<(&str, &str)> {
    let (helper, address) = url.split_once("::")?;
    (!helper.is_empty() && helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b)))
        .then_some((helper, address))
}

fn is_scheme(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Splits `user:password@` from what follows a `://`.
fn split_user(rest: &str) -> (Option<&str>, &str) {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    if let Some(at) = authority.rfind('@') {
        return (Some(&rest[..at]), &rest[at + 1..]);
    }
    // A password with a bare `/`, `?` or `#` in it. It does not work, but it is there; what seems to be a port gives it away.
    let port = authority.rsplit_once(':').filter(|_| !authority.ends_with(']')).map(|(_, port)| port);
    if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit()))
        && let Some(at) = rest.rfind('@')
    {
        return (Some(&rest[..at]), &rest[at + 1..]);
    }
    (None, rest)
}

/// Hides the values of a query, the fragment, and what looks like a token among the segments of the path.
fn without_tokens(host_and_path: &str) -> String {
    let end = host_and_path.find(['?', '#']).unwrap_or(host_and_path.len());
    let (path, rest) = host_and_path.split_at(end);
    let last = path.matches('/').count();
    let shown: Vec<_> = path
        .split('/')
        .enumerate()
        .map(|(place, segment)| if place > 0 && is_token(segment, place == last) { HIDDEN } else { segment })
        .collect();
    format!("{}{}", shown.join("/"), without_query(rest))
}

/// Hides the values of a query, and what stands in it without a name.
fn without_query(url: &str) -> String {
    let (url, fragment) = match url.split_once('#') {
        Some((url, fragment)) if !fragment.is_empty() => (url, format!("#{HIDDEN}")),
        _ => (url, String::new()),
    };
    let Some((path, query)) = url.split_once('?') else { return format!("{url}{fragment}") };
    let pairs: Vec<_> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) => format!("{name}={HIDDEN}"),
            None => HIDDEN.to_owned(),
        })
        .collect();
    format!("{path}?{}{fragment}", pairs.join("&"))
}

/// `user@host:path`, where a password has no place; one that was written there all the same is taken out.
fn scp_style(url: &str) -> String {
    let host_end = url.find('/').unwrap_or(url.len());
    match url[..host_end].split_once(':') {
        Some((user, rest)) if !user.contains('@') => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{user}@{host}{}", &url[host_end..]),
            None => url.to_owned(),
        },
        _ => url.to_owned(),
    }
}

/// Splits a leading `word:` off that is no remote helper's `word::`.
fn sentence_colon(address: &str) -> (&str, &str) {
    let scheme_end = address.find("://").unwrap_or_default();
    match address[..scheme_end].rfind(':') {
        Some(at) if !address[..at].ends_with(':') => address.split_at(at + 1),
        _ => ("", address),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_be_a_credential_is_taken_out_of_a_url() {
        for (configured, shown) in [
            ("https://example.org/app.git", "https://example.org/app.git"),
            ("https://user:token@example.org/app.git", "https://example.org/app.git"),
            ("https://token@example.org/app.git", "https://example.org/app.git"),
            ("https://token:@example.org/app.git", "https://example.org/app.git"),
            ("https://:token@example.org/app.git", "https://example.org/app.git"),
            ("https://user:a@b@example.org:8443/app.git", "https://example.org:8443/app.git"),
            ("https://user:pass/word@example.org/app.git", "https://example.org/app.git"),
            ("https://user:pass#word@example.org/app.git", "https://example.org/app.git"),
            ("HTTPS://token@example.org/app.git", "HTTPS://example.org/app.git"),
            ("https://example.org/@scope/app.git", "https://example.org/@scope/app.git"),
            ("https://example.org:8443/@scope/app.git", "https://example.org:8443/@scope/app.git"),
            ("https://[::1]:8443/app.git", "https://[::1]:8443/app.git"),
            ("https://[::1]/@scope/app.git", "https://[::1]/@scope/app.git"),
            (
                "https://example.org/app.git?private_token=abc&x=1",
                "https://example.org/app.git?private_token=***&x=***",
            ),
            ("https://example.org/app.git#t0ken", "https://example.org/app.git#***"),
            ("https://example.org/app.git?a=b#t0ken", "https://example.org/app.git?a=***#***"),
            ("https://example.org/app.git#", "https://example.org/app.git#"),
            ("https://example.org/glpat-x7Kq9Zp2Lm4Rt8Wv/app.git", "https://example.org/***/app.git"),
            ("foo::https://example.org/x7Kq9Zp2Lm4Rt8Wv/app", "foo::https://example.org/***/app"),
            (
                "https://example.org/\u{1b}[2J\u{9b}/a\u{202e}b",
                "https://example.org/\\u{1b}[2J\\u{9b}/a\\u{202e}b",
            ),
            (
                "ssh://git@example.org/x7Kq9Zp2Lm4Rt8Wv/app.git",
                "ssh://git@example.org/x7Kq9Zp2Lm4Rt8Wv/app.git",
            ),
            ("http://user:token@example.org/app.git", "http://example.org/app.git"),
            ("ftp://user:token@example.org/app.git", "ftp://example.org/app.git"),
            ("ssh://git@example.org/app.git", "ssh://git@example.org/app.git"),
            ("ssh://git:secret@example.org:2222/app.git", "ssh://git@example.org:2222/app.git"),
            ("git@example.org:team/app.git", "git@example.org:team/app.git"),
            ("example.org:team/app.git", "example.org:team/app.git"),
            ("user:secret@example.org:team/app.git", "user@example.org:team/app.git"),
            ("git://example.org/app.git", "git://example.org/app.git"),
            ("file:///srv/git/app@2.git", "file:///srv/git/app@2.git"),
            ("/srv/git/app.git", "/srv/git/app.git"),
            ("./a:b@c", "./a:b@c"),
            ("foo::https://user:token@example.org/app.git", "foo::https://example.org/app.git"),
            ("", ""),
        ] {
            assert_eq!(url(configured), shown, "{configured}");
        }
    }

    #[test]
    fn a_url_within_a_sentence_is_redacted_and_the_sentence_stays() {
        let said = "fatal: unable to access 'https://bot:s3cret@example.org/app.git/': Could not resolve host, \
                    bot:s3cret is wrong, url:https://s3cret@x/";
        assert_eq!(
            text(said, &secrets_of("https://bot:s3cret@example.org/app.git")),
            "fatal: unable to access 'https://example.org/app.git/': Could not resolve host, *** is wrong, \
             url:https://x/"
        );
    }

    #[test]
    fn a_token_in_path_or_fragment_is_hidden_wherever_it_is_repeated() {
        let secrets = secrets_of("https://example.org/x7Kq9Zp2Lm4%2Ft8Wv/app.git#s3cr3t");
        assert_eq!(text("no x7Kq9Zp2Lm4/t8Wv, x7Kq9Zp2Lm4%2Ft8Wv or s3cr3t", &secrets), "no ***, *** or ***");
    }

    #[test]
    fn what_a_stranger_says_cannot_steer_a_terminal() {
        assert_eq!(
            text("remote: \u{1b}]0;x\u{7} https://u:p@x/\u{1b}[31m\u{9b}2J \u{200f}\r\n", &[]),
            "remote: \\u{1b}]0;x\\u{7} https://x/\\u{1b}[31m\\u{9b}2J \\u{200f}\\r\\n"
        );
    }

    #[test]
    fn a_percent_encoded_secret_is_hidden_in_both_spellings() {
        let secrets = secrets_of("https://bot:s%2Fcret@example.org/app.git");
        assert_eq!(text("s/cret and s%2Fcret", &secrets), "*** and ***");
    }

    proptest! {
        #[test]
        fn no_token_is_ever_shown(
            scheme in "(http|https|HTTPS|ftp|ftps|git|foo)",
            user in "[a-zA-Z0-9._%~-]{0,8}",
            // A bare `/`, `?` or `#` after an `@` makes the URL mean something else to everybody.
            token in "[A-Z]{3}([a-zA-Z0-9._%~:@!$&*+,;=-]{4,40}|[a-zA-Z0-9._%~!$&*+,;=/#?-]{4,40})[A-Z]{3}",
            host in "[a-z]{1,8}(\\.[a-z]{2,5})?(:[0-9]{2,4})?",
            path in "[a-z]{1,8}(/[a-z]{1,8}){0,2}\\.git",
        ) {
            let configured = format!("{scheme}://{user}:{token}@{host}/{path}");
            let shown = url(&configured);
            prop_assert!(!shown.contains(&token), "{shown}");
            prop_assert_eq!(&shown, &format!("{scheme}://{host}/{path}"));
            prop_assert_eq!(url(&shown), shown, "redacting twice changes nothing");
        }

        #[test]
        fn no_token_without_a_password_is_ever_shown(
            token in "[a-zA-Z0-9._%~-]{8,40}", host in "[a-z]{1,8}", path in "[a-z]{1,8}",
        ) {
            prop_assert_eq!(url(&format!("https://{token}@{host}/{path}")), format!("https://{host}/{path}"));
        }

        #[test]
        fn no_token_is_left_in_what_git_said(
            token in "[A-Z]{3}[a-zA-Z0-9._%~-]{4,40}[A-Z]{3}",
            before in "[a-z :']{0,12}", after in "[ '\n][a-z :']{0,12}",
        ) {
            let configured = format!("https://bot:{token}@example.org/app.git");
            let said = format!("{before}{configured}{after}{token}{after}");
            let shown = text(&said, &secrets_of(&configured));
            prop_assert!(!shown.contains(&token), "{}", shown);
        }

        #[test]
        fn any_text_can_be_redacted(said in ".{0,200}") {
            let once = text(&said, &[]);
            prop_assert_eq!(text(&once, &[]), once.clone());
            prop_assert!(!once.chars().any(is_unprintable));
            prop_assert!(!url(&said).chars().any(is_unprintable));
        }
    }
}
