//! The repository of a manifest: found at the start, and at a reload that leads to another one.

use std::{error::Error, path::Path, sync::Arc};

use pmesh_node::{RepositorySource, WorkTreeHold, in_one_line};
use pmesh_vcs::{
    Vcs, VcsError,
    git::{DamagedRepo, GitRepo},
};
use tracing::{info, warn};

use crate::{
    ownership, place,
    work_tree_lock::{self, WorkTreeError},
};

/// Finds git repositories, and locks their work trees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GitRepositories;

impl GitRepositories {
    /// Takes the work tree of `vcs`, where the server moves it.
    ///
    /// # Errors
    ///
    /// [`WorkTreeError`].
    pub(crate) fn take_if(moves: bool, vcs: Option<&dyn Vcs>) -> Result<Option<WorkTreeHold>, WorkTreeError> {
        vcs.filter(|_| moves).map_or(Ok(None), |vcs| lock(vcs.root()))
    }
}

impl RepositorySource for GitRepositories {
    fn find(&self, file: &Path) -> Result<Option<Arc<dyn Vcs>>, VcsError> {
        let found = repository(file)?;
        let owners = ownership::owners(file, found.as_deref().map(Vcs::root));
        if let Some(warning) = ownership::warning(rustix::process::geteuid().as_raw(), &owners) {
            warn!("{warning}");
        }
        Ok(found)
    }

    fn take(&self, root: &Path) -> Result<Option<WorkTreeHold>, Box<dyn Error + Send + Sync>> {
        Ok(lock(root)?)
    }
}

/// The lock of a work tree, which ends with its file.
fn lock(root: &Path) -> Result<Option<WorkTreeHold>, WorkTreeError> {
    let file = work_tree_lock::lock(root, &place::work_tree_lock(root))?;
    Ok(file.map(|file| Arc::new(file) as WorkTreeHold))
}

/// The repository that tracks the manifest. Without one the server serves all the same.
///
/// # Errors
///
/// There is no thread to read it.
fn repository(file: &Path) -> Result<Option<Arc<dyn Vcs>>, VcsError> {
    Ok(match GitRepo::discover(file) {
        Ok(repository) => Some(Arc::new(repository)),
        Err(VcsError::NotFound(_)) => {
            info!("no repository tracks the manifest: /repo and updates are not there");
            None
        }
        Err(error) => {
            let error_line = in_one_line(&error);
            if let VcsError::Damaged { root, .. }
            | VcsError::NotAFile { root, .. }
            | VcsError::Unreadable { root, .. }
            | VcsError::RepositoryTooLarge { root, .. }
            | VcsError::Timeout { root, .. }
            | VcsError::NoThread { root, .. } = &error
            {
                warn!(error = error_line, "/repo and updates are not there until somebody repairs it");
                return Ok(Some(Arc::new(DamagedRepo::new(root.clone(), file.to_owned())?)));
            }
            warn!(error = error_line, "the repository cannot be used: /repo and updates are not there");
            None
        }
    })
}
