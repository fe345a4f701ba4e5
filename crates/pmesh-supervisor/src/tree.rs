//! The processes that came from one spawn: who they are, how they are signalled, when they are gone.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
    stream::{FuturesUnordered, StreamExt},
};
use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal as OsSignal, WaitId, WaitIdOptions, WaitOptions};
use tokio::{io::unix::AsyncFd, process::Child};

use crate::{
    Exit, ProcessTree, Signal,
    proc::{Proc, Stat},
    sys,
};

/// How long a view of the process table serves callers that cannot wait for a new one: from the end of
/// the look on, for on a crowded machine the look itself takes longer than this.
const FRESH: Duration = Duration::from_millis(10);

/// How many processes of one tree are waited for at a time. What is left when they have ended is
/// found by the next look.
const WATCHED: usize = 64;

/// How many processes that left their session are remembered for one tree.
const ESCAPED: usize = 1024;

/// The wait for the next look where no descriptor was left to wait with.
const WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(100);

/// The process table at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    stats: Vec<Stat>,
    by_session: HashMap<u32, Vec<usize>>,
    by_parent: HashMap<u32, Vec<usize>>,
}

impl Snapshot {
    fn new(stats: Vec<Stat>) -> Self {
        let mut snapshot = Self { stats, ..Self::default() };
        for (index, stat) in snapshot.stats.iter().enumerate() {
            snapshot.by_session.entry(stat.session).or_default().push(index);
            snapshot.by_parent.entry(stat.parent).or_default().push(index);
        }
        snapshot
    }

    /// None where `/proc` cannot be read, such as without a free descriptor: then nothing is known,
    /// which is not the same as an empty table.
    fn take() -> Option<Arc<Self>> {
        match Proc::open().and_then(|mut proc| proc.scan()) {
            Ok(stats) => Some(Arc::new(Self::new(stats))),
            Err(error) => {
                tracing::warn!(%error, "cannot read /proc; the processes of services are not seen");
                None
            }
        }
    }

    fn find(&self, pid: u32) -> Option<&Stat> {
        self.stats.binary_search_by_key(&pid, |stat| stat.pid).ok().map(|index| &self.stats[index])
    }

    /// The processes of the session, `escaped` ones that still live, and all their descendants;
    /// zombies too.
    fn members(&self, session: u32, escaped: &HashSet<(u32, u64)>) -> Vec<Stat> {
        let mut queue: Vec<usize> = self.by_session.get(&session).cloned().unwrap_or_default();
        for &(pid, start) in escaped {
            let found = self.stats.binary_search_by_key(&pid, |stat| stat.pid);
            queue.extend(found.ok().filter(|&index| self.stats[index].start == start));
        }
        let mut seen: HashSet<usize> = queue.iter().copied().collect();
        let mut next = 0;
        while let Some(&index) = queue.get(next) {
            next += 1;
            for &child in self.by_parent.get(&self.stats[index].pid).into_iter().flatten() {
                if seen.insert(child) {
                    queue.push(child);
                }
            }
        }
        queue.into_iter().map(|index| self.stats[index]).collect()
    }
}

type Taking = Shared<BoxFuture<'static, Option<Arc<Snapshot>>>>;

/// Views of the process table, shared by all trees of a spawner: trees that end or are signalled at the
/// same time share looks at `/proc`.
#[derive(Default)]
pub(crate) struct Snapshots {
    latest: Mutex<Option<(Instant, Arc<Snapshot>)>>,
    taking: Mutex<Option<(Arc<AtomicBool>, Taking)>>,
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").finish_non_exhaustive()
    }
}

impl Snapshots {
    /// A view that was finished at most [`FRESH`] ago. Blocks for the read of `/proc`, a few
    /// milliseconds, if there is none.
    fn recent(&self) -> Option<Arc<Snapshot>> {
        self.recent_or(Snapshot::take)
    }

