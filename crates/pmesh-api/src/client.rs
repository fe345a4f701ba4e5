//! A client of the API, as the command line uses it.
//!
//! One connection a call: calls are rare and the server is on this machine.

mod event_stream;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
    pin::pin,
    str::FromStr,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use pmesh_sessions::{PeerOwner, Peers};
use pmesh_threads::{HostNames, PoolLimits, Threads};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

pub use self::event_stream::{EventStream, ServerEvent};
use crate::{api::LAST_EVENT_ID, calls::server::MANIFEST, percent, token::Token, wire::ErrorBody};

/// Where an API listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Over TCP: `http://host` or `http://host:port`.
    Http {
        /// A name or an address (IPv6 without brackets).
        host: String,
        /// The port.
        port: u16,
    },
    /// Over a Unix socket: `unix:PATH`.
    Unix(PathBuf),
}

/// A text that is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of an API; write http://HOST:PORT or unix:PATH")]
#[non_exhaustive]
pub struct BadEndpoint(pub String);

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let bad = || BadEndpoint(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(bad()) } else { Ok(Self::Unix(path.into())) };
        }
        let rest = text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://")).and(text.get(7..));
        let rest = rest.ok_or_else(bad)?;
        let authority: http::uri::Authority =
            rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| bad())?;
        let host = authority.host();
        // Whatever else the authority has – a user, a port that is none – is not dropped in silence.
        let port = match authority.as_str().strip_prefix(host).ok_or_else(bad)? {
            "" => 80,
            port => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(bad)?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Self::Http { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, port } if host.contains(':') => write!(f, "http://[{host}]:{port}"),
            Self::Http { host, port } => write!(f, "http://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or nobody who lets us in: no server, as far as we can tell.
    #[error("no server answers at {endpoint}")]
    Unreachable {
        /// Where it was sought.
        endpoint: Endpoint,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else listens there than this user or root, or nobody can tell who, so the token was not
    /// shown.
    #[error("{} listens at {endpoint}, so it is not shown the token; name it with --url if it is meant", whose(*user))]
    Stranger {
        /// Where it listens.
        endpoint: Endpoint,
        /// Its user, if the kernel tells.
        user: Option<u32>,
    },
    /// Somebody listens there, and the connection ended before the whole answer was there. Whether
    /// the call was acted upon is not known.
    #[error("the server at {endpoint} broke off before its answer was complete")]
    BrokenOff {
        /// Where it was sought.
        endpoint: Endpoint,
        /// What happened.
        source: hyper::Error,
    },
    /// The answer is larger than any of the API; it is cut.
    #[error("the server at {endpoint} answers with more than {} MiB", Client::MAX_ANSWER_LEN >> 20)]
    TooLarge {
        /// Where it came from.
        endpoint: Endpoint,
    },
    /// The path is none.
    #[error("{path:?} is no path of a request")]
    BadPath {
        /// The path.
        path: String,
    },
    /// The answer is not what the API answers: somebody else listens there.
    #[error("what answers at {endpoint} is no pmesh server")]
    NotOurs {
        /// Where it came from.
        endpoint: Endpoint,
        /// Where it differs.
        source: serde_json::Error,
    },
}

/// Somebody by the user that the kernel tells.
fn whose(user: Option<u32>) -> String {
    user.map_or("nobody can tell who".to_owned(), |user| format!("user id {user}, neither yours nor root's,"))
}

/// What the API answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// Where it came from.
    pub endpoint: Endpoint,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
}

impl Answer {
    /// The body as one of the types of [`wire`](crate::wire), or as a [`Value`].
    ///
    /// # Errors
    ///
    /// [`ClientError::NotOurs`] if it is none.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|source| ClientError::NotOurs { endpoint: self.endpoint.clone(), source })
    }

    /// The error that it is, if it is one: its status is not of the 200s.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotOurs`] if its body does not say what is wrong.
    pub fn error(&self) -> Result<Option<ErrorBody>, ClientError> {
        if self.status.is_success() { Ok(None) } else { self.json().map(Some) }
    }
}

/// A client of one API; clones are alike.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    token: Option<Token>,
    shown_to: ShownTo,
}

/// Who is shown the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShownTo {
    /// Whoever listens at the endpoint: somebody has named it.
    Anybody,
    /// The user of this process, and root.
    OwnUserAndRoot,
}

impl Client {
    /// The largest answer that is read, in bytes.
    pub const MAX_ANSWER_LEN: usize = 64 << 20;

    /// How long connecting may take. There is no limit on the answer: an action takes as long as it
    /// takes.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// A client of the API at `endpoint`, which shows `token` if there is one. Does not connect yet.
    pub fn new(endpoint: Endpoint, token: Option<Token>) -> Self {
        Self { endpoint, token, shown_to: ShownTo::Anybody }
    }

    /// The same for an endpoint that nobody has named: the token is shown only if this user or root
    /// listens there, which the kernel is asked on each connection, before anything is sent.
    pub fn wary(endpoint: Endpoint, token: Option<Token>) -> Self {
        Self { endpoint, token, shown_to: ShownTo::OwnUserAndRoot }
    }

