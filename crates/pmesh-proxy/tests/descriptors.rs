//! A process without a descriptor left. Alone in its binary, because the limit is the process's.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use pmesh_proxy::{Front, FrontLimits, Handler, Pattern, Route, Routing, Site, SiteHost, Tables};
use pmesh_sessions::{SessionLimits, Sessions, TrustedProxies};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn answer(client: &mut TcpStream) -> String {
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

/// Counts what is logged as a warning or an error.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n";

#[test]
fn accepting_pauses_while_no_descriptor_is_left_says_so_once_and_goes_on_when_there_is_one() {
    let warnings = Warnings::default();
    tracing::subscriber::set_global_default(warnings.clone()).unwrap();
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum: hard }).unwrap();
    let tables = Tables::new(Arc::new(Sessions::new(&SessionLimits::default())), TrustedProxies::default());
    let handler = Handler::Return { status: http::StatusCode::OK, text: "hello".to_owned() };
    tables.set_routing(Routing::default().with(|routing| {
        routing.sites = vec![Site::new(
            vec![SiteHost::Name("site.test".to_owned())],
            vec![Route::new(Pattern::any(), handler)],
        )];
    }));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let limits = FrontLimits::default().with(|limits| limits.threads = 2);
    let front = Front::serve(vec![listener], tables, limits, None).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(GET).unwrap();
    assert!(answer(&mut client).ends_with("hello"));
    drop(client);
    // Its descriptor on the front's side is closed a moment later.
    while front.connections_per_thread() != [0, 0] {
        std::thread::yield_now();
    }

    let mut all = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        all.push(file);
    }
    // One is left, and the client takes it.
    all.pop();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(GET).unwrap();
    // Long enough for several tries of both threads; the pauses between them begin with 100 ms.
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let error = client.read_exact(&mut [0]).expect_err("nobody can have accepted this");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(warnings.0.load(Ordering::SeqCst), 1);
    all.clear();
    assert!(answer(&mut client).ends_with("hello"));
}
