//! One request in, one answer out.

use std::{
    any::Any,
    fmt, io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Buf as _;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use parking_lot::Mutex;
use pmesh_node::Node;
use pmesh_sessions::{PeerOwner, Peers};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    access::{AccessRules, Who},
    body::ApiBody,
    by_get::{ByGet, check_no_browser, check_no_descendant},
    callers::{Callers, KernelCallers},
    calls::{Call, JsonStyle, Reply, log_events, session},
    error::{ApiError, Code},
    listener::Listener,
    parameters::{Parameters, asks_for_pretty},
    places::{MAX_CONNECTIONS, Peer, PlaceLimits},
    routes::{self, RouteKind},
    seat::{Seat, Seats},
    seldom::Seldom,
    sources::Sources,
    token::Token,
    wrong_tokens::{TokenTurn, WrongTokens},
};

/// What an [`Api`] is told beside the node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ApiSettings {
    /// What `/version` answers: `v<semver>-<commit>`.
    pub version: String,
    /// Names that a `Host` may have beside `pm3`, `localhost` and loopback literals (`--api-host`).
    pub host_names: Vec<String>,
    /// What callers over TCP must show; with it the `pm3` host is off.
    pub token: Option<Token>,
    /// Whether every user of this machine may use the API over TCP (`--api-open`); else the user of this
    /// process and root.
    pub open: bool,
    /// How callers are known; by the kernel, if nothing else is said.
    pub callers: Option<Arc<dyn Callers>>,
    /// How many callers are served at a time on each listener, at least one.
    pub connections: usize,
    /// How many callers may wait for operations at a time, beside those that are served. Each of them has a connection of
    /// its own.
    pub waiting: usize,
}

impl ApiSettings {
    /// The same with something changed: `settings.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for ApiSettings {
    /// The version of this crate, no further name, no token, not open; callers are known by the kernel,
    /// [`MAX_CONNECTIONS`] are served, and 4096 may wait.
    fn default() -> Self {
        Self {
            version: concat!("v", env!("CARGO_PKG_VERSION")).to_owned(),
            host_names: Vec::new(),
            token: None,
            open: false,
            callers: None,
            connections: MAX_CONNECTIONS,
            waiting: Api::MAX_WAITING,
        }
    }
}

/// The HTTP API of a node; clones are the same API.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

struct Shared {
    sources: Sources,
    access: AccessRules,
    wrong_tokens: Mutex<WrongTokens<Peer>>,
    callers: Arc<dyn Callers>,
    places: PlaceLimits,
    /// How many may wait for operations, at all listeners together.
    waiting: Arc<Semaphore>,
    /// Callers could not be accepted.
    unaccepted: Mutex<Seldom>,
    /// The places of the `pm3` host.
    front_seats: Seats,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("version", &self.0.sources.version).finish_non_exhaustive()
    }
}

impl Api {
    /// The largest body that is read, in bytes.
    pub const MAX_BODY_LEN: usize = 64 * 1024;

    /// How long a body may take to arrive.
    pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

    /// How many callers may wait for operations at a time, unless the settings say less.
    pub const MAX_WAITING: usize = 4096;

    /// How much of a body that nobody reads is taken off the connection all the same, in bytes.
    const MAX_DISCARDED_LEN: u64 = 1024 * 1024;

    /// How long that may take.
    const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

