//! The HTTP API of a node: what it answers, to whom, and in which form.
//!
//! [`Api`] turns a request into an answer, whoever reads it from a connection: [`serve_tcp`] and
//! [`serve_unix`] do, and so can any other hyper server. [`ROUTES`] is the whole API as data,
//! [`wire`] has the bodies, [`Code`] the errors, [`client`] is for those who call. What an
//! action does is the business of `pmesh-node`; no other crate knows the wire format.
//!
//! ```
//! use pmesh_api::{Api, ApiSettings, testing::TestApi};
//! use pmesh_node::testing::TestNode;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let folder = tempfile::tempdir()?;
//! let node = TestNode::start(folder.path(), "services: { web: !App { run: web } }").await;
//! let api = TestApi(Api::new(node.handle(), ApiSettings::default()));
//!
//! let health = api.get("/service/health/web").await;
//! assert_eq!(health.text, "{\"status\":\"OK\",\"healthy\":1,\"total\":1}\n");
//! assert_eq!(api.post("/service/restart/wbe").await.code(), "service_not_found");
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! A body has at most [`Api::MAX_BODY_LEN`] bytes, a listener at most [`serve::MAX_CONNECTIONS`]
//! connections. HTTP/1.1 only, without TLS: the API is for the machine that it runs on. Who was
//! started by this process is known where it is a subreaper, which is for the program to say (prctl(2)).

mod access;
mod api;
mod api_service;
mod authority;
mod body;
mod by_get;
mod callers;
mod calls;
pub mod client;
mod error;
mod escaped;
mod listener;
mod near_miss;
mod parameters;
mod percent;
mod places;
mod routes;
mod seat;
mod seldom;
pub mod serve;
mod since_when;
mod sources;
mod stall;
#[cfg(feature = "testing")]
pub mod testing;
mod token;
pub mod wire;
mod wrong_tokens;

pub use api::{Api, ApiSettings};
pub use api_service::ApiService;
pub use body::ApiBody;
pub use callers::{Callers, KernelCallers};
pub use error::Code;
pub use listener::Listener;
pub use near_miss::near_miss;
pub use parameters::{MAX_LINES, Parameter, ParameterType};
/// The node that an [`Api`] is of, for embedders who name this crate alone.
pub use pmesh_node as node;
pub use routes::{ApiRoute, ROUTES, RouteKind};
pub use serve::{serve_tcp, serve_unix};
pub use token::{Token, TokenError};
