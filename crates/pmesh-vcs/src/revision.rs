//! What a revision is, and how two of them lie to each other.

use std::fmt;

use crate::redact;

/// A commit, by the name its version control system gives it: for git, 40 (SHA-1) or 64 (SHA-256)
/// lower-case hexadecimal digits.
///
/// Always a full name: an abbreviation can turn ambiguous with the next fetch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitId(String);

/// A text that is no full commit name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no commit; give its full name, 40 or 64 lower-case hex digits")]
pub struct NoCommitId(String);

impl CommitId {
    /// Parses a full commit name.
    ///
    /// # Errors
    ///
    /// [`NoCommitId`] unless `name` is 40 or 64 lower-case hexadecimal digits.
    pub fn new(name: &str) -> Result<Self, NoCommitId> {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if matches!(name.len(), 40 | 64) && name.bytes().all(is_hex) {
            Ok(Self(name.to_owned()))
        } else {
            Err(NoCommitId(name.chars().take(80).collect()))
        }
    }

    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for CommitId {
    type Err = NoCommitId;

    fn from_str(name: &str) -> Result<Self, NoCommitId> {
        Self::new(name)
    }
}

/// A branch as people write it: `main` here, `origin/main` on a remote, `HEAD` when detached.
///
/// For showing: bytes that are not UTF-8 are replaced, so two branches may look alike. Nothing is
/// ever looked up by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchName(String);

impl BranchName {
    /// The branch that is shown as `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name of the branch.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As it may be shown ([`redact::printable`]).
impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::printable(&self.0))
    }
}

/// A branch and the commit at its tip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The branch, `HEAD` when the head is detached.
    pub branch: BranchName,
    /// The tip; `None` on a branch that has no commit yet. Author and message are empty then.
    pub commit: Option<CommitId>,
    /// The author, as `Name <email>`. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub author: String,
    /// The whole message without trailing newlines. Bytes that are not UTF-8 are replaced by U+FFFD;
    /// what goes beyond [`MESSAGE_LIMIT`](Self::MESSAGE_LIMIT) is cut.
    pub message: String,
}

/// What is checked out and what the remote offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// As [`Vcs::head`](crate::Vcs::head).
    pub head: Revision,
    /// As [`Vcs::remote_head`](crate::Vcs::remote_head).
    pub remote_head: Option<Revision>,
    /// The URL that [`Vcs::fetch`](crate::Vcs::fetch) asks, as configured, without password or token (see
    /// [`redact::url`](crate::redact::url)). `None` if there is no remote or the head is detached.
    pub remote_url: Option<String>,
}

/// What a fetch has found out beside the commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Where the remote has sent us, and was followed to for this fetch.
    pub moved_to: Option<Moved>,
}

/// The place to which a remote has moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The new URL, as it may be shown.
    pub url: String,
    /// The command that makes git ask there from now on.
    pub command: String,
}

impl Revision {
    /// The longest message that is kept, in bytes.
    pub const MESSAGE_LIMIT: usize = 1 << 20;

    /// A branch that has no commit yet.
    pub fn unborn(branch: BranchName) -> Self {
        Self { branch, commit: None, author: String::new(), message: String::new() }
    }
}

/// How the head lies to the remote head.
///
/// Which of them it is does not depend on dates. The count of [`Behind`](Self::Behind) and [`Ahead`](Self::Ahead) may be too
/// large, never too small, when clocks went wrong and commits are dated before their parents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Both are the same commit.
    Same,
    /// The remote has `by` commits more: an update is a fast-forward.
    Behind {
        /// Commits that only the remote has.
        by: usize,
    },
    /// The head has `by` commits more: there is nothing to update to.
    Ahead {
        /// Commits that only this machine has.
        by: usize,
    },
    /// Each has commits that the other lacks: someone committed here, or pushed by force there.
    Diverged {
        /// Commits that only this machine has.
        ahead: usize,
        /// Commits that only the remote has.
        behind: usize,
    },
    /// No commit is common to both.
    Unrelated,
    /// No commit is common to both as far as the history is here: a shallow clone has a part of it.
    Unknown,
}
