//! Membership by control group: exact, whatever the members do.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use rustix::process::Signal as OsSignal;
use tokio::io::Interest;

use crate::{
    Containment, Signal,
    cgroups::{Leaf, is_populated},
    leader::{Leader, ignore_gone},
    membership::Membership,
    proc::Proc,
    session_members::open_pidfd,
    sys,
};

/// The wait for the next look where the group could not be watched, or SIGKILL is sent once more.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often SIGKILL is sent to who is left of a group; from then on its end is waited for alone.
const KILLS: u32 = 20;

/// Whoever was born in the group of a tree: a process leaves it only if somebody who may puts it elsewhere.
#[derive(Debug)]
pub(crate) struct CgroupMembers {
    leader: Arc<Leader>,
    leaf: Leaf,
    /// Whatever is found from now on is killed as well.
    killed: AtomicBool,
}

impl CgroupMembers {
    pub(crate) fn new(leader: Arc<Leader>, leaf: Leaf) -> Self {
        Self { leader, leaf, killed: AtomicBool::new(false) }
    }

    fn kill(&self) {
        if let Err(error) = self.leaf.kill()
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a control group cannot be ended at once; its processes are, one by one");
        }
        // The kernel leaves out processes whose first thread has ended.
        self.leader.signal_group(OsSignal::KILL);
        self.signal_others(&[OsSignal::KILL]);
    }

    /// Signals the members outside of the leader's group of processes.
    fn signal_others(&self, signals: &[OsSignal]) {
        let leader = self.leader.number();
        let others: Vec<u32> = self.leaf.pids().into_iter().filter(|&pid| pid != leader).collect();
        if others.is_empty() {
            return;
        }
        let mut proc = match Proc::open() {
            Ok(proc) => proc,
            Err(error) => {
                tracing::warn!(%error, "cannot open /proc; processes that left their group are not signalled");
                return;
            }
        };
        for pid in others {
            let Ok(Some(stat)) = proc.stat(pid) else { continue };
            if stat.group == leader {
                continue;
            }
            // Asked after the open: whom the descriptor holds is a member.
            if let Some(pidfd) = open_pidfd(&mut proc, &stat)
                && self.leaf.holds(pid)
            {
                for &signal in signals {
                    ignore_gone(rustix::process::pidfd_send_signal(&pidfd, signal));
                }
            }
        }
    }

    /// Resolves when nobody is in the group.
    async fn watch(&self) -> io::Result<()> {
        let events = match self.leaf.events() {
            Ok(events) => sys::watch_for(events, Interest::PRIORITY)?,
            // Only an empty group can have been removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut kills = 0;
        loop {
            // Read after the wait has been set up, so that no change is missed.
            if !is_populated(&content(events.get_ref())?) {
                return Ok(());
            }
            let kill_again = self.killed.load(Ordering::Acquire) && kills < KILLS;
            tokio::select! {
                ready = events.ready(Interest::PRIORITY) => ready?.clear_ready(),
                () = tokio::time::sleep(LOOK_AGAIN), if kill_again => {
                    kills += 1;
                    self.kill();
                }
            }
        }
    }
}

impl Drop for CgroupMembers {
    fn drop(&mut self) {
        self.leaf.remove();
    }
}

impl Membership for CgroupMembers {
    fn pids(&self) -> Vec<u32> {
        let leader = self.leader.number();
        let others = self.leaf.pids().into_iter().filter(|&pid| pid != leader);
        self.leader.look().is_none().then_some(leader).into_iter().chain(others).collect()
    }

    fn signal(&self, signal: Signal) {
        match signal {
            Signal::Terminate => {
                for signal in [OsSignal::TERM, OsSignal::CONT] {
                    self.leader.signal_group(signal);
                }
                self.signal_others(&[OsSignal::TERM, OsSignal::CONT]);
            }
            Signal::Kill => {
                self.killed.store(true, Ordering::Release);
                self.kill();
            }
        }
    }

    fn emptied(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // While the leader lives there is a member.
            self.leader.exited().await;
            while let Err(error) = self.watch().await {
                tracing::debug!(%error, "a control group cannot be watched");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
    }

    fn containment(&self) -> Containment {
        Containment::Cgroup
    }
}

fn content(events: &OwnedFd) -> io::Result<String> {
    let mut bytes = [0; 256];
    let count = File::from(events.try_clone()?).read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}
