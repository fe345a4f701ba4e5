//! Whose process is at the other end of a loopback connection.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::Arc,
};

use pmesh_threads::Threads;

use crate::{
    own_descriptors::OwnDescriptors,
    peer_socket::{PeerSocket, SocketPair, is_loopback},
    socket_diagnostics::SocketDiagnostics,
    socket_tables::{LOOK_LIMIT, SocketTables},
};

/// Who owns the other end of a connection, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerOwner {
    /// It was not asked: the peer is on another machine, or speaks as if it were.
    NotAsked,
    /// Whoever made this socket, on this machine.
    Socket(PeerSocket),
    /// This very process, to itself.
    Itself,
    /// Nobody knows: the peer has closed its end already, or the kernel does not tell. Never root.
    Unknown,
}

impl PeerOwner {
    /// The user of the peer's socket, where it is known.
    pub fn user(self) -> Option<u32> {
        match self {
            Self::Socket(socket) => Some(socket.user),
            Self::NotAsked | Self::Itself | Self::Unknown => None,
        }
    }

    /// Whether the peer is a process of `user` or of root on this machine.
    pub fn is_of(self, user: u32) -> bool {
        self.user().is_some_and(|owner| owner == user || owner == 0)
    }
}

/// How a [`Peers`] finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerSource {
    /// Socket diagnostics (`sock_diag(7)`): some microseconds a question.
    Diagnostics,
    /// `/proc/net/tcp` and `tcp6`, because this kernel has none: some milliseconds, which all who ask at the
    /// same time share.
    Tables,
}

/// Asks the kernel who is at the other end of loopback connections. Clones share one handle; each process
/// makes one, once.
#[derive(Clone, Debug)]
pub struct Peers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    /// None where `/proc` is not there: then nobody of our own user is known.
    own: Option<OwnDescriptors>,
    threads: Threads,
}

#[derive(Debug)]
enum Source {
    Diagnostics(SocketDiagnostics),
    Tables(SocketTables),
}

impl Peers {
    /// Opens the handle, and tries it on a connection of its own: what a kernel without diagnostics for TCP
    /// answers cannot be told from "no such socket". What is read of `/proc` is read on these threads.
    pub fn open(proc: Threads) -> Self {
        let source = match SocketDiagnostics::open() {
            Ok(diagnostics) if answers(&diagnostics) => Source::Diagnostics(diagnostics),
            Ok(_) | Err(_) => Source::Tables(SocketTables::on(proc.clone())),
        };
        Self::by(source, proc)
    }

    fn by(source: Source, threads: Threads) -> Self {
        Self(Arc::new(Shared { source, own: OwnDescriptors::open().ok(), threads }))
    }

    /// How it finds out.
    pub fn source(&self) -> PeerSource {
        match &self.0.source {
            Source::Diagnostics(_) => PeerSource::Diagnostics,
            Source::Tables(_) => PeerSource::Tables,
        }
    }

    /// Who owns the other end of the connection from `peer` to `local`. Only a peer at a loopback address is
    /// asked for. Ask before the first byte is read: whoever has closed its end is nobody.
    ///
    /// Answers at once by diagnostics; by tables it waits for the next look at them, and must be called in a
    /// tokio runtime. Cancel-safe.
    pub async fn owner(&self, peer: SocketAddr, local: SocketAddr) -> PeerOwner {
        if !is_loopback(peer.ip()) {
            return PeerOwner::NotAsked;
        }
        self.socket(peer, local).await.map_or(PeerOwner::Unknown, PeerOwner::Socket)
    }

    /// The same, and [`PeerOwner::Itself`] where this process has both ends. That costs a look at all
    /// descriptors of this process where the peer has its user; for listeners with few connections.
    pub async fn owner_or_itself(&self, peer: SocketAddr, local: SocketAddr) -> PeerOwner {
        let owner = self.owner(peer, local).await;
        self.itself_if_it_is(owner, peer, local).await
    }

