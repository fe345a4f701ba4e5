//! Whether a run may start: what is left of the runs before it may be in its way.

/// Whether a run may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing is in its way.
    Free,
    /// What is in its way is about to end.
    NotYet,
    /// What is in its way has outlived SIGKILL, and nobody knows when it ends.
    Blocked(String),
}
