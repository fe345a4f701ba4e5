//! Membership where there is nothing better: by session, by descent from it as long as it was seen, and by a mark.

use std::{
    collections::HashSet,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal as OsSignal, WaitOptions};

use crate::{
    Containment, Signal,
    leader::{Leader, ignore_gone},
    membership::Membership,
    proc::{Proc, Stat},
    process_table::ProcessTable,
    process_tables::ProcessTables,
    sys,
    tree_mark::TreeMark,
};

/// How many members are waited for at a time. What is left when they have ended is found by the next
/// look.
const WATCHED: usize = 64;

/// How many processes that left their session are remembered for one tree.
const ESCAPED: usize = 1024;

/// How many processes are stopped before all are killed.
const STOPPED: usize = 4096;

/// The wait for the next look where no descriptor was left to wait with.
const WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(100);

/// The members of a leader's session, descendants that left it as far as they were seen while their
/// parent lived, and those that lost their parent and still have the leader's mark in their environment.
///
/// The leader stands for the session and for its process group, and so it must not be reaped while this
/// is asked.
#[derive(Debug)]
pub(crate) struct SessionMembers {
    leader: Arc<Leader>,
    /// What the leader's environment has, and those of its descendants that keep it.
    mark: TreeMark,
    tables: Arc<ProcessTables>,
    /// Pid and start time of descendants that left the session.
    escaped: Mutex<HashSet<(u32, u64)>>,
    /// Whatever is found from now on is killed as well: a fork can win a race against one signal.
    killed: AtomicBool,
}

impl SessionMembers {
    pub(crate) fn new(leader: Arc<Leader>, mark: TreeMark, tables: Arc<ProcessTables>) -> Self {
        Self { leader, mark, tables, escaped: Mutex::default(), killed: AtomicBool::new(false) }
    }

    /// The members as `table` shows them, zombies too.
    fn members(&self, table: &ProcessTable) -> Vec<Stat> {
        let session = self.leader.number();
        let mut escaped = self.escaped.lock();
        let members = table.members(session, Some(&self.mark), &escaped);
        escaped.retain(|&(pid, start)| table.find(pid).is_some_and(|stat| stat.start == start));
        for stat in &members {
            if stat.session != session && escaped.len() < ESCAPED {
                escaped.insert((stat.pid, stat.start));
            }
        }
        members
    }

    /// The members that live, as `table` shows them, the leader first.
    fn living(&self, table: &ProcessTable) -> Vec<Stat> {
        let session = self.leader.number();
        let mut living = self.members(table);
        living.retain(|stat| stat.alive);
        living.sort_by_key(|stat| (stat.pid != session, stat.pid));
        living
    }

    /// Reaps members that have ended and came to this process as orphans: so they do where it is a
    /// subreaper (prctl(2)) or the first of its pid namespace. They are no children of tokio's, and their
    /// end is waited for here.
    fn reap(&self, table: &ProcessTable) {
        let own = std::process::id();
        for stat in self.members(table) {
            if !stat.alive && stat.parent == own && stat.pid != self.leader.number() {
                let pid = Pid::from_raw(stat.pid.cast_signed());
                ignore_gone(rustix::process::waitpid(pid, WaitOptions::NOHANG).map(drop));
            }
        }
    }

    /// Signals the living members outside of the leader's group.
    fn signal_others(&self, living: &[Stat], signals: &[OsSignal]) {
        let group = self.leader.number();
        let mut others = living.iter().filter(|stat| stat.group != group).peekable();
        if others.peek().is_none() {
            return;
        }
        let mut proc = match Proc::open() {
            Ok(proc) => proc,
            Err(error) => {
                tracing::warn!(%error, "cannot open /proc; processes that left their group are not signalled");
                return;
            }
        };
        for stat in others {
            if let Some(pidfd) = open_pidfd(&mut proc, stat) {
                for &signal in signals {
                    ignore_gone(rustix::process::pidfd_send_signal(&pidfd, signal));
                }
            }
        }
    }
}

