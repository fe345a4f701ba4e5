//! One client's connection: its time limits and its end.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use futures_util::FutureExt as _;
use http::Request;
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use pmesh_sessions::{ClientKey, PeerOwner};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    at_work::{AtWork, CutReason, Dismissal},
    client_body::ClientBody,
    client_io::ClientIo,
    context::{ConnectionContext, ConnectionInfo, ThreadContext},
    limits::FrontStage,
    next_head::BodyLength,
    occupancy::OccupiedPlace,
    serve,
};

/// The buffer of a connection, in bytes.
const MAX_BUFFER: usize = 64 << 10;
/// The most that the head of a request may have, in bytes; beyond it 431.
const MAX_HEAD: usize = 32 << 10;

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
    // Before a byte is read: whoever has closed its end is nobody.
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
    let service = service_fn(|request: Request<Incoming>| {
        let at_work = AtWork::begin(&phases, body_length(request.body()));
        let caller = caller.clone();
        async move {
            let answer = serve::respond(&caller, request, &at_work).await;
            Ok::<_, Infallible>(answer.map(|body| ClientBody::behind_head(body, at_work)))
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        // Whether the end of what a client sends is its own end is for the phases to say.
        .half_close(true)
        .max_buf_size(MAX_BUFFER)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut telling = pin!(end.tell(&phases).fuse());
    let mut alarm = pin!(sleep_until(Instant::now() + limits.header_timeout));
    let mut stage = thread.stage.clone();
    let mut is_closing = false;
    let served = loop {
        let is_draining = !is_closing && matches!(*stage.borrow_and_update(), FrontStage::Draining { .. });
        if is_draining {
            is_closing = true;
            connection.as_mut().graceful_shutdown();
        }
        let next = poll_fn(|cx| {
            // First: what a client ended before its answer begins is a half-close. It is told to the phases.
            if telling.as_mut().poll(cx).is_ready() {
                tracing::trace!("a client has broken off");
            }
            match phases.dismissal(cx) {
                None => {}
                Some(Dismissal::Finish) => connection.as_mut().graceful_shutdown(),
                Some(Dismissal::Close) => return Poll::Ready(Err(CutReason::Dismissed)),
            }
            if let Poll::Ready(served) = connection.as_mut().poll(cx) {
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

fn body_length(body: &Incoming) -> BodyLength {
    body.size_hint().exact().map_or(BodyLength::Chunks, BodyLength::Exact)
}

/// Says how a connection has ended.
fn tell(thread: &ThreadContext, peer: SocketAddr, served: Result<hyper::Result<()>, CutReason>) {
    match served {
        Err(verdict) => tracing::debug!(?verdict, "a client's connection is closed"),
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            // Such a request was answered without the front being asked, and counts all the same.
            if error.is_parse() {
                let sessions = thread.tables.sessions();
                sessions.record(ClientKey::from(peer.ip()), std::time::Instant::now());
            }
            tracing::debug!(%error, "a client's connection ended");
        }
    }
}
