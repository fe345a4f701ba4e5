//! Serving the API on listeners of its own.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};

use crate::{Api, Listener};

/// The most connections that are served at a time on one listener; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 512;

/// How long the head of a request may take; as long an idle connection is kept.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request, in bytes.
pub const MAX_HEAD_LEN: usize = 64 * 1024;

/// The pause after an accept that failed for want of descriptors or memory: what is missing does
/// not come back by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `api` on a TCP listener until `shutdown` is done and the requests in flight have ended.
///
/// The tasks of the connections are its own: dropped, it cuts them all. A request that waits for a
/// long operation is in flight for as long; put a time limit around the end if that is too long.
pub async fn serve_tcp(listener: TcpListener, api: Api, shutdown: impl Future<Output = ()>) {
    serve(listener, api, shutdown).await;
}

/// As [`serve_tcp`], on a Unix socket: the permissions of its file say who may use the API.
pub async fn serve_unix(listener: UnixListener, api: Api, shutdown: impl Future<Output = ()>) {
    serve(listener, api, shutdown).await;
}

/// Where a connection came in. Whose it is takes a moment to ask.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    Tcp { local: SocketAddr, peer: SocketAddr },
    Unix(Listener),
}

impl Arrival {
    async fn ask(self, api: &Api) -> Listener {
        match self {
            Self::Tcp { local, peer } => api.tcp_connection(local, peer).await,
            Self::Unix(listener) => listener,
        }
    }
}

/// What both kinds of listener do.
trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and where it came in. Cancel-safe.
    async fn next(&self) -> io::Result<(Self::Stream, Arrival)>;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<(Self::Stream, Arrival)> {
        let (stream, peer): (_, SocketAddr) = self.accept().await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        Ok((stream, Arrival::Tcp { local, peer }))
    }
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<(Self::Stream, Arrival)> {
        let (stream, _unnamed) = self.accept().await?;
        let listener = Listener::unix(&stream)?;
        Ok((stream, Arrival::Unix(listener)))
    }
}

async fn serve<L: Accept>(listener: L, api: Api, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let graceful = GracefulShutdown::new();
    let places = std::sync::Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("nobody closes the semaphore");
            (place, listener.next().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
            // Takes what the ended tasks left behind, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
        };
        let (stream, arrival) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_the_callers(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections to the API; trying again");
                tokio::select! {
                    () = sleep(ACCEPT_PAUSE) => continue,
                    () = &mut shutdown => break,
                }
            }
        };
        let (api, watcher) = (api.clone(), graceful.watcher());
        connections.spawn(async move {
            let _place = place;
            // Before a byte is read: whoever has closed its end is nobody.
            let origin = arrival.ask(&api).await;
            let service = service_fn(move |request| {
                let api = api.clone();
                async move { Ok::<_, std::convert::Infallible>(api.handle(request, origin).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEAD_LEN)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection).await {
                // Broken heads and callers that went away: nothing that the server could mend.
                tracing::debug!(%error, "a connection to the API ended early");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Whether accepting failed because of the one connection, not of the listener (accept(2)).
fn is_the_callers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected};
    // `InvalidInput` is what `TCP_NODELAY` and `getsockname` say of a connection that is gone.
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | InvalidInput | NotConnected)
}
