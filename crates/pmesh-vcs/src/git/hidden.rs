//! Files that git was told not to look at (`git update-index --assume-unchanged` or `--skip-worktree`).
//!
//! What git itself would notice is a size or a time that differs from the index. An edit to the same size within the second
//! in which the index was written has neither, so before a move the content is compared.

use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
};

use gix::{
    ObjectId,
    index::entry::{Flags, Mode},
    object::Kind,
};

use super::{
    child::INPUT_LIMIT,
    opened::OpenedRepo,
    program::{Extra, Program, message},
    repo::GitRepo,
    state,
    tree_diff::TreeChange,
};
use crate::{Cancel, VcsError};

/// A file as the index has it.
struct Hidden {
    path: PathBuf,
    id: ObjectId,
    mode: Mode,
}

/// What is in the work tree in its place.
enum There {
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
                There::Same => {}
                There::Edited => edited.push(hidden.path),
                There::File => to_hash.push(hidden),
            }
        }
        Ok((edited, to_hash))
    })?;
    let mut input = Vec::new();
    let mut batch: Vec<&Hidden> = Vec::new();
    for hidden in &to_hash {
        let line = quoted(&hidden.path);
        if !batch.is_empty() && input.len() + line.len() > INPUT_LIMIT {
            differing(git, &std::mem::take(&mut input), &std::mem::take(&mut batch), &mut edited)?;
        }
        input.extend(line);
        batch.push(hidden);
    }
    if !batch.is_empty() {
        differing(git, &input, &batch, &mut edited)?;
    }
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
    fn there(&self, path: &std::path::Path, looks_at_modes: bool) -> There {
        let Ok(metadata) = path.symlink_metadata() else { return There::Same };
        if metadata.is_symlink() {
            let target = std::fs::read_link(path).unwrap_or_default();
            let id = gix::objs::compute_hash(self.id.kind(), Kind::Blob, target.as_os_str().as_bytes());
            let is_same = self.mode == Mode::SYMLINK && id.is_ok_and(|id| id == self.id);
            return if is_same { There::Same } else { There::Edited };
        }
        match self.mode {
            // A submodule is its own affair.
            Mode::COMMIT => There::Same,
            Mode::FILE | Mode::FILE_EXECUTABLE if metadata.is_file() => {
                let is_executable = metadata.permissions().mode() & 0o100 != 0;
                if looks_at_modes && is_executable != (self.mode == Mode::FILE_EXECUTABLE) {
                    There::Edited
                } else {
                    There::File
                }
            }
            _ => There::Edited,
        }
    }
}

/// Adds those of `batch` whose content is not that of the index; `input` names them.
fn differing(
    git: &Program<'_>,
    input: &[u8],
    batch: &[&Hidden],
    edited: &mut Vec<PathBuf>,
) -> Result<(), VcsError> {
    const COMMAND: &str = "hash-object";
    // By the filters and line ends of each path, as git would add it.
    let mut hashing =
        git.start(COMMAND, &[OsStr::new("--stdin-paths")], &Extra::default(), Stdio::piped())?;
    let written = hashing.write(input);
    let output = git.end(hashing)?;
    let said = || message(&output.stderr, &git.secrets);
    if let Err(source) = written {
        return Err(VcsError::Git { command: COMMAND, message: format!("{source}; {}", said()) });
    }
    let ids: Vec<_> = output.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty()).collect();
    if !output.status.success() || ids.len() != batch.len() {
        return Err(VcsError::Git { command: COMMAND, message: said() });
    }
    let differ = batch.iter().zip(ids).filter(|(hidden, id)| hidden.id.to_string().as_bytes() != *id);
    edited.extend(differ.map(|(hidden, _)| hidden.path.clone()));
    Ok(())
}

/// A path as git reads it from a line (git-hash-object(1), `--stdin-paths`; git-config(1), `core.quotePath`).
fn quoted(path: &std::path::Path) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', byte]),
            b'\n' => quoted.extend(b"\\n"),
            _ => quoted.push(byte),
        }
    }
    quoted.extend(b"\"\n");
    quoted
}
