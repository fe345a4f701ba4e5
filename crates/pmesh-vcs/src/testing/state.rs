//! What a fake repository and its remote are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use super::mirror::Files;
use crate::{BranchName, CommitId, HeldLock, InProgress, Moved, Revision, VcsError};

/// The most calls that are remembered; the oldest go first.
const CALL_LIMIT: usize = 10_000;

/// A call of a method of [`Vcs`](crate::Vcs).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named like its method")]
#[non_exhaustive]
pub enum VcsCall {
    Head,
    RemoteHead,
    Heads,
    WorkTree,
    Fetch,
    Relation,
    LocalCommits,
    ChangedPaths,
    Edited,
    File(CommitId, PathBuf),
    CheckOut(CommitId),
    GoBack(CommitId),
    Maintain,
}

#[derive(Debug)]
pub(super) struct FakeState {
    pub(super) commits: BTreeMap<CommitId, Commit>,
    /// The commits that are here; the others are only on the remote.
    pub(super) here: BTreeSet<CommitId>,
    pub(super) branch: String,
    pub(super) head: Option<CommitId>,
    pub(super) is_detached: bool,
    pub(super) remote: Option<Remote>,
    pub(super) network: FakeNetwork,
    pub(super) moved_to: Option<Moved>,
    pub(super) changed: Vec<PathBuf>,
    pub(super) untracked: Vec<PathBuf>,
    pub(super) in_progress: Option<InProgress>,
    pub(super) lock: Option<HeldLock>,
    pub(super) health: RepoHealth,
    pub(super) check_out_failure: Option<String>,
    pub(super) check_outs_hang: bool,
    pub(super) maintenance_hangs: bool,
    pub(super) calls: VecDeque<VcsCall>,
    pub(super) fetches: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) parent: Option<CommitId>,
    pub(super) author: String,
    pub(super) message: String,
    pub(super) files: Files,
}

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) url: String,
    /// What is there now; `None` without such a branch.
    pub(super) tip: Option<CommitId>,
    /// What the last fetch saw.
    pub(super) fetched: Option<CommitId>,
    /// What fetches have seen, as far as the repository remembers it.
    pub(super) log: BTreeSet<CommitId>,
}

#[derive(Debug)]
pub(super) enum FakeNetwork {
    Online,
    Offline(String),
    Hanging,
    /// As hanging, with the fetch's limit over at once.
    TooSlow,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum RepoHealth {
    Sound,
    Damaged,
    Gone,
    Defective,
    /// A read never comes back.
    Still,
}

impl Commit {
    pub(super) fn new(name: &str, parent: Option<CommitId>, files: Files) -> Self {
        Self {
            parent,
            author: "A Fake <fake@example.org>".to_owned(),
            message: format!("Commit {name}"),
            files,
        }
    }
}

impl FakeState {
    pub(super) fn record(&mut self, call: VcsCall) {
        if self.calls.len() == CALL_LIMIT {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    pub(super) fn check_health(&self, root: &Path) -> Result<(), VcsError> {
        match self.health {
            RepoHealth::Sound | RepoHealth::Still => Ok(()),
            RepoHealth::Damaged => Err(VcsError::damaged(root, "an object is missing")),
            RepoHealth::Gone => Err(VcsError::NotFound(root.to_owned())),
            RepoHealth::Defective => panic!("the test says so"),
        }
    }

    /// A commit on top of `parent`, with its files as `change` leaves them.
    pub(super) fn add(
        &mut self,
        name: &str,
        parent: Option<CommitId>,
        change: impl FnOnce(&mut Files),
    ) -> CommitId {
        let id = commit_id(name);
        let mut files = parent.as_ref().map(|parent| self.commits[parent].files.clone()).unwrap_or_default();
        change(&mut files);
        self.commits.insert(id.clone(), Commit::new(name, parent, files));
        id
    }

    pub(super) fn is_detached(&self) -> bool {
        self.is_detached || matches!(self.in_progress, Some(InProgress::Rebase | InProgress::Bisect))
    }

    /// The remote, if the head follows it.
    pub(super) fn followed(&self) -> Option<&Remote> {
        self.remote.as_ref().filter(|_| !self.is_detached())
    }

    pub(super) fn commit(&self, id: &CommitId) -> Result<&Commit, VcsError> {
        let here = self.commits.get(id).filter(|_| self.here.contains(id));
        here.ok_or_else(|| VcsError::UnknownCommit(id.clone()))
    }

    pub(super) fn revision(&self, branch: BranchName, id: &CommitId) -> Result<Revision, VcsError> {
        let commit = self.commit(id)?;
        Ok(Revision {
            branch,
            commit: Some(id.clone()),
            author: commit.author.clone(),
            message: commit.message.trim_end_matches('\n').to_owned(),
        })
    }

    pub(super) fn head_revision(&self) -> Result<Revision, VcsError> {
        let branch = BranchName::new(if self.is_detached() { "HEAD" } else { &self.branch });
        match &self.head {
            Some(head) => self.revision(branch, head),
            None => Ok(Revision::unborn(BranchName::new(&self.branch))),
        }
    }

    pub(super) fn remote_revision(&self) -> Result<Option<Revision>, VcsError> {
        let fetched = self.followed().and_then(|remote| remote.fetched.as_ref());
        let branch = BranchName::new(format!("origin/{}", self.branch));
        fetched.map(|id| self.revision(branch, id)).transpose()
    }

    pub(super) fn head_files(&self) -> Option<&Files> {
        self.head.as_ref().and_then(|head| self.commits.get(head)).map(|commit| &commit.files)
    }

    /// The commit and all before it.
    pub(super) fn history(&self, id: &CommitId) -> Result<BTreeSet<CommitId>, VcsError> {
        self.commit(id)?;
        let mut history = BTreeSet::new();
        let mut next = Some(id);
        while let Some(id) = next {
            history.insert(id.clone());
            next = self.commits[id].parent.as_ref();
        }
        Ok(history)
    }

    pub(super) fn remote_error(&self) -> VcsError {
        match (&self.head, self.in_progress) {
            (Some(_), Some(operation)) if self.is_detached() => VcsError::InProgress { operation },
            (Some(commit), _) if self.is_detached() => VcsError::Detached { commit: commit.clone() },
            _ => VcsError::NoRemote { branch: BranchName::new(&self.branch) },
        }
    }

    pub(super) fn check_lock(&self, other: &str) -> Result<(), VcsError> {
        match &self.lock {
            Some(lock) if !lock.path.ends_with(other) => {
                Err(VcsError::Locked { path: lock.path.clone(), age: lock.age })
            }
            _ => Ok(()),
        }
    }
}

/// The commit that a test names by some hexadecimal digits.
pub(super) fn commit_id(name: &str) -> CommitId {
    assert!(!name.is_empty(), "a commit needs a name");
    match CommitId::new(&format!("{name:0<40}")) {
        Ok(id) => id,
        Err(error) => panic!("{name:?} is not up to 40 lower-case hex digits: {error}"),
    }
}
