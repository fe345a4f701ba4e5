//! Who asks, and what its requests share: the connection, the front thread.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use pmesh_sessions::{PeerOwner, Peers};
use pmesh_threads::{HostNames, Threads};
use tokio::{runtime::Handle, sync::watch};

use crate::{
    connections::Connections,
    header::ClientPeer,
    limits::{FrontLimits, FrontStage},
    local_body::LocalBody,
    logins::Logins,
    occupancy::Occupied,
    pool::Pool,
    relief::Relief,
    request_body::RequestBody,
    request_id::RequestIds,
    tables::Tables,
};

/// Whom a request comes from, and where it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Whose process the other end is; asked where both addresses are loopback ones.
    pub owner: PeerOwner,
}

impl ConnectionInfo {
    /// A connection from `peer` to `local`, whose owner nobody has asked for.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { peer, local, owner: PeerOwner::NotAsked }
    }

    /// The same, but for what `change` does to it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Answers the requests for the host `pm3`.
pub trait LocalHandler: Send + Sync + 'static {
    /// Answers one request, as it came: who may do what is for the handler to decide.
    ///
    /// Runs on the runtime that was given to [`Front::serve`](crate::Front::serve), never on a front
    /// thread, and is dropped when the client goes away; a panic is answered 500.
    fn handle(
        &self,
        request: Request<RequestBody>,
        connection: ConnectionInfo,
    ) -> BoxFuture<'static, Response<LocalBody>>;
}

/// What a front thread's requests share.
pub(crate) struct ThreadContext {
    pub(crate) tables: Tables,
    pub(crate) limits: Arc<FrontLimits>,
    pub(crate) local: Option<(Arc<dyn LocalHandler>, Handle)>,
    pub(crate) pool: Pool,
    pub(crate) relief: Arc<Relief>,
    pub(crate) request_ids: RequestIds,
    pub(crate) peers: Peers,
    /// Threads that read files.
    pub(crate) files: Threads,
    pub(crate) names: HostNames,
    pub(crate) stage: watch::Receiver<FrontStage>,
}

/// What the requests of a client's connection share.
pub(crate) struct ConnectionContext {
    pub(crate) thread: Arc<ThreadContext>,
    pub(crate) connection: ConnectionInfo,
    pub(crate) peer: ClientPeer,
    pub(crate) occupied: Occupied,
    pub(crate) logins: Logins,
}

impl ConnectionContext {
    pub(crate) fn new(thread: Arc<ThreadContext>, connection: ConnectionInfo, occupied: Occupied) -> Self {
        let ip = connection.peer.ip();
        let is_internal = thread.tables.is_internal(connection.owner);
        let peer = ClientPeer::new(ip, thread.tables.trusted().contains(ip), is_internal);
        Self { thread, connection, peer, occupied, logins: Logins::default() }
    }

    /// What its requests to upstreams go over.
    pub(crate) fn connections(&self) -> Connections<'_> {
        Connections {
            pool: &self.thread.pool,
            relief: &self.thread.relief,
            names: &self.thread.names,
            logins: &self.logins,
            stage: &self.thread.stage,
        }
    }
}
