//! Undoing a check-out of ours, whatever has been written over it since.
//!
//! The check-out has shown that no tracked file but those that it has named had changes, and that nothing was where new
//! files were to be. So what differs now from the commit that was checked out, and what is where one of the old files was, came
//! later: from a build, or from the processes of the new commit. It gives way; everything else is moved under the
//! rules of a check-out.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::warn;

use super::{
    cause, check_out, in_the_way::what_is_in_the_way, program::Program, put_back, repo::GitRepo, state, tree,
};
use crate::{Cancel, CommitId, VcsError};

/// How often files are put right, at most. Each time there are as many as
/// [`WorkTree::CHANGED_LIMIT`](crate::WorkTree::CHANGED_LIMIT), and whoever keeps writing is not raced with for ever.
const ROUNDS: usize = 100;

pub(super) fn go_back(
    repo: &GitRepo,
    from: &CommitId,
    to: &CommitId,
    kept: &[PathBuf],
    cancel: &Cancel,
) -> Result<(), VcsError> {
    let head = repo.read(cancel, check_out::head_that_may_move)?;
    if head != *from {
        return Err(VcsError::HeadMoved { found: head, expected: from.clone() });
    }
    let git = repo.program_that_brings(cancel)?;
    let mut before = Vec::new();
    for _ in 0..ROUNDS {
        let mut changed = state::changed(&git)?;
        changed.retain(|path| !kept.contains(path));
        // What git cannot put right, the check-out below will name.
        if changed.is_empty() || changed == before {
            break;
        }
        put_right(&git, from, &changed, kept)?;
        before = changed;
    }
    let (here, there) = (from.clone(), to.clone());
    let changes = repo.read_bringing(cancel, move |opened| tree::changes(opened, &here, &there))?;
    let changes = Arc::new(changes);
    let mut before = Vec::new();
    for _ in 0..ROUNDS {
        let in_the_way = what_is_in_the_way(repo, &git, &changes)?;
        if in_the_way.is_empty() || in_the_way == before {
            break;
        }
        let to_go = in_the_way.clone();
        repo.with_files(&git, move |root| to_go.iter().try_for_each(|path| remove(root, &root.join(path))))?;
        before = in_the_way;
    }
    // Nothing is refused as unsupported: this commit was checked out here before.
    check_out::move_to(repo, &git, to, |_| Ok(())).map(drop)
}

/// Writes these files as they are in `commit`, which is the head.
fn put_right(
    git: &Program<'_>,
    commit: &CommitId,
    paths: &[PathBuf],
    kept: &[PathBuf],
) -> Result<(), VcsError> {
    if kept.is_empty() {
        // This resets the index alone: a file that was added to it beside those of the commit leaves it, and stays in the
        // work tree.
        git.succeed("read-tree", &["--reset", commit.as_str()].map(OsStr::new))?;
    } else {
        // What is staged of `kept` stays so.
        let args = ["-q", commit.as_str(), "--pathspec-from-file=-", "--pathspec-file-nul"].map(OsStr::new);
        put_back::feed(git, "reset", &args, paths)?;
    }
    if let Err(error) = put_back::write_out(git, paths) {
        warn!(%error, "not every file could be put right");
    }
    Ok(())
}

fn remove(root: &Path, path: &Path) -> Result<(), VcsError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(cause::of_io(root, path, error)),
        _ => Ok(()),
    }
}
