//! What a fake repository answers as a [`Vcs`].

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::MutexGuard;

use super::{
    FakeVcs, mirror,
    mirror::Files,
    state::{FakeNetwork, FakeState, VcsCall},
};
use crate::{
    BranchName, Cancel, CommitId, FILE_LIMIT, Fetched, Heads, Relation, Revision, Vcs, VcsError, WorkTree,
    redact,
};

impl Vcs for FakeVcs {
    fn system(&self) -> &'static str {
        "git"
    }

    fn root(&self) -> &Path {
        &self.0.root
    }

    fn head(&self) -> Result<Revision, VcsError> {
        self.read(VcsCall::Head, FakeState::head_revision)
    }

    fn remote_head(&self) -> Result<Option<Revision>, VcsError> {
        self.read(VcsCall::RemoteHead, FakeState::remote_revision)
    }

    fn heads(&self, cancel: &Cancel) -> Result<Heads, VcsError> {
        self.read_unless(cancel, VcsCall::Heads, |state| {
            Ok(Heads {
                head: state.head_revision()?,
                remote_head: state.remote_revision()?,
                remote_url: state.followed().map(|remote| redact::url(&remote.url)),
            })
        })
    }

    fn work_tree(&self, cancel: &Cancel) -> Result<WorkTree, VcsError> {
        self.read_unless(cancel, VcsCall::WorkTree, |state| {
            Ok(WorkTree {
                changed: self.changed_files(state),
                in_progress: state.in_progress,
                lock: state.lock.clone(),
            })
        })
    }

    fn fetch(&self, limit: Duration, cancel: &Cancel) -> Result<Fetched, VcsError> {
        let until = Instant::now().checked_add(limit);
        let _registered = cancel.on_cancel(self.waking());
        let mut state = self.0.state.lock();
        state.record(VcsCall::Fetch);
        state.fetches += 1;
        self.0.changed.notify_all();
        state.check_health(&self.0.root)?;
        let url = match state.followed() {
            Some(remote) => redact::url(&remote.url),
            None => return Err(state.remote_error()),
        };
        state.check_lock("index.lock")?;

        let waits =
            |state: &mut FakeState| matches!(state.network, FakeNetwork::Hanging) && !cancel.is_cancelled();
        match until {
            Some(until) => drop(self.0.changed.wait_while_until(&mut state, waits, until)),
            None => self.0.changed.wait_while(&mut state, waits),
        }
        if cancel.is_cancelled() {
            return Err(VcsError::Cancelled);
        }
        match &state.network {
            FakeNetwork::Online => {}
            FakeNetwork::Offline(message) => {
                let configured = state.remote.as_ref().map(|remote| redact::secrets_of(&remote.url));
                let message = redact::text(message, &configured.unwrap_or_default());
                return Err(VcsError::Fetch { url, message });
            }
            FakeNetwork::Hanging | FakeNetwork::TooSlow => {
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
        self.read_unless(cancel, VcsCall::Relation, |state| {
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
        self.read_unless(cancel, VcsCall::LocalCommits, |state| {
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
        self.read_unless(cancel, VcsCall::ChangedPaths, |state| {
            let (old, new) = (&state.commit(from)?.files, &state.commit(to)?.files);
            let paths: BTreeSet<_> =
                old.keys().chain(new.keys()).filter(|path| old.get(*path) != new.get(*path)).collect();
            Ok(paths.into_iter().cloned().collect())
        })
    }

    fn edited(
        &self,
        paths: &[PathBuf],
        commit: &CommitId,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>, VcsError> {
        self.read_unless(cancel, VcsCall::Edited, |state| {
            state.commit(commit)?;
            let mut paths = paths.to_vec();
            paths.retain(|path| !self.is_left(state, commit, path));
            Ok(paths)
        })
    }

    fn file(&self, commit: &CommitId, path: &Path, cancel: &Cancel) -> Result<Option<Vec<u8>>, VcsError> {
        self.read_unless(cancel, VcsCall::File(commit.clone(), path.to_owned()), |state| {
            let file = state.commit(commit)?.files.get(path);
            match file.map(|bytes| bytes.len() as u64) {
                Some(size) if size > FILE_LIMIT => {
                    Err(VcsError::TooLarge { path: path.to_owned(), size, limit: FILE_LIMIT })
                }
                _ => Ok(file.cloned()),
            }
        })
    }

    fn check_out(&self, commit: &CommitId, cancel: &Cancel) -> Result<Vec<PathBuf>, VcsError> {
        let _registered = cancel.on_cancel(self.waking());
        let mut state = self.0.state.lock();
        state.record(VcsCall::CheckOut(commit.clone()));
        self.0.changed.notify_all();
        let _head = self.head_that_may_move(&state)?;
        let new = state.commit(commit)?.files.clone();
        let old = state.head_files().cloned().unwrap_or_default();
        let mut differ = self.changed_files(&state);
        let in_the_way = self.in_the_way(&state, &old, &new);
        differ.extend(in_the_way);
        let (left, edited): (Vec<_>, Vec<_>) =
            differ.into_iter().partition(|path| self.is_left(&state, commit, path));
        let (paths, kept): (Vec<_>, Vec<_>) =
            edited.into_iter().partition(|path| old.get(path) != new.get(path));
        if !paths.is_empty() {
            return Err(VcsError::Dirty { paths });
        }
        for path in &left {
            mirror::clear(&self.0.root.join(path))?;
        }
        let ours = old.iter().filter(|(path, _)| left.contains(path));
        mirror::put_right(&self.0.root, &ours.map(|(path, bytes)| (path.clone(), bytes.clone())).collect())?;
        self.move_to(&mut state, commit, &old, &new, cancel)?;
        Ok(kept)
    }

    fn go_back(
        &self,
        from: &CommitId,
        to: &CommitId,
        kept: &[PathBuf],
        cancel: &Cancel,
    ) -> Result<(), VcsError> {
        let _registered = cancel.on_cancel(self.waking());
        let mut state = self.0.state.lock();
        state.record(VcsCall::GoBack(to.clone()));
        self.0.changed.notify_all();
        let found = self.head_that_may_move(&state)?;
        if found != *from {
            return Err(VcsError::HeadMoved { found, expected: from.clone() });
        }
        let new = state.commit(to)?.files.clone();
        let old = state.head_files().cloned().unwrap_or_default();
        if self.0.is_mirrored {
            let ours = old.iter().filter(|(path, _)| !kept.contains(path));
            mirror::put_right(
                &self.0.root,
                &ours.map(|(path, bytes)| (path.clone(), bytes.clone())).collect(),
            )?;
            for path in self.in_the_way(&state, &old, &new) {
                mirror::clear(&self.0.root.join(path))?;
            }
        }
        state.changed.retain(|path| kept.contains(path));
        let in_the_way = self.in_the_way(&state, &old, &new);
        state.untracked.retain(|path| !in_the_way.contains(path));
        self.move_to(&mut state, to, &old, &new, cancel)
    }

    fn maintain(&self, cancel: &Cancel) -> Result<(), VcsError> {
        let _registered = cancel.on_cancel(self.waking());
        let mut state = self.0.state.lock();
        state.record(VcsCall::Maintain);
        state.check_health(&self.0.root)?;
        self.0.changed.wait_while(&mut state, |state| state.maintenance_hangs && !cancel.is_cancelled());
        if cancel.is_cancelled() { Err(VcsError::Cancelled) } else { Ok(()) }
    }
}

impl FakeVcs {
    /// Wakes calls that wait. Taking the lock before leaves no moment in which one could miss it.
    fn waking(&self) -> impl FnOnce() + Send + 'static {
        let shared = Arc::clone(&self.0);
        move || {
            drop(shared.state.lock());
            shared.changed.notify_all();
        }
    }

    fn head_that_may_move(&self, state: &FakeState) -> Result<CommitId, VcsError> {
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
        state: &mut MutexGuard<'_, FakeState>,
        commit: &CommitId,
        old: &Files,
        new: &Files,
        cancel: &Cancel,
    ) -> Result<(), VcsError> {
        self.0.changed.wait_while(state, |state| state.check_outs_hang && !cancel.is_cancelled());
        if cancel.is_cancelled() {
            return Err(VcsError::Cancelled);
        }
        if let Some(message) = &state.check_out_failure {
            return Err(VcsError::Git { command: "read-tree", message: message.clone() });
        }
        if self.0.is_mirrored {
            mirror::move_files(&self.0.root, old, new)?;
        }
        state.head = Some(commit.clone());
        Ok(())
    }

    fn changed_files(&self, state: &FakeState) -> Vec<PathBuf> {
        let mut changed = state.changed.clone();
        if let (true, Some(files)) = (self.0.is_mirrored, state.head_files()) {
            changed.extend(mirror::changed(&self.0.root, files));
        }
        changed.sort();
        changed.dedup();
        changed.truncate(WorkTree::CHANGED_LIMIT);
        changed
    }

    /// Whether a file on the disk is as `commit` has it, or one that was fetched after the head.
    fn is_left(&self, state: &FakeState, commit: &CommitId, path: &Path) -> bool {
        if !self.0.is_mirrored || state.changed.iter().any(|changed| changed == path) {
            return false;
        }
        let is_after = |tip: &&CommitId| match (&state.head, state.history(tip)) {
            (Some(head), Ok(history)) => *tip != head && history.contains(head),
            _ => false,
        };
        let fetched = state.remote.iter().flat_map(|remote| &remote.log).filter(is_after);
        let there = std::fs::read(self.0.root.join(path)).ok();
        std::iter::once(commit)
            .chain(fetched)
            .any(|commit| state.commits[commit].files.get(path) == there.as_ref())
    }

    /// Untracked files where `new` has one that `old` has not.
    fn in_the_way(&self, state: &FakeState, old: &Files, new: &Files) -> Vec<PathBuf> {
        let is_there = |path: &PathBuf| {
            state.untracked.contains(path) || (self.0.is_mirrored && mirror::exists(&self.0.root.join(path)))
        };
        new.keys().filter(|path| !old.contains_key(*path) && is_there(path)).cloned().collect()
    }
}
