//! A scripted repository, for the tests of whatever is built on [`Vcs`](crate::Vcs).
//!
//! [`FakeVcs`] keeps the rules of a real one: a push is not seen before a fetch, a head that is detached has no
//! remote head, a work tree with changes is not moved.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Condvar, Mutex};

use crate::{Cancel, CommitId, HeldLock, InProgress, Moved, VcsError};

mod answers;
mod mirror;
mod state;

use mirror::Files;
pub use state::VcsCall;
use state::{Commit, FakeNetwork, FakeState, Remote, RepoHealth};

/// A repository in memory, with a remote. Clones are the same repository.
///
/// It starts on branch `main`, which follows `main` at `origin`. Commits are named by up to 40 hexadecimal
/// digits, which are filled up with zeros ([`commit_id`](Self::commit_id)).
#[derive(Clone, Debug)]
pub struct FakeVcs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    // Whether check-outs write to `root`.
    is_mirrored: bool,
    state: Mutex<FakeState>,
    changed: Condvar,
}

impl FakeVcs {
    /// A repository whose head and remote head are `commit`, without a file.
    ///
    /// # Panics
    ///
    /// As [`commit_id`](Self::commit_id), here and wherever a commit is named.
    pub fn at(commit: &str) -> Self {
        Self::with_files(commit, NO_FILES)
    }

    /// A repository whose head and remote head are `commit` with these files, which exist in memory only.
    pub fn with_files(
        commit: &str,
        files: impl IntoIterator<Item = (impl AsRef<Path>, impl AsRef<[u8]>)>,
    ) -> Self {
        Self::new(PathBuf::from("/fake/repository"), false, commit, owned(files))
    }

    /// As [`with_files`](Self::with_files), and `folder` is the work tree: it gets the files now, and at each
    /// check-out. Files that begin with `#!` are executable. What is changed there counts as in a real work tree.
    ///
    /// # Errors
    ///
    /// [`VcsError::Io`] if a file cannot be written.
    pub fn mirrored(
        folder: &Path,
        commit: &str,
        files: impl IntoIterator<Item = (impl AsRef<Path>, impl AsRef<[u8]>)>,
    ) -> Result<Self, VcsError> {
        let root = folder.canonicalize().map_err(|source| VcsError::io(folder, source))?;
        let files = owned(files);
        mirror::move_files(&root, &Files::new(), &files)?;
        Ok(Self::new(root, true, commit, files))
    }

