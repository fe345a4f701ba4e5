//! The manifest that an operation is to follow: from a commit, or from the disk.

use std::{ffi::OsStr, path::Path, sync::Arc, time::Duration};

use pmesh_manifest::{FILE_NAMES, Manifest, ManifestText, Mistakes};
use pmesh_supervisor::CancelToken;
use pmesh_threads::Unanswered;
use pmesh_vcs::{Cancel, CommitId, Vcs, VcsError};

use crate::{Failure, node_shared::NodeShared, served_place::ServedPlace, vcs_call::AtEnd};

/// How long the disk may take to say what is in the manifest.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// The same where the repository may be another, for whose first read there is a limit of its own.
const FIND_LIMIT: Duration = Duration::from_secs(25);

/// Reads and validates the manifest of a commit, out of the object database.
///
/// # Errors
///
/// [`Failure`]: there is none, it has mistakes, or the repository is out of reach.
pub(crate) async fn in_commit(
    shared: &NodeShared,
    cancelled: &CancelToken,
    commit: &CommitId,
) -> Result<Manifest, Failure> {
    let place = shared.place();
    let (file, wanted) = (place.file.clone(), commit.clone());
    let cancel = Cancel::new();
    let ended = cancel.clone();
    let found = shared.with_vcs(move |vcs| {
        // Discovered from this very file, the repository has it below its top.
        let Ok(inside) = file.strip_prefix(vcs.root()) else { return Err(VcsError::NotFound(file)) };
        let text = vcs.file(&wanted, inside, &ended)?;
        Ok((text, adds_a_second(vcs, &file, inside, &wanted, &ended)?))
    });
    let shown = place.shown_file();
    let text = match shared.call_ends(cancelled).wait(AtEnd::Cut, &cancel, found).await {
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
    let folder = place.file.parent().unwrap_or(&place.file);
    let source = ManifestText::new(&text, shown, folder);
    pmesh_manifest::parse(&source, shared.unsupported).map_err(Failure::ManifestInvalid)
}

/// Whether a commit brings a second manifest beside `file`, which is at `inside` in the repository: then a server could not
/// be started for the folder any more, because it would not know which of the two is meant. A second one that is in the
/// folder already is no reason to refuse: whoever started this server has named the file.
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

/// The manifest as it is on the disk, where it is served from.
///
/// # Errors
///
/// [`Failure`]: it has mistakes, cannot be read or not in time, or is wanted no more.
pub(crate) async fn on_disk(shared: &NodeShared, cancelled: &CancelToken) -> Result<Manifest, Failure> {
    let (place, unsupported) = (shared.place(), shared.unsupported);
    let read = move || Ok(pmesh_manifest::read_as(&place.file, place.shown_file(), unsupported)?);
    blocking(shared, cancelled, READ_LIMIT, read).await
}

/// The manifest where the path leads that was given, and that place: the one of now where nothing of it has changed. Its
/// work tree is taken, if the manifest wants it moved.
///
/// # Errors
///
/// [`Failure`]: as [`on_disk`], or somebody else moves the work tree.
pub(crate) async fn where_given(
    shared: &NodeShared,
    cancelled: &CancelToken,
) -> Result<(Manifest, Arc<ServedPlace>), Failure> {
    let (given, now, unsupported) = (shared.given.clone(), shared.place(), shared.unsupported);
    let source = Arc::clone(&shared.repositories);
    blocking(shared, cancelled, FIND_LIMIT, move || {
        // Links are followed once, here: so all that is read is of one folder, also if somebody moves a link meanwhile. If
        // the folder is gone, reading says so.
        let folder = given.parent().and_then(|folder| folder.canonicalize().ok());
        let file =
            folder.zip(given.file_name()).map_or_else(|| given.clone(), |(folder, name)| folder.join(name));
        let place = now.at(file, &*source)?;
        let manifest = pmesh_manifest::read_as(&place.file, place.shown_file(), unsupported)?;
        let place = place.taken(manifest.repo.update, &now, &*source).map_err(Failure::WorkTree)?;
        Ok((manifest, if place == *now { now } else { Arc::new(place) }))
    })
    .await
}

/// Reads on a thread that may block, as long as `limit` and as it is wanted.
async fn blocking<T: Send + 'static>(
    shared: &NodeShared,
    cancelled: &CancelToken,
    limit: Duration,
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::select! {
        () = cancelled.cancelled() => Err(Failure::ShuttingDown),
        read = shared.threads.files.run(limit, move |_| read()) => match read {
            Ok(read) => read,
            Err(Unanswered::TimedOut { .. } | Unanswered::Stuck { .. }) => {
                let place = shared.place();
                let root = place.file.parent().unwrap_or(&place.file).to_owned();
                Err(VcsError::Timeout { root, after: limit }.into())
            }
            Err(unanswered) => Err(Failure::Unanswered(unanswered)),
        },
    }
}
