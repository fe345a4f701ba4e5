//! A front on a loopback port, and upstreams that do what a test tells them.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pmesh_proxy::{
    Destination, DestinationKey, Front, FrontLimits, Handler, LoadBalancing, Pattern, Route, Routing, Site,
    SiteHost, Tables, Upstream, UpstreamAddress, UpstreamSet, WhenEmpty,
};
use pmesh_sessions::{SessionLimits, Sessions, TrustedProxies};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Longer than anything here takes; a test that reaches it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

pub(crate) fn tables() -> Tables {
    Tables::new(Arc::new(Sessions::new(&SessionLimits::default())), TrustedProxies::default())
}

pub(crate) fn key() -> DestinationKey {
    DestinationKey::new("web")
}

pub(crate) fn route(pattern: &str, handler: Handler) -> Route {
    Route::new(Pattern::parse(pattern).unwrap(), handler)
}

pub(crate) fn site(routes: Vec<Route>) -> Site {
    Site::new(vec![SiteHost::Name("site.test".to_owned()), SiteHost::Name("alias.test".to_owned())], routes)
}

/// `site.test` leads to these upstreams.
pub(crate) fn to_upstreams(
    upstreams: Vec<Upstream>,
    when_empty: WhenEmpty,
    balancing: LoadBalancing,
) -> Routing {
    let set = UpstreamSet::new(upstreams, when_empty, balancing);
    Routing::new(
        vec![site(vec![route("_", Handler::Destination(key()))])],
        BTreeMap::from([(key(), Destination::Upstreams(set))]),
    )
}

/// Quick tries, so that a test that wants them to fail does not wait, and upstreams that get a request before
/// its body.
pub(crate) fn quick() -> LoadBalancing {
    let mut balancing = LoadBalancing::default().with(|balancing| balancing.buffer = 0);
    balancing.retry.attempts = 3;
    balancing.retry.backoff = Duration::from_millis(1);
    balancing
}

pub(crate) fn one_thread() -> FrontLimits {
    FrontLimits::default().with(|limits| limits.threads = 1)
}

pub(crate) struct Rig {
    pub(crate) tables: Tables,
    pub(crate) front: Front,
    pub(crate) address: SocketAddr,
}

impl Rig {
    pub(crate) fn new(routing: Routing) -> Self {
        Self::with(routing, one_thread())
    }

    pub(crate) fn with(routing: Routing, limits: FrontLimits) -> Self {
        Self::over(tables(), routing, limits)
    }

    /// A front that trusts no proxy, so that the tests' own connections are those of strangers.
    pub(crate) fn trusting_nobody(upstreams: Vec<Upstream>) -> Self {
        let sessions = Arc::new(Sessions::new(&SessionLimits::default()));
        let routing = to_upstreams(upstreams, WhenEmpty::Wait, quick());
        Self::over(Tables::new(sessions, TrustedProxies::none()), routing, one_thread())
    }

    pub(crate) fn over(tables: Tables, routing: Routing, limits: FrontLimits) -> Self {
        tables.set_routing(routing);
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let front = Front::serve(vec![listener], tables.clone(), limits, None).unwrap();
        Self { tables, front, address }
    }

    pub(crate) fn of(upstreams: Vec<Upstream>) -> Self {
        Self::new(to_upstreams(upstreams, WhenEmpty::Wait, quick()))
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n\r\n")).await
    }
}

/// A client that sees bytes.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    fields(head, name).into_iter().next()
}

pub(crate) fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn more(&mut self) -> usize {
        let mut piece = vec![0; 16 << 10];
        let read = within(self.stream.read(&mut piece)).await.unwrap_or(0);
        self.buffer.extend_from_slice(&piece[..read]);
        read
    }

    /// The head of the next message; empty at the end of the stream.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                let head = std::mem::replace(&mut self.buffer, rest);
                return String::from_utf8(head).unwrap();
            }
            if self.more().await == 0 {
                return String::new();
            }
        }
    }

    pub(crate) async fn exactly(&mut self, len: usize) -> String {
        while self.buffer.len() < len {
            assert_ne!(self.more().await, 0, "the stream ended within {:?}", self.buffer);
        }
        let rest = self.buffer.split_off(len);
        String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap()
    }

    pub(crate) async fn until_end(&mut self) -> String {
        while self.more().await > 0 {}
        String::from_utf8(std::mem::take(&mut self.buffer)).unwrap()
    }

    /// The next answer to anything but HEAD.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        assert!(!head.is_empty(), "the connection closed without an answer");
        let status = head[9..12].parse().unwrap();
        let body = if field(&head, "transfer-encoding").is_some() {
            let mut body = String::new();
            loop {
                let mut size = String::new();
                while !size.ends_with("\r\n") {
                    size += &self.exactly(1).await;
                }
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                body += &self.exactly(size).await;
                self.exactly(2).await;
                if size == 0 {
                    break body;
                }
            }
        } else if let Some(len) = field(&head, "content-length") {
            let len = len.parse().unwrap();
            self.exactly(len).await
        } else if matches!(status, 101 | 204 | 304) {
            String::new()
        } else {
            self.until_end().await
        };
        Answer { status, head, body }
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        self.until_end().await.is_empty()
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An upstream whose connections a test serves by hand.
pub(crate) struct Upstreamer {
    listener: TcpListener,
    pub(crate) upstream: Upstream,
}

impl Upstreamer {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = UpstreamAddress::Socket(listener.local_addr().unwrap());
        Self { listener, upstream: Upstream::new(NEXT_ID.fetch_add(1, Ordering::Relaxed), address) }
    }

    pub(crate) async fn accept(&self) -> Client {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        Client { stream, buffer: Vec::new() }
    }

    /// Answers each request with `name`, keeps connections, and tells the heads.
    pub(crate) fn serving(self, name: &'static str) -> (Upstream, mpsc::UnboundedReceiver<String>) {
        let upstream = self.upstream.clone();
        let (heads, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let mut client = self.accept_forever().await;
                let heads = heads.clone();
                tokio::spawn(async move {
                    loop {
                        let head = client.head_forever().await;
                        if head.is_empty() {
                            return;
                        }
                        let len = field(&head, "content-length").map_or(0, |len| len.parse().unwrap());
                        client.exactly(len).await;
                        drop(heads.send(head));
                        client
                            .send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()))
                            .await;
                    }
                });
            }
        });
        (upstream, seen)
    }

    async fn accept_forever(&self) -> Client {
        let (stream, _) = self.listener.accept().await.unwrap();
        Client { stream, buffer: Vec::new() }
    }
}

impl Client {
    async fn head_forever(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                return String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
            }
            let mut piece = vec![0; 16 << 10];
            let read = self.stream.read(&mut piece).await.unwrap_or(0);
            if read == 0 {
                return String::new();
            }
            self.buffer.extend_from_slice(&piece[..read]);
        }
    }
}

/// Nobody listens there.
pub(crate) fn dead_upstream() -> Upstream {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let address = UpstreamAddress::Socket(listener.local_addr().unwrap());
    Upstream::new(NEXT_ID.fetch_add(1, Ordering::Relaxed), address)
}
