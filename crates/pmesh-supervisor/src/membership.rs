//! Who belongs to a tree of processes.

use futures_util::future::BoxFuture;

use crate::Signal;

/// The processes that came from one spawn, whatever became of the first of them. Whoever measures them,
/// proves what they own or ends them asks here, and only here.
///
/// How belonging is known is the implementation's: by session and descent, by a cgroup, by a mark.
pub(crate) trait Membership: Send + Sync {
    /// The members that live now. May be some milliseconds old, and changes nothing: no process is reaped
    /// because somebody looks.
    fn pids(&self) -> Vec<u32>;

    /// Sends a signal to every member; those that are gone are left out.
    fn signal(&self, signal: Signal);

    /// Resolves when no member lives. Cancel-safe; may be awaited again.
    fn emptied(&self) -> BoxFuture<'_, ()>;
}
