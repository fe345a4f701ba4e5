//! What the handle of a node, its driver and its operations share.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use pmesh_manifest::{Manifest, Unsupported};
use pmesh_supervisor::{CancelToken, Sampler, Supervisor};
use pmesh_threads::{Threads, Unanswered};
use pmesh_vcs::{Cancel, Vcs, VcsError};
use tokio::sync::{Notify, OwnedMutexGuard};

use crate::{
    NodeThreads, OperationId,
    bridge::Bridge,
    cancellations::Cancellations,
    commits::InstanceCommits,
    fetched::FetchedCommits,
    file_folders::FileFolders,
    ids::Ids,
    maintenance::Maintenance,
    publisher::Publisher,
    repository_reads::RepositoryReads,
    served_place::{RepositorySource, ServedPlace},
    unfinished::Unfinished,
    vcs_call::{AtEnd, CallEnds},
};

/// How long a fetch may take.
pub const FETCH_LIMIT: Duration = Duration::from_mins(1);

/// What the handle and the driver share.
pub(crate) struct NodeShared {
    /// The manifest's file by the path that was given.
    pub(crate) given: PathBuf,
    /// Where that led at the last reload.
    pub(crate) place: Mutex<Arc<ServedPlace>>,
    /// Finds the repository where it leads elsewhere.
    pub(crate) repositories: Arc<dyn RepositorySource>,
    pub(crate) unsupported: Unsupported,
    pub(crate) supervisor: Supervisor,
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) publisher: Publisher,
    /// Wakes the driver for a new request.
    pub(crate) requests: Notify,
    /// The manifest in force.
    pub(crate) manifest: Mutex<Arc<Manifest>>,
    /// What an update has to remember of the rollouts before it.
    pub(crate) unfinished: Mutex<Unfinished>,
    pub(crate) ids: Mutex<Ids>,
    /// One fetch or move of the work tree at a time.
    pub(crate) vcs_turn: Arc<tokio::sync::Mutex<()>>,
    pub(crate) commits: InstanceCommits,
    pub(crate) fetched: Arc<FetchedCommits>,
    pub(crate) maintenance: Maintenance,
    /// One reader at a time waits for that turn: an update that has to go back waits for one fetch, and
    /// not for everybody's.
    pub(crate) readers_fetch: tokio::sync::Mutex<()>,
    pub(crate) sampler: Sampler,
    pub(crate) threads: NodeThreads,
    /// For looks at `/proc`.
    pub(crate) proc: Threads,
    pub(crate) repository_reads: RepositoryReads,
    pub(crate) file_folders: FileFolders,
    /// Whether the operations that run are to go back.
    pub(crate) cancellations: Cancellations,
    /// Cancelled when the server is asked to end.
    pub(crate) ending: CancelToken,
    /// Cancelled when no request comes any more.
    pub(crate) closed: CancelToken,
    /// Cancelled when nothing more is waited for.
    pub(crate) hurrying: CancelToken,
    pub(crate) shutdown: OperationId,
}

impl NodeShared {
    pub(crate) fn new_id(&self) -> u64 {
        self.ids.lock().next(SystemTime::now())
    }

    pub(crate) fn in_force(&self) -> Arc<Manifest> {
        Arc::clone(&self.manifest.lock())
    }

    /// Publishes which services there are now.
    pub(crate) fn publish_services(&self) {
        self.publisher.set_services(&self.supervisor.services(), &self.in_force());
    }

    /// Where it serves from now.
    pub(crate) fn place(&self) -> Arc<ServedPlace> {
        Arc::clone(&self.place.lock())
    }

    /// It serves from `place` from now on; answers from where before.
    pub(crate) fn serve_from(&self, place: Arc<ServedPlace>) -> Arc<ServedPlace> {
        std::mem::replace(&mut *self.place.lock(), place)
    }

    /// Waits until no other call fetches or moves the work tree. Cancel-safe.
    pub(crate) async fn vcs_turn(&self) -> VcsTurn {
        self.maintenance.make_room();
        Arc::clone(&self.vcs_turn).lock_owned().await
    }

    /// What ends a call for whom `cancelled` says that it is wanted no more.
    pub(crate) fn call_ends<'a>(&'a self, cancelled: &'a CancelToken) -> CallEnds<'a> {
        let place = self.place();
        let root = place.vcs.as_deref().map_or(&*place.file, Vcs::root).to_owned();
        CallEnds { cancelled, hurrying: &self.hurrying, root }
    }

    /// Runs a fetch or a move of the work tree until its end or the operation's. The turn ends with the call itself: a
    /// blocking call goes on when its caller hangs up.
    pub(crate) async fn with_vcs_in<T: Send + 'static>(
        &self,
        turn: VcsTurn,
        (at_end, cancelled): (AtEnd, &CancelToken),
        call: impl FnOnce(&dyn Vcs, &Cancel) -> Result<T, VcsError> + Send + 'static,
    ) -> Result<T, VcsError> {
        let cancel = Cancel::new();
        let given = cancel.clone();
        let running = self.with_vcs(move |vcs| {
            let result = call(vcs, &given);
            drop(turn);
            result
        });
        self.call_ends(cancelled).wait(at_end, &cancel, running).await
    }

    /// Has the repository tidied up, if nobody else needs it.
    pub(crate) fn tidy_up(&self) {
        if let (Some(vcs), Ok(turn)) = (&self.place().vcs, Arc::clone(&self.vcs_turn).try_lock_owned()) {
            self.maintenance.begin(Arc::clone(vcs), turn, &self.threads.repository);
        }
    }

    /// Runs something of the repository on a thread that may block.
    pub(crate) async fn with_vcs<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Vcs) -> Result<T, VcsError> + Send + 'static,
    ) -> Result<T, VcsError> {
        let place = self.place();
        let vcs = place.vcs.clone().ok_or_else(|| VcsError::NotFound(place.file.clone()))?;
        let root = vcs.root().to_owned();
        // Each call has limits of its own.
        let answer = self.threads.repository.run(Duration::MAX, move |_| call(&*vcs)).await;
        answer.unwrap_or_else(|unanswered| Err(unasked(root, unanswered)))
    }
}

/// The error for a question that did not come to the repository.
fn unasked(root: PathBuf, unanswered: Unanswered) -> VcsError {
    match unanswered {
        Unanswered::Busy { .. } | Unanswered::TimedOut { .. } | Unanswered::Stuck { .. } => {
            VcsError::Busy { root }
        }
        Unanswered::NoThread(error) => VcsError::NoThread { root, source: error.source },
        Unanswered::Panicked { message } => VcsError::Defect { message },
        Unanswered::Cancelled => VcsError::Cancelled,
    }
}

/// The right to fetch or to move the work tree.
pub(crate) type VcsTurn = OwnedMutexGuard<()>;
