//! Client sessions: who sends requests, how many, and who is blocked.
//!
//! [`Sessions`] counts requests by [`ClientKey`] in a table of fixed size, [`TrustedProxies`] finds the
//! client behind proxies, [`Peers`] asks the kernel who is at the other end of a loopback connection, [`Descent`] whether this
//! process started it, and [`says_forwarded`] has the fields by which proxies say that it is somebody else. What is a request, and
//! what a blocked client is answered, is the caller's business; time is passed in, and there is no thread here.
//!
//! ```
//! use std::time::{Duration, Instant, SystemTime};
//! use pmesh_sessions::{ClientKey, Query, SessionLimits, Sessions, Verdict};
//!
//! let sessions = Sessions::new(&SessionLimits::default());
//! let client = ClientKey::from("203.0.113.9".parse::<std::net::IpAddr>().unwrap());
//! let now = Instant::now();
//! for second in 0..=10 {
//!     assert_eq!(sessions.record(client, now + Duration::from_secs(second)), Verdict::Allow);
//! }
//! let seen = sessions.snapshot(Query::default(), now + Duration::from_secs(10), SystemTime::now());
//! assert_eq!((seen.num_clients, seen.clients[0].num_reqs, seen.clients[0].avg_rps), (1, 11, 1.0));
//! ```
//!
//! # Limits
//!
//! The table holds [`SessionLimits::clients`] and forgets a client after 30 minutes without a request,
//! or earlier when its bucket of seven is full; a block outlives both, but for a bucket that is full of
//! blocked clients. Nothing outlives the process.

mod client_key;
mod descent;
mod forwarded;
mod own_descriptors;
mod peer;
mod peer_socket;
mod socket_diagnostics;
mod socket_tables;
mod table;
mod trusted;

pub use client_key::ClientKey;
pub use descent::{Descent, UnixPeer, descent_of_socket};
pub use forwarded::says_forwarded;
pub use peer::{PeerOwner, PeerSource, Peers};
pub use peer_socket::PeerSocket;
pub use table::{ClientSession, Query, SessionLimits, Sessions, Snapshot, SortBy, Verdict};
pub use trusted::{NetworkError, TrustedProxies};