    fn new(root: PathBuf, is_mirrored: bool, commit: &str, files: Files) -> Self {
        // Something for a push by force to go back to.
        let base = Self::commit_id("ba5e");
        let head = Self::commit_id(commit);
        let commits = BTreeMap::from([
            (base.clone(), Commit::new("ba5e", None, Files::new())),
            (head.clone(), Commit::new(commit, Some(base.clone()), files)),
        ]);
        let state = FakeState {
            here: BTreeSet::from([base, head.clone()]),
            commits,
            branch: "main".to_owned(),
            head: Some(head.clone()),
            is_detached: false,
            remote: Some(Remote {
                url: "https://example.org/app.git".to_owned(),
                tip: Some(head.clone()),
                log: BTreeSet::from([head.clone()]),
                fetched: Some(head),
            }),
            network: FakeNetwork::Online,
            moved_to: None,
            changed: Vec::new(),
            untracked: Vec::new(),
            in_progress: None,
            lock: None,
            health: RepoHealth::Sound,
            check_out_failure: None,
            check_outs_hang: false,
            maintenance_hangs: false,
            calls: VecDeque::new(),
            fetches: 0,
        };
        Self(Arc::new(Shared { root, is_mirrored, state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// The full name of a commit: its digits, filled up with zeros to 40.
    ///
    /// # Panics
    ///
    /// If `name` is not 1 to 40 lower-case hexadecimal digits.
    pub fn commit_id(name: &str) -> CommitId {
        state::commit_id(name)
    }

    /// Someone pushes a commit on top of what the remote has, with the same files. As with a real remote, nobody
    /// here sees it before the next [`fetch`](crate::Vcs::fetch).
    pub fn push(&self, commit: &str) {
        self.push_files(commit, NO_FILES);
    }

    /// As [`push`](Self::push), and the commit changes or adds these files.
    pub fn push_files(
        &self,
        commit: &str,
        files: impl IntoIterator<Item = (impl AsRef<Path>, impl AsRef<[u8]>)>,
    ) {
        let files = owned(files);
        self.push_change(commit, |all| all.extend(files));
    }

    /// As [`push`](Self::push), and the commit removes these files.
    pub fn push_without(&self, commit: &str, files: impl IntoIterator<Item = impl AsRef<Path>>) {
        let gone: Vec<_> = files.into_iter().map(|file| file.as_ref().to_owned()).collect();
        self.push_change(commit, |all| all.retain(|file, _| !gone.contains(file)));
    }

    fn push_change(&self, commit: &str, change: impl FnOnce(&mut Files)) {
        self.edit(|state| {
            let parent = state.remote.as_ref().and_then(|remote| remote.tip.clone());
            let id = state.add(commit, parent, change);
            if let Some(remote) = &mut state.remote {
                remote.tip = Some(id);
            }
        });
    }

    /// Someone replaces the last commit of the remote by another one, with the same files.
    pub fn push_by_force(&self, commit: &str) {
        self.edit(|state| {
            let Some(tip) = state.remote.as_ref().and_then(|remote| remote.tip.clone()) else { return };
            let replaced = state.commits[&tip].clone();
            let id = state.add(commit, replaced.parent, |files| *files = replaced.files);
            if let Some(remote) = &mut state.remote {
                remote.tip = Some(id);
            }
        });
    }

    /// Someone takes the last commit of the remote back.
    pub fn rewind(&self) {
        self.edit(|state| {
            let Some(tip) = state.remote.as_ref().and_then(|remote| remote.tip.clone()) else { return };
            let parent = state.commits[&tip].parent.clone();
            if let (Some(remote), Some(parent)) = (&mut state.remote, parent) {
                remote.tip = Some(parent);
            }
        });
    }

    /// The repository forgets what the remote has had.
    pub fn forget_fetches(&self) {
        self.edit(|state| {
            if let Some(remote) = &mut state.remote {
                remote.log.clear();
            }
        });
    }

    /// Someone replaces all commits of the remote by this one, with the same files.
    pub fn push_another_history(&self, commit: &str) {
        self.edit(|state| {
            let Some(tip) = state.remote.as_ref().and_then(|remote| remote.tip.clone()) else { return };
            let files = state.commits[&tip].files.clone();
            let id = state.add(commit, None, |all| *all = files);
            if let Some(remote) = &mut state.remote {
                remote.tip = Some(id);
            }
        });
    }

    /// Someone commits here, without pushing.
    pub fn commit_here(&self, commit: &str) {
        self.edit(|state| {
            let id = state.add(commit, state.head.clone(), |_| ());
            state.here.insert(id.clone());
            state.head = Some(id);
        });
    }

    /// Gives a commit another author (`Name <email>`) and message.
    pub fn describe(&self, commit: &str, author: &str, message: &str) {
        let id = Self::commit_id(commit);
        self.edit(|state| {
            if let Some(commit) = state.commits.get_mut(&id) {
                author.clone_into(&mut commit.author);
                message.clone_into(&mut commit.message);
            }
        });
    }

    /// From now on the remote cannot be reached.
    pub fn go_offline(&self) {
        self.refuse_fetches("fatal: unable to access the remote: Could not resolve host");
    }

    /// From now on every fetch fails with this message.
    pub fn refuse_fetches(&self, message: &str) {
        self.edit(|state| state.network = FakeNetwork::Offline(message.to_owned()));
    }

    /// From now on the remote accepts a connection and says nothing, until [`go_online`](Self::go_online).
    pub fn hang(&self) {
        self.edit(|state| state.network = FakeNetwork::Hanging);
    }

    /// From now on every fetch takes longer than it may; no time passes in it.
    pub fn be_too_slow(&self) {
        self.edit(|state| state.network = FakeNetwork::TooSlow);
    }

    /// The remote answers (again), also to a fetch that hangs.
    pub fn go_online(&self) {
        self.edit(|state| state.network = FakeNetwork::Online);
    }

    /// From now on the remote redirects to `url`, and every fetch follows it there.
    pub fn move_remote(&self, url: &str) {
        let moved = Moved { url: url.to_owned(), command: format!("git remote set-url origin {url}") };
        self.edit(|state| state.moved_to = Some(moved));
    }

    /// Blocks until as many fetches have begun since the repository was made.
    pub fn wait_for_fetches(&self, count: usize) {
        let mut state = self.0.state.lock();
        self.0.changed.wait_while(&mut state, |state| state.fetches < count);
    }

    /// The branch is deleted on the remote.
    pub fn delete_remote_branch(&self) {
        self.edit(|state| {
            if let Some(remote) = &mut state.remote {
                remote.tip = None;
            }
        });
    }

    /// There is no remote (any more).
    pub fn remove_remote(&self) {
        self.edit(|state| state.remote = None);
    }

    /// The remote has this URL.
    pub fn set_remote_url(&self, url: &str) {
        self.edit(|state| {
            if let Some(remote) = &mut state.remote {
                url.clone_into(&mut remote.url);
            }
        });
    }

    /// The branch that is checked out is renamed; so is the one that it follows.
    pub fn rename_branch(&self, name: &str) {
        self.edit(|state| {
            name.clone_into(&mut state.branch);
            state.is_detached = false;
        });
    }

    /// No branch is checked out, but the commit is.
    pub fn detach(&self) {
        self.edit(|state| state.is_detached = true);
    }

    /// The branch has no commit yet.
    pub fn make_unborn(&self) {
        self.edit(|state| state.head = None);
    }

    /// These tracked files have changes that are not committed; with none, the work tree is clean.
    pub fn set_changed(&self, files: impl IntoIterator<Item = impl AsRef<Path>>) {
        let files = files.into_iter().map(|file| file.as_ref().to_owned()).collect();
        self.edit(|state| state.changed = files);
    }

    /// These files are there and not tracked: in the way of a commit that adds them.
    pub fn set_untracked(&self, files: impl IntoIterator<Item = impl AsRef<Path>>) {
        let files = files.into_iter().map(|file| file.as_ref().to_owned()).collect();
        self.edit(|state| state.untracked = files);
    }

    /// Someone has begun an operation, or ended it. As with git, a rebase and a bisect detach the head meanwhile.
    pub fn set_in_progress(&self, operation: Option<InProgress>) {
        self.edit(|state| state.in_progress = operation);
    }

    /// Another process holds a lock, or gave it back. One named `index.lock` stops check-outs, `shallow.lock` fetches, any other both.
    pub fn set_lock(&self, lock: Option<HeldLock>) {
        self.edit(|state| state.lock = lock);
    }

    /// From now on the repository cannot be read.
    pub fn damage(&self) {
        self.edit(|state| state.health = RepoHealth::Damaged);
    }

    /// From now on there is no repository.
    pub fn remove(&self) {
        self.edit(|state| state.health = RepoHealth::Gone);
    }

    /// From now on every call panics, as a defect of an implementation would let it.
    pub fn panic(&self) {
        self.edit(|state| state.health = RepoHealth::Defective);
    }

    /// Undoes [`damage`](Self::damage), [`remove`](Self::remove), [`panic`](Self::panic) and [`stand_still`](Self::stand_still).
    pub fn repair(&self) {
        self.edit(|state| state.health = RepoHealth::Sound);
    }

    /// From now on check-outs, also those that go back, fail with this message (a full disk, say) and change nothing; with `None` they succeed again.
    pub fn fail_check_outs(&self, message: Option<&str>) {
        self.edit(|state| state.check_out_failure = message.map(str::to_owned));
    }

    /// From now on check-outs, also those that go back, end only when they are cancelled: nothing has changed then.
    pub fn hang_check_outs(&self) {
        self.edit(|state| state.check_outs_hang = true);
    }

    /// Blocks until `count` check-outs have begun, also those that go back.
    pub fn wait_for_check_outs(&self, count: usize) {
        let mut state = self.0.state.lock();
        let is_one = |call: &&VcsCall| matches!(call, VcsCall::CheckOut(_) | VcsCall::GoBack(_));
        self.0.changed.wait_while(&mut state, |state| state.calls.iter().filter(is_one).count() < count);
    }

    /// From now on reads do not come back, whoever cancels them, as on a disk that hangs, until [`repair`](Self::repair).
    pub fn stand_still(&self) {
        self.edit(|state| state.health = RepoHealth::Still);
    }

    /// From now on maintenance ends only when it is cancelled.
    pub fn hang_maintenance(&self) {
        self.edit(|state| state.maintenance_hangs = true);
    }

    /// The calls since the repository was made, oldest first; the last 10 000 of them.
    pub fn calls(&self) -> Vec<VcsCall> {
        self.0.state.lock().calls.iter().cloned().collect()
    }

    /// The check-outs among the [`calls`](Self::calls), also those that went back and those that failed.
    pub fn check_outs(&self) -> Vec<CommitId> {
        let to = |call| match call {
            VcsCall::CheckOut(commit) | VcsCall::GoBack(commit) => Some(commit),
            _ => None,
        };
        self.calls().into_iter().filter_map(to).collect()
    }

    fn edit(&self, change: impl FnOnce(&mut FakeState)) {
        change(&mut self.0.state.lock());
        self.0.changed.notify_all();
    }

    /// As [`read`](Self::read), for a caller who may have left already.
    fn read_unless<T>(
        &self,
        cancel: &Cancel,
        call: VcsCall,
        read: impl FnOnce(&FakeState) -> Result<T, VcsError>,
    ) -> Result<T, VcsError> {
        self.read(call, |state| if cancel.is_cancelled() { Err(VcsError::Cancelled) } else { read(state) })
    }

    /// Records a call, and lets it read if the repository is sound.
    fn read<T>(
        &self,
        call: VcsCall,
        read: impl FnOnce(&FakeState) -> Result<T, VcsError>,
    ) -> Result<T, VcsError> {
        let mut state = self.0.state.lock();
        state.record(call);
        self.0.changed.notify_all();
        self.0.changed.wait_while(&mut state, |state| matches!(state.health, RepoHealth::Still));
        state.check_health(&self.0.root)?;
        read(&state)
    }
}

const NO_FILES: [(&str, &str); 0] = [];

fn owned(files: impl IntoIterator<Item = (impl AsRef<Path>, impl AsRef<[u8]>)>) -> Files {
    files.into_iter().map(|(path, bytes)| (path.as_ref().to_owned(), bytes.as_ref().to_vec())).collect()
}