    /// Makes an earlier answer of [`owner`](Self::owner) exact: this process itself, nobody where the peer
    /// has gone since, else what it was.
    pub async fn itself_if_it_is(&self, owner: PeerOwner, peer: SocketAddr, local: SocketAddr) -> PeerOwner {
        let PeerOwner::Socket(socket) = owner else { return owner };
        if socket.user != rustix::process::geteuid().as_raw() {
            return owner;
        }
        let shared = Arc::clone(&self.0);
        let look = move || shared.own.as_ref()?.have_socket(socket.inode).ok();
        match self.0.threads.run(LOOK_LIMIT, move |_| look()).await.unwrap_or_default() {
            Some(true) => PeerOwner::Itself,
            // Asked again: had it been closed during the look, the look would have missed it.
            Some(false) if self.socket(peer, local).await == Some(socket) => owner,
            Some(false) | None => PeerOwner::Unknown,
        }
    }

    /// Whether the peer still has the socket open that it had when its owner was asked for.
    pub async fn still_has(&self, socket: PeerSocket, peer: SocketAddr, local: SocketAddr) -> bool {
        self.socket(peer, local).await == Some(socket)
    }

    async fn socket(&self, peer: SocketAddr, local: SocketAddr) -> Option<PeerSocket> {
        let pair = SocketPair::new(peer, local);
        match &self.0.source {
            // What fails here fails for want of memory: nobody is known, and nobody is let in.
            Source::Diagnostics(diagnostics) => diagnostics.ask(&pair).unwrap_or_default(),
            Source::Tables(tables) => tables.ask(&pair).await,
        }
    }
}