    /// Where it sends its calls.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Calls a read.
    ///
    /// # Errors
    ///
    /// See [`call`](Self::call).
    pub async fn get(&self, path_and_query: &str) -> Result<Answer, ClientError> {
        self.call(Method::GET, path_and_query, None).await
    }

    /// Calls an action with a JSON object as its parameters.
    ///
    /// # Errors
    ///
    /// See [`call`](Self::call).
    pub async fn post(&self, path_and_query: &str, parameters: Value) -> Result<Answer, ClientError> {
        self.call(Method::POST, path_and_query, Some(parameters)).await
    }

    /// The path of the manifest that the server there serves; none if it does not say.
    ///
    /// # Errors
    ///
    /// See [`call`](Self::call).
    pub async fn manifest(&self) -> Result<Option<PathBuf>, ClientError> {
        let answer = self.get("/ping").await?;
        let path =
            answer.headers.get(MANIFEST).and_then(|path| percent::decode_bytes(path.to_str().ok()?).ok());
        Ok(path.map(|path| std::ffi::OsString::from_vec(path).into()))
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// Not cancel-safe: dropped, the call may have been acted upon or not.
    ///
    /// # Errors
    ///
    /// Whatever keeps an answer from us; an answer that is an error is an [`Answer`].
    pub async fn call(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<Value>,
    ) -> Result<Answer, ClientError> {
        let request = self.request(method, path_and_query, body)?;
        let Connected { mut sender, mut connection } = self.connect().await?;
        let broken_off = |source| ClientError::BrokenOff { endpoint: self.endpoint.clone(), source };
        let answering = async {
            let (head, body) = sender.send_request(request).await.map_err(broken_off)?.into_parts();
            self.whole(head, body).await
        };
        let mut answering = pin!(answering);
        tokio::select! {
            answer = &mut answering => answer,
            // What the connection has to say of its end reaches the answer as well.
            () = &mut connection => answering.await,
        }
    }

    /// Calls a read that answers with server-sent events, from behind the event of this id on if one is given.
    ///
    /// # Errors
    ///
    /// See [`call`](Self::call); `Ok(Err(…))` is an answer that has none, such as an error.
    pub async fn events(
        &self,
        path_and_query: &str,
        last_id: Option<&str>,
    ) -> Result<Result<EventStream, Answer>, ClientError> {
        let mut request = self.request(Method::GET, path_and_query, None)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = last_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            request.headers_mut().insert(LAST_EVENT_ID, id);
        }
        let Connected { mut sender, mut connection } = self.connect().await?;
        let broken_off = |source| ClientError::BrokenOff { endpoint: self.endpoint.clone(), source };
        let mut answering = pin!(sender.send_request(request));
        let (head, body) = tokio::select! {
            answer = &mut answering => answer,
            () = &mut connection => answering.await,
        }
        .map_err(broken_off)?
        .into_parts();
        let is_stream =
            head.headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "text/event-stream");
        if head.status.is_success() && is_stream {
            return Ok(Ok(EventStream::of(body, connection)));
        }
        let mut answering = pin!(self.whole(head, body));
        tokio::select! {
            answer = &mut answering => answer,
            () = connection => answering.await,
        }
        .map(Err)
    }

    async fn connect(&self) -> Result<Connected, ClientError> {
        let connecting = async {
            match &self.endpoint {
                Endpoint::Http { host, port } => {
                    let stream = match host.parse::<IpAddr>() {
                        Ok(ip) => TcpStream::connect(SocketAddr::new(ip, *port)).await?,
                        Err(_) => HostNames::start()?.connect(host, *port).await?,
                    };
                    Ok(Either::Tcp(stream))
                }
                Endpoint::Unix(path) => UnixStream::connect(path).await.map(Either::Unix),
            }
        };
        let connected = timeout(Self::CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| ClientError::Unreachable { endpoint: self.endpoint.clone(), source })?;
        if self.token.is_some() && self.shown_to == ShownTo::OwnUserAndRoot {
            let unreachable = |source| ClientError::Unreachable { endpoint: self.endpoint.clone(), source };
            let user = connected.user_of_peer().await.map_err(unreachable)?;
            if !user.is_some_and(|user| user == 0 || user == rustix::process::geteuid().as_raw()) {
                return Err(ClientError::Stranger { endpoint: self.endpoint.clone(), user });
            }
        }
        match connected {
            Either::Tcp(stream) => self.handshake(stream).await,
            Either::Unix(stream) => self.handshake(stream).await,
        }
    }

    fn request(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<Value>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let bad_path = || ClientError::BadPath { path: path_and_query.to_owned() };
        let target: PathAndQuery = path_and_query.parse().map_err(|_| bad_path())?;
        if !path_and_query.starts_with('/') {
            return Err(bad_path());
        }
        let host = match &self.endpoint {
            Endpoint::Http { .. } => self.endpoint.to_string().split_off("http://".len()),
            Endpoint::Unix(_) => "pm3".to_owned(),
        };
        let mut request =
            Request::builder().method(method).uri(http::Uri::from(target)).header(header::HOST, host);
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal()))
                .expect("a token has only characters that a header can carry");
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Full::new(body)).map_err(|_| bad_path())
    }

    async fn handshake<S>(&self, stream: S) -> Result<Connected, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken_off = |source| ClientError::BrokenOff { endpoint: self.endpoint.clone(), source };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken_off)?;
        Ok(Connected { sender, connection: Box::pin(connection.map(|_| ())) })
    }

    async fn whole(&self, head: http::response::Parts, body: Incoming) -> Result<Answer, ClientError> {
        let body = Limited::new(body, Self::MAX_ANSWER_LEN).collect().await.map_err(|error| {
            match error.downcast::<hyper::Error>() {
                Ok(source) => ClientError::BrokenOff { endpoint: self.endpoint.clone(), source: *source },
                Err(other) => {
                    debug_assert!(other.is::<LengthLimitError>(), "{other}");
                    ClientError::TooLarge { endpoint: self.endpoint.clone() }
                }
            }
        })?;
        let endpoint = self.endpoint.clone();
        Ok(Answer { endpoint, status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

/// A connection that requests can be sent on; it moves while somebody waits for it.
struct Connected {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: BoxFuture<'static, ()>,
}

/// A connection of either kind.
enum Either {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Either {
    /// The user who listens at the other end; none if that cannot be told, also because it is on another
    /// machine.
    async fn user_of_peer(&self) -> io::Result<Option<u32>> {
        /// How often the kernel is asked again whose a connection is that nobody has accepted yet.
        const AGAIN: Duration = Duration::from_millis(10);
        let stream = match self {
            // Those of whoever listens (unix(7), SO_PEERCRED).
            Self::Unix(stream) => return Ok(Some(stream.peer_cred()?.uid())),
            Self::Tcp(stream) => stream,
        };
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        let one = PoolLimits::new(1, 1).with(|limits| limits.replacements = 0);
        let peers = Peers::open(Threads::start("proc", one)?);
        let asking = async {
            loop {
                match peers.owner(peer, local).await {
                    PeerOwner::Unknown => sleep(AGAIN).await,
                    owner => return owner.user(),
                }
            }
        };
        Ok(timeout(Client::CONNECT_TIMEOUT, asking).await.unwrap_or_default())
    }
}

/// `/service/<verb>` or `/service/<verb>/<service>`, with the service's name percent-encoded.
///
/// An empty name stays an empty segment, which the API refuses: it must not mean all services.
///
/// ```
/// use pmesh_api::client::service_path;
/// assert_eq!(service_path("restart", None), "/service/restart");
/// assert_eq!(service_path("restart", Some("a/b")), "/service/restart/a%2Fb");
/// assert_eq!(service_path("stop", Some("")), "/service/stop/");
/// ```
pub fn service_path(verb: &str, service: Option<&str>) -> String {
    match service {
        None => format!("/service/{verb}"),
        Some(name) => format!("/service/{verb}/{}", percent::encode(name.as_bytes())),
    }
}

/// `/logs`, or `/logs/<service>,<service>`, with the names percent-encoded.
///
/// ```
/// use pmesh_api::client::logs_path;
/// assert_eq!(logs_path(&[]), "/logs");
/// assert_eq!(logs_path(&["web", "a/b"]), "/logs/web,a%2Fb");
/// ```
pub fn logs_path(services: &[&str]) -> String {
    let names: Vec<String> = services.iter().map(|name| percent::encode(name.as_bytes())).collect();
    if names.is_empty() { "/logs".to_owned() } else { format!("/logs/{}", names.join(",")) }
}

/// A text as a value in a query.
///
/// ```
/// assert_eq!(pmesh_api::client::query_value("a+b&c"), "a%2Bb%26c");
/// ```
pub fn query_value(text: &str) -> String {
    percent::encode(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn an_endpoint_is_an_http_address_or_the_path_of_a_socket() {
        let http = |host: &str, port| Ok(Endpoint::Http { host: host.to_owned(), port });
        assert_eq!("http://127.0.0.1:9870".parse(), http("127.0.0.1", 9870));
        assert_eq!("http://pm3/".parse(), http("pm3", 80));
        assert_eq!("HTTP://[::1]:9870".parse(), http("::1", 9870));
        assert_eq!("unix:/run/api.sock".parse(), Ok(Endpoint::Unix("/run/api.sock".into())));
        assert_eq!("unix:api.sock".parse(), Ok(Endpoint::Unix("api.sock".into())));
        for bad in [
            "",
            "pm3",
            "https://pm3",
            "http://",
            "http:///",
            "http://pm3/x",
            "http://u@pm3",
            "unix:",
            "ftp://pm3",
            "http://pm3:",
            "http://pm3:x",
            "http://pm3:99999",
            "é://x",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_shown_as_it_is_written() {
        for text in ["http://127.0.0.1:9870", "http://[::1]:1", "unix:/run/api.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }
}
