//! Who belongs to a tree of processes.

use futures_util::future::BoxFuture;

use crate::{Containment, Signal};

/// The processes that came from one spawn, whatever became of the first of them. Everything that measures
/// them, checks what they own or ends them asks this trait, and nothing else.
///
/// The implementation decides how membership is known: by session and descent, by a cgroup, by a mark.
pub(crate) trait Membership: Send + Sync {
    /// The members that live now. The answer may be some milliseconds old. Changes nothing: a look does not
    /// reap a process.
    fn pids(&self) -> Vec<u32>;

    /// Sends a signal to every member; those that are gone are left out.
    fn signal(&self, signal: Signal);

    /// Resolves when no member lives. Cancel-safe; may be awaited again.
    fn emptied(&self) -> BoxFuture<'_, ()>;

    /// How membership is known.
    fn containment(&self) -> Containment;
}
