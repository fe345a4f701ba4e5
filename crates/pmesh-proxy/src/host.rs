//! Host names: what a request's `Host` may be, and how names are compared.

use std::{borrow::Cow, net::Ipv6Addr};

/// The name in a `Host` field or an authority: lower case, without port and trailing dot; an IPv6
/// literal in brackets in its one canonical form. `None` if it is none (RFC 9110, section 7.2).
///
/// Stricter than RFC 3986: of what it allows in a name, only letters, digits, `-`, `.` and `_` occur.
pub(crate) fn name_in(authority: &str) -> Option<Cow<'_, str>> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (literal, port) = rest.split_once(']')?;
        if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
            return None;
        }
        let address: Ipv6Addr = literal.parse().ok()?;
        return Some(Cow::Owned(format!("[{address}]")));
    }
    let name = match authority.split_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return None,
        None => authority,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > 253 || name.starts_with('.') || !name.bytes().all(is_letter) {
        return None;
    }
    Some(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

/// A name of a site in the form of [`name_in`]; what is no name stays as it is and is never asked for.
pub(crate) fn site_name(text: &str) -> String {
    match text.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => name_in(text).map_or_else(|| text.to_owned(), Cow::into_owned),
    }
}

/// A name and the domains it is in, the most specific first.
pub(crate) fn with_parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
}

/// An empty port is none (RFC 3986, section 3.2.3).
fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_without_case_port_and_trailing_dot() {
        for (host, name) in [
            ("site.com", "site.com"),
            ("SITE.com", "site.com"),
            ("site.com.", "site.com"),
            ("site.com:8080", "site.com"),
            ("Site.Com.:80", "site.com"),
            ("site.com:", "site.com"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
            ("[0:0::1]", "[::1]"),
            ("[2001:DB8::1]:1", "[2001:db8::1]"),
            ("my_app.local", "my_app.local"),
        ] {
            assert_eq!(name_in(host).as_deref(), Some(name), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "",
            ":80",
            ".",
            "a b",
            "a/b",
            "x@a.test",
            "a.test/evil",
            "a.test:80:80",
            "a.test:x",
            "a.test:123456",
            "[::1",
            "::1",
            "[::1]x",
            "[a]",
            "a\u{e4}.test",
            "%61.test",
            "a,b",
            "a.test#",
            "a?b",
            "[fe80::1%eth0]",
        ] {
            assert_eq!(name_in(host), None, "{host}");
        }
    }

    #[test]
    fn the_most_specific_name_comes_first() {
        assert_eq!(with_parents("a.b.com").collect::<Vec<_>>(), ["a.b.com", "b.com", "com"]);
        assert_eq!(site_name("::1"), "[::1]");
    }
}