    /// The API of `node`.
    pub fn new(node: Node, settings: ApiSettings) -> Self {
        let ApiSettings { version, host_names, token, open, callers, connections, waiting } = settings;
        let callers = callers.unwrap_or_else(|| {
            let proc = node.proc_threads().clone();
            Arc::new(KernelCallers::new(Peers::open(proc.clone()), proc))
        });
        let who = if open { Who::AnyLocalUser } else { Who::User(rustix::process::geteuid().as_raw()) };
        let access = AccessRules::new(&host_names, token, who);
        let listing = Arc::new(Semaphore::new(1));
        let long_listings = Arc::new(Semaphore::new(session::LONG));
        let followers = Arc::new(Semaphore::new(log_events::FOLLOWERS));
        let sources = Sources { node, version: version.into(), listing, long_listings, followers };
        let waiting = Arc::new(Semaphore::new(waiting.min(Semaphore::MAX_PERMITS)));
        let places = PlaceLimits::of(connections.max(1));
        let front_seats = Seats::new(places, Arc::clone(&waiting));
        let (wrong_tokens, unaccepted) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared {
            sources,
            access,
            wrong_tokens,
            callers,
            places,
            waiting,
            unaccepted,
            front_seats,
        }))
    }

    /// Whether the virtual host `pm3` of the HTTP front is this API: not while a token is asked for.
    pub fn serves_front_host(&self) -> bool {
        self.0.access.serve_front_host()
    }

    /// A connection that was accepted on a TCP listener of the API: asks who the caller is, so call it once a
    /// connection and before a byte is read.
    pub async fn tcp_connection(&self, local: SocketAddr, peer: SocketAddr) -> Listener {
        Listener::Tcp { local, peer, owner: self.0.callers.owner(local, peer).await }
    }

    /// A connection that was accepted on a Unix socket, or on a TCP listener and asked for by
    /// [`tcp_connection`](Self::tcp_connection), wants one of the listener's places. Cancel-safe.
    pub(crate) async fn seat(&self, seats: &Seats, listener: &Listener) -> Option<Seat> {
        seats.take(listener.counts_as(), self.0.access.would_let_in(listener)).await
    }

    /// The places of a listener of its own.
    pub(crate) fn seats(&self) -> Seats {
        Seats::new(self.0.places, Arc::clone(&self.0.waiting))
    }

    /// Says that a caller could not be accepted: once a minute, at whatever listener.
    pub(crate) fn say_unaccepted(&self, error: &io::Error) {
        if let Some(count) = self.0.unaccepted.lock().again(std::time::Instant::now()) {
            tracing::warn!(
                %error,
                count,
                "callers of the API cannot be accepted at once, which is tried again; raise the limit of open files \
                 (LimitNOFILE= of systemd, ulimit -n)"
            );
        }
    }

    /// Answers a request to the `pm3` host of a front, which has asked for the owner of the connection. There
    /// are as many places for such requests as for the connections of a listener.
    ///
    /// Cancel-safe as [`handle`](Self::handle) is; drop it when the caller has gone.
    pub async fn handle_at_front<B>(
        &self,
        mut request: Request<B>,
        (local, peer, owner): (SocketAddr, SocketAddr, PeerOwner),
    ) -> Response<ApiBody>
    where
        B: Body,
        B::Error: fmt::Display,
    {
        let owner = self.0.callers.exact(owner, local, peer).await;
        let listener = Listener::FrontHost { local, peer, owner };
        let (method, style) =
            (request.method().clone(), JsonStyle::of(asks_for_pretty(request.uri().query())));
        let refused = || {
            let mut response = respond(Err(no_place()), &method, style);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        };
        let Some(seat) = self.seat(&self.0.front_seats, &listener).await else { return refused() };
        request.extensions_mut().insert(seat.clone());
        tokio::select! {
            response = self.handle(request, listener) => response,
            () = seat.lost() => refused(),
        }
    }

    /// Answers a request that came in at `listener`.
    ///
    /// Everything that can be refused is refused before anything is changed. A panic is logged and
    /// answered with 500. At most [`MAX_BODY_LEN`](Self::MAX_BODY_LEN) bytes of the body are kept, for
    /// at most [`BODY_TIMEOUT`](Self::BODY_TIMEOUT). The answer to an action takes as long as the
    /// operation, unless the request says otherwise.
    ///
    /// Cancel-safe: dropped before an action is queued, nothing happens; after, the operation goes
    /// on without a listener.
    pub async fn handle<B>(&self, request: Request<B>, listener: Listener) -> Response<ApiBody>
    where
        B: Body,
        B::Error: fmt::Display,
    {
        let (head, body) = request.into_parts();
        let style = JsonStyle::of(asks_for_pretty(head.uri.query()));
        // Shared state is only read here, or changed by the node in a task of its own: a panic leaves
        // nothing half done.
        let mut body = pin!(body);
        let answer = AssertUnwindSafe(self.answer(&head, body.as_mut(), &listener)).catch_unwind().await;
        let panicked = answer.is_err();
        let answer = answer.unwrap_or_else(|panic| {
            let (method, path) = (&head.method, head.uri.path());
            tracing::error!(%method, path, panic = what(&*panic), "a request's handler panicked");
            Err(ApiError::new(Code::Internal, "something went wrong inside the server; its log has more"))
        });
        let mut response = respond(answer, &head.method, style);
        if let Some(seat) = head.extensions.get::<Seat>() {
            response.body_mut().rest_behind(seat);
        }
        // A caller who waits for `100 Continue` has sent no body yet, and reading would ask for it.
        let waits = head.headers.contains_key(header::EXPECT) && !body.is_end_stream();
        if panicked || waits || !discard(body).await {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn answer<B>(
        &self,
        head: &request::Parts,
        body: Pin<&mut B>,
        listener: &Listener,
    ) -> Result<Reply, ApiError>
    where
        B: Body,
        B::Error: fmt::Display,
    {
        self.check_access(head, listener).await?;
        let (route, open) = routes::find(head.uri.path())?;
        if !route.kind.answers(&head.method) {
            let methods = route.kind.methods();
            let message = format!("{} answers {methods} only", route.pattern);
            return Err(ApiError::new(Code::MethodNotAllowed, message)
                .with_header(header::ALLOW, HeaderValue::from_static(methods)));
        }
        if route.kind != RouteKind::Read && head.method == Method::GET {
            self.check_may_act_by_get(ByGet::Action, &head.headers, *listener).await?;
        }
        let body = read(body).await?;
        let seat = head.extensions.get::<Seat>().cloned();
        // The caller is gone: nothing is begun for an answer that nobody reads.
        if seat.as_ref().is_some_and(|seat| !seat.work()) {
            return Err(no_place());
        }
        let is_json = has_word(&head.headers, &header::CONTENT_TYPE, "json");
        let parameters = Parameters::read(route.parameters, head.uri.query(), &body, is_json)?;
        if route.kind == RouteKind::Read && parameters.fetch == Some(true) {
            self.check_may_act_by_get(ByGet::Fetch, &head.headers, *listener).await?;
        }
        let call = Call {
            open,
            prefers_async: has_word(&head.headers, &PREFER, "respond-async"),
            style: JsonStyle::of(parameters.pretty == Some(true)),
            accepts_events: has_word(&head.headers, &header::ACCEPT, "event-stream"),
            last_event_id: head
                .headers
                .get(LAST_EVENT_ID)
                .map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned()),
            parameters,
            seat,
        };
        (route.run)(self.0.sources.clone(), call).await
    }

    /// Checks what is asked of an action by GET beyond what is asked of every request.
    async fn check_may_act_by_get(
        &self,
        what: ByGet,
        headers: &HeaderMap,
        listener: Listener,
    ) -> Result<(), ApiError> {
        check_no_browser(what, headers)?;
        check_no_descendant(what, self.0.callers.descent(listener).await)
    }
}

