//! Processes whose parent has ended: they come to this one, so that whoever was started here stays below it,
//! however it was started.

use std::{convert::Infallible, io};

use rustix::{
    io::Errno,
    process::{WaitId, WaitIdOptions, getpid, set_child_subreaper, waitid},
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

/// `__WNOTHREAD` of linux/wait.h: of the calling thread's own children alone.
const OWN_CHILDREN: u32 = 0x2000_0000;

/// Takes in orphans from now on (prctl(2), `PR_SET_CHILD_SUBREAPER`).
pub(crate) fn adopt() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Reaps orphans that end: nobody else waits for them.
///
/// An orphan becomes a child of the main thread, the first of the process, and children of other threads are
/// left alone: those are the services and git, for which somebody waits. It holds because the main thread never
/// starts a process that outlives the call, and because the threads that do live as long as the process or
/// their child.
pub(crate) struct Orphans {
    child_ended: Signal,
}

impl Orphans {
    /// Must be called in a tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { child_ended: signal(SignalKind::child())? })
    }

    /// Reaps for as long as it is polled, which must be on the main thread.
    pub(crate) async fn reap(&mut self) -> Infallible {
        loop {
            reap_ended();
            // Several ends may be one signal.
            if self.child_ended.recv().await.is_none() {
                // The runtime ends.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn reap_ended() {
    let options =
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::from_bits_retain(OWN_CHILDREN);
    loop {
        match waitid(WaitId::All, options) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return,
            Err(error) => {
                warn!(%error, "processes that have lost their parent cannot be reaped");
                return;
            }
        }
    }
}
