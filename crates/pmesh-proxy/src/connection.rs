//! One client's connection: its time limits and its end.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Request;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use pmesh_sessions::{ClientKey, PeerOwner};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    answer_body::AnswerBody,
    caller::{Caller, ConnectionInfo, ThreadContext},
    limits::Stage,
    local_body::BoxError,
    occupancy::Occupied,
    phase::{AtWork, PhaseCell},
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
    occupied: Occupied,
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
    let caller = Arc::new(Caller::new(thread.clone(), ConnectionInfo { peer, local, owner }, occupied));
    let limits = thread.limits.clone();
    let phase = Arc::new(PhaseCell::new(&limits));
    let io = TokioIo::new(ClientIo { stream, phase: phase.clone() });
    let service = service_fn(|request: Request<Incoming>| {
        let at_work = AtWork::begin(&phase);
        let answer = serve::respond(caller.clone(), request, at_work.clone());
        async move { Ok::<_, Infallible>(answer.await.map(|body| ClientBody { body, _at_work: at_work })) }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER)
        .max_header_size(MAX_HEAD)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut alarm = pin!(sleep_until(Instant::now() + limits.header_timeout));
    let mut stage = thread.stage.clone();
    let mut is_closing = false;
    let served = loop {
        let is_draining = !is_closing && matches!(*stage.borrow_and_update(), Stage::Draining { .. });
        if is_draining {
            is_closing = true;
            connection.as_mut().graceful_shutdown();
        }
        let next = poll_fn(|cx| {
            if let Poll::Ready(served) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(served));
            }
            // The alarm is set anew only where it would come too late: it may come too early, once.
            while let Some(deadline) = phase.deadline() {
                if deadline < alarm.deadline() {
                    alarm.as_mut().reset(deadline);
                }
                if alarm.as_mut().poll(cx).is_pending() {
                    break;
                }
                if deadline <= Instant::now() {
                    return Poll::Ready(None);
                }
                alarm.as_mut().reset(deadline);
            }
            Poll::Pending
        });
        tokio::select! {
            served = next => break served,
            changed = stage.changed(), if !is_closing => if changed.is_err() { return },
        }
    };
    match served {
        None => tracing::debug!(%peer, "a client was silent for too long"),
        Some(Ok(())) => {}
        Some(Err(error)) => {
            // Such a request was answered without the front being asked, and counts all the same.
            if error.is_parse() {
                let sessions = thread.tables.sessions();
                sessions.record(ClientKey::from(peer.ip()), std::time::Instant::now());
            }
            tracing::debug!(%error, %peer, "a client's connection ended");
        }
    }
}

/// A client's stream; the first byte of a head starts its time.
struct ClientIo {
    stream: TcpStream,
    phase: Arc<PhaseCell>,
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.phase.read();
        }
        read
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.phase.written();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.phase.written();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body.
struct ClientBody {
    body: AnswerBody,
    _at_work: AtWork,
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