/// Wrong tokens.
impl Api {
    /// Checks what does not depend on the route. Who has shown too many wrong tokens waits before.
    async fn check_access(&self, head: &request::Parts, listener: &Listener) -> Result<(), ApiError> {
        let check = || self.0.access.check(head, listener);
        if !matches!(listener, Listener::Tcp { .. }) || !self.0.access.compares_token(&head.headers) {
            return check();
        }
        let peer = listener.counts_as();
        let now = || Instant::now().into_std();
        let turn = self.0.wrong_tokens.lock().turn(peer, now());
        match turn {
            TokenTurn::Now => {}
            TokenTurn::At(at) => sleep_until(at.into()).await,
            TokenTurn::Never => {
                let message = "too many wrong tokens came from you; try again later";
                return Err(ApiError::new(Code::Busy, message)
                    .with_header(header::RETRY_AFTER, HeaderValue::from_static("60")));
            }
        }
        let checked = check();
        if let (Ok(()), Some(seat)) = (&checked, head.extensions.get::<Seat>()) {
            seat.welcome();
        }
        if checked.as_ref().is_err_and(|error| error.code == Code::TokenWrong) {
            let unsaid = self.0.wrong_tokens.lock().wrong(peer, now());
            if let Some(count) = unsaid {
                tracing::warn!(count, last = %peer, "wrong tokens were shown to the API");
            }
        }
        checked
    }
}