impl Membership for SessionMembers {
    fn pids(&self) -> Vec<u32> {
        let living = self.tables.recent().map(|table| self.living(&table)).unwrap_or_default();
        // The view can be older than the leader, or than its end.
        let leader = self.leader.number();
        let others = living.iter().map(|stat| stat.pid).filter(|&pid| pid != leader);
        self.leader.look().is_none().then_some(leader).into_iter().chain(others).collect()
    }

    fn signal(&self, signal: Signal) {
        let signals: &[OsSignal] = match signal {
            Signal::Terminate => &[OsSignal::TERM, OsSignal::CONT],
            Signal::Kill => &[OsSignal::KILL],
        };
        if signal == Signal::Kill {
            self.killed.store(true, Ordering::Release);
        }
        // Looked at first: a parent that ends takes the way to children outside the session along.
        let living = self.tables.recent().map(|table| self.living(&table));
        for &signal in signals {
            self.leader.signal_group(signal);
        }
        self.signal_others(&living.unwrap_or_default(), signals);
    }

    fn containment(&self) -> Containment {
        Containment::Mark
    }

    fn emptied(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut stopped = HashSet::new();
            loop {
                // While the leader lives there is a member, and no look at /proc is needed.
                self.leader.exited().await;
                let Some(table) = self.tables.next().await else {
                    tokio::time::sleep(WITHOUT_DESCRIPTORS).await;
                    continue;
                };
                self.reap(&table);
                let living = self.living(&table);
                if living.is_empty() {
                    return;
                }
                if self.killed.load(Ordering::Acquire) {
                    self.leader.signal_group(OsSignal::KILL);
                    // Who forks faster than one look comes after the other is stopped first, and what it has started until
                    // then, before any of them ends.
                    let is_new =
                        |stat: &Stat| stopped.len() < STOPPED && stopped.insert((stat.pid, stat.start));
                    let new: Vec<Stat> = living.iter().copied().filter(is_new).collect();
                    if !new.is_empty() {
                        self.signal_others(&new, &[OsSignal::STOP]);
                        continue;
                    }
                    self.signal_others(&living, &[OsSignal::KILL]);
                }
                wait_for(&living).await;
            }
        })
    }
}

/// A pidfd of the process that `stat` describes; none if that one is gone or no descriptor is left.
pub(crate) fn open_pidfd(proc: &mut Proc, stat: &Stat) -> Option<OwnedFd> {
    let pid = Pid::from_raw(stat.pid.cast_signed())?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // Read after the open: whoever has the start time now is whom the pidfd holds.
    let now = proc.stat(stat.pid).ok()??;
    (now.start == stat.start).then_some(pidfd)
}

/// Waits until the processes, or the first [`WATCHED`] of them, have ended.
async fn wait_for(processes: &[Stat]) {
    match watch_all(processes) {
        Some(ends) => ends.for_each(|()| std::future::ready(())).await,
        None => tokio::time::sleep(WITHOUT_DESCRIPTORS).await,
    }
}

/// One future for each process that has not ended yet; `None` if none of them can be watched.
fn watch_all(processes: &[Stat]) -> Option<FuturesUnordered<impl Future<Output = ()> + use<>>> {
    let mut proc = Proc::open().ok()?;
    let mut gone = 0;
    let ends = FuturesUnordered::new();
    for stat in processes.iter().take(WATCHED) {
        if proc.stat(stat.pid).is_ok_and(|now| now.is_none_or(|now| now.start != stat.start)) {
            gone += 1;
        } else if let Some(pidfd) = open_pidfd(&mut proc, stat)
            && let Ok(pidfd) = sys::watch(pidfd)
        {
            // An error means that the runtime ends.
            ends.push(async move { drop(pidfd.readable().await) });
        }
    }
    (gone > 0 || !ends.is_empty()).then_some(ends)
}
