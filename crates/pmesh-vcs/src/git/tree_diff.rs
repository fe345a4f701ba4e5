//! Which files differ between two trees.

use std::{cmp::Ordering, ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use gix::{
    ObjectId,
    objs::{
        TreeRefIter,
        tree::{EntryKind, EntryMode},
    },
};

use super::{
    opened::OpenedRepo,
    walk::{KeptObject, Walk},
};
use crate::VcsError;

/// A file, a symbolic link or a submodule that differs between two commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TreeChange {
    /// Relative to the top of the work tree.
    pub(super) path: PathBuf,
    /// What the first commit has there; `None` for nothing or a folder.
    pub(super) old: Option<TreeFile>,
    /// What the second commit has there.
    pub(super) new: Option<TreeFile>,
}

/// What a commit has at a path that is no folder of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TreeFile {
    pub(super) kind: EntryKind,
    pub(super) id: ObjectId,
}

/// What differs between the trees `old` and `new`; a path that changes between file and folder is there once for the
/// file. Subtrees that are the same are not looked at.
pub(super) fn between(
    opened: &OpenedRepo,
    old: ObjectId,
    new: ObjectId,
) -> Result<Vec<TreeChange>, VcsError> {
    let walk = Walk::new(opened);
    let mut diff = Diff { opened, walk: &walk, path: Vec::new(), changes: Vec::new() };
    diff.trees(Some(old), Some(new), 0)?;
    Ok(diff.changes)
}

struct Diff<'a> {
    opened: &'a OpenedRepo,
    walk: &'a Walk<'a>,
    /// Where the walk is, with a slash at its end.
    path: Vec<u8>,
    changes: Vec<TreeChange>,
}

/// An entry of a tree.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a [u8],
    mode: EntryMode,
    id: &'a gix::oid,
}

impl Entry<'_> {
    /// As git orders the entries of a tree: a folder as if its name had a slash at its end.
    fn order(&self, other: &Self) -> Ordering {
        gix::objs::tree::name_order(self.name, self.mode.is_tree(), other.name, other.mode.is_tree())
    }

    fn folder(&self) -> Option<ObjectId> {
        self.mode.is_tree().then(|| self.id.to_owned())
    }

    fn file(&self) -> Option<TreeFile> {
        (!self.mode.is_tree()).then(|| TreeFile { kind: self.mode.kind(), id: self.id.to_owned() })
    }
}

impl Diff<'_> {
    /// Compares two folders at the current path; `None` is one that is not there.
    fn trees(&mut self, old: Option<ObjectId>, new: Option<ObjectId>, depth: usize) -> Result<(), VcsError> {
        if old == new {
            return Ok(());
        }
        let walk = self.walk;
        let read = |id: Option<ObjectId>| id.map(|id| walk.tree(id)).transpose();
        let (old, new) = (read(old)?, read(new)?);
        let mut old = self.entries(old.as_ref());
        let mut new = self.entries(new.as_ref());
        let (mut before, mut after) = (self.next(&mut old, depth)?, self.next(&mut new, depth)?);
        loop {
            let order = match (&before, &after) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.order(after),
            };
            let here = before.filter(|_| order.is_le());
            let there = after.filter(|_| order.is_ge());
            self.entry(here, there, depth)?;
            if here.is_some() {
                before = self.next(&mut old, depth)?;
            }
            if there.is_some() {
                after = self.next(&mut new, depth)?;
            }
        }
    }

    /// Compares two entries of the same name in the folder at the current path.
    fn entry(
        &mut self,
        old: Option<Entry<'_>>,
        new: Option<Entry<'_>>,
        depth: usize,
    ) -> Result<(), VcsError> {
        let Some(name) = old.or(new).map(|entry| entry.name) else { return Ok(()) };
        if let (Some(old), Some(new)) = (old, new)
            && (old.mode, old.id) == (new.mode, new.id)
        {
            return Ok(());
        }
        let folder = self.path.len();
        self.path.extend_from_slice(name);
        let (was, is) = (old.and_then(|entry| entry.file()), new.and_then(|entry| entry.file()));
        if was.is_some() || is.is_some() {
            self.walk.keep(self.path.len() + size_of::<TreeChange>())?;
            let path = PathBuf::from(OsStr::from_bytes(&self.path));
            self.changes.push(TreeChange { path, old: was, new: is });
        }
        let (was, is) = (old.and_then(|entry| entry.folder()), new.and_then(|entry| entry.folder()));
        if was.is_some() || is.is_some() {
            self.path.push(b'/');
            self.trees(was, is, depth + 1)?;
        }
        self.path.truncate(folder);
        Ok(())
    }

    fn entries<'t>(&self, tree: Option<&'t KeptObject<'_>>) -> TreeRefIter<'t> {
        let data = tree.map_or(&[][..], |tree| &tree.data);
        TreeRefIter::from_bytes(data, self.opened.repo.object_hash())
    }

    fn next<'t>(&self, entries: &mut TreeRefIter<'t>, depth: usize) -> Result<Option<Entry<'t>>, VcsError> {
        let Some(entry) = entries.next() else { return Ok(None) };
        self.walk.step(depth)?;
        let entry = entry.map_err(|error| self.opened.damaged(error))?;
        Ok(Some(Entry { name: entry.filename, mode: entry.mode, id: entry.oid }))
    }
}