    fn recent_or(&self, take: impl FnOnce() -> Option<Arc<Snapshot>>) -> Option<Arc<Snapshot>> {
        let mut latest = self.latest.lock();
        if let Some((taken, snapshot)) = &*latest
            && taken.elapsed() <= FRESH
        {
            return Some(Arc::clone(snapshot));
        }
        let snapshot = take()?;
        *latest = Some((Instant::now(), Arc::clone(&snapshot)));
        Some(snapshot)
    }

    /// A view that is taken after this call. Callers that wait for the same turn share it.
    fn next(self: &Arc<Self>) -> Taking {
        let mut taking = self.taking.lock();
        if let Some((begun, future)) = &*taking
            && !begun.load(Ordering::Acquire)
        {
            return future.clone();
        }
        let before = taking.take();
        let begun = Arc::new(AtomicBool::new(false));
        let (flag, snapshots) = (Arc::clone(&begun), Arc::downgrade(self));
        let future = async move {
            if let Some((_, before)) = before {
                before.await;
            }
            flag.store(true, Ordering::Release);
            // The pool refuses work only when the runtime ends; then nobody waits any more.
            let snapshot = tokio::task::spawn_blocking(Snapshot::take).await.unwrap_or_default();
            if let (Some(snapshots), Some(snapshot)) = (snapshots.upgrade(), &snapshot) {
                *snapshots.latest.lock() = Some((Instant::now(), Arc::clone(snapshot)));
            }
            snapshot
        };
        let future = future.boxed().shared();
        *taking = Some((begun, future.clone()));
        future
    }
}

/// The first process of a tree, not reaped before this is dropped or [`Leader::release`]d.
#[derive(Debug)]
pub(crate) struct Leader {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    /// Dropped, tokio reaps it, now or when it ends.
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
                // Nobody could learn of its end; it is not reaped yet, so the pid is its own.
                child.start_kill()?;
                Err(error)
            }
        }
    }

    fn number(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    /// Resolves when the leader has ended.
    pub(crate) async fn exited(&self) -> Exit {
        loop {
            if let Some(exit) = self.look() {
                return exit;
            }
            match self.pidfd.readable().await {
                // A pidfd stays readable from the process's end on.
                Ok(mut guard) => {
                    if self.look().is_none() {
                        guard.clear_ready();
                    }
                }
                // The runtime ends.
                Err(_) => return Exit::Unknown,
            }
        }
    }

    /// How it ended, if it has. Does not reap it.
    fn look(&self) -> Option<Exit> {
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
    fn signal_group(&self, signal: OsSignal) {
        // While the child is held, its pid is its own, also that of a zombie.
        if let Some(_held) = &*self.child.lock() {
            ignore_gone(rustix::process::kill_process_group(self.pid, signal));
        }
    }

    fn release(&self) {
        // Reaps on drop, so the exit must be known before.
        if self.look().is_some() {
            drop(self.child.lock().take());
        }
    }

    fn is_released(&self) -> bool {
        self.child.lock().is_none()
    }
}

fn as_fd(pidfd: &AsyncFd<OwnedFd>) -> rustix::fd::BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(pidfd.get_ref())
}

/// A tree of this machine's processes.
#[derive(Debug)]
pub(crate) struct OsTree {
    leader: Arc<Leader>,
    snapshots: Arc<Snapshots>,
    /// Pid and start time of descendants that left the session.
    escaped: Mutex<HashSet<(u32, u64)>>,
    /// Whatever is found from now on is killed as well: a fork can win a race against one signal.
    killed: AtomicBool,
}

impl OsTree {
    pub(crate) fn new(leader: Arc<Leader>, snapshots: Arc<Snapshots>) -> Self {
        Self { leader, snapshots, escaped: Mutex::default(), killed: AtomicBool::new(false) }
    }

