//! Git: reads with `gix` in this process, fetch and check-out with the `git` program.
//!
//! Reads need no process, and open the repository anew each time (a fraction of a millisecond), so what other
//! programs do is seen at once. What goes to the network or moves the work tree is left to the program, because
//! a process can be killed when a remote hangs, can run as the repository's owner, and honours everything
//! that makes the user's own `git pull` work: credential helpers, ssh settings, proxies, filters.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{Cancel, CommitId, Fetched, Heads, Relation, Revision, Vcs, VcsError, WorkTree};

mod account;
mod address;
mod before_git;
mod budget;
mod cause;
mod check_out;
mod child;
mod commit;
mod configuration;
mod damaged;
mod deadline;
mod descendants;
mod discover;
#[cfg(test)]
mod documented;
mod executable;
mod fetch;
mod git_limits;
mod go_back;
mod hashes;
mod hidden;
mod history;
mod http_remote;
mod ids;
mod in_the_way;
mod leftovers;
mod maintenance;
mod network;
mod opened;
mod owner;
mod plain;
mod program;
mod put_back;
mod readers;
mod redirect;
mod reflog;
mod repo;
mod special_files;
mod state;
mod tracked_branch;
mod tree;
mod tree_diff;
mod unsupported;
mod walk;

pub use damaged::DamagedRepo;
pub use git_limits::GitLimits;
pub use repo::GitRepo;

impl Vcs for GitRepo {
    fn system(&self) -> &'static str {
        "git"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn head(&self) -> Result<Revision, VcsError> {
        self.read(&Cancel::new(), commit::head)
    }

    fn remote_head(&self) -> Result<Option<Revision>, VcsError> {
        self.read(&Cancel::new(), |opened| {
            match tracked_branch::of_head(&opened.repo).map_err(|error| opened.damaged(error))? {
                Some(upstream) => upstream.revision(opened, None),
                None => Ok(None),
            }
        })
    }

    fn heads(&self, cancel: &Cancel) -> Result<Heads, VcsError> {
        self.read(cancel, |opened| {
            let head = commit::head(opened)?;
            let upstream = tracked_branch::of_head(&opened.repo).map_err(|error| opened.damaged(error))?;
            let remote_head = match &upstream {
                Some(upstream) => upstream.revision(opened, Some(&head))?,
                None => None,
            };
            Ok(Heads { head, remote_head, remote_url: upstream.map(|upstream| upstream.shown_url()) })
        })
    }

    fn work_tree(&self, cancel: &Cancel) -> Result<WorkTree, VcsError> {
        let (in_progress, lock) = self.read(cancel, |opened| {
            // A repository that git could not read either is damaged, however git would put it.
            commit::head(opened)?;
            Ok((state::in_progress(&opened.repo), state::lock(&opened.repo)))
        })?;
        let mut changed = state::changed(&self.program(cancel))?;
        changed.truncate(WorkTree::CHANGED_LIMIT);
        Ok(WorkTree { changed, in_progress, lock })
    }

    fn fetch(&self, limit: Duration, cancel: &Cancel) -> Result<Fetched, VcsError> {
        fetch::fetch(self, limit, cancel)
    }

    fn relation(&self, head: &CommitId, remote: &CommitId, cancel: &Cancel) -> Result<Relation, VcsError> {
        let (head, remote) = (head.clone(), remote.clone());
        self.read(cancel, move |opened| history::relation(opened, &head, &remote))
    }

    fn local_commits(
        &self,
        head: &CommitId,
        remote: &CommitId,
        fetched: &[CommitId],
        cancel: &Cancel,
    ) -> Result<usize, VcsError> {
        let (head, remote, fetched) = (head.clone(), remote.clone(), fetched.to_vec());
        self.read(cancel, move |opened| {
            let mut known = reflog::of_upstream(opened)?;
            known.extend(fetched);
            history::local_commits(opened, &head, &remote, &known)
        })
    }

    fn changed_paths(
        &self,
        from: &CommitId,
        to: &CommitId,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>, VcsError> {
        let (from, to) = (from.clone(), to.clone());
        self.read_bringing(cancel, move |opened| {
            let changes = tree::changes(opened, &from, &to)?;
            let mut paths: Vec<_> = changes.into_iter().map(|change| change.path).collect();
            paths.sort();
            paths.dedup();
            Ok(paths)
        })
    }

    fn edited(
        &self,
        paths: &[PathBuf],
        commit: &CommitId,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>, VcsError> {
        let git = self.program_that_brings(cancel)?;
        let target = commit.clone();
        let (head, changes) = self.read_bringing(cancel, move |opened| {
            let head = commit::head(opened)?;
            let Some(head) = head.commit else { return Err(VcsError::Unborn { branch: head.branch }) };
            let changes = tree::changes(opened, &head, &target)?;
            Ok((head, Arc::new(changes)))
        })?;
        Ok(leftovers::look(self, &git, (&head, commit), &changes, paths)?.edited)
    }

    fn file(&self, commit: &CommitId, path: &Path, cancel: &Cancel) -> Result<Option<Vec<u8>>, VcsError> {
        let (commit, path) = (commit.clone(), path.to_owned());
        self.read_bringing(cancel, move |opened| tree::file(opened, &commit, &path))
    }

    fn check_out(&self, commit: &CommitId, cancel: &Cancel) -> Result<Vec<PathBuf>, VcsError> {
        check_out::check_out(self, commit, cancel)
    }

    fn go_back(
        &self,
        from: &CommitId,
        to: &CommitId,
        kept: &[PathBuf],
        cancel: &Cancel,
    ) -> Result<(), VcsError> {
        go_back::go_back(self, from, to, kept, cancel)
    }

    fn maintain(&self, cancel: &Cancel) -> Result<(), VcsError> {
        maintenance::maintain(self, cancel)
    }
}
