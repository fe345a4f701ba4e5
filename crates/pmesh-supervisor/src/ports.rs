//! Numbers of ports for instances.

use std::{
    collections::HashSet,
    fmt,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Hands out the ports that instances listen on: 20000 to 29999, below the kernel's ephemeral range
/// (`ip_local_port_range`), inside which a connection to an unused port can meet itself.
///
/// A number that was given back comes up again only after all others, so that a late packet or a
/// stale address does not meet the next instance. The start is random, and a port on which anything
/// listens is left out: nodes and servers of one machine get along without knowing of each other.
/// Between being handed out and the instance's own listen somebody else may still take the port;
/// the probe tells, by its owner.
#[derive(Clone, Debug)]
pub struct Ports {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    next: u16,
    held: HashSet<u16>,
}

/// Every port of the range is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no port from {} to {} is free; run fewer instances", Ports::RANGE.start(), Ports::RANGE.end())]
pub(crate) struct PortsExhausted;

impl Ports {
    /// The numbers that are handed out.
    pub const RANGE: RangeInclusive<u16> = 20_000..=29_999;

    /// An allocator that begins anywhere in the range.
    pub(crate) fn new() -> Self {
        let [.., high, low] = RandomState::new().hash_one(std::process::id()).to_be_bytes();
        let span = Self::RANGE.end() - Self::RANGE.start() + 1;
        let next = Self::RANGE.start() + u16::from_be_bytes([high, low]) % span;
        Self { state: Arc::new(Mutex::new(State { next, held: HashSet::new() })) }
    }

    /// The next port that nothing holds. Some system calls for each port that it tries, no waiting.
    ///
    /// # Errors
    ///
    /// [`PortsExhausted`] after a whole round.
    pub(crate) fn allocate(&self) -> Result<Port, PortsExhausted> {
        let mut state = self.state.lock();
        for _ in Self::RANGE {
            let number = state.next;
            state.next = if number == *Self::RANGE.end() { *Self::RANGE.start() } else { number + 1 };
            if !state.held.contains(&number) && is_free(number) {
                state.held.insert(number);
                return Ok(Port { number, state: Arc::clone(&self.state) });
            }
        }
        Err(PortsExhausted)
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self::new()
    }
}

/// A port that is held for one instance; dropped, it is given back.
pub(crate) struct Port {
    number: u16,
    state: Arc<Mutex<State>>,
}

impl Port {
    /// The port's number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.state.lock().held.remove(&self.number);
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Port").field(&self.number).finish()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

/// Whether a server could listen on the port of every address, IPv4 and IPv6: that is what an app
/// does that ignores the host it is given. Without `SO_REUSEADDR`, with which a bind succeeds beside
/// sockets of old connections.
fn is_free(port: u16) -> bool {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let bind = |address: &SocketAddr| {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, address)
    };
    // A machine without IPv6 gives other errors than "in use".
    bind(&v4).is_ok() && bind(&v6) != Err(rustix::io::Errno::ADDRINUSE)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn no_port_is_given_twice_and_a_returned_one_comes_last() {
        let ports = Ports::new();
        let first = ports.allocate().unwrap();
        let second = ports.allocate().unwrap();
        assert_ne!(first.number(), second.number());
        let returned = first.number();
        drop(first);
        for _ in 0..100 {
            assert_ne!(ports.allocate().unwrap().number(), returned);
        }
    }

    #[test]
    fn every_port_is_outside_the_ephemeral_range() {
        let ports = Ports::new();
        for _ in 0..50 {
            assert!(Ports::RANGE.contains(&ports.allocate().unwrap().number()));
        }
        ports.state.lock().next = *Ports::RANGE.end();
        let around = [ports.allocate().unwrap(), ports.allocate().unwrap()];
        assert!(around.iter().all(|port| Ports::RANGE.contains(&port.number())));
    }

    #[test]
    fn a_port_on_which_somebody_listens_is_left_out() {
        for address in ["127.0.0.1", "0.0.0.0", "127.0.0.9"] {
            let ports = Ports::new();
            let number = ports.allocate().unwrap().number();
            let listener = TcpListener::bind((address, number)).unwrap();
            ports.state.lock().next = number;
            assert_ne!(ports.allocate().unwrap().number(), number, "{address}");
            drop(listener);
        }
    }

    #[test]
    fn the_range_ends_with_an_error_that_says_so() {
        let ports = Ports::new();
        ports.state.lock().held = Ports::RANGE.collect();
        let error = ports.allocate().unwrap_err();
        assert_eq!(error.to_string(), "no port from 20000 to 29999 is free; run fewer instances");
    }
}
