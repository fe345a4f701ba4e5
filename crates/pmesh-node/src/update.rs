//! Update: fetch, look at the new commit's manifest, check out, roll over; or go back.

use std::{collections::BTreeMap, ffi::OsStr, path::Path, sync::Arc};

use pmesh_manifest::{FILE_NAMES, Manifest, Mistakes, Source};
use pmesh_vcs::{Cancel, CommitId, Moved, Relation, Revision, Vcs, VcsError};
use tracing::{error, info};

use crate::{
    Failure, Outcome, Rebuild, RolloutFailure, StepName, StepState, Update, in_one_line,
    rolling::Rolling,
    shared::{FETCH_LIMIT, VcsTurn, raised},
    unfinished::Unfinished,
};

/// Runs an update.
///
/// # Errors
///
/// [`Failure`]; the work tree and the services are then as before, unless it says otherwise.
pub(crate) async fn run(
    rolling: &Rolling,
    unfinished: &mut Unfinished,
    rebuild: Rebuild,
) -> Result<Outcome, Failure> {
    let old = rolling.shared.in_force();
    if rolling.shared.vcs.is_some() && !old.repo.update {
        return Err(Failure::UpdateDisabled);
    }
    let Found { head: from, remote: there, relation, moved_to } =
        step(rolling, StepName::Fetch, fetch(rolling)).await?;
    // What is to be checked out in the end; commits that only this machine has stay.
    let (to, ahead, target) = match relation {
        Relation::Same => (there, None, None),
        Relation::Ahead { by } => (Revision { branch: there.branch, ..from.clone() }, Some(by), None),
        Relation::Behind { .. } => (there.clone(), None, there.commit),
        Relation::Diverged { ahead, behind } => return Err(VcsError::Diverged { ahead, behind }.into()),
        Relation::Unrelated => return Err(VcsError::Unrelated { branch: from.branch }.into()),
    };
    let done = |failed| {
        let (from, to, moved_to) = (from.clone(), to.clone(), moved_to.clone());
        Outcome::Updated(Update { from, to, ahead, failed, moved_to })
    };
    let has_failed = unfinished.is(to.commit.as_ref());
    if target.is_none() && rebuild == Rebuild::Changed && !has_failed {
        return Ok(done(BTreeMap::default()));
    }
    let manifest = match &target {
        Some(commit) => Arc::new(step(rolling, StepName::Check, manifest_of(rolling, commit)).await?),
        // What is in force may be the manifest of the commit before it.
        None if has_failed => Arc::new(step(rolling, StepName::Check, rolling.read_manifest()).await?),
        None => Arc::clone(&old),
    };
    if rolling.is_cancelled() {
        return Err(Failure::ShuttingDown);
    }

    let held = rolling.shared.supervisor.services();
    if let Some(commit) = &target {
        let turn = vcs_turn(rolling).await?;
        for service in &held {
            service.hold().await;
        }
        let commit = commit.clone();
        let moved = rolling.shared.with_vcs_in(turn, move |vcs| vcs.check_out(&commit));
        if let Err(failure) = step(rolling, StepName::CheckOut, async { Ok(moved.await?) }).await {
            release(&held).await;
            return Err(failure);
        }
    }
    let head = rolling.head().await;
    let end = rolling.replace_manifest(&manifest, head.as_ref(), rebuild).await;
    if !end.gave_up {
        release(&held).await;
        unfinished.record(to.commit.as_ref(), end.failed.is_empty());
        return Ok(done(end.failed));
    }

    let was_cancelled = rolling.is_cancelled();
    let mut stuck = None;
    if let (Some(tried), Some(before)) = (target.clone(), from.commit.clone()) {
        info!(to = %before, "the rollout failed: the work tree goes back");
        // A fetch of somebody else ends within its limit.
        let turn = rolling.shared.vcs_turn().await;
        let back = rolling.shared.with_vcs_in(turn, move |vcs| vcs.go_back(&tried, &before));
        if let Err(failure) = step(rolling, StepName::RollBack, async { Ok(back.await?) }).await {
            let reason = in_one_line(&failure);
            error!(reason, "the work tree could not go back");
            stuck = Some(reason);
        }
    }
    if target.is_none() || stuck.is_some() {
        unfinished.record(to.commit.as_ref(), false);
    }
    release(&held).await;
    rolling.revive().await;
    rolling.forget_all_but(&old).await;
    if was_cancelled && stuck.is_none() {
        return Err(Failure::ShuttingDown);
    }
    Err(Failure::Rollout(Box::new(RolloutFailure {
        services: end.failed,
        restarted: None,
        revisions: Some((from, to)),
        rolled_back: stuck.is_none(),
        stuck,
    })))
}

async fn release(held: &[pmesh_supervisor::Service]) {
    for service in held {
        service.release().await;
    }
}

/// Runs a step and records how it ends.
async fn step<T>(
    rolling: &Rolling,
    name: StepName,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let key = rolling.begin_step(name);
    let result = work.await;
    match &result {
        Ok(_) => rolling.end_step(key, StepState::Done, None),
        Err(failure) => rolling.end_step(key, StepState::Failed, Some(in_one_line(failure))),
    }
    result
}

