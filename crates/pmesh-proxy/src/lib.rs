//! The HTTP front: listeners, virtual hosts, routes, load balancing, static files.
//!
//! [`Tables`] says where requests go and is filled with plain values ([`Routing`], [`Upstream`]) by
//! whoever owns the services; [`Front`] serves listeners by it, on threads of its own. Services, probing
//! and the manifest are other crates' business: an upstream is an address that somebody vouches for.
//!
//! ```
//! use std::{collections::BTreeMap, io::{Read, Write}, net::{TcpListener, TcpStream}, sync::Arc, time::Duration};
//! use pmesh_proxy::{Front, FrontLimits, Handler, Pattern, Route, Routing, Site, SiteHost, Tables};
//! use pmesh_sessions::{SessionLimits, Sessions, TrustedProxies};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let tables = Tables::new(Arc::new(Sessions::new(&SessionLimits::default())), TrustedProxies::default());
//! let hello = Handler::Return { status: http::StatusCode::OK, text: "hello".to_owned() };
//! let routes = vec![Route::new(Pattern::parse("/hello/").unwrap(), hello)];
//! let site = Site::new(vec![SiteHost::Name("site.local".to_owned())], routes);
//! tables.set_routing(Routing::new(vec![site], BTreeMap::new()));
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let front = Front::serve(vec![listener], tables, FrontLimits::default(), None)?;
//! let mut client = TcpStream::connect(address)?;
//! client.write_all(b"GET /hello/ HTTP/1.1\r\nHost: www.site.local\r\nConnection: close\r\n\r\n")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
//! front.shutdown(Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! HTTP/1.1 (and 1.0) without TLS. Of a request, the target may have 16 KiB (414), the head 32 KiB and
//! 100 fields (431); of an answer of an upstream, the head may have 64 KiB and 100 fields (502). Times and pools: [`FrontLimits`]; tries, timeouts and the queue of a destination:
//! [`LoadBalancing`]. Per connection, 64 KiB are buffered each way; bodies are never collected. What is
//! under way is bounded by the descriptors of the process ([`DescriptorBudget`]): where they run short, what has
//! been idle for longest is closed, and then accepting pauses.

mod accept;
mod answer;
mod answer_body;
mod answer_head;
mod at_work;
mod bad_answer;
mod beneath;
mod budget;
mod check;
mod chunked;
mod client_body;
mod client_io;
mod client_span;
mod connection;
mod connections;
mod content_type;
mod context;
mod dial;
mod discard;
mod exchange;
mod file_body;
mod files;
mod forward;
mod front;
mod header;
mod held;
mod host;
mod http_date;
mod limits;
mod live_upstream;
mod local_body;
mod local_host;
mod login_scheme;
mod logins;
mod next_head;
mod occupancy;
mod outgoing;
mod path;
mod patience;
mod pattern;
mod phase;
mod pool;
mod preconditions;
mod protocol;
mod ranges;
mod read_ahead;
mod relief;
mod request_body;
mod request_id;
mod routing_table;
mod seldom;
mod serve;
mod spec;
mod tables;
mod tries;
mod tunnel;
mod upload;
mod upstream_answer;
mod upstream_connection;
mod upstream_group;

pub use budget::{DescriptorBudget, Descriptors};
pub use context::{ConnectionInfo, LocalHandler};
pub use front::Front;
pub use limits::FrontLimits;
pub use live_upstream::UpstreamStatistics;
pub use local_body::{BoxError, LocalBody};
pub use request_body::{BrokenBody, RequestBody};
pub use spec::{
    Destination, DestinationKey, FilesSpec, Handler, LoadBalancing, NotFound, Pattern, PatternError,
    QueueLimits, Retry, Route, Routing, Site, SiteHost, Strategy, Upstream, UpstreamAddress, UpstreamSet,
    WhenEmpty,
};
pub use tables::Tables;
