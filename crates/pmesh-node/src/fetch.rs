//! The fetch of an update: it waits for its turn, refuses a work tree that cannot be moved, and ends when the
//! operation is wanted no more.

use pmesh_supervisor::CancelToken;
use pmesh_vcs::{Cancel, Relation, VcsError};

use crate::{
    Failure,
    course::Comparison,
    shared::{FETCH_LIMIT, Shared, VcsTurn},
};

/// Waits until nobody else fetches – as long as the operation is wanted.
///
/// # Errors
///
/// [`Failure::ShuttingDown`] when it is not any more.
pub(crate) async fn vcs_turn(shared: &Shared, cancel: &CancelToken) -> Result<VcsTurn, Failure> {
    tokio::select! {
        turn = shared.vcs_turn() => Ok(turn),
        () = cancel.cancelled() => Err(Failure::ShuttingDown),
    }
}

/// Asks the remote, and refuses a work tree that cannot be moved to what it has.
///
/// # Errors
///
/// Those of [`pmesh_vcs::Vcs`]; [`Failure::ShuttingDown`] when it was cancelled.
pub(crate) async fn fetch(shared: &Shared, cancelled: &CancelToken) -> Result<Comparison, Failure> {
    let cancel = Cancel::new();
    let turn = vcs_turn(shared, cancelled).await?;
    let call = {
        let cancel = cancel.clone();
        shared.with_vcs_in(turn, move |vcs| {
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
            Ok(Comparison { head, remote, relation, moved_to })
        })
    };
    match while_wanted(cancelled, &cancel, call).await {
        Err(VcsError::Cancelled) => Err(Failure::ShuttingDown),
        result => Ok(result?),
    }
}

/// Waits for a call that `cancel` ends, and sets that when the operation is wanted no more.
pub(crate) async fn while_wanted<T>(
    cancelled: &CancelToken,
    cancel: &Cancel,
    call: impl Future<Output = Result<T, VcsError>>,
) -> Result<T, VcsError> {
    let mut call = std::pin::pin!(call);
    tokio::select! {
        result = &mut call => return result,
        () = cancelled.cancelled() => cancel.cancel(),
    }
    call.await
}
