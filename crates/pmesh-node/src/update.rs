//! What an update needs of the repository and of the disk: the fetch, and the manifest that is to be followed.

use std::{ffi::OsStr, path::Path};

use pmesh_manifest::{FILE_NAMES, Manifest, Mistakes, ReadError, Source};
use pmesh_supervisor::CancelToken;
use pmesh_vcs::{Cancel, CommitId, Relation, Vcs, VcsError};

use crate::{
    Failure,
    course::Found,
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
/// Those of [`Vcs`]; [`Failure::ShuttingDown`] when it was cancelled.
pub(crate) async fn fetch(shared: &Shared, cancelled: &CancelToken) -> Result<Found, Failure> {
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
            Ok(Found { head, remote, relation, moved_to })
        })
    };
    match while_wanted(cancelled, &cancel, call).await {
        Err(VcsError::Cancelled) => Err(Failure::ShuttingDown),
        result => Ok(result?),
    }
}

/// Waits for a call that `cancel` ends, and sets that when the operation is wanted no more.
async fn while_wanted<T>(
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

/// Reads and validates the manifest of a commit, out of the object database.
///
/// # Errors
///
/// [`Failure`]: there is none, it has mistakes, or the repository is out of reach.
pub(crate) async fn manifest_of(
    shared: &Shared,
    cancelled: &CancelToken,
    commit: &CommitId,
) -> Result<Manifest, Failure> {
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
    let text = match while_wanted(cancelled, &cancel, found).await {
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

/// The manifest as it is on disk.
///
/// # Errors
///
/// [`Failure`]: it has mistakes, or cannot be read.
pub(crate) async fn read_manifest(shared: &Shared) -> Result<Manifest, Failure> {
    let (file, unsupported) = (shared.file.clone(), shared.unsupported);
    let shown = shared.shown_file().to_owned();
    let read = tokio::task::spawn_blocking(move || pmesh_manifest::read_as(&file, &shown, unsupported));
    match read.await {
        Ok(Ok(manifest)) => Ok(manifest),
        Ok(Err(ReadError::Invalid(mistakes))) => Err(Failure::ManifestInvalid(mistakes)),
        Ok(Err(error)) => Err(Failure::ManifestUnreadable(error)),
        Err(panic) => Err(Failure::Internal(format!("reading the manifest ended early: {panic}"))),
    }
}
