//! A repository that could not be opened when the server started.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{readers::Readers, repo::GitRepo};
use crate::{Cancel, CommitId, Fetched, Heads, Relation, Revision, Vcs, VcsError, WorkTree};

/// A repository that [`GitRepo::discover`] found [damaged](VcsError::Damaged), and that every call
/// tries to open anew: each says what is wrong with it, and from the moment on at which somebody has
/// repaired it, each does what it is for.
#[derive(Clone, Debug)]
pub struct DamagedRepo {
    root: PathBuf,
    manifest: PathBuf,
    // Shared by all tries: a thread that stands still must not be forgotten with the try.
    readers: Arc<Readers>,
}

impl DamagedRepo {
    /// The repository at `root`, by the [error](VcsError::Damaged) of [`GitRepo::discover`] for the file `manifest`.
    ///
    /// # Errors
    ///
    /// [`VcsError::NoThread`].
    pub fn new(root: PathBuf, manifest: PathBuf) -> Result<Self, VcsError> {
        let readers = Arc::new(Readers::start(&root)?);
        Ok(Self { root, manifest, readers })
    }

    fn repaired(&self) -> Result<GitRepo, VcsError> {
        let repo = GitRepo::discover_with(&self.manifest, &self.readers)?;
        // This repository is further up: it is not the one whose root was asked for.
        if repo.root() == self.root { Ok(repo) } else { Err(VcsError::NotFound(self.manifest.clone())) }
    }
}

impl Vcs for DamagedRepo {
    fn system(&self) -> &'static str {
        "git"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn head(&self) -> Result<Revision, VcsError> {
        self.repaired()?.head()
    }

    fn remote_head(&self) -> Result<Option<Revision>, VcsError> {
        self.repaired()?.remote_head()
    }

    fn heads(&self, cancel: &Cancel) -> Result<Heads, VcsError> {
        self.repaired()?.heads(cancel)
    }

    fn work_tree(&self, cancel: &Cancel) -> Result<WorkTree, VcsError> {
        self.repaired()?.work_tree(cancel)
    }

    fn fetch(&self, limit: Duration, cancel: &Cancel) -> Result<Fetched, VcsError> {
        self.repaired()?.fetch(limit, cancel)
    }

    fn relation(&self, head: &CommitId, remote: &CommitId, cancel: &Cancel) -> Result<Relation, VcsError> {
        self.repaired()?.relation(head, remote, cancel)
    }

    fn local_commits(
        &self,
        head: &CommitId,
        remote: &CommitId,
        fetched: &[CommitId],
        cancel: &Cancel,
    ) -> Result<usize, VcsError> {
        self.repaired()?.local_commits(head, remote, fetched, cancel)
    }

    fn changed_paths(
        &self,
        from: &CommitId,
        to: &CommitId,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>, VcsError> {
        self.repaired()?.changed_paths(from, to, cancel)
    }

    fn edited(
        &self,
        paths: &[PathBuf],
        commit: &CommitId,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>, VcsError> {
        self.repaired()?.edited(paths, commit, cancel)
    }

    fn file(&self, commit: &CommitId, path: &Path, cancel: &Cancel) -> Result<Option<Vec<u8>>, VcsError> {
        self.repaired()?.file(commit, path, cancel)
    }

    fn check_out(&self, commit: &CommitId, cancel: &Cancel) -> Result<Vec<PathBuf>, VcsError> {
        self.repaired()?.check_out(commit, cancel)
    }

    fn go_back(
        &self,
        from: &CommitId,
        to: &CommitId,
        kept: &[PathBuf],
        cancel: &Cancel,
    ) -> Result<(), VcsError> {
        self.repaired()?.go_back(from, to, kept, cancel)
    }

    fn maintain(&self, cancel: &Cancel) -> Result<(), VcsError> {
        self.repaired()?.maintain(cancel)
    }
}
