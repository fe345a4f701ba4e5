//! The name and port of a `Host` or an `Origin`.

use std::net::IpAddr;

/// A host's name for comparing: in lower case, without brackets and the dot of the root.
pub(crate) fn normal_name(name: &str) -> String {
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// `name`, `name:port`, `[v6]` or `[v6]:port` (RFC 3986, 3.2), taken apart; none if it is no such thing.
pub(crate) fn name_and_port(authority: &str) -> Option<(String, u16)> {
    /// What an `http` origin without a port means.
    const DEFAULT: u16 = 80;
    let (name, port) = match authority.rfind(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port {
        "" | ":" => DEFAULT,
        port => {
            let digits = port.strip_prefix(':')?;
            if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            digits.parse().ok()?
        }
    };
    let is_literal = name.starts_with('[');
    let name = normal_name(name);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let good = if is_literal {
        matches!(name.parse(), Ok(IpAddr::V6(_)))
    } else {
        !name.is_empty() && name.bytes().all(is_name)
    };
    good.then_some((name, port))
}