    /// The living processes of the tree, as `snapshot` shows them.
    fn living(&self, snapshot: &Snapshot) -> Vec<Stat> {
        let session = self.leader.number();
        let mut escaped = self.escaped.lock();
        let members = snapshot.members(session, &escaped);
        escaped.retain(|&(pid, start)| snapshot.find(pid).is_some_and(|stat| stat.start == start));
        for stat in &members {
            if stat.session != session && escaped.len() < ESCAPED {
                escaped.insert((stat.pid, stat.start));
            }
        }
        drop(escaped);
        let own = std::process::id();
        let mut living = Vec::with_capacity(members.len());
        for stat in members {
            if stat.alive {
                living.push(stat);
            } else if stat.parent == own && stat.pid != session {
                // An orphan that came to us: so it does where this process is a subreaper (prctl(2))
                // or the first of its pid namespace. It is no child of tokio's, so nobody else reaps it.
                let pid = Pid::from_raw(stat.pid.cast_signed());
                ignore_gone(rustix::process::waitpid(pid, WaitOptions::NOHANG).map(drop));
            }
        }
        living.sort_by_key(|stat| (stat.pid != session, stat.pid));
        living
    }

    /// Signals the living processes outside of the leader's group.
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

/// A pidfd of the process that `stat` describes; none if that one is gone or no descriptor is left.
fn open_pidfd(proc: &mut Proc, stat: &Stat) -> Option<OwnedFd> {
    let pid = Pid::from_raw(stat.pid.cast_signed())?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // Read after the open: whoever has the start time now is whom the pidfd holds.
    let now = proc.stat(stat.pid).ok()??;
    (now.start == stat.start).then_some(pidfd)
}

/// For signals and waits: a process that is gone is what was wanted, and one that may not be
/// signalled (it changed its user) stays to be seen by the next look.
fn ignore_gone(result: rustix::io::Result<()>) {
    if let Err(error) = result
        && error != rustix::io::Errno::SRCH
        && error != rustix::io::Errno::CHILD
    {
        tracing::warn!(%error, "a process of a service cannot be signalled");
    }
}

impl ProcessTree for OsTree {
    fn leader(&self) -> u32 {
        self.leader.number()
    }

    fn pids(&self) -> Vec<u32> {
        if self.leader.is_released() {
            return Vec::new();
        }
        let living = self.snapshots.recent().map(|snapshot| self.living(&snapshot)).unwrap_or_default();
        let leader = self.leader.look().is_none().then(|| self.leader());
        // The view can be older than the leader.
        let others = living.iter().map(|stat| stat.pid).filter(|&pid| Some(pid) != leader);
        leader.into_iter().chain(others).collect()
    }

    fn signal(&self, signal: Signal) {
        if self.leader.is_released() {
            return;
        }
        let signals: &[OsSignal] = match signal {
            Signal::Terminate => &[OsSignal::TERM, OsSignal::CONT],
            Signal::Kill => &[OsSignal::KILL],
        };
        if signal == Signal::Kill {
            self.killed.store(true, Ordering::Release);
        }
        // Looked at first: a parent that ends takes the way to children outside the session along.
        let living = self.snapshots.recent().map(|snapshot| self.living(&snapshot));
        for &signal in signals {
            self.leader.signal_group(signal);
        }
        self.signal_others(&living.unwrap_or_default(), signals);
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while !self.leader.is_released() {
                // While the leader lives the tree does, and no look at /proc is needed.
                self.leader.exited().await;
                let Some(snapshot) = self.snapshots.next().await else {
                    tokio::time::sleep(WITHOUT_DESCRIPTORS).await;
                    continue;
                };
                let living = self.living(&snapshot);
                if living.is_empty() {
                    self.leader.release();
                    return;
                }
                if self.killed.load(Ordering::Acquire) {
                    self.leader.signal_group(OsSignal::KILL);
                    self.signal_others(&living, &[OsSignal::KILL]);
                }
                wait_for(&living).await;
            }
        })
    }
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

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::{FRESH, Snapshot, Snapshots};

    #[test]
    fn a_look_that_takes_longer_than_its_view_is_fresh_serves_the_next_caller_all_the_same() {
        let snapshots = Snapshots::default();
        let slow = || {
            let begin = Instant::now();
            while begin.elapsed() <= FRESH + Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            Some(Arc::new(Snapshot::default()))
        };
        let first = snapshots.recent_or(slow).expect("it was taken");
        let second = snapshots.recent_or(|| None).expect("the one that was taken");
        assert!(Arc::ptr_eq(&first, &second));
    }
}
