//! Who calls: whose process it is, and whether this server has started it.

use std::{fmt, net::SocketAddr, time::Duration};

use futures_util::future::BoxFuture;
use pmesh_sessions::{Descent, PeerOwner, Peers, descent_of_socket};
use pmesh_threads::Threads;

use crate::listener::Listener;

/// Tells who is at the other end of a connection.
pub trait Callers: fmt::Debug + Send + Sync {
    /// Who owns the other end of a connection to a listener of the API. It is asked once a connection, before
    /// a byte is read.
    fn owner(&self, local: SocketAddr, peer: SocketAddr) -> BoxFuture<'_, PeerOwner>;

    /// The owner of a connection to the front, which did not ask whether both ends are this process's own.
    fn exact(&self, owner: PeerOwner, local: SocketAddr, peer: SocketAddr) -> BoxFuture<'_, PeerOwner>;

    /// Whether a caller descends from this process: apps, builds, `git`, and whatever they started. It is
    /// asked for a GET that acts, never once a connection, and takes some milliseconds.
    fn descent(&self, listener: Listener) -> BoxFuture<'_, Descent>;
}

/// What the kernel tells of this machine's processes.
///
/// Descent can be seen only where the server is a subreaper (prctl(2)): else a process that loses its parent is no
/// descendant of ours any more.
#[derive(Clone, Debug)]
pub struct KernelCallers {
    peers: Peers,
    proc: Threads,
}

/// How long a look at all processes may take.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

impl KernelCallers {
    /// With the handle by which sockets are found, and threads for looks at `/proc`.
    pub fn new(peers: Peers, proc: Threads) -> Self {
        Self { peers, proc }
    }

    /// Where nobody could look, nothing is known.
    async fn look(&self, look: impl FnOnce() -> Descent + Send + 'static) -> Descent {
        self.proc.run(LOOK_LIMIT, move |_| look()).await.unwrap_or(Descent::Unknown)
    }
}

impl Callers for KernelCallers {
    fn owner(&self, local: SocketAddr, peer: SocketAddr) -> BoxFuture<'_, PeerOwner> {
        Box::pin(self.peers.owner_or_itself(peer, local))
    }

    fn exact(&self, owner: PeerOwner, local: SocketAddr, peer: SocketAddr) -> BoxFuture<'_, PeerOwner> {
        Box::pin(self.peers.itself_if_it_is(owner, peer, local))
    }

    fn descent(&self, listener: Listener) -> BoxFuture<'_, Descent> {
        Box::pin(async move {
            let (local, peer, owner) = match listener {
                Listener::Unix { caller, .. } => return self.look(move || caller.descent()).await,
                Listener::Tcp { local, peer, owner } | Listener::FrontHost { local, peer, owner } => {
                    (local, peer, owner)
                }
            };
            let socket = match owner {
                PeerOwner::Socket(socket) => socket,
                // What we started is on this machine.
                PeerOwner::NotAsked => return Descent::Stranger,
                PeerOwner::Itself => return Descent::Descends,
                PeerOwner::Unknown => return Descent::Unknown,
            };
            match self.look(move || descent_of_socket(socket.inode)).await {
                // Who waits for the answer has its socket open still. Had it been closed during the look, the
                // look could have missed it.
                Descent::Stranger if !self.peers.still_has(socket, peer, local).await => Descent::Unknown,
                descent => descent,
            }
        })
    }
}
