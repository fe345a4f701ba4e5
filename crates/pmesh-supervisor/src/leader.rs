//! The first process of a tree, and how it ends.

use std::{io, os::fd::OwnedFd};

use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::{io::unix::AsyncFd, process::Child};

use crate::{Exit, sys};

/// The first process of a tree. It is not reaped before this is dropped or [`Leader::release`]d.
#[derive(Debug)]
pub(crate) struct Leader {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    /// When this is dropped, tokio reaps the process, now or when it ends.
    child: Mutex<Option<Child>>,
    exit: Mutex<Option<Exit>>,
}

impl Leader {
    pub(crate) fn new(mut child: Child) -> io::Result<Self> {
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.expect("a child that was not waited for has a pid");
        match rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)
            .map_err(io::Error::from)
            .and_then(sys::watch)
        {
            Ok(pidfd) => Ok(Self { pid, pidfd, child: Mutex::new(Some(child)), exit: Mutex::new(None) }),
            Err(error) => {
                // Without the pidfd nobody could learn of its end. It is not reaped yet, so the pid is still
                // its own.
                child.start_kill()?;
                Err(error)
            }
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    /// Resolves when the leader has ended.
    pub(crate) async fn exited(&self) -> Exit {
        loop {
            if let Some(exit) = self.look() {
                return exit;
            }
            match self.pidfd.readable().await {
                // A pidfd stays readable once the process has ended.
                Ok(mut guard) => {
                    if self.look().is_none() {
                        guard.clear_ready();
                    }
                }
                // The runtime is shutting down.
                Err(_) => return Exit::Unknown,
            }
        }
    }

    /// How the leader ended, if it has. Does not reap it.
    pub(crate) fn look(&self) -> Option<Exit> {
        let mut exit = self.exit.lock();
        if exit.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            *exit = match rustix::process::waitid(WaitId::PidFd(as_fd(&self.pidfd)), options) {
                Ok(None) | Err(rustix::io::Errno::INTR) => None,
                Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => Exit::Unknown,
                }),
                // Somebody else reaped it.
                Err(_) => Some(Exit::Unknown),
            };
        }
        *exit
    }

    /// Signals the leader's process group, in one step and without a look at `/proc`.
    pub(crate) fn signal_group(&self, signal: Signal) {
        // While the child is held it is not reaped, so its pid cannot belong to another process, not even
        // once it is a zombie.
        if let Some(_held) = &*self.child.lock() {
            ignore_gone(rustix::process::kill_process_group(self.pid, signal));
        }
    }

    pub(crate) fn release(&self) {
        // Dropping the child reaps it, so its exit status must be read before.
        if self.look().is_some() {
            drop(self.child.lock().take());
        }
    }

    pub(crate) fn is_released(&self) -> bool {
        self.child.lock().is_none()
    }
}

fn as_fd(pidfd: &AsyncFd<OwnedFd>) -> rustix::fd::BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(pidfd.get_ref())
}

/// For signals and waits: that a process is gone is what was wanted; and one that may not be signalled (it
/// changed its user) is found by the next look at the tree.
pub(crate) fn ignore_gone(result: rustix::io::Result<()>) {
    if let Err(error) = result
        && error != rustix::io::Errno::SRCH
        && error != rustix::io::Errno::CHILD
    {
        tracing::warn!(%error, "a process of a service cannot be signalled");
    }
}
