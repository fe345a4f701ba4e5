//! Tidying up the repository in the background, as long as nobody else needs it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use pmesh_supervisor::CancelToken;
use pmesh_threads::{Threads, Waiting};
use pmesh_vcs::{Cancel, Vcs, VcsError};
use tokio::{sync::OwnedMutexGuard, time::timeout};
use tracing::{debug, warn};

use crate::vcs_call::HURRIED_LIMIT;

/// What is under way, at most one.
#[derive(Debug, Default)]
pub(crate) struct Maintenance(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    cancel: Cancel,
    task: Waiting<()>,
}

impl Maintenance {
    /// Begins with the right to move the work tree, which is given back at the end.
    pub(crate) fn begin(&self, vcs: Arc<dyn Vcs>, turn: OwnedMutexGuard<()>, threads: &Threads) {
        let cancel = Cancel::new();
        let ended = cancel.clone();
        let task = threads.begin(Duration::MAX, move |_| {
            match vcs.maintain(&ended) {
                Ok(()) => debug!("the repository is tidied up"),
                Err(VcsError::Cancelled) => debug!("tidying up the repository is left for later"),
                Err(error) => {
                    warn!(error = crate::in_one_line(&error), "the repository could not be tidied up");
                }
            }
            drop(turn);
        });
        match task {
            Ok(task) => *self.0.lock() = Some(Running { cancel, task }),
            Err(error) => debug!(%error, "tidying up the repository is left for later"),
        }
    }

    /// Has it end soon, for somebody who needs the repository.
    pub(crate) fn make_room(&self) {
        if let Some(running) = &*self.0.lock() {
            running.cancel.cancel();
        }
    }

    /// Ends it and waits for that: a few seconds at most.
    pub(crate) async fn end(&self, hurrying: &CancelToken) {
        let running = self.0.lock().take();
        let Some(Running { cancel, mut task }) = running else { return };
        cancel.cancel();
        let ended = tokio::select! {
            ended = &mut task => Ok(ended),
            () = hurrying.cancelled() => {
                cancel.hurry();
                timeout(HURRIED_LIMIT, task).await
            }
        };
        let Ok(ended) = ended else { return warn!("tidying up the repository does not end") };
        if let Err(error) = ended {
            warn!(%error, "tidying up the repository ended early");
        }
    }
}
