//! Git: reads with `gix` in this process, fetch and check-out with the `git` program.
//!
//! Reads need no process, and open the repository anew each time (a fraction of a millisecond), so what other
//! programs do is seen at once. What goes to the network or moves the work tree is left to the program, because
//! a process can be killed when a remote hangs, can run as the repository's owner, and honours everything
//! that makes the user's own `git pull` work: credential helpers, ssh settings, proxies, filters.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Cancel, CommitId, Fetched, Heads, Relation, Revision, Vcs, VcsError, WorkTree};

mod account;
mod address;
mod check_out;
mod child;
mod commit;
mod damaged;
mod discover;
mod executable;
mod fetch;
mod go_back;
mod history;
mod http_remote;
mod ids;
mod owner;
mod program;
mod redirect;
mod state;
mod tree;
mod upstream;

pub use damaged::DamagedRepo;
use program::Program;

/// A git work tree.
///
/// Bare repositories and the reftable format are not supported.
#[derive(Clone, Debug)]
pub struct GitRepo {
    root: PathBuf,
    git: PathBuf,
}

impl GitRepo {
    /// The same repository with another `git` program than the one in the `PATH`.
    #[must_use]
    pub fn with_git(mut self, git: impl Into<PathBuf>) -> Self {
        self.git = git.into();
        self
    }

    /// Opens the repository as it is now.
    fn open(&self) -> Result<gix::Repository, VcsError> {
        if self.root.join(".git").symlink_metadata().is_err() {
            return Err(VcsError::NotFound(self.root.clone()));
        }
        discover::open(&self.root)
    }

    fn program(&self) -> Program<'_> {
        Program { git: &self.git, root: &self.root }
    }

    fn damaged(&self, source: gix::Error) -> VcsError {
        VcsError::damaged(&self.root, source)
    }
}

impl Vcs for GitRepo {
    fn system(&self) -> &'static str {
        "git"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn head(&self) -> Result<Revision, VcsError> {
        let repo = self.open()?;
        commit::head(&repo).map_err(|error| self.damaged(error))
    }

    fn remote_head(&self) -> Result<Option<Revision>, VcsError> {
        let repo = self.open()?;
        match upstream::of_head(&repo).map_err(|error| self.damaged(error))? {
            Some(upstream) => upstream.revision(&repo, None).map_err(|error| self.damaged(error)),
            None => Ok(None),
        }
    }

    fn heads(&self) -> Result<Heads, VcsError> {
        let repo = self.open()?;
        let read = || -> gix::Result<Heads> {
            let head = commit::head(&repo)?;
            let upstream = upstream::of_head(&repo)?;
            let remote_head = match &upstream {
                Some(upstream) => upstream.revision(&repo, Some(&head))?,
                None => None,
            };
            Ok(Heads { head, remote_head, remote_url: upstream.map(|upstream| upstream.shown_url()) })
        };
        read().map_err(|error| self.damaged(error))
    }

    fn work_tree(&self) -> Result<WorkTree, VcsError> {
        let repo = self.open()?;
        // A repository that git could not read either is damaged, however git would put it.
        commit::head(&repo).map_err(|error| self.damaged(error))?;
        Ok(WorkTree {
            changed: state::changed(&self.program())?,
            in_progress: state::in_progress(&repo),
            lock: state::lock(&repo),
        })
    }

    fn fetch(&self, limit: Duration, cancel: &Cancel) -> Result<Fetched, VcsError> {
        fetch::fetch(self, limit, cancel)
    }

    fn relation(&self, head: &CommitId, remote: &CommitId) -> Result<Relation, VcsError> {
        history::relation(self, head, remote)
    }

    fn changed_paths(&self, from: &CommitId, to: &CommitId) -> Result<Vec<PathBuf>, VcsError> {
        let repo = self.open()?;
        let changes = tree::changes(self, &repo, from, to)?;
        let mut paths: Vec<_> = changes.into_iter().map(|change| change.path).collect();
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    fn file(&self, commit: &CommitId, path: &Path) -> Result<Option<Vec<u8>>, VcsError> {
        tree::file(self, commit, path)
    }

    fn check_out(&self, commit: &CommitId) -> Result<(), VcsError> {
        check_out::check_out(self, commit)
    }

    fn go_back(&self, from: &CommitId, to: &CommitId) -> Result<(), VcsError> {
        go_back::go_back(self, from, to)
    }
}
