//! The threads themselves, and their queue.

use std::{
    collections::VecDeque,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{
    NoThread, PoolLimits, Unanswered,
    thread_pool::{Intake, ThreadPool},
};

/// How often it is said at most that a thread was refused.
const SILENCE: Duration = Duration::from_mins(1);

/// What each thread does before its first job; if it fails, the thread does none.
pub type AtStart = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// What the threads, their owner and whoever waits have in common.
pub(crate) struct Crew {
    name: String,
    at_start: Option<AtStart>,
    state: Mutex<State>,
    changed: Condvar,
    /// Threads of a test: a paused clock stands still while a job is under way.
    #[cfg(feature = "testing")]
    holds_clock: bool,
}

struct State {
    pool: ThreadPool,
    jobs: VecDeque<Job>,
    next_ticket: u64,
    is_closed: bool,
    /// When it was last said that a thread was refused.
    said: Option<Instant>,
}

/// The number of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobTicket(u64);

struct Job {
    ticket: JobTicket,
    /// When its thread stands still.
    overdue: Instant,
    run: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("name", &self.name)
            .field("pool", &self.state.lock().pool)
            .finish_non_exhaustive()
    }
}

impl Crew {
    pub(crate) fn new(name: String, limits: PoolLimits, at_start: Option<AtStart>) -> Self {
        let pool = ThreadPool::new(limits);
        let state = State { pool, jobs: VecDeque::new(), next_ticket: 0, is_closed: false, said: None };
        Self {
            name,
            at_start,
            state: Mutex::new(state),
            changed: Condvar::new(),
            #[cfg(feature = "testing")]
            holds_clock: false,
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn holding_the_clock(self) -> Self {
        Self { holds_clock: true, ..self }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn holds_clock(&self) -> bool {
        self.holds_clock
    }

    /// Starts the first thread.
    pub(crate) fn begin(self) -> Result<Arc<Self>, NoThread> {
        let crew = Arc::new(self);
        crew.state.lock().pool.prepare();
        crew.start()?;
        Ok(crew)
    }

    /// The owner is gone.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.jobs)
        };
        self.changed.notify_all();
        // Whoever waits for one of them is told.
        drop(waiting);
    }

    /// Puts a job into the queue and sees to a thread for it. Answers also when to look whether it has begun.
    pub(crate) fn submit(
        self: &Arc<Self>,
        now: Instant,
        overdue: Instant,
        run: Box<dyn FnOnce() + Send>,
    ) -> Result<(JobTicket, Instant), Unanswered> {
        let (ticket, admission, look) = {
            let mut state = self.state.lock();
            let admission = state.pool.submit(now);
            match admission {
                Intake::Busy => return Err(Unanswered::Busy { name: self.name.clone() }),
                Intake::Stuck => return Err(Unanswered::Stuck { name: self.name.clone() }),
                Intake::Queue | Intake::Start => {}
            }
            let ticket = JobTicket(state.next_ticket);
            state.next_ticket += 1;
            state.jobs.push_back(Job { ticket, overdue, run });
            (ticket, admission, state.pool.next_look(now))
        };
        self.changed.notify_one();
        if admission == Intake::Start
            && let Err(error) = self.start()
        {
            self.withdraw(ticket);
            return Err(Unanswered::NoThread(error));
        }
        Ok((ticket, look))
    }

    /// Takes a job back that has not begun.
    pub(crate) fn withdraw(&self, ticket: JobTicket) {
        let withdrawn = {
            let mut state = self.state.lock();
            let at = state.jobs.iter().position(|job| job.ticket == ticket);
            let job = at.and_then(|at| state.jobs.remove(at));
            if job.is_some() {
                state.pool.withdraw();
            }
            job
        };
        // What is dropped here is the caller's and may do anything: never under the lock.
        drop(withdrawn);
    }

    /// Starts a thread in the place of one that has come to stand still, if this job waits for one. Answers when to look
    /// again, if it still does.
    pub(crate) fn replace_stuck(
        self: &Arc<Self>,
        ticket: JobTicket,
        now: Instant,
    ) -> Result<Option<Instant>, Unanswered> {
        let (is_wanted, look) = {
            let mut state = self.state.lock();
            if !state.jobs.iter().any(|job| job.ticket == ticket) {
                return Ok(None);
            }
            (state.pool.wants_thread(now), state.pool.next_look(now))
        };
        if is_wanted {
            self.start().map_err(Unanswered::NoThread)?;
        }
        Ok(Some(look))
    }

    pub(crate) fn timed_out(&self) -> Unanswered {
        Unanswered::TimedOut { name: self.name.clone() }
    }

    /// Starts a thread that the pool has counted already. Where others are there, they do its work as well.
    fn start(self: &Arc<Self>) -> Result<(), NoThread> {
        let started = match &self.at_start {
            None => self.spawn(|| true),
            Some(at_start) => {
                let (ready, is_ready) = mpsc::sync_channel(1);
                let at_start = Arc::clone(at_start);
                let spawned = self.spawn(move || {
                    let prepared = at_start();
                    let is_good = prepared.is_ok();
                    // Whoever starts a thread waits for this.
                    drop(ready.send(prepared));
                    is_good
                });
                let ended = || Err(io::Error::other("the thread ended at its start"));
                spawned.and_then(|()| is_ready.recv().unwrap_or_else(|_| ended()))
            }
        };
        started.or_else(|error| {
            let now = Instant::now();
            let mut state = self.state.lock();
            state.pool.not_started(now);
            if !state.pool.has_threads() {
                return Err(NoThread { name: self.name.clone(), source: error });
            }
            let is_due = state.said.is_none_or(|said| now >= said + SILENCE);
            if is_due {
                state.said = Some(now);
            }
            drop(state);
            if is_due {
                tracing::warn!(%error, name = self.name, "no further thread could be started; those that are there go on");
            }
            Ok(())
        })
    }

    fn spawn(self: &Arc<Self>, prepare: impl FnOnce() -> bool + Send + 'static) -> io::Result<()> {
        let crew = Arc::clone(self);
        let body = move || {
            if prepare() {
                crew.work();
            }
        };
        // Detached: it ends with its pool, and nothing can end one that stands still.
        std::thread::Builder::new().name(self.name.clone()).spawn(body).map(drop)
    }

    /// What a thread does until its pool is dropped.
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return;
            }
            if let Some(Job { overdue, run, .. }) = state.jobs.pop_front() {
                let id = state.pool.begin(overdue);
                drop(state);
                // The job's own panic is its answer; what it leaves behind may panic as well when it is dropped.
                if catch_unwind(AssertUnwindSafe(run)).is_err() {
                    tracing::error!(
                        name = self.name,
                        "what a job has left behind panicked when it was dropped"
                    );
                }
                state = self.state.lock();
                state.pool.end(id);
                if state.pool.retire(Instant::now()) {
                    return;
                }
            } else {
                self.changed.wait(&mut state);
            }
        }
    }
}
