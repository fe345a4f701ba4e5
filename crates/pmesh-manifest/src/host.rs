//! Host names.

/// Why a text is no host name; reads on from the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    #[error("has a port; a site answers on every port of the front")]
    Port,
    #[error("has a `*`; the subdomains of a name belong to it anyway")]
    Wildcard,
    #[error("is no host name; every host that no other key names is `_`")]
    Any,
    #[error("has letters beyond ASCII; write it as DNS does (`xn--…`)")]
    NotAscii,
    #[error("has a path; paths belong to the patterns of the router")]
    Path,
    #[error("is no host name: labels of 1 to 63 of a-z 0-9 - _ between dots, 253 characters at most")]
    Name,
}

/// A host name or address in the form of the front: lower case, without a dot at its end.
///
/// RFC 1123, 2.1, and `_`, which people use in names of their own network.
pub(crate) fn parse(text: &str) -> Result<String, HostError> {
    if let Some(inner) = text.strip_prefix('[') {
        return match inner.strip_suffix(']').map(str::parse::<std::net::Ipv6Addr>) {
            Some(Ok(address)) => Ok(format!("[{address}]")),
            _ if inner.contains("]:") => Err(HostError::Port),
            _ => Err(HostError::Name),
        };
    }
    if text.contains('/') {
        return Err(HostError::Path);
    }
    if text == "*" {
        return Err(HostError::Any);
    }
    if text.contains('*') {
        return Err(HostError::Wildcard);
    }
    if text.contains(':') {
        return Err(HostError::Port);
    }
    if !text.is_ascii() {
        return Err(HostError::NotAscii);
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) { Ok(name) } else { Err(HostError::Name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_as_the_front_compares_them() {
        for (text, name) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("localhost", "localhost"),
            ("10.0.0.1", "10.0.0.1"),
            ("my_host", "my_host"),
            ("[0::1]", "[::1]"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(name), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_reason() {
        for (text, error) in [
            ("a:80", HostError::Port),
            ("[::1]:80", HostError::Port),
            ("*.a", HostError::Wildcard),
            ("*", HostError::Any),
            ("bücher.de", HostError::NotAscii),
            ("a/b", HostError::Path),
            ("a..b", HostError::Name),
            ("-a", HostError::Name),
            ("a b", HostError::Name),
            ("", HostError::Name),
            (".", HostError::Name),
            ("[x]", HostError::Name),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
