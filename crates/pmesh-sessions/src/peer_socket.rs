//! The socket at the other end of a connection on this machine, and which of the kernel's rows counts as it.

use std::net::{IpAddr, SocketAddr};

/// The socket that a peer on this machine made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerSocket {
    /// The effective user of whoever made it, then; handing it on to somebody else changes nothing.
    pub user: u32,
    /// Its number: whoever has it open has a descriptor that leads to `socket:[inode]` (proc(5)). Never 0.
    pub inode: u64,
}

/// Both ends of a connection, as the peer's own socket has them. IPv4 addresses are such, also in IPv6
/// clothes: a client of family `AF_INET6` at `::ffff:127.0.0.1` has the same pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SocketPair {
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// Our end.
    pub(crate) local: SocketAddr,
}

impl SocketPair {
    pub(crate) fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { peer: canonical(peer), local: canonical(local) }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    // Made anew, so that no flow label or scope makes two addresses of one.
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether an address is this machine's loopback, also an IPv4 one in IPv6 clothes.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The socket of a row of this state, user and inode, if it is one that somebody still has open.
///
/// Without this, strangers answer for a peer that has gone: what nobody has open any more reads user 0
/// and inode 0, and a listener on the dead peer's port is found in its place.
pub(crate) fn open_socket(state: u8, user: u32, inode: u64) -> Option<PeerSocket> {
    /// `TCP_ESTABLISHED`, `TCP_FIN_WAIT1`, `TCP_FIN_WAIT2`, `TCP_CLOSE_WAIT` of linux/tcp.h: those of a
    /// connection of which one end at most has been closed for writing.
    const OPEN: [u8; 4] = [1, 4, 5, 8];
    (OPEN.contains(&state) && inode != 0).then_some(PeerSocket { user, inode })
}
