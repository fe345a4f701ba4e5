//! Moving the work tree, without losing anything.
//!
//! In this order: what must not be lost is looked for; the head and its branch are locked and compared
//! (`git update-ref`, prepared); git tries without writing; the files and the index move (`git read-tree`, a two-way merge, which
//! itself refuses to overwrite changes and untracked files); the branch moves. A failure before the last step leaves the
//! head where it was.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use gix::objs::tree::EntryKind;

use super::{
    cause,
    child::{INPUT_LIMIT, RunningChild},
    commit,
    deadline::Deadline,
    hidden,
    opened::OpenedRepo,
    program::{Extra, Program, message},
    repo::GitRepo,
    state, tree,
    tree_diff::TreeChange,
    unsupported,
};
use crate::{Cancel, CommitId, HeldLock, VcsError, WorkTree};

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
    let (edited, kept) = state::changed(git)?.into_iter().partition(|path| touched.contains(&**path));
    refuse(edited)?;
    refuse(hidden::edited(repo, git, &changes)?)?;
    refuse(what_is_in_the_way(repo, git, &changes)?)?;
    if from == *to {
        return Ok(kept);
    }

    // `git read-tree` takes a file whose times differ from those of the index for changed.
    git.run("update-index", &["-q", "--refresh", "--ignore-submodules"].map(OsStr::new))?;
    let reference = Reference::lock(repo, git, &from, to)?;
    // Once more, now that git is about to write: what was ignored is not looked at by `git read-tree`.
    refuse(what_is_in_the_way(repo, git, &changes)?)?;
    let trial = git.run("read-tree", &["-n", "-m", "-u", from.as_str(), to.as_str()].map(OsStr::new))?;
    if !trial.status.success() {
        drop(reference);
        if let Some(lock) = held_lock(repo, git.cancel)? {
            return Err(state::locked(lock));
        }
        refuse(hidden::there(repo, git.cancel, &changes)?)?;
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
        // It may have been cut after its last word.
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

/// How long it may take to put back what a move has written that failed so.
fn putting_back(git: &Program<'_>, failed: &VcsError) -> Deadline {
    Deadline::after(if is_cut(failed) { git.limits.put_back } else { git.limits.check_out })
}

/// Makes the index that of `from`, whether a git that was cut had made it that of `to` already or not: both are cases of the
/// merge (git-read-tree(1), "Two Tree Merge"). What is staged beside stays, and no file is touched.
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

/// As [`in_the_way`], looked at with the owner's rights.
pub(super) fn what_is_in_the_way(
    repo: &GitRepo,
    git: &Program<'_>,
    changes: &Arc<Vec<TreeChange>>,
) -> Result<Vec<PathBuf>, VcsError> {
    let changes = Arc::clone(changes);
    repo.with_files(git, move |root| Ok(in_the_way(root, &changes)))
}

/// Undoes half a move: the index is still that of the old commit, some of the files are not.
///
/// The trial has shown that nothing was where the new files were to be, so what is there now was written by git. Other
/// files are not touched, whatever has been done to them meanwhile.
fn put_back(repo: &GitRepo, git: &Program<'_>, changes: Arc<Vec<TreeChange>>) -> Result<(), VcsError> {
    let (removed, to_write, blocked) = repo.with_files(git, move |root| {
        let removed = remove_new(root, &changes);
        let mut to_write = Vec::new();
        let mut blocked = Vec::new();
        for change in &*changes {
            let is_folder = || root.join(&change.path).symlink_metadata().is_ok_and(|there| there.is_dir());
            match change.old {
                None => {}
                // What git has made there is gone: this is somebody else's.
                Some(kind) if kind != EntryKind::Commit && is_folder() => blocked.push(change.path.clone()),
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

fn refuse(mut paths: Vec<PathBuf>) -> Result<(), VcsError> {
    if paths.is_empty() {
        return Ok(());
    }
    paths.sort();
    paths.dedup();
    paths.truncate(WorkTree::CHANGED_LIMIT);
    Err(VcsError::Dirty { paths })
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

    /// Moves the branch; not `git`'s cancel but `cancel` cuts it, because it takes no time.
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

/// Untracked and ignored files where a new tracked one is to be.
fn in_the_way(root: &Path, changes: &[TreeChange]) -> Vec<PathBuf> {
    let old: HashSet<&Path> =
        changes.iter().filter(|change| change.old.is_some()).map(|change| &*change.path).collect();
    let mut found = Vec::new();
    // Folders below which a look is needed no more, and those in which every file is a look of its own.
    let mut free = HashSet::new();
    let mut folders = HashSet::new();
    for change in changes {
        let Some(new) = change.new else { continue };
        if old.contains(&*change.path) {
            continue;
        }
        match folders_of(root, &change.path, &old, &mut free, &mut folders) {
            Folders::There => {}
            Folders::Free => continue,
            Folders::Blocked(by) => {
                found.push(by);
                continue;
            }
        }
        match root.join(&change.path).symlink_metadata() {
            Err(_) => {}
            Ok(there) if !there.is_dir() => found.push(change.path.clone()),
            // A submodule may have its files already.
            Ok(_) if new == EntryKind::Commit => {}
            Ok(_) => strangers(root, &change.path, &old, &mut found),
        }
        if found.len() > WorkTree::CHANGED_LIMIT {
            break;
        }
    }
    found
}

/// What the folders of a path say about it.
enum Folders {
    /// All are there.
    There,
    /// One is not, so nothing is below it.
    Free,
    /// A file is where a folder is to be.
    Blocked(PathBuf),
}

fn folders_of<'a>(
    root: &Path,
    path: &'a Path,
    old: &HashSet<&Path>,
    free: &mut HashSet<&'a Path>,
    folders: &mut HashSet<&'a Path>,
) -> Folders {
    let mut above: Vec<_> =
        path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
    above.reverse();
    for folder in above {
        if folders.contains(folder) {
            continue;
        }
        // A tracked file gives way to a folder.
        if free.contains(folder) || old.contains(folder) {
            return Folders::Free;
        }
        match root.join(folder).symlink_metadata() {
            Ok(there) if there.is_dir() => {
                folders.insert(folder);
            }
            Ok(_) => return Folders::Blocked(folder.to_owned()),
            Err(_) => {
                free.insert(folder);
                return Folders::Free;
            }
        }
    }
    Folders::There
}

/// Collects what a folder holds beside the files in `old`, which go. Empty folders are nothing to git.
fn strangers(root: &Path, folder: &Path, old: &HashSet<&Path>, found: &mut Vec<PathBuf>) {
    let mut to_visit = vec![folder.to_owned()];
    while let Some(folder) = to_visit.pop() {
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else {
            // What cannot be read must not be removed.
            found.push(folder);
            continue;
        };
        for entry in entries {
            let Ok(entry) = entry else {
                found.push(folder.clone());
                break;
            };
            let path = folder.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                to_visit.push(path);
            } else if !old.contains(&*path) {
                found.push(path);
            }
            if found.len() > WorkTree::CHANGED_LIMIT {
                return;
            }
        }
    }
}
