//! The running node: a git work tree with a manifest, the services it declares, and the changes of
//! both as operations.
//!
//! A [`Node`] is a handle: its reads answer with the [`View`] that was published last and never wait for a
//! change in progress; [`Node::changes_after`] tells what is not as before; [`Node::submit`] queues a change, which runs to its end whoever hangs up. The driver
//! that [`Node::new`] returns beside it does the work, one operation at a time.
//!
//! It puts together `pmesh-vcs`, `pmesh-supervisor`, `pmesh-proxy` and `pmesh-sessions`; it opens no
//! socket, speaks no HTTP and knows no JSON.
//!
//! ```
//! use pmesh_node::{Outcome, Rebuild, Request, Scope, testing::TestNode};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let folder = tempfile::tempdir().unwrap();
//! let manifest = "services:\n  job: !App\n    run: work\n    background: true\n";
//! let node = TestNode::start(folder.path(), manifest).await;
//!
//! let id = node.submit(Request::Restart(Scope::All, Rebuild::Changed)).unwrap();
//! let operation = node.operation_ended(id).await.unwrap();
//! assert_eq!(operation.outcome.unwrap().unwrap(), Outcome::Restarted { count: 1 });
//! # });
//! ```
//!
//! # Limits
//!
//! [`QUEUE_LIMIT`] operations wait at most, [`HISTORY_LIMIT`] are remembered, each with
//! [`Operation::MAX_STEPS`] steps, and [`CHANGES_LIMIT`] changes.

mod bridge;
mod cancellations;
mod changes;
mod commits;
mod comparison;
mod course;
mod fetch;
mod fetched;
mod file_folders;
mod history;
mod ids;
mod interpreter;
mod maintenance;
mod manifest_source;
mod node;
mod node_driver;
mod node_shared;
mod node_threads;
mod open;
mod operation;
mod operation_queue;
mod publisher;
mod repository_reads;
mod run_link;
mod served_place;
mod service_logs;
mod state;
mod stop_failure;
mod stop_report;
#[cfg(feature = "testing")]
pub mod testing;
mod unfinished;
mod vcs_call;
mod view;

pub use changes::{CHANGES_LIMIT, Change, ChangeKind, ChangesSince};
pub use history::HISTORY_LIMIT;
pub use node::{Node, NodeParts};
pub use node_shared::FETCH_LIMIT;
pub use node_threads::NodeThreads;
pub use open::OpenError;
pub use operation::{
    Failure, NoCancel, NoRun, Operation, OperationId, OperationKind, OperationState, Outcome, Request,
    RolloutFailure, Scope, Step, Update, in_one_line,
};
pub use operation_queue::{QUEUE_LIMIT, SubmitError};
pub use pmesh_supervisor::{Rebuild, StepName, StepState};
pub use served_place::{RepositorySource, WorkTreeHold};
pub use service_logs::LogsOf;
pub use state::{StateError, StateFolder};
pub use stop_failure::StopFailure;
pub use view::{Distance, Measured, Metrics, Repository, ServiceType, ServiceView, View};