/// Waits until nobody else fetches – as long as the operation is wanted.
async fn vcs_turn(rolling: &Rolling) -> Result<VcsTurn, Failure> {
    let mut cancelled = rolling.cancelled.clone();
    tokio::select! {
        turn = rolling.shared.vcs_turn() => Ok(turn),
        () = raised(&mut cancelled) => Err(Failure::ShuttingDown),
    }
}

/// What a fetch has found.
struct Found {
    head: Revision,
    remote: Revision,
    relation: Relation,
    moved_to: Option<Moved>,
}

/// Asks the remote.
async fn fetch(rolling: &Rolling) -> Result<Found, Failure> {
    let cancel = Cancel::new();
    let turn = vcs_turn(rolling).await?;
    let call = {
        let cancel = cancel.clone();
        rolling.shared.with_vcs_in(turn, move |vcs| {
            let tree = vcs.work_tree()?;
            if let Some(operation) = tree.in_progress {
                return Err(VcsError::InProgress { operation });
            }
            if let Some(lock) = tree.lock {
                return Err(VcsError::Locked { path: lock.path, age: lock.age });
            }
            let head = vcs.head()?;
            let moved_to = vcs.fetch(FETCH_LIMIT, &cancel)?.moved_to;
            let remote = vcs.remote_head()?;
            let remote = remote.ok_or_else(|| VcsError::NoRemote { branch: head.branch.clone() })?;
            let (Some(here), Some(there)) = (&head.commit, &remote.commit) else {
                return Err(VcsError::Unborn { branch: head.branch });
            };
            let relation = vcs.relation(here, there, &cancel)?;
            if matches!(relation, Relation::Behind { .. }) && !tree.changed.is_empty() {
                return Err(VcsError::Dirty { paths: tree.changed });
            }
            Ok(Found { head, remote, relation, moved_to })
        })
    };
    match while_wanted(rolling, &cancel, call).await {
        Err(VcsError::Cancelled) => Err(Failure::ShuttingDown),
        result => Ok(result?),
    }
}

/// Waits for a call that `cancel` ends, and sets that when the operation is wanted no more.
async fn while_wanted<T>(
    rolling: &Rolling,
    cancel: &Cancel,
    call: impl Future<Output = Result<T, VcsError>>,
) -> Result<T, VcsError> {
    let mut cancelled = rolling.cancelled.clone();
    let mut call = std::pin::pin!(call);
    tokio::select! {
        result = &mut call => return result,
        () = raised(&mut cancelled) => cancel.cancel(),
    }
    call.await
}

/// Reads and validates the manifest of a commit, out of the object database.
async fn manifest_of(rolling: &Rolling, commit: &CommitId) -> Result<Manifest, Failure> {
    let shared = &rolling.shared;
    let (file, wanted) = (shared.file.clone(), commit.clone());
    let cancel = Cancel::new();
    let ended = cancel.clone();
    let found = shared.with_vcs(move |vcs| {
        // Discovered from this very file, the repository has it below its top.
        let Ok(inside) = file.strip_prefix(vcs.root()) else { return Err(VcsError::NotFound(file)) };
        let text = vcs.file(&wanted, inside, &ended)?;
        Ok((text, adds_a_second(vcs, &file, inside, &wanted, &ended)?))
    });
    let shown = shared.shown_file();
    let text = match while_wanted(rolling, &cancel, found).await {
        Ok((Some(_), true)) => return Err(Failure::ManifestAmbiguous { commit: commit.clone() }),
        Ok((Some(text), false)) => text,
        Ok((None, _)) => {
            return Err(Failure::ManifestMissing { file: shown.to_owned(), commit: commit.clone() });
        }
        // The limit of a manifest is below that of a file of a commit.
        Err(VcsError::TooLarge { .. }) => return Err(Failure::ManifestInvalid(Mistakes::too_large(shown))),
        Err(VcsError::Cancelled) => return Err(Failure::ShuttingDown),
        Err(error) => return Err(error.into()),
    };
    let folder = shared.file.parent().unwrap_or(&shared.file);
    let source = Source { text: &text, file: shown, folder };
    pmesh_manifest::parse(&source, shared.unsupported).map_err(Failure::ManifestInvalid)
}

/// Whether a commit brings a second manifest beside that in `file`, which is at `inside` in the repository: its
/// folder could not be served by its name any more. One that is there already has not kept anybody from naming
/// the one to serve.
fn adds_a_second(
    vcs: &dyn Vcs,
    file: &Path,
    inside: &Path,
    commit: &CommitId,
    cancel: &Cancel,
) -> Result<bool, VcsError> {
    let [one, another] = FILE_NAMES;
    let other = match file.file_name().and_then(OsStr::to_str) {
        Some(name) if name == one => another,
        Some(name) if name == another => one,
        _ => return Ok(false),
    };
    if file.with_file_name(other).is_file() {
        return Ok(false);
    }
    match vcs.file(commit, &inside.with_file_name(other), cancel) {
        Ok(text) => Ok(text.is_some()),
        Err(VcsError::TooLarge { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
