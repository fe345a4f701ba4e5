//! A scripted repository, for the tests of whatever is built on [`Vcs`].
//!
//! [`FakeVcs`] keeps the rules of a real one: a push is not seen before a fetch, a head that is detached has no
//! remote head, a work tree with changes is not moved.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{
    BranchName, Cancel, CommitId, FILE_LIMIT, Fetched, Heads, HeldLock, InProgress, Moved, Relation,
    Revision, Vcs, VcsError, WorkTree, redact,
};

mod mirror;

use mirror::Files;

/// The most calls that are remembered; the oldest go first.
const CALL_LIMIT: usize = 10_000;

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
    state: Mutex<State>,
    changed: Condvar,
}

/// A call of a method of [`Vcs`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named like its method")]
pub enum Call {
    Head,
    RemoteHead,
    Heads,
    WorkTree,
    Fetch,
    Relation,
    LocalCommits,
    ChangedPaths,
    File(CommitId, PathBuf),
    CheckOut(CommitId),
    GoBack(CommitId),
    Maintain,
}

#[derive(Debug)]
struct State {
    commits: BTreeMap<CommitId, Commit>,
    /// The commits that are here; the others are only on the remote.
    here: BTreeSet<CommitId>,
    branch: String,
    head: Option<CommitId>,
    is_detached: bool,
    remote: Option<Remote>,
    network: Network,
    moved_to: Option<Moved>,
    changed: Vec<PathBuf>,
    untracked: Vec<PathBuf>,
    in_progress: Option<InProgress>,
    lock: Option<HeldLock>,
    health: Health,
    check_out_failure: Option<String>,
    maintenance_hangs: bool,
    calls: VecDeque<Call>,
    fetches: usize,
}

#[derive(Clone, Debug)]
struct Commit {
    parent: Option<CommitId>,
    author: String,
    message: String,
    files: Files,
}

#[derive(Debug)]
struct Remote {
    url: String,
    /// What is there now; `None` without such a branch.
    tip: Option<CommitId>,
    /// What the last fetch saw.
    fetched: Option<CommitId>,
    /// What fetches have seen, as far as the repository remembers it.
    log: BTreeSet<CommitId>,
}

#[derive(Debug)]
enum Network {
    Online,
    Offline(String),
    Hanging,
    /// As hanging, with the fetch's limit over at once.
    TooSlow,
}

#[derive(Clone, Copy, Debug)]
enum Health {
    Sound,
    Damaged,
    Gone,
    Defective,
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
        let state = State {
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
            network: Network::Online,
            moved_to: None,
            changed: Vec::new(),
            untracked: Vec::new(),
            in_progress: None,
            lock: None,
            health: Health::Sound,
            check_out_failure: None,
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
        assert!(!name.is_empty(), "a commit needs a name");
        match CommitId::new(&format!("{name:0<40}")) {
            Ok(id) => id,
            Err(error) => panic!("{name:?} is not up to 40 lower-case hex digits: {error}"),
        }
    }

