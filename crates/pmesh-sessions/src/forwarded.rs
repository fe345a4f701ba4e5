//! By which header fields somebody says that a request is another one's.

/// Whether a field of this name says that somebody passed the request on: a proxy, a tunnel, a content network.
///
/// `_` reads as `-`, because CGI and WSGI cannot tell them apart, and letters of either case are the same.
/// One list for all that trust a peer on this machine: whoever sits behind a proxy there is not one.
///
/// ```
/// use pmesh_sessions::says_forwarded;
/// assert!(says_forwarded("x-forwarded-for") && says_forwarded("X_Real_IP") && says_forwarded("cf-ray"));
/// assert!(!says_forwarded("host") && !says_forwarded("x-request-id"));
/// ```
pub fn says_forwarded(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "true-client-ip",
        "x-proxyuser-ip",
    ];
    const PREFIXES: [&str; 6] = ["x-forwarded-", "cf-", "fly-", "fastly-", "x-envoy-", "x-original-"];
    let name = name.as_bytes();
    // Most fields of most requests begin with none of the list's letters.
    let Some(b'c' | b'f' | b't' | b'v' | b'x' | b'C' | b'F' | b'T' | b'V' | b'X') = name.first() else {
        return false;
    };
    PREFIXES.iter().any(|prefix| name.get(..prefix.len()).is_some_and(|start| reads_as(start, prefix)))
        || NAMES.iter().any(|whole| reads_as(name, whole))
}

fn reads_as(found: &[u8], name: &str) -> bool {
    let read = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    found.len() == name.len() && found.iter().zip(name.bytes()).all(|(&found, byte)| read(found) == byte)
}

#[cfg(test)]
mod tests {
    use super::says_forwarded;

    #[test]
    fn every_field_of_the_list_says_so_in_whatever_spelling() {
        for name in [
            "forwarded",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-anything",
            "x-real-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "cf-ray",
            "fly-client-ip",
            "fastly-client-ip",
            "x-envoy-external-address",
            "x-original-forwarded-for",
            "x-original-host",
            "x-proxyuser-ip",
        ] {
            for spelling in [name.to_owned(), name.replace('-', "_"), name.to_ascii_uppercase()] {
                assert!(says_forwarded(&spelling), "{spelling}");
            }
        }
    }

    #[test]
    fn no_other_field_does() {
        for name in [
            "",
            "host",
            "viaduct",
            "x-via",
            "x-forwarded",
            "forwarded-for",
            "x-real-ips",
            "x-request-id",
            "cookie",
            "content-type",
            "cfx",
            "flying",
            "x-originals",
            "true-client",
            "max-forwards",
            "x",
        ] {
            assert!(!says_forwarded(name), "{name}");
        }
    }
}
