//! Moving the work tree, without losing anything.
//!
//! In this order: what must not be lost is looked for; the head and its branch are locked and compared
//! (`git update-ref`, prepared); what a check-out has left that was killed is put back; git tries without writing; the files
//! and the index move (`git read-tree`, a two-way merge, which itself refuses to overwrite changes and untracked files); the
//! branch moves. A failure before the last step leaves the head where it was.

use std::{
    collections::HashSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use super::{
    child::RunningChild,
    commit,
    deadline::Deadline,
    hidden,
    in_the_way::what_is_in_the_way,
    leftovers,
    opened::OpenedRepo,
    program::{Extra, Program},
    put_back::put_back,
    repo::GitRepo,
    state, tree,
    tree_diff::TreeChange,
    unsupported,
};
use crate::{Cancel, CommitId, HeldLock, VcsError};

/// How long git may take to lock the head: it tries for a fraction of a second
/// (git-config(1), `core.filesRefLockTimeout`).
const LOCK_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn check_out(repo: &GitRepo, to: &CommitId, cancel: &Cancel) -> Result<Vec<PathBuf>, VcsError> {
    let git = repo.program_that_brings(cancel)?;
    move_to(repo, &git, to, |changes| unsupported::refuse(repo, &git, to, changes))
}

/// Moves branch and work tree, unless `refused` has something against these changes. The answer is the tracked files with
/// local changes that stay as they are.
pub(super) fn move_to(
    repo: &GitRepo,
    git: &Program<'_>,
    to: &CommitId,
    refused: impl FnOnce(&Arc<Vec<TreeChange>>) -> Result<(), VcsError>,
) -> Result<Vec<PathBuf>, VcsError> {
    let wanted = to.clone();
    let (from, changes) = repo.read_bringing(git.cancel, move |opened| {
        let from = head_that_may_move(opened)?;
        let changes = tree::changes(opened, &from, &wanted)?;
        Ok((from, Arc::new(changes)))
    })?;

    refused(&changes)?;
    let touched: HashSet<&Path> = changes.iter().map(|change| &*change.path).collect();
    let changed = state::changed(git)?;
    let in_the_way = what_is_in_the_way(repo, git, &changes)?;
    let differ: Vec<_> = changed.iter().cloned().chain(in_the_way).collect();
    let mut found = leftovers::look(repo, git, (&from, to), &changes, &differ)?;
    let is_kept = |path: &PathBuf| !touched.contains(&**path) && changed.binary_search(path).is_ok();
    let (kept, edited) = std::mem::take(&mut found.edited).into_iter().partition(is_kept);
    state::refuse(edited)?;
    state::refuse(hidden::edited(repo, git, &changes)?)?;
    if from == *to {
        return Ok(kept);
    }

    // `git read-tree` takes a file whose times differ from those of the index for changed.
    let refresh = || git.run("update-index", &["-q", "--refresh", "--ignore-submodules"].map(OsStr::new));
    refresh()?;
    let reference = Reference::lock(repo, git, &from, to)?;
    if !found.left.is_empty() {
        leftovers::clear_away(repo, git, &from, found)?;
        refresh()?;
    }
    // Once more, now that git is about to write: `git read-tree` itself does not look at ignored files.
    state::refuse(what_is_in_the_way(repo, git, &changes)?)?;
    let trial = git.run("read-tree", &["-n", "-m", "-u", from.as_str(), to.as_str()].map(OsStr::new))?;
    if !trial.status.success() {
        drop(reference);
        if let Some(lock) = held_lock(repo, git.cancel)? {
            return Err(state::locked(lock));
        }
        state::refuse(hidden::there(repo, git.cancel, &changes)?)?;
        return Err(git.failed("read-tree", &trial.stderr));
    }
    // What fails from here on (a full disk, a filter) may have written some of the files. What puts them back is cut only
    // by whoever waits for nothing more.
    let back = Cancel::new();
    let hurried = back.clone();
    let _hurries = git.cancel.on_hurry(move || hurried.hurry());
    let moved = git.succeed("read-tree", &["-m", "-u", from.as_str(), to.as_str()].map(OsStr::new));
    if let Err(failed) = moved {
        let back = git.instead(&back, putting_back(git, &failed));
        let index = if is_cut(&failed) { index_back(&back, &from, to) } else { Ok(()) };
        return Err(after(failed, index.and(put_back(repo, &back, changes))));
    }
    if let Err(failed) = reference.commit(&back) {
        let back = git.instead(&back, putting_back(git, &failed));
        // Git may have moved the branch before it was cut off.
        if repo.read(back.cancel, head_that_may_move).is_ok_and(|head| head == *to) {
            return Ok(kept);
        }
        let undone = back.succeed("read-tree", &["-m", "-u", to.as_str(), from.as_str()].map(OsStr::new));
        return Err(after(failed, undone.map(drop)));
    }
    Ok(kept)
}

/// Whether git did not end by itself.
fn is_cut(failed: &VcsError) -> bool {
    matches!(failed, VcsError::Cancelled | VcsError::Timeout { .. })
}

/// How long the files may take to be put back that a move has written before it failed like this.
fn putting_back(git: &Program<'_>, failed: &VcsError) -> Deadline {
    Deadline::after(if is_cut(failed) { git.limits.put_back } else { git.limits.check_out })
}

/// Makes the index that of `from`. A git that was cut off may have made it that of `to` already or may not: the merge has a
/// case for both (git-read-tree(1), "Two Tree Merge"). Other staged changes stay, and no file is touched.
fn index_back(git: &Program<'_>, from: &CommitId, to: &CommitId) -> Result<(), VcsError> {
    git.succeed("read-tree", &["-i", "-m", to.as_str(), from.as_str()].map(OsStr::new)).map(drop)
}

/// The error for a move that failed and was undone, or not.
fn after(failed: VcsError, back: Result<(), VcsError>) -> VcsError {
    match back {
        Ok(()) => failed,
        Err(source) => VcsError::HalfMoved { failed: Box::new(failed), source: Box::new(source) },
    }
}

/// The commit of the head, if nobody else is about to move it.
pub(super) fn head_that_may_move(opened: &OpenedRepo) -> Result<CommitId, VcsError> {
    let repo = &opened.repo;
    let head = commit::head(opened)?;
    let Some(commit) = head.commit else { return Err(VcsError::Unborn { branch: head.branch }) };
    if let Some(operation) = state::in_progress(repo) {
        return Err(VcsError::InProgress { operation });
    }
    if repo.head_name().map_err(|error| opened.damaged(error))?.is_none() {
        return Err(VcsError::Detached { commit });
    }
    if let Some(lock) = state::check_out_lock(repo) {
        return Err(state::locked(lock));
    }
    Ok(commit)
}

fn held_lock(repo: &GitRepo, cancel: &Cancel) -> Result<Option<HeldLock>, VcsError> {
    repo.read(cancel, |opened| Ok(state::check_out_lock(&opened.repo)))
}

/// The branch with HEAD, locked by a `git update-ref` that waits for the word to move it. Dropped before,
/// the branch stays.
struct Reference<'a> {
    git: &'a Program<'a>,
    update: Option<RunningChild>,
}

