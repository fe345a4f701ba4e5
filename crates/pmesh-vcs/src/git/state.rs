//! What keeps a git work tree from being moved: changes, unfinished operations, locks.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use gix::{bstr::ByteSlice, state};

use super::{program::Program, tracked_branch};
use crate::{HeldLock, InProgress, VcsError, WorkTree};

/// Tracked files that differ from the head, staged or not, in order; as many as git may print.
pub(super) fn changed(git: &Program<'_>) -> Result<Vec<PathBuf>, VcsError> {
    let args = ["--porcelain=v1", "-z", "--untracked-files=no", "--ignore-submodules=all", "--no-renames"];
    let output = git.succeed("status", &args.map(OsStr::new))?;
    // Each entry is `XY path` and ends with a NUL (git-status(1), "Porcelain Format Version 1"). One that the
    // output limit has cut has no NUL.
    let complete = output.iter().rposition(|&b| b == 0).map_or(&[][..], |last| &output[..last]);
    let mut paths: Vec<_> = complete
        .split(|&b| b == 0)
        .filter_map(|entry| entry.get(3..))
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
        .collect();
    paths.sort();
    Ok(paths)
}

/// What someone has begun and not finished.
pub(super) fn in_progress(repo: &gix::Repository) -> Option<InProgress> {
    use state::InProgress as Found;
    Some(match repo.state()? {
        Found::ApplyMailbox => InProgress::Am,
        Found::Bisect => InProgress::Bisect,
        Found::CherryPick | Found::CherryPickSequence => InProgress::CherryPick,
        Found::Merge => InProgress::Merge,
        Found::ApplyMailboxRebase | Found::Rebase | Found::RebaseInteractive => InProgress::Rebase,
        Found::Revert | Found::RevertSequence => InProgress::Revert,
    })
}

/// A lock that would stop a fetch or a check-out.
pub(super) fn lock(repo: &gix::Repository) -> Option<HeldLock> {
    check_out_lock(repo).or_else(|| fetch_lock(repo))
}

/// The lock of the index, which every git holds that moves a work tree.
pub(super) fn index_lock(repo: &gix::Repository) -> Option<HeldLock> {
    first_held(&[repo.path().join("index.lock")])
}

/// A lock that would stop a check-out: of the index, the head, its branch.
pub(super) fn check_out_lock(repo: &gix::Repository) -> Option<HeldLock> {
    let mut locks = vec![repo.path().join("index.lock"), repo.path().join("HEAD.lock")];
    // Whoever asks for locks has read the head, or reads it next: what is wrong with it is said there.
    if let Ok(Some(branch)) = repo.head_name() {
        locks.push(reference_lock(repo, branch.as_bstr()));
    }
    locks.push(repo.common_dir().join("packed-refs.lock"));
    first_held(&locks)
}

/// A lock that would stop a fetch: of the remote-tracking branch, the list of shallow commits.
pub(super) fn fetch_lock(repo: &gix::Repository) -> Option<HeldLock> {
    let mut locks = vec![repo.common_dir().join("shallow.lock"), repo.common_dir().join("packed-refs.lock")];
    // As above.
    if let Ok(Some(upstream)) = tracked_branch::of_head(repo) {
        locks.push(reference_lock(repo, upstream.tracking.as_bstr()));
    }
    first_held(&locks)
}

fn reference_lock(repo: &gix::Repository, name: &gix::bstr::BStr) -> PathBuf {
    let mut path = repo.common_dir().join(OsStr::from_bytes(name.as_bytes())).into_os_string();
    path.push(".lock");
    path.into()
}

fn first_held(locks: &[PathBuf]) -> Option<HeldLock> {
    locks.iter().find_map(|path| {
        // One that cannot be looked at stops git as well, and git says why.
        let metadata = path.symlink_metadata().ok()?;
        // A file system without times, or a time in the future: it is there all the same.
        let age = metadata.modified().ok().and_then(|written| SystemTime::now().duration_since(written).ok());
        let age = age.unwrap_or_default();
        Some(HeldLock { path: path.clone(), age })
    })
}

/// The error for a lock that is held.
pub(super) fn locked(lock: HeldLock) -> VcsError {
    VcsError::Locked { path: lock.path, age: lock.age }
}

/// The error for files that would be lost, if there are any.
pub(super) fn refuse(mut paths: Vec<PathBuf>) -> Result<(), VcsError> {
    if paths.is_empty() {
        return Ok(());
    }
    paths.sort();
    paths.dedup();
    paths.truncate(WorkTree::CHANGED_LIMIT);
    Err(VcsError::Dirty { paths })
}

/// Whether anything is at `path`; a link that leads nowhere is something.
pub(super) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
