//! Asking the kernel for one socket: `NETLINK_SOCK_DIAG` (`sock_diag(7)`), a few microseconds a question.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use parking_lot::Mutex;
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with},
};

use crate::peer_socket::{PeerSocket, SocketPair, open_socket};

/// `struct nlmsghdr` (netlink(7)).
const HEADER: usize = 16;
/// `struct nlmsghdr` and `struct inet_diag_req_v2` (`sock_diag(7)`).
const QUESTION: usize = 72;
/// `struct inet_diag_msg` without the attributes behind it.
const ANSWER: usize = 72;
/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`, and no `NLM_F_DUMP`: the one socket of a pair, not a list.
const REQUEST: u16 = 1;
/// `AF_INET`, `AF_INET6`, `IPPROTO_TCP`.
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
/// Answers to earlier questions that are skipped; there are none unless one was not waited for.
const STALE: usize = 8;

/// A socket to the kernel that is kept for all questions.
#[derive(Debug)]
pub(crate) struct SocketDiagnostics(Mutex<Asking>);

#[derive(Debug)]
struct Asking {
    kernel: OwnedFd,
    /// The number of the question that was asked last.
    number: u32,
}

impl SocketDiagnostics {
    /// Needs no privilege.
    pub(crate) fn open() -> io::Result<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let kernel = socket_with(family, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
        Ok(Self(Mutex::new(Asking { kernel, number: 0 })))
    }

    /// The peer's own socket; none if there is no such, or it is closed.
    ///
    /// Never waits: the kernel has answered when the question is sent.
    pub(crate) fn ask(&self, pair: &SocketPair) -> io::Result<Option<PeerSocket>> {
        let mut asking = self.0.lock();
        asking.number = asking.number.wrapping_add(1);
        let Some(question) = question(pair, asking.number) else { return Ok(None) };
        send(&asking.kernel, &question, SendFlags::empty())?;
        let mut buffer = [0; 1024];
        for _ in 0..STALE {
            let (received, _) = loop {
                match recv(&asking.kernel, &mut buffer, RecvFlags::DONTWAIT) {
                    Err(Errno::INTR) => {}
                    received => break received?,
                }
            };
            match answer(&buffer[..received], asking.number, pair) {
                KernelAnswer::Stale => {}
                KernelAnswer::Nobody => return Ok(None),
                KernelAnswer::Socket(socket) => return Ok(Some(socket)),
            }
        }
        Ok(None)
    }
}

/// The question for the peer's own socket: its source is the peer's address, its destination is ours.
/// None for a pair of two families, which no connection has.
///
/// A pair of IPv4 finds sockets of `AF_INET` and of `AF_INET6`.
fn question(pair: &SocketPair, number: u32) -> Option<[u8; QUESTION]> {
    let family = match (pair.peer, pair.local) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => INET,
        (SocketAddr::V6(_), SocketAddr::V6(_)) => INET6,
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => return None,
    };
    let mut bytes = [0; QUESTION];
    let mut end = 0;
    let mut put = |field: &[u8]| {
        bytes[end..end + field.len()].copy_from_slice(field);
        end += field.len();
    };
    put(&72_u32.to_ne_bytes());
    put(&BY_FAMILY.to_ne_bytes());
    put(&REQUEST.to_ne_bytes());
    put(&number.to_ne_bytes());
    // To the kernel.
    put(&0_u32.to_ne_bytes());
    // No attributes are asked for, and one byte of padding.
    put(&[family, TCP, 0, 0]);
    // In whatever state: it is judged here.
    put(&u32::MAX.to_ne_bytes());
    put(&pair.peer.port().to_be_bytes());
    put(&pair.local.port().to_be_bytes());
    put(&address(pair.peer.ip()));
    put(&address(pair.local.ip()));
    // Whatever the interface, and no cookie (`INET_DIAG_NOCOOKIE`).
    put(&0_u32.to_ne_bytes());
    put(&u64::MAX.to_ne_bytes());
    Some(bytes)
}

/// 16 bytes in network order; of IPv4 the first four count.
fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// What a message of the kernel means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KernelAnswer {
    /// It answers an earlier question.
    Stale,
    /// There is no such socket, or one of which nothing can be believed.
    Nobody,
    Socket(PeerSocket),
}

/// Reads the answer to question `number`.
fn answer(message: &[u8], number: u32, pair: &SocketPair) -> KernelAnswer {
    let (Some(kind), Some(answered)) = (field(message, 4), field(message, 8)) else {
        return KernelAnswer::Nobody;
    };
    if u32::from_ne_bytes(answered) != number {
        return KernelAnswer::Stale;
    }
    let kind = u16::from_ne_bytes(kind);
    let Some(found) = message.get(HEADER..).filter(|found| found.len() >= ANSWER) else {
        return KernelAnswer::Nobody;
    };
    // Errors are messages of their own type; ENOENT says that there is no such socket.
    if kind != BY_FAMILY {
        return KernelAnswer::Nobody;
    }
    let socket = || {
        let ports = (u16::from_be_bytes(field(found, 4)?), u16::from_be_bytes(field(found, 6)?));
        // The kernel falls back to a listener on the peer's port, which has no other end.
        if ports != (pair.peer.port(), pair.local.port()) {
            return None;
        }
        let (user, inode) = (u32::from_ne_bytes(field(found, 64)?), u32::from_ne_bytes(field(found, 68)?));
        open_socket(found[1], user, inode.into())
    };
    socket().map_or(KernelAnswer::Nobody, KernelAnswer::Socket)
}

fn field<const LENGTH: usize>(bytes: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    bytes.get(at..at + LENGTH)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::{ANSWER, BY_FAMILY, HEADER, KernelAnswer, answer, question};
    use crate::peer_socket::{PeerSocket, SocketPair};

    fn pair(peer: &str, local: &str) -> SocketPair {
        SocketPair::new(peer.parse().unwrap(), local.parse().unwrap())
    }

    /// `NLMSG_ERROR` (netlink(7)).
    const ERROR: u16 = 2;

    /// A row of the kernel's.
    struct Row {
        kind: u16,
        number: u32,
        state: u8,
        ports: (u16, u16),
        user: u32,
        inode: u32,
    }

    /// The peer of `127.0.0.1:9870` at port 40000, connected, of user 1000.
    const PEER: Row =
        Row { kind: BY_FAMILY, number: 7, state: 1, ports: (40_000, 9870), user: 1000, inode: 4711 };

    fn read(row: &Row) -> KernelAnswer {
        let mut message = vec![0; HEADER + ANSWER];
        message[4..6].copy_from_slice(&row.kind.to_ne_bytes());
        message[8..12].copy_from_slice(&row.number.to_ne_bytes());
        message[HEADER + 1] = row.state;
        message[HEADER + 4..HEADER + 6].copy_from_slice(&row.ports.0.to_be_bytes());
        message[HEADER + 6..HEADER + 8].copy_from_slice(&row.ports.1.to_be_bytes());
        message[HEADER + 64..HEADER + 68].copy_from_slice(&row.user.to_ne_bytes());
        message[HEADER + 68..HEADER + 72].copy_from_slice(&row.inode.to_ne_bytes());
        answer(&message, 7, &pair("127.0.0.1:40000", "127.0.0.1:9870"))
    }

    #[test]
    fn the_row_of_an_open_socket_with_both_ports_is_the_peer() {
        for state in [1, 4, 5, 8] {
            let found = PeerSocket { user: 1000, inode: 4711 };
            assert_eq!(read(&Row { state, ..PEER }), KernelAnswer::Socket(found), "state {state}");
        }
    }

    #[test]
    fn no_other_row_is_anybody() {
        for (row, what) in [
            (Row { state: 4, user: 0, inode: 0, ..PEER }, "the peer closed its socket"),
            (Row { state: 6, user: 0, inode: 0, ..PEER }, "both ends are closed"),
            (Row { state: 10, ports: (40_000, 0), user: 0, ..PEER }, "root listens on the dead peer's port"),
            (Row { state: 1, ports: (40_000, 0), ..PEER }, "our port is missing"),
            (Row { state: 1, ports: (40_001, 9870), ..PEER }, "another one's port"),
            (Row { state: 10, ..PEER }, "a listener with both ports"),
            (Row { state: 2, ..PEER }, "a connection that is asked for"),
            (Row { state: 3, ..PEER }, "one that is half made"),
            (Row { state: 7, ..PEER }, "one that is closed"),
            (Row { kind: ERROR, ..PEER }, "an error, such as ENOENT"),
            (Row { kind: 3, ..PEER }, "the end of a list"),
        ] {
            assert_eq!(read(&row), KernelAnswer::Nobody, "{what}");
        }
    }

    #[test]
    fn an_answer_to_another_question_and_a_short_one_are_none() {
        assert_eq!(read(&Row { number: 6, ..PEER }), KernelAnswer::Stale);
        for length in [0, 8, HEADER, HEADER + ANSWER - 1] {
            let mut message = vec![0; length];
            if let Some(number) = message.get_mut(8..12) {
                number.copy_from_slice(&7_u32.to_ne_bytes());
            }
            let pair = pair("127.0.0.1:40000", "127.0.0.1:9870");
            assert_eq!(answer(&message, 7, &pair), KernelAnswer::Nobody, "{length} bytes");
        }
    }

    #[test]
    fn a_mapped_pair_is_asked_for_as_ipv4() {
        let mapped = pair("[::ffff:127.0.0.1]:40000", "[::ffff:127.0.0.1]:9870");
        let plain = pair("127.0.0.1:40000", "127.0.0.1:9870");
        assert_eq!(question(&mapped, 7), question(&plain, 7));
        let bytes = question(&plain, 7).unwrap();
        assert_eq!((bytes[HEADER], &bytes[HEADER + 12..HEADER + 16]), (2, &[127, 0, 0, 1][..]));
        assert_eq!(bytes[HEADER + 8..HEADER + 12], [0x9c, 0x40, 0x26, 0x8e], "the peer's port, then ours");
        let six = question(&pair("[::1]:40000", "[::1]:9870"), 7).unwrap();
        assert_eq!((six[HEADER], six[HEADER + 27]), (10, 1));
        assert_eq!(question(&pair("[::1]:40000", "127.0.0.1:9870"), 7), None);
    }
}
