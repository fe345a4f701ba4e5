//! Which addresses count as one client.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Upper 32 bits of the keys of IPv4 clients; `0:ffff::/32` is reserved (RFC 4291, section 2.4), so no
/// IPv6 client has them.
const V4: u64 = 0x0000_ffff;
/// The key of `::1`; `0:0:0:1::/64` is reserved as well.
const V6_LOOPBACK: u64 = 1;

/// One client: an IPv4 address, an IPv6 `/64` network, or the IPv6 loopback address.
///
/// A subscriber gets at least a `/64` (RFC 6177), so its single addresses say nothing. Where an IPv6 address
/// stands for an IPv4 one, that is the client: mapped (`::ffff:203.0.113.9`), behind a translator
/// (NAT64, `64:ff9b::/96`, RFC 6052) and in the old way (`::203.0.113.9`, RFC 4291, section 2.5.5.1).
/// That is for counting and limits alone: a key does not say that a client is on this machine or trusted.
/// Fits into 64 bits, so it is copied, not allocated.
///
/// ```
/// use pmesh_sessions::ClientKey;
/// let of = |text: &str| ClientKey::from(text.parse::<std::net::IpAddr>().unwrap()).to_string();
/// assert_eq!(of("::ffff:203.0.113.9"), "203.0.113.9");
/// assert_eq!(of("64:ff9b::203.0.113.9"), "203.0.113.9");
/// assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
/// assert_eq!(of("::1"), "::1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(u64);

impl ClientKey {
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        let of_v4 = |v4: Ipv4Addr| Self(V4 << 32 | u64::from(v4.to_bits()));
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(Ipv6Addr::LOCALHOST) => Self(V6_LOOPBACK),
            IpAddr::V6(v6) => v4_in(v6).map_or_else(
                || Self(u64::try_from(v6.to_bits() >> 64).expect("64 of 128 bits are left")),
                of_v4,
            ),
        }
    }
}

/// The IPv4 address that an IPv6 one stands for.
fn v4_in(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        // "Unspecified" stands for none.
        [0, 0, 0, 0, 0, 0, 0, 0] => None,
        _ => address.to_ipv4(),
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >> 32 == V4 {
            let address = u32::try_from(self.0 & u64::from(u32::MAX)).expect("32 bits are left");
            Ipv4Addr::from_bits(address).fmt(f)
        } else if self.0 == V6_LOOPBACK {
            Ipv6Addr::LOCALHOST.fmt(f)
        } else {
            write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(self.0) << 64))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> ClientKey {
        ClientKey::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_key_prints_as_its_address_also_for_debugging() {
        for text in ["203.0.113.9", "::1"] {
            assert_eq!(format!("{:?}", Some(key(text))), format!("Some({text})"));
        }
    }

    #[test]
    fn every_loopback_address_is_a_client_of_its_own() {
        assert_eq!(key("127.0.0.1").to_string(), "127.0.0.1");
        assert_eq!(key("127.8.9.1").to_string(), "127.8.9.1");
        assert_eq!(key("::1").to_string(), "::1");
        assert_ne!(key("::1"), key("127.0.0.1"));
        assert_ne!(key("::1"), key("::2"));
    }

    #[test]
    fn an_ipv6_address_that_stands_for_an_ipv4_one_counts_as_that() {
        for text in ["203.0.113.9", "::ffff:203.0.113.9", "64:ff9b::203.0.113.9", "::203.0.113.9"] {
            assert_eq!(key(text).to_string(), "203.0.113.9", "{text}");
        }
        for (text, expected) in [
            ("::", "::/64"),
            ("::1", "::1"),
            ("::1:203.0.113.9", "::/64"),
            ("64:ff9b:1::203.0.113.9", "64:ff9b:1::/64"),
            ("64:ff9b::1:203.0.113.9", "64:ff9b::/64"),
        ] {
            assert_eq!(key(text).to_string(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn two_ipv4_addresses_are_two_clients_and_read_as_they_are(a: u32, b: u32) {
            let (a, b) = (Ipv4Addr::from(a), Ipv4Addr::from(b));
            let [key_a, key_b] = [a, b].map(|v4| ClientKey::from(IpAddr::V4(v4)));
            prop_assert_eq!(key_a == key_b, a == b);
            prop_assert_eq!(key_a.to_string(), a.to_string());
            prop_assert_eq!(key_a, ClientKey::from(IpAddr::V6(a.to_ipv6_mapped())));
            let behind_nat64 = Ipv6Addr::from_bits(0x64_ff9b_u128 << 96 | u128::from(a.to_bits()));
            prop_assert_eq!(key_a, ClientKey::from(IpAddr::V6(behind_nat64)));
            prop_assume!(a.to_bits() > 1);
            prop_assert_eq!(key_a, ClientKey::from(IpAddr::V6(a.to_ipv6_compatible())));
        }

        #[test]
        fn the_addresses_of_one_ipv6_network_are_one_client(network: u64, low: u64) {
            let address = Ipv6Addr::from_bits(u128::from(network) << 64 | u128::from(low));
            prop_assume!(network > 0x0000_ffff_ffff_ffff);
            let text = ClientKey::from(IpAddr::V6(address)).to_string();
            prop_assert_eq!(text, format!("{}/64", Ipv6Addr::from_bits(u128::from(network) << 64)));
        }
    }
}