    /// Someone pushes a commit on top of what the remote has, with the same files. As with a real remote, nobody
    /// here sees it before the next [`fetch`](Vcs::fetch).
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
        self.edit(|state| state.network = Network::Offline(message.to_owned()));
    }

    /// From now on the remote accepts a connection and says nothing, until [`go_online`](Self::go_online).
    pub fn hang(&self) {
        self.edit(|state| state.network = Network::Hanging);
    }

    /// From now on every fetch takes longer than it may; no time passes in it.
    pub fn be_too_slow(&self) {
        self.edit(|state| state.network = Network::TooSlow);
    }

    /// The remote answers (again), also to a fetch that hangs.
    pub fn go_online(&self) {
        self.edit(|state| state.network = Network::Online);
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
        self.edit(|state| state.health = Health::Damaged);
    }

    /// From now on there is no repository.
    pub fn remove(&self) {
        self.edit(|state| state.health = Health::Gone);
    }

    /// From now on every call panics, as a defect of an implementation would let it.
    pub fn panic(&self) {
        self.edit(|state| state.health = Health::Defective);
    }

    /// Undoes [`damage`](Self::damage), [`remove`](Self::remove) and [`panic`](Self::panic).
    pub fn repair(&self) {
        self.edit(|state| state.health = Health::Sound);
    }

    /// From now on check-outs, also those that go back, fail with this message (a full disk, say) and change nothing; with `None` they succeed again.
    pub fn fail_check_outs(&self, message: Option<&str>) {
        self.edit(|state| state.check_out_failure = message.map(str::to_owned));
    }

    /// From now on maintenance ends only when it is cancelled.
    pub fn hang_maintenance(&self) {
        self.edit(|state| state.maintenance_hangs = true);
    }

    /// The calls since the repository was made, oldest first; the last 10 000 of them.
    pub fn calls(&self) -> Vec<Call> {
        self.0.state.lock().calls.iter().cloned().collect()
    }

    /// The check-outs among the [`calls`](Self::calls), also those that went back and those that failed.
    pub fn check_outs(&self) -> Vec<CommitId> {
        let to = |call| match call {
            Call::CheckOut(commit) | Call::GoBack(commit) => Some(commit),
            _ => None,
        };
        self.calls().into_iter().filter_map(to).collect()
    }

    fn edit(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state.lock());
        self.0.changed.notify_all();
    }

    /// As [`read`](Self::read), for a caller who may have left already.
    fn read_unless<T>(
        &self,
        cancel: &Cancel,
        call: Call,
        read: impl FnOnce(&State) -> Result<T, VcsError>,
    ) -> Result<T, VcsError> {
        self.read(call, |state| if cancel.is_cancelled() { Err(VcsError::Cancelled) } else { read(state) })
    }

    /// Records a call, and lets it read if the repository is sound.
    fn read<T>(&self, call: Call, read: impl FnOnce(&State) -> Result<T, VcsError>) -> Result<T, VcsError> {
        let mut state = self.0.state.lock();
        state.record(call);
        state.check_health(&self.0.root)?;
        read(&state)
    }
}

const NO_FILES: [(&str, &str); 0] = [];

fn owned(files: impl IntoIterator<Item = (impl AsRef<Path>, impl AsRef<[u8]>)>) -> Files {
    files.into_iter().map(|(path, bytes)| (path.as_ref().to_owned(), bytes.as_ref().to_vec())).collect()
}

impl Commit {
    fn new(name: &str, parent: Option<CommitId>, files: Files) -> Self {
        Self {
            parent,
            author: "A Fake <fake@example.org>".to_owned(),
            message: format!("Commit {name}"),
            files,
        }
    }
}

