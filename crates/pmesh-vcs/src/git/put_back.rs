//! Files of the work tree that are written or removed without a merge, because what is there was written by git.

use std::{collections::HashSet, ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, process::Stdio, sync::Arc};

use gix::objs::tree::EntryKind;

use super::{
    cause,
    child::INPUT_LIMIT,
    program::{Extra, Program, message},
    repo::GitRepo,
    state::refuse,
    tree_diff::TreeChange,
};
use crate::VcsError;

/// Undoes half a move: the index is still that of the old commit, some of the files are not.
///
/// What is where the new files were to be was written by git: the trial of the move has shown that nothing was there, or what is there
/// is as the new commit has it. Other files are not touched, whatever has been done to them meanwhile.
pub(super) fn put_back(
    repo: &GitRepo,
    git: &Program<'_>,
    changes: Arc<Vec<TreeChange>>,
) -> Result<(), VcsError> {
    let (removed, to_write, blocked) = repo.with_files(git, move |root| {
        let removed = remove_new(root, &changes);
        let mut to_write = Vec::new();
        let mut blocked = Vec::new();
        for change in &*changes {
            let is_folder = || root.join(&change.path).symlink_metadata().is_ok_and(|there| there.is_dir());
            match change.old {
                None => {}
                // What git has made there is gone: this is somebody else's.
                Some(file) if file.kind != EntryKind::Commit && is_folder() => {
                    blocked.push(change.path.clone());
                }
                Some(_) => to_write.push(change.path.clone()),
            }
        }
        Ok((removed, to_write, blocked))
    })?;
    removed.and(write_out(git, &to_write)).and(refuse(blocked))
}

/// Removes the files that git has written where nothing was, and the folders that it has made for them.
///
/// # Errors
///
/// The first one; the others are removed all the same.
fn remove_new(root: &Path, changes: &[TreeChange]) -> Result<(), VcsError> {
    let old: HashSet<&Path> =
        changes.iter().filter(|change| change.old.is_some()).map(|change| &*change.path).collect();
    let mut result = Ok(());
    for change in changes.iter().filter(|change| !old.contains(&*change.path)) {
        let path = root.join(&change.path);
        // Through a link that is itself among the old files a stranger's file would be reached.
        let is_below_old = change.path.ancestors().skip(1).any(|above| {
            old.contains(above) && root.join(above).symlink_metadata().is_ok_and(|it| !it.is_dir())
        });
        if !is_below_old && path.symlink_metadata().is_ok_and(|there| !there.is_dir()) {
            result =
                result.and(std::fs::remove_file(&path).map_err(|source| cause::of_io(root, &path, source)));
            for folder in change.path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
                // It fails where something is left, and that stays.
                if std::fs::remove_dir(root.join(folder)).is_err() {
                    break;
                }
            }
        }
    }
    result
}

/// Writes these files as they are in the index, and goes on after those that it cannot write.
///
/// # Errors
///
/// The first one. That the index does not have a file, or is not to write it (`--skip-worktree`), is none.
pub(super) fn write_out(git: &Program<'_>, paths: &[impl AsRef<Path>]) -> Result<(), VcsError> {
    // Without `-u`, which needs the lock of the index: git may have been killed and have left it behind.
    feed(git, "checkout-index", &["-q", "-f", "-z", "--stdin"].map(OsStr::new), paths)
}

/// Runs a command that reads these paths, as often as it takes for all of them.
///
/// # Errors
///
/// The first one. An end with status 1 and without a word is none.
pub(super) fn feed(
    git: &Program<'_>,
    command: &'static str,
    args: &[&OsStr],
    paths: &[impl AsRef<Path>],
) -> Result<(), VcsError> {
    let mut result = Ok(());
    let mut paths = paths.iter().map(|path| path.as_ref().as_os_str().as_bytes()).peekable();
    while paths.peek().is_some() {
        let mut input = Vec::new();
        while let Some(path) =
            paths.next_if(|path| input.is_empty() || input.len() + path.len() < INPUT_LIMIT)
        {
            input.extend(path);
            input.push(0);
        }
        result = result.and(feed_some(git, command, args, &input));
    }
    result
}

fn feed_some(
    git: &Program<'_>,
    command: &'static str,
    args: &[&OsStr],
    input: &[u8],
) -> Result<(), VcsError> {
    let literal = Extra { variables: vec![("GIT_LITERAL_PATHSPECS", "1".into())], ..Extra::default() };
    let mut reading = git.start(command, args, &literal, Stdio::piped())?;
    let written = reading.write(input);
    let output = git.end(reading)?;
    // `checkout-index -q` says nothing of what it leaves out, and ends with 1.
    let is_silent = output.status.code() == Some(1) && output.stderr.is_empty();
    match written {
        Err(source) => {
            let said = message(&output.stderr, &git.secrets);
            Err(VcsError::Git { command, message: format!("{source}; {said}") })
        }
        Ok(()) if output.status.success() || is_silent => Ok(()),
        Ok(()) => Err(git.failed(command, &output.stderr)),
    }
}
