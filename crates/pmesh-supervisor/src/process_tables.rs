//! The process table, looked at together by all trees of a spawner.

use std::{
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
    lack::Lack, orphaned::Orphaned, proc::Proc, process_table::ProcessTable, work_threads::PROC_LIMIT,
};

/// How long a view of the process table serves callers that cannot wait for a new one: from the end of
/// the look on, for on a crowded machine the look itself takes longer than this.
const FRESH: Duration = Duration::from_millis(10);

pub(crate) type Taking = Shared<BoxFuture<'static, Option<Arc<ProcessTable>>>>;

/// Views of the process table, shared by all trees of a spawner: trees that end or are signalled at the
/// same time share looks at `/proc`.
pub(crate) struct ProcessTables {
    threads: Threads,
    orphaned: Arc<Mutex<Orphaned>>,
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
        let (orphaned, latest, taking) = <_>::default();
        Self { threads, orphaned, latest, taking, lack: Lack::default() }
    }

    /// A view that was finished at most [`FRESH`] ago. Blocks for the read of `/proc`, a few
    /// milliseconds, if there is none.
    pub(crate) fn recent(&self) -> Option<Arc<ProcessTable>> {
        self.recent_or(|| self.known(take(&self.orphaned)))
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
            let (threads, orphaned) =
                tables.upgrade().map(|it| (it.threads.clone(), Arc::clone(&it.orphaned)))?;
            let taken = threads.run(PROC_LIMIT, move |_| take(&orphaned)).await;
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

/// The processes that live now, with the marks of orphans.
fn take(orphaned: &Mutex<Orphaned>) -> io::Result<Arc<ProcessTable>> {
    let mut proc = Proc::open()?;
    let mut table = ProcessTable::seen_by(&mut proc)?;
    orphaned.lock().find(&mut table, &mut proc)?;
    Ok(Arc::new(table))
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
