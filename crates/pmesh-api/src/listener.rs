//! Where a request came in, and from whom.

use std::{io, net::SocketAddr};

use pmesh_sessions::{PeerOwner, UnixPeer};
use tokio::net::UnixStream;

use crate::places::Peer;

/// Where a request came in, and from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listener {
    /// The API's own TCP listener.
    Tcp {
        /// The address that was connected to.
        local: SocketAddr,
        /// The address of the caller.
        peer: SocketAddr,
        /// Whose process the caller is.
        owner: PeerOwner,
    },
    /// The API's own Unix socket: the file system decided who may connect.
    Unix {
        /// The process that has connected.
        caller: UnixPeer,
        /// Its user.
        user: u32,
    },
    /// The virtual host `pm3` on the HTTP front.
    FrontHost {
        /// The address that was connected to.
        local: SocketAddr,
        /// The address of the caller.
        peer: SocketAddr,
        /// Whose process the caller is.
        owner: PeerOwner,
    },
}

impl Listener {
    /// A connection that was accepted on a Unix socket of the API.
    ///
    /// # Errors
    ///
    /// The system's, where the socket is none or has no other end.
    pub fn unix(stream: &UnixStream) -> io::Result<Self> {
        // 0 is whoever cannot be seen from this pid namespace (unix(7)).
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid != 0);
        Ok(Self::Unix { caller: UnixPeer::now(pid), user: credentials.uid() })
    }

    /// Whom the caller counts as, where one must not take everything.
    pub(crate) fn counts_as(&self) -> Peer {
        match *self {
            Self::Unix { user, .. } => Peer::User(user),
            Self::Tcp { peer, owner, .. } | Self::FrontHost { peer, owner, .. } => match owner {
                PeerOwner::Socket(socket) => Peer::User(socket.user),
                PeerOwner::NotAsked => Peer::Client(peer.ip().into()),
                PeerOwner::Itself => Peer::Itself,
                PeerOwner::Unknown => Peer::Unknown,
            },
        }
    }
}
