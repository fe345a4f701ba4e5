//! Making connections to upstreams.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use crate::{
    pool::Connection,
    spec::{Upstream, UpstreamAddress},
    upstream::InFlight,
};

/// The buffer of a connection, in bytes; also the most that the head of an answer may have.
const MAX_BUFFER: usize = 64 << 10;

/// Makes a connection for a request; the connection's task ends when the connection closes, or its
/// upstream is cut.
///
/// Cancel-safe: a connection that is not yet made is given up.
pub(crate) async fn connect(in_flight: &InFlight, limit: Duration) -> io::Result<Connection> {
    let open = in_flight.connecting();
    let stream =
        timeout(limit, tcp(&in_flight.live().upstream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let received = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(UpstreamIo { stream, received: received.clone() });
    let (sender, connection) =
        http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(io).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        tokio::select! {
            ended = connection.with_upgrades() => if let Err(error) = ended {
                tracing::debug!(%error, "a connection to an upstream ended");
            },
            () = open.cut() => {}
        }
    });
    Ok(Connection { sender, received, is_reused: false })
}

async fn tcp(upstream: &Upstream) -> io::Result<TcpStream> {
    let stream = match &upstream.address {
        UpstreamAddress::Socket(address) => TcpStream::connect(address).await?,
        UpstreamAddress::Name(host, port) => TcpStream::connect((&**host, *port)).await?,
    };
    // Head and body of a request may be two writes: the second must not wait for the first's
    // acknowledgement.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A stream that tells when bytes come in.
struct UpstreamIo {
    stream: TcpStream,
    received: Arc<AtomicBool>,
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.received.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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