/// The answer for a caller who has no place, or has lost it.
fn no_place() -> ApiError {
    ApiError::new(Code::Busy, "too many requests of yours, or of everybody, are here already; try again")
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

/// RFC 7240.
const PREFER: header::HeaderName = header::HeaderName::from_static("prefer");

/// HTML standard, 9.2.4.
pub(crate) const LAST_EVENT_ID: header::HeaderName = header::HeaderName::from_static("last-event-id");

/// Whether a header has a word, in whatever case and between whatever separators.
fn has_word(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    let is_separator = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(is_separator).any(|found| found.eq_ignore_ascii_case(word)))
}

/// What a panic said.
fn what(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The whole body, if it is not too large and not too slow.
async fn read<B>(mut body: Pin<&mut B>) -> Result<Vec<u8>, ApiError>
where
    B: Body,
    B::Error: fmt::Display,
{
    let too_large = || {
        let message = format!("the body is larger than {} KiB", Api::MAX_BODY_LEN / 1024);
        ApiError::new(Code::BodyTooLarge, message)
    };
    if body.size_hint().lower() > Api::MAX_BODY_LEN as u64 {
        return Err(too_large());
    }
    let whole = async {
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                ApiError::new(Code::BadRequest, format!("the body ended too early: {error}"))
            })?;
            if let Ok(mut data) = frame.into_data() {
                if whole.len() + data.remaining() > Api::MAX_BODY_LEN {
                    return Err(too_large());
                }
                while data.has_remaining() {
                    let chunk = data.chunk();
                    whole.extend_from_slice(chunk);
                    data.advance(chunk.len());
                }
            }
        }
        Ok(whole)
    };
    timeout(Api::BODY_TIMEOUT, whole).await.unwrap_or_else(|_| {
        let message = format!("the body took longer than {} s to arrive", Api::BODY_TIMEOUT.as_secs());
        Err(ApiError::new(Code::BadRequest, message))
    })
}

/// Takes what nobody read off the connection, for a moment at most: a caller who sends first and listens
/// later reads the answer instead of a reset (RFC 9112, section 9.6). Whether that was all of it.
async fn discard<B: Body>(mut body: Pin<&mut B>) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if body.size_hint().lower() > Api::MAX_DISCARDED_LEN {
        return false;
    }
    let reading = async {
        let mut left = Api::MAX_DISCARDED_LEN;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, bytes::Buf::remaining) as u64;
            if length >= left {
                return false;
            }
            left -= length;
        }
        true
    };
    timeout(Api::DISCARD_TIMEOUT, reading).await.unwrap_or(false)
}

fn respond(answer: Result<Reply, ApiError>, method: &Method, style: JsonStyle) -> Response<ApiBody> {
    let (status, body, headers) = match answer {
        Ok(Reply { status, body, headers }) => (status, body, headers),
        Err(error) => {
            let status = error.code.status();
            if status == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::warn!(code = %error.code, error = error.message, "a request failed");
            }
            let body = ApiBody::whole(style.write(&error.body()));
            (status, body, error.headers)
        }
    };
    let length = body.length();
    let body = if method == Method::HEAD { body.without_content() } else { body };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let fixed = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let length = length.map(|length| (header::CONTENT_LENGTH, length.into()));
    response.headers_mut().extend(fixed.into_iter().chain(length));
    for (name, value) in headers {
        response.headers_mut().insert(name, value);
    }
    response
}
