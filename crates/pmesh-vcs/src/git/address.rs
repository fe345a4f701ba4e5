//! The parts of a URL that git reaches by HTTP.

/// A URL of HTTP, in its parts (RFC 3986, 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    /// `http` or `https`, as it is written.
    pub(super) scheme: &'a str,
    /// What stands before the `@`, percent-encoded.
    pub(super) user: Option<&'a str>,
    /// A name or an IP literal; that of IPv6 with its brackets.
    pub(super) host: &'a str,
    /// Digits, or nothing after a bare colon.
    pub(super) port: Option<&'a str>,
    /// What follows the authority: path, query and fragment.
    pub(super) path: &'a str,
}

/// Why a URL is none that could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAddress {
    #[error("the URL has a space, a control character or bytes that are not UTF-8; percent-encode them")]
    Characters,
    #[error(
        "the URL names no host and port; a `/`, `?`, `#` or `@` in a user name or password has to be percent-encoded"
    )]
    Authority,
}

impl<'a> Address<'a> {
    /// The parts of `url`, if it is one of HTTP.
    pub(super) fn parse(url: &'a str) -> Option<Result<Self, NoAddress>> {
        let (scheme, rest) = url.split_once("://")?;
        ["http", "https"].iter().any(|http| scheme.eq_ignore_ascii_case(http)).then(|| Self::of(scheme, rest))
    }

    fn of(scheme: &'a str, rest: &'a str) -> Result<Self, NoAddress> {
        if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(NoAddress::Characters);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let host_end = match place.strip_prefix('[') {
            Some(literal) => 2 + literal.find(']').ok_or(NoAddress::Authority)?,
            None => place.find(':').unwrap_or(place.len()),
        };
        let (host, port) = place.split_at(host_end);
        let port = match port.strip_prefix(':') {
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port),
            None if port.is_empty() => None,
            _ => return Err(NoAddress::Authority),
        };
        // Programs differ in what a backslash is, and in where a host ends at one.
        if host.is_empty() || host.contains('\\') || user.is_some_and(|user| user.contains(['@', '\\'])) {
            return Err(NoAddress::Authority);
        }
        Ok(Self { scheme, user, host, port, path })
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("https")
    }

    /// The port that is asked; none if there is no such port.
    pub(super) fn effective_port(&self) -> Option<u16> {
        match self.port {
            None | Some("") => Some(if self.is_encrypted() { 443 } else { 80 }),
            Some(digits) => digits.parse().ok(),
        }
    }

    /// Whose credentials are asked for: scheme, host and port.
    pub(super) fn origin(&self) -> String {
        let port = self.port.filter(|port| !port.is_empty()).map(|port| format!(":{port}"));
        format!("{}://{}{}", self.scheme, self.host, port.unwrap_or_default())
    }

    /// The URL without the user.
    pub(super) fn without_user(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }

    /// The URL with `user`, percent-encoded, in the place of its own.
    pub(super) fn with_user(&self, user: Option<&str>) -> String {
        match user {
            Some(user) => self.without_user().replacen("://", &format!("://{user}@"), 1),
            None => self.without_user(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_http_falls_into_its_parts() {
        for (url, origin, user, path) in [
            ("https://example.org/app.git", "https://example.org", None, "/app.git"),
            ("HTTP://bot:x@example.org:80", "HTTP://example.org:80", Some("bot:x"), ""),
            ("https://tok@[::1]:8443/a?b#c", "https://[::1]:8443", Some("tok"), "/a?b#c"),
            ("https://example.org:/@x/y", "https://example.org", None, "/@x/y"),
            ("https://example.org?private_token=x", "https://example.org", None, "?private_token=x"),
        ] {
            let address = Address::parse(url).unwrap().unwrap();
            assert_eq!(
                (address.origin().as_str(), address.user, address.path),
                (origin, user, path),
                "{url}"
            );
            assert_eq!(Address::parse(&address.with_user(user)).unwrap().unwrap().user, user);
        }
    }

    #[test]
    fn what_is_no_url_of_http_is_left_alone_and_what_cannot_be_one_is_refused() {
        for url in ["/srv/app.git", "git@example.org:app.git", "ssh://git@example.org/x", "foo::https://x/y"]
        {
            assert_eq!(Address::parse(url), None, "{url}");
        }
        for url in [
            "https://user:pass/word@example.org/app.git",
            "https://a@b:c@example.org/",
            "https:///app.git",
            "https://[::1/app.git",
            "https://[::1]x/app.git",
            "https://example.org\\@127.0.0.1/app.git",
        ] {
            assert_eq!(Address::parse(url), Some(Err(NoAddress::Authority)), "{url}");
        }
        for url in ["https://example.org/a b", "https://example.org/\u{1b}[2J", "https://x\u{9b}/y"] {
            assert_eq!(Address::parse(url), Some(Err(NoAddress::Characters)), "{url}");
        }
    }
}
