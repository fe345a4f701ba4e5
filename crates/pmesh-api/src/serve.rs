//! Serving the API on listeners of its own.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};

use crate::{Api, Listener, seat::Seats, stall::Unstalled};

pub use crate::places::MAX_CONNECTIONS;

/// Of how many connections it is asked at a time whose they are. More wait to be accepted.
const MAX_ASKED: usize = 64;

/// How long an answer is kept for somebody who does not read on.
pub const WRITE_STALL: Duration = Duration::from_secs(30);

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
    let asking = Arc::new(Semaphore::new(MAX_ASKED));
    let seats = api.seats();
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let asking = Arc::clone(&asking).acquire_owned().await.expect("nobody closes the semaphore");
            (asking, listener.next().await)
        };
        let (asking, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
            // Takes what the ended tasks left behind, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
        };
        let (stream, arrival) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_the_callers(&error) => continue,
            Err(error) => {
                api.say_unaccepted(&error);
                tokio::select! {
                    () = sleep(ACCEPT_PAUSE) => continue,
                    () = &mut shutdown => break,
                }
            }
        };
        connections.spawn(connection(
            stream,
            arrival,
            api.clone(),
            seats.clone(),
            asking,
            graceful.watcher(),
        ));
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Serves one connection, if there is a place for it, until it ends or somebody else needs the place.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    arrival: Arrival,
    api: Api,
    seats: Seats,
    asking: OwnedSemaphorePermit,
    watcher: Watcher,
) {
    // Before a byte is read: whoever has closed its end is nobody.
    let origin = arrival.ask(&api).await;
    drop(asking);
    let Some(seat) = api.seat(&seats, &origin).await else {
        tracing::debug!(peer = %origin.counts_as(), "a connection to the API found no place");
        return;
    };
    let of_requests = seat.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let api = api.clone();
        request.extensions_mut().insert(of_requests.clone());
        async move { Ok::<_, std::convert::Infallible>(api.handle(request, origin).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_LEN)
        .serve_connection(TokioIo::new(Unstalled::new(stream, WRITE_STALL)), service);
    tokio::select! {
        ended = watcher.watch(served) => if let Err(error) = ended {
            // Broken heads and callers that went away: nothing that the server could mend.
            tracing::debug!(%error, "a connection to the API ended early");
        },
        () = seat.lost() => tracing::debug!("an idle connection to the API made room for another"),
    }
}

/// Whether accepting failed because of the one connection, not of the listener (accept(2)).
fn is_the_callers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected};
    // `InvalidInput` is what `TCP_NODELAY` and `getsockname` say of a connection that is gone.
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | InvalidInput | NotConnected)
}
