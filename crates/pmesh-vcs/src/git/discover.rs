//! Which repository a manifest belongs to.

use std::{
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use gix::{
    open::permissions::Environment,
    sec::{Permission, Trust},
};

use super::GitRepo;
use crate::VcsError;

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
    /// [`VcsError::NotFound`] (a server may go on without a repository), [`VcsError::Damaged`], and
    /// [`VcsError::Io`] if a folder cannot be read.
    pub fn discover(manifest: &Path) -> Result<Self, VcsError> {
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
            let repo = open(root)?;
            let Some(work_tree) = repo.workdir().map(Path::canonicalize) else {
                return Err(VcsError::damaged(root, "it is bare (core.bare), so it has no work tree"));
            };
            let work_tree = work_tree.map_err(|error| VcsError::io(root, error))?;
            // `core.worktree` may point elsewhere.
            let ours = work_tree == root && (folder == root || is_tracked(&repo, root, &folder.join(name))?);
            return if ours {
                Ok(Self { root: work_tree, git: PathBuf::from("git") })
            } else {
                Err(not_found())
            };
        }
        Err(not_found())
    }
}

/// Opens the repository whose work tree begins at `root`.
pub(super) fn open(root: &Path) -> Result<gix::Repository, VcsError> {
    // Variables such as GIT_DIR and GIT_INDEX_FILE mean another repository than ours.
    let env = Environment { git_prefix: Permission::Deny, objects: Permission::Deny, ..Environment::all() };
    let options = gix::open::Options::default()
        .permissions(gix::open::Permissions { env, ..gix::open::Permissions::all() })
        // The operator named this folder, and its manifest says which programs run: its owner is trusted. With less trust
        // gix hides the remotes of a repository that another user owns.
        .with(Trust::Full);
    let dot_git = root.join(".git");
    options
        .open_path_as_is(true)
        .open(dot_git)
        .map(gix::ThreadSafeRepository::into)
        .map_err(|error| VcsError::damaged(root, error))
}

/// Whether the index, or the head where there is no index, has `file`.
fn is_tracked(repo: &gix::Repository, root: &Path, file: &Path) -> Result<bool, VcsError> {
    let Ok(path) = file.strip_prefix(root) else { return Ok(false) };
    let index = repo.try_index().map_err(|error| VcsError::damaged(root, error))?;
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
    in_head().map_err(|error| VcsError::damaged(root, error))
}
