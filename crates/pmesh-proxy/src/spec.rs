//! What the front is told to do: sites, routes, destinations. Plain values; no socket, no clock.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::StatusCode;

pub use crate::pattern::{Pattern, PatternError};

/// The front's own name for where a route leads: a set of upstreams or a folder of files.
///
/// Who fills the [`Tables`](crate::Tables) maps the names of services to keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationKey(Arc<str>);

impl DestinationKey {
    /// A key of this text; any text will do.
    pub fn new(key: &str) -> Self {
        Self(key.into())
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A virtual host: the names it answers to and its routes, tried in order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Site {
    /// Host names, lower case, without port or trailing dot; the first is the one that patterns see.
    pub hosts: Vec<SiteHost>,
    /// Tried in order until one finishes the request.
    pub routes: Vec<Route>,
}

impl Site {
    /// A virtual host; the first of `hosts` is the one that patterns see.
    pub fn new(hosts: Vec<SiteHost>, routes: Vec<Route>) -> Self {
        Self { hosts, routes }
    }
}

/// A name in the key of a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SiteHost {
    /// This name and its subdomains.
    Name(String),
    /// `_`: every host that no other site names.
    Any,
}

/// One entry of a router: what it applies to and what it does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Route {
    /// Which requests this is for; a bare handler has [`Pattern::any`].
    pub pattern: Pattern,
    /// What happens to them.
    pub handler: Handler,
}

impl Route {
    /// What happens to the requests that `pattern` means.
    pub fn new(pattern: Pattern, handler: Handler) -> Self {
        Self { pattern, handler }
    }
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Handler {
    /// Hands the request to an upstream, or answers with a file (a miss goes on to the next route).
    Destination(DestinationKey),
    /// `return CODE "text"`: finishes with this answer.
    Return {
        /// The status of the answer.
        status: StatusCode,
        /// Its body; empty for none.
        text: String,
    },
    /// `status CODE`: finishes with this status and the front's own page for it.
    Status(StatusCode),
    /// `redirect "url"`: finishes with 302 to this address.
    Redirect(String),
    /// A nested list, tried in order; a request that none of it finishes goes on behind it.
    Mux(Vec<Route>),
}

/// What a [`DestinationKey`] stands for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Destination {
    /// Addresses that take traffic.
    Upstreams(UpstreamSet),
    /// Files from a folder.
    Files(FilesSpec),
}

/// The upstreams of a destination, all at once: sets are swapped whole, never edited.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UpstreamSet {
    /// What may take new requests.
    pub upstreams: Vec<Upstream>,
    /// What happens to a request when `upstreams` is empty.
    pub when_empty: WhenEmpty,
    /// How requests are spread, waited for and retried.
    pub balancing: LoadBalancing,
}

impl UpstreamSet {
    /// All upstreams of a destination.
    pub fn new(upstreams: Vec<Upstream>, when_empty: WhenEmpty, balancing: LoadBalancing) -> Self {
        Self { upstreams, when_empty, balancing }
    }
}

/// An address that takes traffic.
///
/// Counters, the connection pool and what is in flight belong to the pair of both fields: the same
/// upstream in a later set goes on with them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Upstream {
    /// The owner's name for this upstream. A new instance gets a new one, so that it never inherits
    /// the connections of another that had its port before.
    pub id: u64,
    /// Where it listens.
    pub address: UpstreamAddress,
}

impl Upstream {
    /// The upstream that its owner calls `id`.
    pub fn new(id: u64, address: UpstreamAddress) -> Self {
        Self { id, address }
    }
}

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum UpstreamAddress {
    /// An address of the Internet protocol.
    Socket(SocketAddr),
    /// A host name and port, looked up at each connection.
    Name(Arc<str>, u16),
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// What becomes of a request whose destination has no upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenEmpty {
    /// Wait in the queue of [`LoadBalancing::queue`]: an upstream is expected back.
    Wait,
    /// 503 at once: it was stopped on request.
    Refuse,
}

/// Load balancing of one destination (`lb` in the manifest).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadBalancing {
    /// Which upstream takes the next request.
    pub strategy: Strategy,
    /// How often a request that was not executed is tried again, and within what time.
    pub retry: Retry,
    /// How long a connection may take to be made; then another upstream is tried, at the end 502.
    pub connect_timeout: Duration,
    /// How long an upstream may take none of a request, or from the whole request sent to the head of the
    /// answer; then 504.
    pub response_timeout: Duration,
    /// How many bytes of a request's body come before an upstream is taken for it; it is also taken when all of
    /// the body is there, or a second after its first byte, and with zero at once. A request that asks first
    /// (`Expect: 100-continue`) goes to an upstream without its body.
    pub buffer: u64,
    /// What waits while no upstream is there.
    pub queue: QueueLimits,
}

