//! Whose word about the client's address counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks whose `X-Forwarded-For` is believed. The default is loopback: a proxy on the same machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no network; write an address with a prefix length, such as 10.0.0.0/8 or 2001:db8::/32")]
#[non_exhaustive]
pub struct NetworkError {
    /// What was found.
    pub text: String,
}

impl Default for TrustedProxies {
    fn default() -> Self {
        Self(vec![
            Network { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 },
            Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
        ])
    }
}

impl TrustedProxies {
    /// Trusts nobody.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Trusts these networks (CIDR, RFC 4632 and RFC 4291; a bare address is that address alone) and
    /// nobody else.
    ///
    /// # Errors
    ///
    /// [`NetworkError`] names the first text that is no network.
    pub fn parse<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, NetworkError> {
        networks.into_iter().map(Network::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this address is one of a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }

    /// The address of the client behind `peer`: the right-most of the chain of `X-Forwarded-For` and
    /// `peer` that is not trusted.
    ///
    /// `x_forwarded_for` are the values of the field in their order. What is no address stops the walk
    /// at the last good one, because nobody vouches for what stands to its left. If all are trusted, it
    /// is the left-most. IPv4-mapped addresses come back as IPv4, and no others: what a translator or an old
    /// tunnel brings (`64:ff9b::127.0.0.1`, `::127.0.0.1`) is nobody on this machine and no proxy of ours.
    ///
    /// ```
    /// use pmesh_sessions::TrustedProxies;
    /// let (peer, trusted) = ("127.0.0.1".parse().unwrap(), TrustedProxies::default());
    /// let client = trusted.client_of(peer, [b"198.51.100.1, 203.0.113.9".as_slice()].into_iter());
    /// assert_eq!(client.to_string(), "203.0.113.9");
    /// ```
    pub fn client_of<'a>(
        &self,
        peer: IpAddr,
        x_forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        for element in x_forwarded_for.rev().flat_map(|value| value.rsplit(|&byte| byte == b',')) {
            if !self.contains(client) {
                break;
            }
            match address_in(element) {
                Some(address) => client = address.to_canonical(),
                None => break,
            }
        }
        client
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError { text: text.to_owned() };
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| error())?
            }
            Some(_) => return Err(error()),
            None => bits,
        };
        if prefix > bits {
            return Err(error());
        }
        // IPv4-mapped addresses are compared as IPv4 (RFC 4291, 2.5.5.2: behind 96 bits that they share).
        Ok(match (address.to_canonical(), address) {
            (IpAddr::V4(mapped), IpAddr::V6(_)) if prefix >= 96 => {
                Self { address: IpAddr::V4(mapped), prefix: prefix - 96 }
            }
            _ => Self { address, prefix },
        })
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// An element of `X-Forwarded-For`: an address, also with a port or in brackets.
fn address_in(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim_matches([' ', '\t']);
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, values: &[&str]) -> String {
        let trusted = TrustedProxies::parse(["127.0.0.0/8", "::1", "10.0.0.0/8", "2001:db8::/32"]).unwrap();
        trusted.client_of(peer.parse().unwrap(), values.iter().map(|value| value.as_bytes())).to_string()
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_not_trusted() {
        for (peer, values, expected) in [
            ("203.0.113.7", &[][..], "203.0.113.7"),
            ("203.0.113.7", &["198.51.100.1"], "203.0.113.7"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["x, 203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1, 10.1.1.1"], "198.51.100.1"),
            ("127.0.0.1", &["198.51.100.1,10.1.1.1 ,\t10.2.2.2"], "198.51.100.1"),
            ("127.0.0.1", &["junk, 10.1.1.1"], "10.1.1.1"),
            ("127.0.0.1", &["198.51.100.1, junk"], "127.0.0.1"),
            ("127.0.0.1", &[""], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1,"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("127.0.0.1", &["[2a00::7]:4711"], "2a00::7"),
            ("127.0.0.1", &["[2a00::7]"], "2a00::7"),
            ("127.0.0.1", &["[198.51.100.1]"], "127.0.0.1"),
            ("127.0.0.1", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            ("::ffff:127.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("::1", &["2a00::7, 2001:db8::1"], "2a00::7"),
            ("::1", &["fe80::1%eth0"], "::1"),
            ("127.0.0.1", &["1.2.3.4 5.6.7.8"], "127.0.0.1"),
            ("::127.0.0.1", &["198.51.100.1"], "::7f00:1"),
            ("64:ff9b::127.0.0.1", &["198.51.100.1"], "64:ff9b::7f00:1"),
            ("64:ff9b::10.0.0.1", &["198.51.100.1"], "64:ff9b::a00:1"),
            ("127.0.0.1", &["198.51.100.1, ::127.0.0.1"], "::7f00:1"),
            ("127.0.0.1", &["198.51.100.1, 64:ff9b::127.0.0.1"], "64:ff9b::7f00:1"),
        ] {
            assert_eq!(client(peer, values), expected, "{peer} {values:?}");
        }
    }

    #[test]
    fn a_value_that_is_no_text_stops_the_walk() {
        let trusted = TrustedProxies::default();
        let peer = "127.0.0.1".parse().unwrap();
        assert_eq!(trusted.client_of(peer, [b"1.2.3.4, \xff".as_slice()].into_iter()), peer);
    }

    #[test]
    fn a_network_of_mapped_addresses_is_the_one_of_ipv4() {
        let trusted = TrustedProxies::parse(["::ffff:10.0.0.0/104", "::ffff:192.0.2.1"]).unwrap();
        for (address, is_trusted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.1", true),
            ("11.0.0.1", false),
            ("192.0.2.2", false),
            ("::a00:1", false),
        ] {
            assert_eq!(trusted.contains(address.parse().unwrap()), is_trusted, "{address}");
        }
        assert!(TrustedProxies::parse(["::ffff:0:0/96"]).unwrap().contains("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in
            ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "a/8", "1.2.3.4/8/9"]
        {
            assert_eq!(TrustedProxies::parse([text]), Err(NetworkError { text: text.to_owned() }));
        }
        let all = TrustedProxies::parse(["0.0.0.0/0", "::/0"]).unwrap();
        assert!(all.contains("203.0.113.9".parse().unwrap()) && all.contains("2a00::1".parse().unwrap()));
        assert!(!TrustedProxies::none().contains("127.0.0.1".parse().unwrap()));
    }
}
