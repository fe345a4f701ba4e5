//! The interface.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Cancel, CommitId, Fetched, Heads, Relation, Revision, VcsError, WorkTree};

/// A work tree that can report and change the revision it serves.
///
/// Methods block on disk, and [`fetch`](Vcs::fetch) on the network: async callers go through threads that may block. Reads
/// see what any other process did a moment ago, may run beside everything else, and end within 10 s: with
/// [`VcsError::Timeout`] where something stands still, and with [`VcsError::RepositoryTooLarge`] where a walk is still
/// under way then, or would read more than 2 million entries, 256 levels or 256 MiB. What takes a [`Cancel`] ends soon
/// after it is set, with [`VcsError::Cancelled`]: programs that it has started have some seconds of grace, and none where
/// it is [hurried](Cancel::hurry). The caller runs one [`fetch`](Vcs::fetch), [`check_out`](Vcs::check_out) or
/// [`go_back`](Vcs::go_back) at a time; implementations need no lock for it.
pub trait Vcs: Send + Sync + 'static {
    /// The version control system, such as `git`.
    fn system(&self) -> &'static str;

    /// The top of the work tree, absolute and without symbolic links.
    fn root(&self) -> &Path;

    /// The revision that is checked out.
    ///
    /// # Errors
    ///
    /// [`VcsError::NotFound`] if the repository is gone, [`VcsError::Damaged`] if it cannot be read; so
    /// for every method below.
    fn head(&self) -> Result<Revision, VcsError>;

    /// The tip of the followed remote branch as of the last [`fetch`](Vcs::fetch): the branch's configured
    /// upstream, else the same name at `origin`, else at the only remote. `None` if there is no remote, the head
    /// is detached, or no such branch was ever fetched. Never goes to the network.
    ///
    /// # Errors
    ///
    /// As [`head`](Vcs::head).
    fn remote_head(&self) -> Result<Option<Revision>, VcsError>;

    /// The head, the remote head and the remote's URL, read at one moment and at the cost of one of them.
    ///
    /// # Errors
    ///
    /// As [`head`](Vcs::head).
    fn heads(&self, cancel: &Cancel) -> Result<Heads, VcsError>;

    /// What keeps the work tree from being moved.
    ///
    /// # Errors
    ///
    /// As [`head`](Vcs::head); [`VcsError::Program`] and [`VcsError::Git`].
    fn work_tree(&self, cancel: &Cancel) -> Result<WorkTree, VcsError>;

    /// Downloads the commits of the followed remote branch, and nothing else; leaves the work tree, the branch
    /// that is checked out, tags and other branches alone. Never asks on a terminal, and ends
    /// within `limit` (and some seconds of grace for the processes it ends) or soon after `cancel` is set.
    ///
    /// A remote that answers with a redirect is followed once, and only on the same host, or by https to a public name.
    ///
    /// # Errors
    ///
    /// [`VcsError::Fetch`] if the remote cannot be reached, refuses or leads elsewhere, [`VcsError::FetchTimeout`],
    /// [`VcsError::Cancelled`], [`VcsError::NoRemote`], [`VcsError::NoRemoteBranch`], [`VcsError::Detached`],
    /// [`VcsError::InProgress`], [`VcsError::Locked`]. After each of them it is safe to try again.
    fn fetch(&self, limit: Duration, cancel: &Cancel) -> Result<Fetched, VcsError>;

    /// How `head` lies to `remote`.
    ///
    /// # Errors
    ///
    /// [`VcsError::UnknownCommit`] if one of them is not here.
    fn relation(&self, head: &CommitId, remote: &CommitId, cancel: &Cancel) -> Result<Relation, VcsError>;

    /// How many commits of `head` are local work: neither `remote` has them, nor were they ever fetched. Fetched is what one of
    /// `fetched` has in its history, and what the followed remote branch has had, as far as the repository remembers that
    /// (for git the reflog of the tracking branch). Those of `fetched` that are here no more are left out. The count does not depend on
    /// dates.
    ///
    /// # Errors
    ///
    /// [`VcsError::UnknownCommit`] if `head` or `remote` is not here.
    fn local_commits(
        &self,
        head: &CommitId,
        remote: &CommitId,
        fetched: &[CommitId],
        cancel: &Cancel,
    ) -> Result<usize, VcsError>;

    /// The files that differ between two commits, in order, relative to [`root`](Vcs::root); of a renamed file
    /// both names. As many as the commits have files at most.
    ///
    /// # Errors
    ///
    /// [`VcsError::UnknownCommit`] if one of them is not here.
    fn changed_paths(
        &self,
        from: &CommitId,
        to: &CommitId,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>, VcsError>;

    /// Those of `paths`, tracked files that differ from the head, that are somebody's edits. The others are as `commit` has them,
    /// or a commit that was fetched after the head, content and mode: a [`check_out`](Vcs::check_out) that was killed has left
    /// them so, and the next one takes them for its own. In order.
    ///
    /// # Errors
    ///
    /// [`VcsError::UnknownCommit`] if `commit` is not here, [`VcsError::Unborn`]; [`VcsError::Program`] and [`VcsError::Git`].
    fn edited(&self, paths: &[PathBuf], commit: &CommitId, cancel: &Cancel)
    -> Result<Vec<PathBuf>, VcsError>;

    /// The content of a file in a commit, whatever the work tree holds. `path` is relative to [`root`](Vcs::root). `None` if
    /// the commit has no file there. A symbolic link is followed as long as it stays within the commit.
    ///
    /// # Errors
    ///
    /// [`VcsError::UnknownCommit`] if the commit is not here, [`VcsError::TooLarge`] beyond
    /// [`FILE_LIMIT`].
    fn file(&self, commit: &CommitId, path: &Path, cancel: &Cancel) -> Result<Option<Vec<u8>>, VcsError>;

    /// Moves branch and work tree from the head to `commit`, forwards or backwards; the tracked files are then
    /// those of a fresh clone. (As with `git pull`, a file that only a changed `.gitattributes` would write
    /// otherwise stays as it is.)
    ///
    /// Nothing is lost: untracked and ignored files stay (services keep uploads and databases beside
    /// their code), and where a tracked file that is to change has local changes, or another file is in the way, nothing moves.
    /// Local changes of tracked files that both commits have alike stay as they are; these files are the answer. What is not
    /// [edited](Vcs::edited) but left by a check-out that was killed is no change, also where it is in the way.
    ///
    /// # Errors
    ///
    /// [`VcsError::Dirty`], [`VcsError::InProgress`], [`VcsError::Locked`], [`VcsError::Detached`],
    /// [`VcsError::Unborn`], [`VcsError::Unsupported`] and [`VcsError::UnknownCommit`]: nothing was changed. After
    /// [`VcsError::Git`] (a full disk, say), [`VcsError::Timeout`] after 10 min and [`VcsError::Cancelled`] head and files are as
    /// before, too; [`VcsError::HalfMoved`] if the files could not be put back, which takes 30 s at most where the move was
    /// cut off.
    fn check_out(&self, commit: &CommitId, cancel: &Cancel) -> Result<Vec<PathBuf>, VcsError>;

    /// Undoes a [`check_out`](Vcs::check_out) from `to` to `from`, which is the head: moves branch and work
    /// tree back to `to`.
    ///
    /// That check-out has shown that the work tree was clean but for the files `kept`, which are its answer. So this
    /// overwrites what it finds changed or in the way, which came after it – a build's output, say – and nothing
    /// else: `kept` and other untracked and ignored files stay, and so does what git was told not to look at.
    ///
    /// # Errors
    ///
    /// [`VcsError::HeadMoved`] if the head is not at `from`; else those of [`check_out`](Vcs::check_out), of
    /// which [`VcsError::Dirty`] means that somebody writes faster than it can put right.
    fn go_back(
        &self,
        from: &CommitId,
        to: &CommitId,
        kept: &[PathBuf],
        cancel: &Cancel,
    ) -> Result<(), VcsError>;

    /// Tidies up what fetches leave behind, if it is worth while. Ends within 10 minutes, or soon after `cancel` is set, and
    /// the repository is as good as before.
    ///
    /// # Errors
    ///
    /// [`VcsError::Cancelled`], [`VcsError::Timeout`], [`VcsError::Program`] and [`VcsError::Git`].
    fn maintain(&self, cancel: &Cancel) -> Result<(), VcsError>;
}

/// The largest file that [`Vcs::file`] reads, in bytes: 4 MiB.
pub const FILE_LIMIT: u64 = 4 << 20;
