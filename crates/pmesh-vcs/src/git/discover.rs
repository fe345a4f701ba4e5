//! Which repository a manifest belongs to.

use std::{
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{git_limits::GitLimits, opened::OpenedRepo, readers::Readers, repo::GitRepo};
use crate::{Cancel, VcsError};

impl GitRepo {
    /// The repository at the folder of the file `manifest`, or above it if it tracks that file. A manifest in the top
    /// folder of a work tree need not be tracked yet. Linked work trees and submodules are repositories like
    /// others.
    ///
    /// The nearest repository decides: a damaged one is an error, and one that does not track the file ends the search,
    /// so that nothing is ever done to a stranger's repository further up.
    ///
    /// # Errors
    ///
    /// [`VcsError::NotFound`] (a server may go on without a repository), [`VcsError::Damaged`], [`VcsError::NoThread`], and
    /// [`VcsError::Io`] if a folder cannot be read.
    pub fn discover(manifest: &Path) -> Result<Self, VcsError> {
        let folder = manifest.parent().unwrap_or(manifest);
        Self::discover_with(manifest, &Arc::new(Readers::start(folder)?))
    }

    /// As [`discover`](Self::discover), read by threads that others use as well.
    pub(super) fn discover_with(manifest: &Path, readers: &Arc<Readers>) -> Result<Self, VcsError> {
        let not_found = || VcsError::NotFound(manifest.to_owned());
        let name = manifest.file_name().ok_or_else(not_found)?;
        let folder = match manifest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = match folder.canonicalize() {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found()),
            Err(error) => return Err(VcsError::io(folder, error)),
        };
        for root in folder.ancestors() {
            let dot_git = root.join(".git");
            match dot_git.symlink_metadata() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(VcsError::io(&dot_git, error)),
            }
            let (place, file) = (root.to_owned(), folder.join(name));
            let ours =
                readers.run(root, GitLimits::default().read, &Cancel::new(), move |rights, stop| {
                    is_of(&OpenedRepo::at(&place, rights, stop)?, &file)
                })?;
            return if ours { Ok(Self::new(root.to_owned(), Arc::clone(readers))) } else { Err(not_found()) };
        }
        Err(not_found())
    }
}

/// Whether the repository is the one of the manifest `file`.
fn is_of(opened: &OpenedRepo, file: &Path) -> Result<bool, VcsError> {
    let root: &Path = &opened.root;
    let Some(work_tree) = opened.repo.workdir().map(Path::canonicalize) else {
        return Err(VcsError::damaged(root, "it is bare (core.bare), so it has no work tree"));
    };
    let work_tree: PathBuf = work_tree.map_err(|error| VcsError::io(root, error))?;
    // `core.worktree` may point elsewhere.
    Ok(work_tree == root && (file.parent() == Some(root) || is_tracked(opened, file)?))
}

/// Whether the index, or the head where there is no index, has `file`.
fn is_tracked(opened: &OpenedRepo, file: &Path) -> Result<bool, VcsError> {
    let repo = &opened.repo;
    let Ok(path) = file.strip_prefix(&opened.root) else { return Ok(false) };
    let index = repo.try_index().map_err(|error| opened.damaged(error))?;
    if let Some(index) = index {
        return Ok(index.entry_by_path(path.as_os_str().as_bytes().into()).is_some());
    }
    let in_head = || -> gix::Result<bool> {
        // Without a commit nothing is tracked.
        if repo.head()?.is_unborn() {
            return Ok(false);
        }
        Ok(repo.head_tree()?.lookup_entry_by_path(path)?.is_some())
    };
    in_head().map_err(|error| opened.damaged(error))
}