/// Whether these diagnostics know a connection that is there. A machine without a loopback interface has
/// nobody to ask for either.
fn answers(diagnostics: &SocketDiagnostics) -> bool {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let asked = |ip: IpAddr| -> io::Result<bool> {
        let listener = TcpListener::bind((ip, 0))?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let inode = rustix::fs::fstat(stream.as_fd())?.st_ino;
        let found = diagnostics.ask(&SocketPair::new(stream.local_addr()?, stream.peer_addr()?))?;
        Ok(found.is_some_and(|socket| socket.inode == inode))
    };
    loopback.into_iter().find_map(|ip| asked(ip).ok()).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{SocketAddr, TcpListener, TcpStream},
        process::{Command, Stdio},
    };

    use pmesh_threads::testing::threads;
    use rustix::net::{AddressFamily, SocketType};

    use super::{PeerOwner, PeerSource, Peers, Source};
    use crate::{PeerSocket, socket_tables::SocketTables};

    /// Both ways to find out; what one says, the other does.
    fn both() -> [Peers; 2] {
        let diagnostics = Peers::open(threads("proc"));
        assert_eq!(diagnostics.source(), PeerSource::Diagnostics, "this kernel has no socket diagnostics");
        [diagnostics, Peers::by(Source::Tables(SocketTables::on(threads("proc"))), threads("proc"))]
    }

    fn own_user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn socket_of(stream: &impl std::os::fd::AsFd) -> PeerSocket {
        let inode = rustix::fs::fstat(stream.as_fd()).unwrap().st_ino;
        PeerSocket { user: own_user(), inode }
    }

    #[tokio::test]
    async fn a_peer_is_the_user_and_number_of_its_socket_before_it_is_accepted() {
        for address in ["127.0.0.1:0", "127.8.9.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let local = listener.local_addr().unwrap();
            let client = TcpStream::connect(local).unwrap();
            let peer = client.local_addr().unwrap();
            for peers in both() {
                assert_eq!(
                    peers.owner(peer, local).await,
                    PeerOwner::Socket(socket_of(&client)),
                    "{peers:?}"
                );
            }
            let (_served, seen) = listener.accept().unwrap();
            assert_eq!(seen, peer);
        }
    }

    #[tokio::test]
    async fn a_client_of_ipv6_at_an_address_of_ipv4_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let client = rustix::net::socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
        let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", local.port()).parse().unwrap();
        rustix::net::connect(&client, &mapped).unwrap();
        let (_served, peer) = listener.accept().unwrap();
        assert!(peer.is_ipv4());
        for peers in both() {
            assert_eq!(peers.owner(peer, local).await, PeerOwner::Socket(socket_of(&client)), "{peers:?}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_has_gone_is_nobody_also_where_somebody_listens_on_its_port() {
        for listens in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let local = listener.local_addr().unwrap();
            // The port stays somebody's while the kernel says goodbye: let go of, it may be given to another test.
            // Two may be bound to one port where both say so before (socket(7), SO_REUSEADDR).
            let shared = || {
                let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
                rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
                socket
            };
            let holder = shared();
            rustix::net::bind(&holder, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let client = shared();
            rustix::net::bind(&client, &rustix::net::getsockname(&holder).unwrap()).unwrap();
            rustix::net::connect(&client, &local).unwrap();
            let (mut served, peer) = listener.accept().unwrap();
            drop(client);
            // Returns when the end of the other side is here.
            assert_eq!(served.read(&mut [0]).unwrap(), 0);
            if listens {
                rustix::net::listen(&holder, 1).unwrap();
            }
            for peers in both() {
                assert_eq!(peers.owner(peer, local).await, PeerOwner::Unknown, "{peers:?} {listens}");
            }
        }
    }

    #[tokio::test]
    async fn a_peer_that_has_closed_one_direction_is_still_who_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let client = TcpStream::connect(local).unwrap();
        let peer = client.local_addr().unwrap();
        let (mut served, _) = listener.accept().unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(served.read(&mut [0]).unwrap(), 0);
        for peers in both() {
            assert_eq!(peers.owner(peer, local).await, PeerOwner::Socket(socket_of(&client)), "{peers:?}");
        }
    }

    #[tokio::test]
    async fn both_ends_in_one_process_are_the_process_itself() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let client = TcpStream::connect(local).unwrap();
        let peer = client.local_addr().unwrap();
        for peers in both() {
            assert_eq!(peers.owner_or_itself(peer, local).await, PeerOwner::Itself, "{peers:?}");
            assert!(peers.still_has(socket_of(&client), peer, local).await);
        }
    }

    #[tokio::test]
    async fn another_process_of_the_same_user_is_not_the_process_itself() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{} && cat <&3", local.port());
        let mut child = Command::new("bash").args(["-c", &script]).stdout(Stdio::null()).spawn().unwrap();
        let (_served, peer) = listener.accept().unwrap();
        for peers in both() {
            let owner = peers.owner_or_itself(peer, local).await;
            assert_eq!(owner.user(), Some(own_user()), "{peers:?}");
            assert!(owner.is_of(own_user()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn nobody_is_asked_about_another_machine() {
        let peers = Peers::open(threads("proc"));
        let local = "127.0.0.1:9870".parse().unwrap();
        // Nor about what only stands for an address of this one.
        for peer in ["192.0.2.1:5", "[::127.0.0.1]:5", "[64:ff9b::127.0.0.1]:5"] {
            let peer = peer.parse().unwrap();
            assert_eq!(peers.owner(peer, local).await, PeerOwner::NotAsked, "{peer}");
            assert_eq!(peers.owner_or_itself(peer, local).await, PeerOwner::NotAsked, "{peer}");
        }
    }

    #[test]
    fn only_the_user_itself_and_root_are_of_a_user() {
        let socket = |user| PeerOwner::Socket(PeerSocket { user, inode: 1 });
        assert!(socket(1000).is_of(1000) && socket(0).is_of(1000));
        assert!(!socket(1001).is_of(1000));
        for owner in [PeerOwner::Unknown, PeerOwner::NotAsked, PeerOwner::Itself] {
            assert!(!owner.is_of(1000) && !owner.is_of(0), "{owner:?}");
        }
    }
}