impl State {
    fn record(&mut self, call: Call) {
        if self.calls.len() == CALL_LIMIT {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    fn check_health(&self, root: &Path) -> Result<(), VcsError> {
        match self.health {
            Health::Sound => Ok(()),
            Health::Damaged => Err(VcsError::damaged(root, "an object is missing")),
            Health::Gone => Err(VcsError::NotFound(root.to_owned())),
            Health::Defective => panic!("the test says so"),
        }
    }

    /// A commit on top of `parent`, with its files as `change` leaves them.
    fn add(&mut self, name: &str, parent: Option<CommitId>, change: impl FnOnce(&mut Files)) -> CommitId {
        let id = FakeVcs::commit_id(name);
        let mut files = parent.as_ref().map(|parent| self.commits[parent].files.clone()).unwrap_or_default();
        change(&mut files);
        self.commits.insert(id.clone(), Commit::new(name, parent, files));
        id
    }

    fn is_detached(&self) -> bool {
        self.is_detached || matches!(self.in_progress, Some(InProgress::Rebase | InProgress::Bisect))
    }

    /// The remote, if the head follows it.
    fn followed(&self) -> Option<&Remote> {
        self.remote.as_ref().filter(|_| !self.is_detached())
    }

    fn commit(&self, id: &CommitId) -> Result<&Commit, VcsError> {
        let here = self.commits.get(id).filter(|_| self.here.contains(id));
        here.ok_or_else(|| VcsError::UnknownCommit(id.clone()))
    }

    fn revision(&self, branch: BranchName, id: &CommitId) -> Result<Revision, VcsError> {
        let commit = self.commit(id)?;
        Ok(Revision {
            branch,
            commit: Some(id.clone()),
            author: commit.author.clone(),
            message: commit.message.trim_end_matches('\n').to_owned(),
        })
    }

    fn head_revision(&self) -> Result<Revision, VcsError> {
        let branch = BranchName::new(if self.is_detached() { "HEAD" } else { &self.branch });
        match &self.head {
            Some(head) => self.revision(branch, head),
            None => Ok(Revision::unborn(BranchName::new(&self.branch))),
        }
    }

    fn remote_revision(&self) -> Result<Option<Revision>, VcsError> {
        let fetched = self.followed().and_then(|remote| remote.fetched.as_ref());
        let branch = BranchName::new(format!("origin/{}", self.branch));
        fetched.map(|id| self.revision(branch, id)).transpose()
    }

    fn head_files(&self) -> Option<&Files> {
        self.head.as_ref().and_then(|head| self.commits.get(head)).map(|commit| &commit.files)
    }

    /// The commit and all before it.
    fn history(&self, id: &CommitId) -> Result<BTreeSet<CommitId>, VcsError> {
        self.commit(id)?;
        let mut history = BTreeSet::new();
        let mut next = Some(id);
        while let Some(id) = next {
            history.insert(id.clone());
            next = self.commits[id].parent.as_ref();
        }
        Ok(history)
    }

    fn remote_error(&self) -> VcsError {
        match (&self.head, self.in_progress) {
            (Some(_), Some(operation)) if self.is_detached() => VcsError::InProgress { operation },
            (Some(commit), _) if self.is_detached() => VcsError::Detached { commit: commit.clone() },
            _ => VcsError::NoRemote { branch: BranchName::new(&self.branch) },
        }
    }

    fn check_lock(&self, other: &str) -> Result<(), VcsError> {
        match &self.lock {
            Some(lock) if !lock.path.ends_with(other) => {
                Err(VcsError::Locked { path: lock.path.clone(), age: lock.age })
            }
            _ => Ok(()),
        }
    }
}

impl Vcs for FakeVcs {
    fn system(&self) -> &'static str {
        "git"
    }

    fn root(&self) -> &Path {
        &self.0.root
    }

    fn head(&self) -> Result<Revision, VcsError> {
        self.read(Call::Head, State::head_revision)
    }

    fn remote_head(&self) -> Result<Option<Revision>, VcsError> {
        self.read(Call::RemoteHead, State::remote_revision)
    }

    fn heads(&self, cancel: &Cancel) -> Result<Heads, VcsError> {
        self.read_unless(cancel, Call::Heads, |state| {
            Ok(Heads {
                head: state.head_revision()?,
                remote_head: state.remote_revision()?,
                remote_url: state.followed().map(|remote| redact::url(&remote.url)),
            })
        })
    }

    fn work_tree(&self) -> Result<WorkTree, VcsError> {
        self.read(Call::WorkTree, |state| {
            Ok(WorkTree {
                changed: self.changed_files(state),
                in_progress: state.in_progress,
                lock: state.lock.clone(),
            })
        })
    }

    fn fetch(&self, limit: Duration, cancel: &Cancel) -> Result<Fetched, VcsError> {
        let until = Instant::now().checked_add(limit);
        // Taking the lock before waking leaves no moment in which a waiter could miss it.
        let shared = Arc::clone(&self.0);
        let _registered = cancel.on_cancel(move || {
            drop(shared.state.lock());
            shared.changed.notify_all();
        });
        let mut state = self.0.state.lock();
        state.record(Call::Fetch);
        state.fetches += 1;
        self.0.changed.notify_all();
        state.check_health(&self.0.root)?;
        let url = match state.followed() {
            Some(remote) => redact::url(&remote.url),
            None => return Err(state.remote_error()),
        };
        state.check_lock("index.lock")?;

        let waits = |state: &mut State| matches!(state.network, Network::Hanging) && !cancel.is_cancelled();
        match until {
            Some(until) => drop(self.0.changed.wait_while_until(&mut state, waits, until)),
            None => self.0.changed.wait_while(&mut state, waits),
        }
        if cancel.is_cancelled() {
            return Err(VcsError::Cancelled);
        }
        match &state.network {
            Network::Online => {}
            Network::Offline(message) => {
                let configured = state.remote.as_ref().map(|remote| redact::secrets_of(&remote.url));
                let message = redact::text(message, &configured.unwrap_or_default());
                return Err(VcsError::Fetch { url, message });
            }
            Network::Hanging | Network::TooSlow => {
                return Err(VcsError::FetchTimeout { url, after: limit });
            }
        }
        let state = &mut *state;
        let Some(remote) = &mut state.remote else { return Err(state.remote_error()) };
        let Some(tip) = remote.tip.clone() else {
            let branch = BranchName::new(&state.branch);
            return Err(VcsError::NoRemoteBranch { remote: "origin".to_owned(), branch });
        };
        remote.log.extend(remote.fetched.replace(tip.clone()));
        remote.log.insert(tip.clone());
        state.here.insert(tip.clone());
        let history = state.history(&tip)?;
        state.here.extend(history);
        Ok(Fetched { moved_to: state.moved_to.clone() })
    }

    fn relation(&self, head: &CommitId, remote: &CommitId, cancel: &Cancel) -> Result<Relation, VcsError> {
        self.read_unless(cancel, Call::Relation, |state| {
            let (here, there) = (state.history(head)?, state.history(remote)?);
            Ok(match (here.difference(&there).count(), there.difference(&here).count()) {
                (0, 0) => Relation::Same,
                (0, by) => Relation::Behind { by },
                (by, 0) => Relation::Ahead { by },
                _ if here.is_disjoint(&there) => Relation::Unrelated,
                (ahead, behind) => Relation::Diverged { ahead, behind },
            })
        })
    }

    fn local_commits(
        &self,
        head: &CommitId,
        remote: &CommitId,
        fetched: &[CommitId],
        cancel: &Cancel,
    ) -> Result<usize, VcsError> {
        self.read_unless(cancel, Call::LocalCommits, |state| {
            let mut known = state.history(remote)?;
            let log = state.remote.iter().flat_map(|remote| &remote.log);
            for tip in log.chain(fetched).filter(|tip| state.here.contains(tip)) {
                known.extend(state.history(tip)?);
            }
            Ok(state.history(head)?.difference(&known).count())
        })
    }

    fn changed_paths(
        &self,
        from: &CommitId,
        to: &CommitId,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>, VcsError> {
        self.read_unless(cancel, Call::ChangedPaths, |state| {
            let (old, new) = (&state.commit(from)?.files, &state.commit(to)?.files);
            let paths: BTreeSet<_> =
                old.keys().chain(new.keys()).filter(|path| old.get(*path) != new.get(*path)).collect();
            Ok(paths.into_iter().cloned().collect())
        })
    }

    fn file(&self, commit: &CommitId, path: &Path, cancel: &Cancel) -> Result<Option<Vec<u8>>, VcsError> {
        self.read_unless(cancel, Call::File(commit.clone(), path.to_owned()), |state| {
            let file = state.commit(commit)?.files.get(path);
            match file.map(|bytes| bytes.len() as u64) {
                Some(size) if size > FILE_LIMIT => {
                    Err(VcsError::TooLarge { path: path.to_owned(), size, limit: FILE_LIMIT })
                }
                _ => Ok(file.cloned()),
            }
        })
    }

    fn check_out(&self, commit: &CommitId) -> Result<(), VcsError> {
        let mut state = self.0.state.lock();
        state.record(Call::CheckOut(commit.clone()));
        let _head = self.head_that_may_move(&state)?;
        let new = state.commit(commit)?.files.clone();
        let old = state.head_files().cloned().unwrap_or_default();
        let mut paths = self.changed_files(&state);
        paths.extend(self.in_the_way(&state, &old, &new));
        if !paths.is_empty() {
            return Err(VcsError::Dirty { paths });
        }
        self.move_to(&mut state, commit, &old, &new)
    }

    fn go_back(&self, from: &CommitId, to: &CommitId) -> Result<(), VcsError> {
        let mut state = self.0.state.lock();
        state.record(Call::GoBack(to.clone()));
        let found = self.head_that_may_move(&state)?;
        if found != *from {
            return Err(VcsError::HeadMoved { found, expected: from.clone() });
        }
        let new = state.commit(to)?.files.clone();
        let old = state.head_files().cloned().unwrap_or_default();
        if self.0.is_mirrored {
            mirror::put_right(&self.0.root, &old)?;
            for path in self.in_the_way(&state, &old, &new) {
                mirror::clear(&self.0.root.join(path))?;
            }
        }
        state.changed.clear();
        let in_the_way = self.in_the_way(&state, &old, &new);
        state.untracked.retain(|path| !in_the_way.contains(path));
        self.move_to(&mut state, to, &old, &new)
    }

    fn maintain(&self, cancel: &Cancel) -> Result<(), VcsError> {
        let shared = Arc::clone(&self.0);
        let _registered = cancel.on_cancel(move || {
            drop(shared.state.lock());
            shared.changed.notify_all();
        });
        let mut state = self.0.state.lock();
        state.record(Call::Maintain);
        state.check_health(&self.0.root)?;
        self.0.changed.wait_while(&mut state, |state| state.maintenance_hangs && !cancel.is_cancelled());
        if cancel.is_cancelled() { Err(VcsError::Cancelled) } else { Ok(()) }
    }
}

impl FakeVcs {
    fn head_that_may_move(&self, state: &State) -> Result<CommitId, VcsError> {
        state.check_health(&self.0.root)?;
        let Some(head) = state.head.clone() else {
            return Err(VcsError::Unborn { branch: BranchName::new(&state.branch) });
        };
        if let Some(operation) = state.in_progress {
            return Err(VcsError::InProgress { operation });
        }
        if state.is_detached() {
            return Err(VcsError::Detached { commit: head });
        }
        state.check_lock("shallow.lock")?;
        Ok(head)
    }

    fn move_to(
        &self,
        state: &mut State,
        commit: &CommitId,
        old: &Files,
        new: &Files,
    ) -> Result<(), VcsError> {
        if let Some(message) = &state.check_out_failure {
            return Err(VcsError::Git { command: "read-tree", message: message.clone() });
        }
        if self.0.is_mirrored {
            mirror::move_files(&self.0.root, old, new)?;
        }
        state.head = Some(commit.clone());
        Ok(())
    }

    fn changed_files(&self, state: &State) -> Vec<PathBuf> {
        let mut changed = state.changed.clone();
        if let (true, Some(files)) = (self.0.is_mirrored, state.head_files()) {
            changed.extend(mirror::changed(&self.0.root, files));
        }
        changed.sort();
        changed.dedup();
        changed.truncate(WorkTree::CHANGED_LIMIT);
        changed
    }

    /// Untracked files where `new` has one that `old` has not.
    fn in_the_way(&self, state: &State, old: &Files, new: &Files) -> Vec<PathBuf> {
        let is_there = |path: &PathBuf| {
            state.untracked.contains(path) || (self.0.is_mirrored && mirror::exists(&self.0.root.join(path)))
        };
        new.keys().filter(|path| !old.contains_key(*path) && is_there(path)).cloned().collect()
    }
}
