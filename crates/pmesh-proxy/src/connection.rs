//! One client's connection: its time limits and its end.

use std::{
    future::{Future as _, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use futures_util::FutureExt as _;
use pmesh_sessions::{ClientKey, PeerOwner};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    at_work::{CutReason, Dismissal},
    client_io::ClientIo,
    context::{ConnectionContext, ConnectionInfo, ThreadContext},
    limits::FrontStage,
    occupancy::OccupiedPlace,
    protocol::{self, ProtocolError},
};

/// Serves a connection to its end.
pub(crate) async fn serve(
    thread: Arc<ThreadContext>,
    stream: TcpStream,
    peer: SocketAddr,
    place: OccupiedPlace,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::trace!(%error, "a client left before it was served");
        return;
    }
    let Ok(local) = stream.local_addr() else { return };
    // Before a byte is read: once the client has closed its end, nobody can say any more whose it was.
    let owner = if local.ip().to_canonical().is_loopback() {
        thread.peers.owner(peer, local).await
    } else {
        PeerOwner::NotAsked
    };
    let connection = ConnectionInfo { peer, local, owner };
    let caller = Arc::new(ConnectionContext::new(thread.clone(), connection, place.occupied.clone()));
    let limits = thread.limits.clone();
    let phases = place.phases.clone();
    let (io, end) = ClientIo::new(stream, phases.clone());
    let mut connection = protocol::http1(io, caller, phases.clone());
    let mut telling = pin!(end.tell(&phases).fuse());
    let mut alarm = pin!(sleep_until(Instant::now() + limits.header_timeout));
    let mut stage = thread.stage.clone();
    let mut is_closing = false;
    let served = loop {
        let is_draining = !is_closing && matches!(*stage.borrow_and_update(), FrontStage::Draining { .. });
        if is_draining {
            is_closing = true;
            connection.finish();
        }
        let next = poll_fn(|cx| {
            // First: what a client ended before its answer begins is a half-close. It is told to the phases.
            if telling.as_mut().poll(cx).is_ready() {
                tracing::trace!("a client has broken off");
            }
            match phases.dismissal(cx) {
                None => {}
                Some(Dismissal::Finish) => connection.finish(),
                Some(Dismissal::Close) => return Poll::Ready(Err(CutReason::Dismissed)),
            }
            if let Poll::Ready(served) = connection.poll_end(cx) {
                return Poll::Ready(Ok(served));
            }
            phases.poll_verdict(cx, alarm.as_mut()).map(Err)
        });
        tokio::select! {
            served = next => break served,
            changed = stage.changed(), if !is_closing => if changed.is_err() { return },
        }
    };
    tell(&thread, peer, served);
}

/// Says how a connection has ended.
fn tell(thread: &ThreadContext, peer: SocketAddr, served: Result<Result<(), ProtocolError>, CutReason>) {
    match served {
        Err(verdict) => tracing::debug!(?verdict, "a client's connection is closed"),
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            // Such a request was answered without the front being asked, and counts all the same.
            if error.is_unreadable_request() {
                let sessions = thread.tables.sessions();
                sessions.record(ClientKey::from(peer.ip()), std::time::Instant::now());
            }
            tracing::debug!(%error, "a client's connection ended");
        }
    }
}
