//! Who has which TCP socket by `/proc/net/tcp` and `tcp6` (proc(5)), for kernels without socket diagnostics.
//!
//! A look costs from 6 to 60 ms, so none is taken for one question: all that were asked before a look
//! begins share it, and the next one begins [`PAUSE`] after it at the earliest.

use std::{
    collections::HashMap,
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use pmesh_threads::Threads;

use crate::peer_socket::{PeerSocket, SocketPair, open_socket};

/// The least time between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a look may take.
pub(crate) const LOOK_LIMIT: Duration = Duration::from_secs(10);

type Sockets = HashMap<SocketPair, PeerSocket>;
type SharedLook = Shared<BoxFuture<'static, Arc<Sockets>>>;

/// The tables, and the look that is being taken.
pub(crate) struct SocketTables {
    threads: Threads,
    /// The last look, and whether it has begun: then it may have missed what came later.
    taking: Mutex<Option<(Arc<AtomicBool>, SharedLook)>>,
}

impl fmt::Debug for SocketTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketTables").finish_non_exhaustive()
    }
}

impl SocketTables {
    /// Tables that are read on these threads.
    pub(crate) fn on(threads: Threads) -> Self {
        Self { threads, taking: Mutex::default() }
    }

    /// The peer's own socket; none if there is no such, it is closed, or the tables cannot be read. Must be
    /// called in a tokio runtime.
    ///
    /// Cancel-safe: a look that nobody waits for is taken by the next who asks.
    pub(crate) async fn ask(&self, pair: &SocketPair) -> Option<PeerSocket> {
        self.next().await.get(pair).copied()
    }

    /// A look that begins after this call.
    fn next(&self) -> SharedLook {
        let mut taking = self.taking.lock();
        if let Some((begun, look)) = &*taking
            && !begun.load(Ordering::Acquire)
        {
            return look.clone();
        }
        let before = taking.take();
        let begun = Arc::new(AtomicBool::new(false));
        let (flag, threads) = (Arc::clone(&begun), self.threads.clone());
        let look = async move {
            if let Some((_, before)) = before {
                drop(before.await);
                tokio::time::sleep(PAUSE).await;
            }
            flag.store(true, Ordering::Release);
            // Where they were not read, nobody is known, and nobody is let in.
            Arc::new(threads.run(LOOK_LIMIT, |_| read()).await.unwrap_or_default())
        };
        let look = look.boxed().shared();
        *taking = Some((begun, look.clone()));
        look
    }
}

/// All open TCP sockets; a table that cannot be read has none.
fn read() -> Sockets {
    let mut sockets = Sockets::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // Without IPv6 there is no second one.
        let text: io::Result<String> = fs::read_to_string(path);
        sockets.extend(text.unwrap_or_default().lines().filter_map(row));
    }
    sockets
}

/// One line of a table.
fn row(line: &str) -> Option<(SocketPair, PeerSocket)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    // The row is the peer's: what is local to it is our peer.
    let (peer, local) = (address(words.next()?)?, address(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    // Queues, timer and retransmissions.
    let user = words.nth(3)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    Some((SocketPair::new(peer, local), open_socket(state, user, inode)?))
}

/// `0100007F:268E`: the address in words of 32 bits as they stand in memory, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0; 16];
    let words = address.len() / 8;
    if !address.is_ascii() || address.len() % 8 != 0 || words > 4 {
        return None;
    }
    for index in 0..words {
        let word = u32::from_str_radix(&address[index * 8..][..8], 16).ok()?;
        bytes[index * 4..][..4].copy_from_slice(&word.to_ne_bytes());
    }
    let ip = match words {
        1 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        4 => IpAddr::V6(Ipv6Addr::from(bytes)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{PeerSocket, SocketPair, SocketTables, row};

    fn pair(peer: &str, local: &str) -> SocketPair {
        SocketPair::new(peer.parse().unwrap(), local.parse().unwrap())
    }

    fn word(octets: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(octets))
    }

    /// A row of the table of IPv4, with what follows the addresses.
    fn of_loopback(rest: &str) -> Option<(SocketPair, PeerSocket)> {
        let loopback = word([127, 0, 0, 1]);
        row(&format!("   3: {loopback}:9C40 {loopback}:268E {rest}"))
    }

    #[test]
    fn the_row_of_an_open_socket_is_the_peer() {
        for state in ["01", "04", "05", "08"] {
            let found = of_loopback(&format!(
                "{state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000 20 4 30 10 -1"
            ));
            let socket = PeerSocket { user: 1000, inode: 4711 };
            assert_eq!(found, Some((pair("127.0.0.1:40000", "127.0.0.1:9870"), socket)), "{state}");
        }
    }

    #[test]
    fn no_other_row_is_anybody() {
        for (rest, what) in [
            ("04 00000000:00000000 00:00000000 00000000     0        0 0 1", "the peer closed its socket"),
            ("06 00000000:00000000 03:00001770 00000000     0        0 0 3", "both ends are closed"),
            ("0A 00000000:00000000 00:00000000 00000000     0        0 4711 1", "a listener"),
            ("02 00000000:00000000 00:00000000 00000000     0        0 4711 1", "not connected yet"),
            ("01 00000000:00000000 00:00000000 00000000     x        0 4711 1", "no row"),
            ("01", "a short row"),
        ] {
            assert_eq!(of_loopback(rest), None, "{what}");
        }
        assert_eq!(row("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when"), None);
        assert_eq!(row(""), None);
    }

    #[test]
    fn a_mapped_address_in_the_table_of_ipv6_is_the_one_of_ipv4() {
        let zero = word([0; 4]);
        let mapped = format!("{zero}{zero}{}{}", word([0, 0, 0xff, 0xff]), word([127, 0, 0, 1]));
        let rest = "01 00000000:00000000 00:00000000 00000000     0        0 8 1";
        let (found, _) = row(&format!("0: {mapped}:9C40 {mapped}:268E {rest}")).unwrap();
        assert_eq!(found, pair("127.0.0.1:40000", "127.0.0.1:9870"));
        let loopback = format!("{zero}{zero}{zero}{}", word([0, 0, 0, 1]));
        let (found, _) = row(&format!("0: {loopback}:9C40 {loopback}:268E {rest}")).unwrap();
        assert_eq!(found, pair("[::1]:40000", "[::1]:9870"));
    }

    #[tokio::test]
    async fn questions_share_a_look_that_begins_after_them() {
        let tables = SocketTables::on(pmesh_threads::testing::threads("proc"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let connect = || std::net::TcpStream::connect(local).unwrap();
        let (one, two) = (connect(), connect());
        let looks = (tables.next(), tables.next());
        assert!(looks.0.ptr_eq(&looks.1), "neither has begun");
        let user = rustix::process::geteuid().as_raw();
        for stream in [&one, &two] {
            let pair = SocketPair::new(stream.local_addr().unwrap(), local);
            assert_eq!(looks.0.clone().await[&pair].user, user);
        }
        let three = connect();
        let pair = SocketPair::new(three.local_addr().unwrap(), local);
        assert_eq!(tables.ask(&pair).await.unwrap().user, user, "a look that had begun is not taken for it");
    }
}
