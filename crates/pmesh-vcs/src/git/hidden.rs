//! Files that git was told not to look at (`git update-index --assume-unchanged` or `--skip-worktree`).
//!
//! What git itself would notice is a size or a time that differs from the index. An edit to the same size within the second
//! in which the index was written has neither, so before a move the content is compared.

use std::{
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::PathBuf,
    sync::Arc,
};

use gix::{
    ObjectId,
    index::entry::{Flags, Mode},
    object::Kind,
};

use super::{
    hashes::hashes, opened::OpenedRepo, program::Program, repo::GitRepo, state, tree_diff::TreeChange,
};
use crate::{Cancel, VcsError};

/// A file as the index has it.
struct Hidden {
    path: PathBuf,
    id: ObjectId,
    mode: Mode,
}

/// What is in the work tree in its place.
enum HiddenState {
    /// Nothing, or what the index has.
    Same,
    Edited,
    /// A file whose content is to be compared.
    File,
}

/// The hidden ones among `changes` that are there.
pub(super) fn there(
    repo: &GitRepo,
    cancel: &Cancel,
    changes: &Arc<Vec<TreeChange>>,
) -> Result<Vec<PathBuf>, VcsError> {
    let changes = Arc::clone(changes);
    repo.read(cancel, move |opened| {
        let hidden = all(opened, &changes)?.into_iter().map(|hidden| hidden.path);
        Ok(hidden.filter(|path| state::exists(&opened.root.join(path))).collect())
    })
}

/// The hidden ones among `changes` that are not what the index has.
pub(super) fn edited(
    repo: &GitRepo,
    git: &Program<'_>,
    changes: &Arc<Vec<TreeChange>>,
) -> Result<Vec<PathBuf>, VcsError> {
    let changes = Arc::clone(changes);
    let (hidden, looks_at_modes) = repo.read(git.cancel, move |opened| {
        let looks_at_modes = opened.repo.config_snapshot().boolean("core.fileMode").unwrap_or(true);
        Ok((all(opened, &changes)?, looks_at_modes))
    })?;
    if hidden.is_empty() {
        return Ok(Vec::new());
    }
    let (mut edited, to_hash) = repo.with_files(git, move |root| {
        let (mut edited, mut to_hash) = (Vec::new(), Vec::new());
        for hidden in hidden {
            match hidden.there(&root.join(&hidden.path), looks_at_modes) {
                HiddenState::Same => {}
                HiddenState::Edited => edited.push(hidden.path),
                HiddenState::File => to_hash.push(hidden),
            }
        }
        Ok((edited, to_hash))
    })?;
    let ids = hashes(git, &to_hash.iter().map(|hidden| &hidden.path).collect::<Vec<_>>())?;
    let differ = to_hash.into_iter().zip(ids).filter(|(hidden, id)| hidden.id != *id);
    edited.extend(differ.map(|(hidden, _)| hidden.path));
    Ok(edited)
}

fn all(opened: &OpenedRepo, changes: &[TreeChange]) -> Result<Vec<Hidden>, VcsError> {
    let index = opened.repo.index_or_empty().map_err(|error| opened.damaged(error))?;
    let hidden = changes.iter().filter(|change| change.old.is_some()).filter_map(|change| {
        let entry = index.entry_by_path(change.path.as_os_str().as_bytes().into())?;
        let is_hidden = entry.flags.intersects(Flags::ASSUME_VALID | Flags::SKIP_WORKTREE);
        is_hidden.then(|| Hidden { path: change.path.clone(), id: entry.id, mode: entry.mode })
    });
    Ok(hidden.collect())
}

impl Hidden {
    fn there(&self, path: &std::path::Path, looks_at_modes: bool) -> HiddenState {
        let Ok(metadata) = path.symlink_metadata() else { return HiddenState::Same };
        if metadata.is_symlink() {
            let target = std::fs::read_link(path).unwrap_or_default();
            let id = gix::objs::compute_hash(self.id.kind(), Kind::Blob, target.as_os_str().as_bytes());
            let is_same = self.mode == Mode::SYMLINK && id.is_ok_and(|id| id == self.id);
            return if is_same { HiddenState::Same } else { HiddenState::Edited };
        }
        match self.mode {
            // A submodule is its own affair.
            Mode::COMMIT => HiddenState::Same,
            Mode::FILE | Mode::FILE_EXECUTABLE if metadata.is_file() => {
                let is_executable = metadata.permissions().mode() & 0o100 != 0;
                if looks_at_modes && is_executable != (self.mode == Mode::FILE_EXECUTABLE) {
                    HiddenState::Edited
                } else {
                    HiddenState::File
                }
            }
            _ => HiddenState::Edited,
        }
    }
}
