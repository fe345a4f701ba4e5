//! What commits hold, read from the object database.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
};

use gix::{ObjectId, bstr::ByteSlice, objs::tree::EntryKind};

use super::{
    history,
    opened::{OBJECT_LIMIT, OpenedRepo},
    tree_diff::{self, TreeChange},
};
use crate::{CommitId, FILE_LIMIT, VcsError};

/// The most symbolic links that are followed for one file, as Linux does (`path_resolution(7)`).
const LINK_LIMIT: usize = 40;

/// The longest target of a symbolic link that is followed, in bytes.
const TARGET_LIMIT: u64 = 4096;

/// The files that differ between two commits.
pub(super) fn changes(
    opened: &OpenedRepo,
    from: &CommitId,
    to: &CommitId,
) -> Result<Vec<TreeChange>, VcsError> {
    let tree_of = |commit| -> Result<ObjectId, VcsError> {
        let id = history::find(opened, commit)?;
        opened.size(id, OBJECT_LIMIT)?;
        let read = || -> gix::Result<ObjectId> { Ok(opened.repo.find_commit(id)?.tree_id()?.detach()) };
        read().map_err(|error| opened.damaged(error))
    };
    tree_diff::between(opened, tree_of(from)?, tree_of(to)?)
}

/// The content of a file of a commit.
pub(super) fn file(opened: &OpenedRepo, commit: &CommitId, path: &Path) -> Result<Option<Vec<u8>>, VcsError> {
    content(opened, history::find(opened, commit)?, path)
}

/// As [`file`], of a commit that is here.
pub(super) fn content(
    opened: &OpenedRepo,
    commit: ObjectId,
    path: &Path,
) -> Result<Option<Vec<u8>>, VcsError> {
    let Some(blob) = find_blob(opened, commit, path)? else { return Ok(None) };
    let size = opened.header(blob)?.size();
    if size > FILE_LIMIT {
        return Err(VcsError::TooLarge { path: path.to_owned(), size, limit: FILE_LIMIT });
    }
    let mut blob = opened.repo.find_blob(blob).map_err(|error| opened.damaged(error))?;
    Ok(Some(blob.take_data()))
}

/// Walks `path` through the trees of a commit, and on through symbolic links that stay within them.
pub(super) fn find_blob(
    opened: &OpenedRepo,
    commit: ObjectId,
    path: &Path,
) -> Result<Option<ObjectId>, VcsError> {
    let (repo, damaged) = (&opened.repo, |error| opened.damaged(error));
    let tree_of = |id| -> gix::Result<ObjectId> { Ok(repo.find_commit(id)?.tree_id()?.detach()) };
    opened.size(commit, OBJECT_LIMIT)?;
    let root = tree_of(commit).map_err(damaged)?;
    let Some(mut to_go) = pushed(Vec::new(), path) else { return Ok(None) };
    // The trees from the top to where the walk is.
    let mut trees = vec![root];
    let mut links = 0;
    while let Some(step) = to_go.pop() {
        let PathStep::Into(name) = step else {
            // Above the top of the commit is nothing.
            if trees.len() == 1 {
                return Ok(None);
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
            return Ok(None);
        };
        match entry {
            (EntryKind::Tree, id) => trees.push(id),
            (EntryKind::Blob | EntryKind::BlobExecutable, id) if to_go.is_empty() => {
                return Ok(Some(id));
            }
            (EntryKind::Blob | EntryKind::BlobExecutable | EntryKind::Commit, _) => {
                return Ok(None);
            }
            (EntryKind::Link, id) => {
                links += 1;
                if links > LINK_LIMIT {
                    return Ok(None);
                }
                // No system has longer paths (PATH_MAX), so it leads nowhere.
                if opened.header(id)?.size() > TARGET_LIMIT {
                    return Ok(None);
                }
                let target = repo.find_blob(id).map_err(damaged)?.take_data();
                match pushed(to_go, Path::new(OsStr::from_bytes(&target))) {
                    Some(further) => to_go = further,
                    None => return Ok(None),
                }
            }
        }
    }
    Ok(None)
}

enum PathStep {
    Into(Vec<u8>),
    Up,
}

/// `to_go` (the next step last) with the steps of `path` before it; `None` for an absolute path.
fn pushed(mut to_go: Vec<PathStep>, path: &Path) -> Option<Vec<PathStep>> {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => to_go.push(PathStep::Into(name.as_bytes().to_vec())),
            Component::ParentDir => to_go.push(PathStep::Up),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(to_go)
}
