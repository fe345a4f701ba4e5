//! What commits hold, read from the object database.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use gix::{
    ObjectId,
    bstr::ByteSlice,
    diff::tree::{Recorder, State, recorder::Change as Recorded},
    objs::{TreeRefIter, tree::EntryKind, tree::EntryMode},
};

use super::{GitRepo, child::Ended, fetch, history, program::message};
use crate::{Cancel, CommitId, FILE_LIMIT, VcsError};

/// The most symbolic links that are followed for one file, as Linux does (`path_resolution(7)`).
const LINK_LIMIT: usize = 40;

/// The longest target of a symbolic link that is followed, in bytes.
const TARGET_LIMIT: u64 = 4096;

/// How long a remote may take to send one object that a partial clone has left there.
const BRING_LIMIT: Duration = Duration::from_mins(1);

/// A file, a symbolic link or a submodule that differs between two commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Relative to the top of the work tree.
    pub(super) path: PathBuf,
    /// What the first commit has there; `None` for nothing or a folder.
    pub(super) old: Option<EntryKind>,
    /// What the second commit has there.
    pub(super) new: Option<EntryKind>,
}

/// The files that differ between two commits. A path that changes between file and submodule may be there twice.
pub(super) fn changes(
    repo: &GitRepo,
    opened: &gix::Repository,
    from: &CommitId,
    to: &CommitId,
) -> Result<Vec<Change>, VcsError> {
    let from = history::find(repo, opened, from)?;
    let to = history::find(repo, opened, to)?;
    let changes = || -> gix::Result<Vec<Change>> {
        let from = opened.find_commit(from)?.tree()?;
        let to = opened.find_commit(to)?.tree()?;
        let mut recorder = Recorder::default();
        gix::diff::tree(
            TreeRefIter::from_bytes(&from.data, from.id.kind()),
            TreeRefIter::from_bytes(&to.data, to.id.kind()),
            State::default(),
            &opened.objects,
            &mut recorder,
        )
        .map_err(gix::Error::from_error)?;
        Ok(recorder.records.into_iter().filter_map(change).collect())
    };
    changes().map_err(|error| repo.damaged(error))
}

fn change(recorded: Recorded) -> Option<Change> {
    let file = |mode: EntryMode| (!mode.is_tree()).then(|| mode.kind());
    let (path, old, new) = match recorded {
        Recorded::Addition { entry_mode, path, .. } => (path, None, file(entry_mode)),
        Recorded::Deletion { entry_mode, path, .. } => (path, file(entry_mode), None),
        Recorded::Modification { previous_entry_mode, entry_mode, path, .. } => {
            (path, file(previous_entry_mode), file(entry_mode))
        }
    };
    let path = PathBuf::from(OsStr::from_bytes(&path));
    (old.is_some() || new.is_some()).then_some(Change { path, old, new })
}

/// The content of a file of a commit.
pub(super) fn file(repo: &GitRepo, commit: &CommitId, path: &Path) -> Result<Option<Vec<u8>>, VcsError> {
    let opened = repo.open()?;
    let id = history::find(repo, &opened, commit)?;
    let damaged = |error| repo.damaged(error);
    let Some(blob) = find_blob(repo, &opened, id, path)? else { return Ok(None) };
    bring(repo, &opened, blob)?;
    let size = opened.find_header(blob).map_err(damaged)?.size();
    if size > FILE_LIMIT {
        return Err(VcsError::TooLarge { path: path.to_owned(), size, limit: FILE_LIMIT });
    }
    Ok(Some(opened.find_blob(blob).map_err(damaged)?.take_data()))
}

/// Sees to it that an object is here. A partial clone leaves objects on its remote, and git brings what it
/// is asked for (`gitformat-promisor(5)`, "partial clone").
fn bring(repo: &GitRepo, opened: &gix::Repository, id: ObjectId) -> Result<(), VcsError> {
    if opened.has_object(id) || !is_partial(opened) {
        return Ok(());
    }
    let git = repo.program();
    let extra = fetch::extra(&git, None)?;
    let id = id.to_string();
    match git.run_limited("cat-file", &["-e", &id].map(OsStr::new), &extra, BRING_LIMIT, &Cancel::new())? {
        Ended::Exited(output) if output.status.success() => Ok(()),
        Ended::Exited(output) => {
            Err(VcsError::Git { command: "cat-file", message: message(&output.stderr, &[]) })
        }
        Ended::TimedOut | Ended::Cancelled => Err(VcsError::Git {
            command: "cat-file",
            message: format!("the remote did not send it within {} s", BRING_LIMIT.as_secs()),
        }),
    }
}

/// Whether objects may be missing because the remote has them (git-config(1), "remote.<name>.promisor").
fn is_partial(repo: &gix::Repository) -> bool {
    let config = repo.config_snapshot();
    config
        .plumbing()
        .sections_by_name("remote")
        .into_iter()
        .flatten()
        .any(|section| section.value("promisor").is_some() || section.value("partialclonefilter").is_some())
}

/// Walks `path` through the trees of a commit, and on through symbolic links that stay within them.
fn find_blob(
    git: &GitRepo,
    repo: &gix::Repository,
    commit: ObjectId,
    path: &Path,
) -> Result<Option<ObjectId>, VcsError> {
    let damaged = |error| git.damaged(error);
    let tree_of = |id| -> gix::Result<ObjectId> { Ok(repo.find_commit(id)?.tree_id()?.detach()) };
    let root = tree_of(commit).map_err(damaged)?;
    let Some(mut to_go) = pushed(Vec::new(), path) else { return Ok(None) };
    // The trees from the top to where the walk is.
    let mut trees = vec![root];
    let mut links = 0;
    while let Some(step) = to_go.pop() {
        let Step::Into(name) = step else {
            // Above the top of the commit is nothing.
            if trees.len() == 1 {
                return Ok(None);
            }
            trees.pop();
            continue;
        };
        let here = *trees.last().expect("the top tree is never popped");
        let tree = repo.find_tree(here).map_err(damaged)?;
        let Some(entry) =
            tree.find_entry(name.as_bytes()).map(|entry| (entry.mode().kind(), entry.object_id()))
        else {
            return Ok(None);
        };
        match entry {
            (EntryKind::Tree, id) => trees.push(id),
            (EntryKind::Blob | EntryKind::BlobExecutable, id) => return Ok(to_go.is_empty().then_some(id)),
            (EntryKind::Link, id) => {
                links += 1;
                if links > LINK_LIMIT {
                    return Ok(None);
                }
                bring(git, repo, id)?;
                let read = || -> gix::Result<Option<Vec<u8>>> {
                    // No system has longer paths (PATH_MAX), so it leads nowhere.
                    if repo.find_header(id)?.size() > TARGET_LIMIT {
                        return Ok(None);
                    }
                    Ok(Some(repo.find_blob(id)?.take_data()))
                };
                let Some(target) = read().map_err(damaged)? else { return Ok(None) };
                match pushed(to_go, Path::new(OsStr::from_bytes(&target))) {
                    Some(further) => to_go = further,
                    None => return Ok(None),
                }
            }
            (EntryKind::Commit, _) => return Ok(None),
        }
    }
    Ok(None)
}

enum Step {
    Into(Vec<u8>),
    Up,
}

/// `to_go` (the next step last) with the steps of `path` before it; `None` for an absolute path.
fn pushed(mut to_go: Vec<Step>, path: &Path) -> Option<Vec<Step>> {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => to_go.push(Step::Into(name.as_bytes().to_vec())),
            Component::ParentDir => to_go.push(Step::Up),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(to_go)
}