impl LoadBalancing {
    /// The same with something changed: `balancing.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for LoadBalancing {
    fn default() -> Self {
        Self {
            strategy: Strategy::Least,
            retry: Retry::default(),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_mins(1),
            buffer: 16 << 10,
            queue: QueueLimits::default(),
        }
    }
}

/// How the next upstream is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Fewest requests in flight, ties in turn.
    Least,
    /// In turn.
    RoundRobin,
}

/// Bounds of trying again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// Tries in all, the first one included.
    pub attempts: u32,
    /// The pause before the second try; it doubles with each further one. There is none while an upstream is
    /// left that this request was not sent to, and after an idle connection that turned out to be closed.
    pub backoff: Duration,
    /// No try begins later than this after the first.
    pub timeout: Duration,
}

impl Retry {
    /// The same with something changed: `retry.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 8, backoff: Duration::from_millis(150), timeout: Duration::from_secs(30) }
    }
}

/// Bounds of what waits for an upstream of one destination, over all threads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLimits {
    /// Requests that may wait.
    pub requests: usize,
    /// Bytes that the heads of waiting requests may have, with what was read ahead of bodies
    /// ([`LoadBalancing::buffer`]). Where these alone are too many, upstreams are taken without reading ahead.
    pub bytes: u64,
    /// How long one waits before it is answered 503.
    pub wait: Duration,
}

impl QueueLimits {
    /// The same with something changed: `limits.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { requests: 1024, bytes: 16 << 20, wait: Duration::from_secs(30) }
    }
}

/// Static files (`!FS` in the manifest), read from disk at each request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilesSpec {
    /// The folder; nothing outside it is ever answered, whatever links it holds.
    pub folder: PathBuf,
    /// What a request for a folder gets, relative to it.
    pub index: String,
    /// What a miss gets.
    pub not_found: NotFound,
}

impl FilesSpec {
    /// The same with something changed: `files.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl FilesSpec {
    /// The files of `folder`, with the defaults of the format.
    pub fn of(folder: PathBuf) -> Self {
        Self { folder, index: "index.html".to_owned(), not_found: NotFound::NextRoute }
    }
}

/// What a request gets for which there is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotFound {
    /// The next route is tried.
    NextRoute,
    /// The front's own page, with 404.
    Default,
    /// This file of the folder, with 404.
    File(String),
}

/// All sites and what their routes lead to, swapped into the tables in one step.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Routing {
    /// The virtual hosts.
    pub sites: Vec<Site>,
    /// What the keys in their routes stand for. A key that is missing here answers 503.
    pub destinations: BTreeMap<DestinationKey, Destination>,
}

impl Routing {
    /// These sites, whose routes lead to these destinations.
    pub fn new(sites: Vec<Site>, destinations: BTreeMap<DestinationKey, Destination>) -> Self {
        Self { sites, destinations }
    }

    /// The same with something changed: `routing.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Routing {
    /// Every request, whatever its host and path, goes to one of these addresses.
    ///
    /// The addresses are the upstreams of the key `upstreams`, by which
    /// [`Tables::set_upstreams`](crate::Tables::set_upstreams) changes them later.
    ///
    /// ```
    /// use std::{io::Read, net::{TcpListener, TcpStream}};
    /// use pmesh_proxy::{Front, FrontLimits, Routing, Tables};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let app = TcpListener::bind("127.0.0.1:0")?;
    /// # let upstream = app.local_addr()?;
    /// let tables = Tables::default();
    /// tables.set_routing(Routing::to([upstream]));
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let _front = Front::serve(vec![listener], tables, FrontLimits::default(), None)?;
    /// # let mut client = TcpStream::connect(address)?;
    /// # std::io::Write::write_all(&mut client, b"GET /asked HTTP/1.1\r\nHost: x\r\n\r\n")?;
    /// # let mut asked = [0; 10];
    /// # app.accept()?.0.read_exact(&mut asked)?;
    /// # assert_eq!(&asked, b"GET /asked");
    /// # Ok(())
    /// # }
    /// ```
    pub fn to(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let key = DestinationKey::new("upstreams");
        let upstream = |(id, address)| Upstream { id, address: UpstreamAddress::Socket(address) };
        let set = UpstreamSet {
            upstreams: (1..).zip(addresses).map(upstream).collect(),
            when_empty: WhenEmpty::Wait,
            balancing: LoadBalancing::default(),
        };
        let route = Route { pattern: Pattern::any(), handler: Handler::Destination(key.clone()) };
        Self {
            sites: vec![Site { hosts: vec![SiteHost::Any], routes: vec![route] }],
            destinations: BTreeMap::from([(key, Destination::Upstreams(set))]),
        }
    }
}
