//! Version control for a served directory: which revision is checked out, which one the remote
//! offers, and how to move from one to the other.
//!
//! [`Vcs`] is the interface, [`git`] implements it, [`testing`] (feature `testing`) has a fake that
//! keeps the same rules. Services, HTTP and JSON are other crates' business; which revision may go live is its
//! caller's.
//!
//! ```
//! use std::time::Duration;
//! use pmesh_vcs::{Cancel, Relation, Vcs, testing::FakeVcs};
//!
//! # fn main() -> Result<(), pmesh_vcs::VcsError> {
//! let repo = FakeVcs::at("a1");
//! repo.push("b2");
//! repo.fetch(Duration::from_mins(1), &Cancel::new())?;
//!
//! let head = repo.head()?.commit.expect("there is a commit");
//! let remote = repo.remote_head()?.and_then(|remote| remote.commit).expect("it was fetched");
//! assert_eq!(repo.relation(&head, &remote, &Cancel::new())?, Relation::Behind { by: 1 });
//! repo.check_out(&remote, &Cancel::new())?;
//! assert_eq!(repo.head()?.commit, Some(FakeVcs::commit_id("b2")));
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! One remote and one branch at a time. A commit that moves a submodule is not checked out. Local work is never overwritten,
//! but not saved either: a work tree that is not clean is not moved.

mod cancel;
mod error;
pub mod git;
pub mod redact;
mod revision;
#[cfg(feature = "testing")]
pub mod testing;
mod vcs;
mod work_tree;

pub use cancel::{Cancel, OnCancel};
pub use error::VcsError;
pub use revision::{BranchName, CommitId, Fetched, Heads, Moved, NoCommitId, Relation, Revision};
pub use vcs::{FILE_LIMIT, Vcs};
pub use work_tree::{HeldLock, InProgress, WorkTree};
