//! What commits hold, read from the object database.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
    time::Duration,
};

use gix::{ObjectId, bstr::ByteSlice, objs::tree::EntryKind};

use super::{
    child::Ended,
    history,
    opened::{OBJECT_LIMIT, Opened},
    program::message,
    repo::GitRepo,
    tree_diff::{self, Change},
};
use crate::{Cancel, CommitId, FILE_LIMIT, VcsError};

/// The most symbolic links that are followed for one file, as Linux does (`path_resolution(7)`).
const LINK_LIMIT: usize = 40;

/// The longest target of a symbolic link that is followed, in bytes.
const TARGET_LIMIT: u64 = 4096;

/// How long a remote may take to send one object that a partial clone has left there.
const BRING_LIMIT: Duration = Duration::from_mins(1);

/// The files that differ between two commits.
pub(super) fn changes(opened: &Opened, from: &CommitId, to: &CommitId) -> Result<Vec<Change>, VcsError> {
    let tree_of = |commit| -> Result<ObjectId, VcsError> {
        let id = history::find(opened, commit)?;
        opened.size(id, OBJECT_LIMIT)?;
        let read = || -> gix::Result<ObjectId> { Ok(opened.repo.find_commit(id)?.tree_id()?.detach()) };
        read().map_err(|error| opened.damaged(error))
    };
    tree_diff::between(opened, tree_of(from)?, tree_of(to)?)
}

/// The content of a file of a commit.
pub(super) fn file(
    repo: &GitRepo,
    commit: &CommitId,
    path: &Path,
    cancel: &Cancel,
) -> Result<Option<Vec<u8>>, VcsError> {
    // Of each link on the way, and of the file itself, the remote may have to be asked.
    for _ in 0..=LINK_LIMIT + 1 {
        let (commit, path) = (commit.clone(), path.to_owned());
        match repo.read(cancel, move |opened| look_up(opened, &commit, &path))? {
            LookUp::File(content) => return Ok(Some(content)),
            LookUp::Nothing => return Ok(None),
            LookUp::OnRemote(id) => bring(repo, id, cancel)?,
        }
    }
    Ok(None)
}

/// What a path of a commit leads to.
enum LookUp {
    File(Vec<u8>),
    Nothing,
    /// This object is needed next, and it is not here.
    OnRemote(ObjectId),
}

fn look_up(opened: &Opened, commit: &CommitId, path: &Path) -> Result<LookUp, VcsError> {
    let id = history::find(opened, commit)?;
    let damaged = |error| opened.damaged(error);
    let blob = match find_blob(opened, id, path)? {
        Walked::To(blob) => blob,
        Walked::Nowhere => return Ok(LookUp::Nothing),
        Walked::OnRemote(id) => return Ok(LookUp::OnRemote(id)),
    };
    if is_on_remote(opened, blob) {
        return Ok(LookUp::OnRemote(blob));
    }
    let size = opened.repo.find_header(blob).map_err(damaged)?.size();
    if size > FILE_LIMIT {
        return Err(VcsError::TooLarge { path: path.to_owned(), size, limit: FILE_LIMIT });
    }
    Ok(LookUp::File(opened.repo.find_blob(blob).map_err(damaged)?.take_data()))
}

/// Whether an object is not here because a partial clone has left it on its remote.
fn is_on_remote(opened: &Opened, id: ObjectId) -> bool {
    !opened.repo.has_object(id) && opened.is_partial()
}

/// Brings an object that is on the remote: git brings what it is asked for
/// (`gitformat-promisor(5)`, "partial clone").
fn bring(repo: &GitRepo, id: ObjectId, cancel: &Cancel) -> Result<(), VcsError> {
    let git = repo.program_that_brings(cancel)?;
    let id = id.to_string();
    match git.run_limited("cat-file", &["-e", &id].map(OsStr::new), &git.promisors, BRING_LIMIT, cancel)? {
        Ended::Exited(output) if output.status.success() => Ok(()),
        Ended::Exited(output) => {
            Err(VcsError::Git { command: "cat-file", message: message(&output.stderr, &git.secrets) })
        }
        Ended::Cancelled => Err(VcsError::Cancelled),
        Ended::TimedOut => Err(VcsError::Git {
            command: "cat-file",
            message: format!("the remote did not send it within {} s", BRING_LIMIT.as_secs()),
        }),
    }
}

/// Where a path leads.
enum Walked {
    To(ObjectId),
    Nowhere,
    OnRemote(ObjectId),
}

/// Walks `path` through the trees of a commit, and on through symbolic links that stay within them.
fn find_blob(opened: &Opened, commit: ObjectId, path: &Path) -> Result<Walked, VcsError> {
    let (repo, damaged) = (&opened.repo, |error| opened.damaged(error));
    let tree_of = |id| -> gix::Result<ObjectId> { Ok(repo.find_commit(id)?.tree_id()?.detach()) };
    opened.size(commit, OBJECT_LIMIT)?;
    let root = tree_of(commit).map_err(damaged)?;
    let Some(mut to_go) = pushed(Vec::new(), path) else { return Ok(Walked::Nowhere) };
    // The trees from the top to where the walk is.
    let mut trees = vec![root];
    let mut links = 0;
    while let Some(step) = to_go.pop() {
        let Step::Into(name) = step else {
            // Above the top of the commit is nothing.
            if trees.len() == 1 {
                return Ok(Walked::Nowhere);
            }
            trees.pop();
            continue;
        };
        let here = *trees.last().expect("the top tree is never popped");
        opened.size(here, OBJECT_LIMIT)?;
        let tree = repo.find_tree(here).map_err(damaged)?;
        let Some(entry) =
            tree.find_entry(name.as_bytes()).map(|entry| (entry.mode().kind(), entry.object_id()))
        else {
            return Ok(Walked::Nowhere);
        };
        match entry {
            (EntryKind::Tree, id) => trees.push(id),
            (EntryKind::Blob | EntryKind::BlobExecutable, id) if to_go.is_empty() => {
                return Ok(Walked::To(id));
            }
            (EntryKind::Blob | EntryKind::BlobExecutable | EntryKind::Commit, _) => {
                return Ok(Walked::Nowhere);
            }
            (EntryKind::Link, id) => {
                links += 1;
                if links > LINK_LIMIT {
                    return Ok(Walked::Nowhere);
                }
                if is_on_remote(opened, id) {
                    return Ok(Walked::OnRemote(id));
                }
                let read = || -> gix::Result<Option<Vec<u8>>> {
                    // No system has longer paths (PATH_MAX), so it leads nowhere.
                    if repo.find_header(id)?.size() > TARGET_LIMIT {
                        return Ok(None);
                    }
                    Ok(Some(repo.find_blob(id)?.take_data()))
                };
                let Some(target) = read().map_err(damaged)? else { return Ok(Walked::Nowhere) };
                match pushed(to_go, Path::new(OsStr::from_bytes(&target))) {
                    Some(further) => to_go = further,
                    None => return Ok(Walked::Nowhere),
                }
            }
        }
    }
    Ok(Walked::Nowhere)
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
