//! What keeps a work tree from being moved.

use std::{fmt, path::PathBuf, time::Duration};

/// The state of a work tree beside its revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkTree {
    /// Tracked files that differ from the head, staged or not, relative to the top of the work tree and
    /// in order; the first [`CHANGED_LIMIT`](Self::CHANGED_LIMIT) of them. Untracked and ignored files do not count, nor does the
    /// inside of submodules.
    pub changed: Vec<PathBuf>,
    /// An operation that someone has begun and not finished.
    pub in_progress: Option<InProgress>,
    /// A lock that another process holds, or that one left behind.
    pub lock: Option<HeldLock>,
}

impl WorkTree {
    /// The most changed files that are listed.
    pub const CHANGED_LIMIT: usize = 1000;
}

/// An operation that stops half-way and waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InProgress {
    /// `git merge`
    Merge,
    /// `git rebase`
    Rebase,
    /// `git cherry-pick`
    CherryPick,
    /// `git revert`
    Revert,
    /// `git bisect`
    Bisect,
    /// `git am`
    Am,
}

impl InProgress {
    /// The git command whose `--continue` or `--abort` (for a bisect: `reset`) ends it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Rebase => "rebase",
            Self::CherryPick => "cherry-pick",
            Self::Revert => "revert",
            Self::Bisect => "bisect",
            Self::Am => "am",
        }
    }
}

impl fmt::Display for InProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A lock file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLock {
    /// The lock file.
    pub path: PathBuf,
    /// The time since it was written; zero if that lies in the future.
    pub age: Duration,
}
