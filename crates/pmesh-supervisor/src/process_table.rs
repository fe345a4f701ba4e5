//! The process table (`/proc`), looked at together by all trees of a spawner.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use pmesh_threads::Threads;

use crate::{
    lack::Lack,
    proc::{Proc, Stat},
    work_threads::PROC_LIMIT,
};

/// How long a view of the process table serves callers that cannot wait for a new one: from the end of
/// the look on, for on a crowded machine the look itself takes longer than this.
const FRESH: Duration = Duration::from_millis(10);

/// The process table at one moment.
#[derive(Debug, Default)]
pub(crate) struct ProcessTable {
    stats: Vec<Stat>,
    by_session: HashMap<u32, Vec<usize>>,
    by_parent: HashMap<u32, Vec<usize>>,
}

impl ProcessTable {
    fn new(stats: Vec<Stat>) -> Self {
        let mut table = Self { stats, ..Self::default() };
        for (index, stat) in table.stats.iter().enumerate() {
            table.by_session.entry(stat.session).or_default().push(index);
            table.by_parent.entry(stat.parent).or_default().push(index);
        }
        table
    }

    fn take() -> io::Result<Arc<Self>> {
        Self::seen_by(&mut Proc::open()?).map(Arc::new)
    }

    pub(crate) fn seen_by(proc: &mut Proc) -> io::Result<Self> {
        proc.scan().map(Self::new)
    }

    pub(crate) fn all(&self) -> &[Stat] {
        &self.stats
    }

    pub(crate) fn find(&self, pid: u32) -> Option<&Stat> {
        self.stats.binary_search_by_key(&pid, |stat| stat.pid).ok().map(|index| &self.stats[index])
    }

    /// The processes of the session, `escaped` ones that still live, and all their descendants;
    /// zombies too.
    pub(crate) fn members(&self, session: u32, escaped: &HashSet<(u32, u64)>) -> Vec<Stat> {
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

pub(crate) type Taking = Shared<BoxFuture<'static, Option<Arc<ProcessTable>>>>;

/// Views of the process table, shared by all trees of a spawner: trees that end or are signalled at the
/// same time share looks at `/proc`.
pub(crate) struct ProcessTables {
    threads: Threads,
    latest: Mutex<Option<(Instant, Arc<ProcessTable>)>>,
    taking: Mutex<Option<(Arc<AtomicBool>, Taking)>>,
    lack: Lack,
}

impl fmt::Debug for ProcessTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessTables").finish_non_exhaustive()
    }
}

impl ProcessTables {
    pub(crate) fn new(threads: Threads) -> Self {
        Self { threads, latest: Mutex::default(), taking: Mutex::default(), lack: Lack::default() }
    }

    /// A view that was finished at most [`FRESH`] ago. Blocks for the read of `/proc`, a few
    /// milliseconds, if there is none.
    pub(crate) fn recent(&self) -> Option<Arc<ProcessTable>> {
        self.recent_or(|| self.known(ProcessTable::take()))
    }

    /// None where `/proc` cannot be read, such as without a free descriptor: then nothing is known,
    /// which is not the same as an empty table.
    fn known(&self, taken: io::Result<Arc<ProcessTable>>) -> Option<Arc<ProcessTable>> {
        taken
            .inspect_err(|error| self.lack.say("the processes of services are not seen", &error.to_string()))
            .ok()
    }

    fn recent_or(&self, take: impl FnOnce() -> Option<Arc<ProcessTable>>) -> Option<Arc<ProcessTable>> {
        let mut latest = self.latest.lock();
        if let Some((taken, table)) = &*latest
            && taken.elapsed() <= FRESH
        {
            return Some(Arc::clone(table));
        }
        let table = take()?;
        *latest = Some((Instant::now(), Arc::clone(&table)));
        Some(table)
    }

    /// A view that is taken after this call. Callers that wait for the same turn share it.
    pub(crate) fn next(self: &Arc<Self>) -> Taking {
        let mut taking = self.taking.lock();
        if let Some((begun, future)) = &*taking
            && !begun.load(Ordering::Acquire)
        {
            return future.clone();
        }
        let before = taking.take();
        let begun = Arc::new(AtomicBool::new(false));
        let (flag, tables) = (Arc::clone(&begun), Arc::downgrade(self));
        let future = async move {
            if let Some((_, before)) = before {
                before.await;
            }
            flag.store(true, Ordering::Release);
            let threads = tables.upgrade()?.threads.clone();
            let taken = threads.run(PROC_LIMIT, |_| ProcessTable::take()).await;
            let tables: Arc<Self> = tables.upgrade()?;
            let table = tables.known(taken.map_err(io::Error::from).flatten())?;
            *tables.latest.lock() = Some((Instant::now(), Arc::clone(&table)));
            Some(table)
        };
        let future = future.boxed().shared();
        *taking = Some((begun, future.clone()));
        future
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::{FRESH, ProcessTable, ProcessTables};

    #[test]
    fn a_look_that_takes_longer_than_its_view_is_fresh_serves_the_next_caller_all_the_same() {
        let tables = ProcessTables::new(pmesh_threads::testing::threads("proc"));
        let slow = || {
            let begin = Instant::now();
            while begin.elapsed() <= FRESH + Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            Some(Arc::new(ProcessTable::default()))
        };
        let first = tables.recent_or(slow).expect("it was taken");
        let second = tables.recent_or(|| None).expect("the one that was taken");
        assert!(Arc::ptr_eq(&first, &second));
    }
}