impl<'a> Reference<'a> {
    /// Locks the head if it still is at `from`.
    fn lock(repo: &GitRepo, git: &'a Program<'a>, from: &CommitId, to: &CommitId) -> Result<Self, VcsError> {
        let args = ["-m", "pmesh: check out", "--stdin"].map(OsStr::new);
        let mut update = git.start("update-ref", &args, &Extra::default(), Stdio::piped())?;
        let steps = format!("start\nupdate HEAD {to} {from}\nprepare\n");
        let prepared = update.write(steps.as_bytes()).and_then(|()| {
            let started = update.read_line(LOCK_LIMIT)?;
            let prepared = update.read_line(LOCK_LIMIT)?;
            Ok(started == "start: ok" && prepared == "prepare: ok")
        });
        if matches!(prepared, Ok(true)) {
            return Ok(Self { git, update: Some(update) });
        }
        let output = git.end(update)?;
        if let Some(lock) = held_lock(repo, git.cancel)? {
            return Err(state::locked(lock));
        }
        Err(git.failed("update-ref", &output.stderr))
    }

    /// Moves the branch. That takes no time, so it goes on where the caller's cancel is set; only `cancel` cuts it off.
    fn commit(mut self, cancel: &Cancel) -> Result<(), VcsError> {
        let Some(mut update) = self.update.take() else { return Ok(()) };
        let written = update.write(b"commit\n");
        let output = self.git.instead(cancel, Deadline::after(LOCK_LIMIT)).end(update)?;
        match written {
            Ok(()) if output.status.success() => Ok(()),
            _ => Err(self.git.failed("update-ref", &output.stderr)),
        }
    }
}

impl Drop for Reference<'_> {
    fn drop(&mut self) {
        // At the end of its input git gives the locks back.
        if let Some(update) = self.update.take()
            && let Err(error) = self.git.instead(&Cancel::new(), Deadline::after(LOCK_LIMIT)).end(update)
        {
            tracing::warn!(%error, "cannot give the lock of the head back");
        }
    }
}
