//! Where the server listens, as a person writes it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The value of `--http`, `--https` and `--api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListenOption {
    /// `127.0.0.1:8080`, `[::1]:8080`: this address.
    One(SocketAddr),
    /// `:8080`, `8080`: every IPv4 and IPv6 address of the machine.
    Every(u16),
    /// `localhost:8080`: the loopback addresses of both families.
    Localhost(u16),
}

impl ListenOption {
    /// The sockets to bind, IPv4 first, an IPv6 one for IPv6 alone (`IPV6_V6ONLY`, ipv6(7)).
    ///
    /// Where there are two, a machine without IPv6 need not bind the second.
    pub(crate) fn sockets(self) -> Vec<SocketAddr> {
        let both = |v4: Ipv4Addr, v6: Ipv6Addr, port| {
            vec![SocketAddr::new(IpAddr::V4(v4), port), SocketAddr::new(IpAddr::V6(v6), port)]
        };
        match self {
            Self::One(address) => vec![address],
            Self::Every(port) => both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, port),
            Self::Localhost(port) => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, port),
        }
    }

    /// Whether only this machine can reach it.
    pub(crate) fn is_loopback(self) -> bool {
        self.sockets().iter().all(|socket| socket.ip().to_canonical().is_loopback())
    }
}

/// A text that is no [`ListenOption`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write 127.0.0.1:8080, [::1]:8080, localhost:8080, or :8080 for every address")]
pub(crate) struct BadListenAddress;

impl FromStr for ListenOption {
    type Err = BadListenAddress;

    fn from_str(text: &str) -> Result<Self, BadListenAddress> {
        if let Ok(address) = text.parse() {
            return Ok(Self::One(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        // `u16` alone would take a plus sign as well.
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadListenAddress);
        }
        let port = port.parse().map_err(|_| BadListenAddress)?;
        match host {
            "" => Ok(Self::Every(port)),
            "localhost" => Ok(Self::Localhost(port)),
            _ => Err(BadListenAddress),
        }
    }
}

impl fmt::Display for ListenOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => address.fmt(f),
            Self::Every(port) => write!(f, ":{port}"),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BadListenAddress, ListenOption};

    fn sockets(text: &str) -> Vec<String> {
        let address: ListenOption = text.parse().unwrap();
        address.sockets().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_is_one_socket_and_a_bare_port_one_of_each_family() {
        assert_eq!(sockets("127.0.0.1:8080"), ["127.0.0.1:8080"]);
        assert_eq!(sockets("[::1]:0"), ["[::1]:0"]);
        assert_eq!(sockets(":8080"), ["0.0.0.0:8080", "[::]:8080"]);
        assert_eq!(sockets("8080"), ["0.0.0.0:8080", "[::]:8080"]);
        assert_eq!(sockets("localhost:80"), ["127.0.0.1:80", "[::1]:80"]);
    }

    #[test]
    fn what_has_no_port_or_a_name_to_look_up_is_no_address() {
        for text in [
            "",
            ":",
            "127.0.0.1",
            "[::1]",
            "::1",
            "::1:80",
            "shop.local:80",
            ":+80",
            ":65536",
            "-1",
            "8080x",
            "*:80",
            "http://localhost:80",
        ] {
            assert_eq!(text.parse::<ListenOption>(), Err(BadListenAddress), "{text:?}");
        }
    }

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for text in ["127.0.0.1:8080", "[::1]:8080", ":8080", "localhost:8080"] {
            assert_eq!(text.parse::<ListenOption>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn only_loopback_addresses_keep_other_machines_out() {
        for (text, loopback) in [
            ("127.0.0.7:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("localhost:1", true),
            (":1", false),
            ("0.0.0.0:1", false),
            ("192.0.2.1:1", false),
        ] {
            assert_eq!(text.parse::<ListenOption>().unwrap().is_loopback(), loopback, "{text}");
        }
    }
}
