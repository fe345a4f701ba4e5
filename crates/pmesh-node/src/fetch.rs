//! The fetch of an update: it waits for its turn, refuses a work tree that cannot be moved, and ends when the
//! operation is wanted no more.

use std::{path::PathBuf, sync::Arc};

use pmesh_supervisor::CancelToken;
use pmesh_vcs::{Cancel, Fetched, Relation, Vcs, VcsError};

use crate::{
    Failure,
    comparison::{Comparison, Way},
    fetched::FetchedCommits,
    node_shared::{FETCH_LIMIT, NodeShared, VcsTurn},
    vcs_call::AtEnd,
};

/// Waits until nobody else fetches – as long as the operation is wanted.
///
/// # Errors
///
/// [`Failure::ShuttingDown`] when it is not any more.
pub(crate) async fn vcs_turn(shared: &NodeShared, cancel: &CancelToken) -> Result<VcsTurn, Failure> {
    tokio::select! {
        turn = shared.vcs_turn() => Ok(turn),
        () = cancel.cancelled() => Err(Failure::ShuttingDown),
    }
}

/// Asks the remote, and refuses a work tree that cannot be moved to what it has.
///
/// # Errors
///
/// Those of [`Vcs`]; [`Failure::ShuttingDown`] when it was cancelled.
pub(crate) async fn fetch(shared: &NodeShared, cancelled: &CancelToken) -> Result<Comparison, Failure> {
    let turn = vcs_turn(shared, cancelled).await?;
    let call = {
        let fetched = Arc::clone(&shared.fetched);
        let manifest = shared.place().file.clone();
        shared.with_vcs_in(turn, (AtEnd::Cut, cancelled), move |vcs, cancel| {
            let tree = vcs.work_tree(cancel)?;
            if let Some(operation) = tree.in_progress {
                return Err(VcsError::InProgress { operation });
            }
            if let Some(lock) = tree.lock {
                return Err(VcsError::Locked { path: lock.path, age: lock.age });
            }
            let head = vcs.head()?;
            let moved_to = fetch_and_remember(vcs, &fetched, cancel)?.moved_to;
            let remote = vcs.remote_head()?;
            let remote = remote.ok_or_else(|| VcsError::NoRemote { branch: head.branch.clone() })?;
            let (Some(here), Some(there)) = (head.commit.clone(), remote.commit.clone()) else {
                return Err(VcsError::Unborn { branch: head.branch });
            };
            let relation = vcs.relation(&here, &there, cancel)?;
            let local = match relation {
                Relation::Same | Relation::Behind { .. } => 0,
                _ => vcs.local_commits(&here, &there, &fetched.all(), cancel)?,
            };
            // What a check-out of ours has left that was killed is nobody's edit.
            let mut edited = tree.changed;
            let mut found =
                Comparison { head, remote, relation, local, has_edited_manifest: false, moved_to };
            if found.way() == Way::ToRemote && !edited.is_empty() {
                edited = vcs.edited(&edited, &there, cancel)?;
                // An edit of a file that the commit leaves alone stays.
                let touched = vcs.changed_paths(&here, &there, cancel)?;
                let is_touched = |path: &&PathBuf| touched.binary_search(path).is_ok();
                let paths: Vec<_> = edited.iter().filter(is_touched).cloned().collect();
                if !paths.is_empty() {
                    return Err(VcsError::Dirty { paths });
                }
            }
            let manifest = manifest.strip_prefix(vcs.root()).ok();
            found.has_edited_manifest = manifest.is_some_and(|file| edited.iter().any(|path| path == file));
            Ok(found)
        })
    };
    match call.await {
        Err(VcsError::Cancelled) => Err(Failure::ShuttingDown),
        result => Ok(result?),
    }
}

/// Asks the remote, and remembers what it had and has.
///
/// # Errors
///
/// Those of [`Vcs::fetch`].
pub(crate) fn fetch_and_remember(
    vcs: &dyn Vcs,
    record: &FetchedCommits,
    cancel: &Cancel,
) -> Result<Fetched, VcsError> {
    let remember = || -> Result<(), VcsError> {
        if let Some(commit) = vcs.remote_head()?.and_then(|remote| remote.commit) {
            record.add(&commit);
        }
        Ok(())
    };
    remember()?;
    let fetched = vcs.fetch(FETCH_LIMIT, cancel)?;
    remember()?;
    Ok(fetched)
}
