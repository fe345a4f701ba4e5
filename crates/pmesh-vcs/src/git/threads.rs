//! Threads of a repository's own, for what may block or must be done with another user's rights.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{
    account::User,
    ids,
    thread_pool::{Intake, PoolLimits, ThreadPool},
};
use crate::Cancel;

/// The bounds: reads take less than a millisecond, and what is slow waits for one disk.
const LIMITS: PoolLimits = PoolLimits { threads: 4, queue: 64, replacements: 4 };

/// How long what still moves at its limit has to say so.
const GRACE: Duration = Duration::from_millis(500);

/// Named threads that stay. Dropped, those that are idle end, and the others as soon as they can.
#[derive(Debug)]
pub(super) struct Threads(Arc<Shared>);

struct Shared {
    name: String,
    /// As whom the threads open files, if not as the server itself. They take that user's ids at their start, for
    /// good: nothing has to be set back, and nothing can be forgotten.
    user: Option<User>,
    /// Taking them must change nothing for the process.
    leaves_core_files: bool,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    pool: ThreadPool,
    jobs: VecDeque<Job>,
    next_ticket: u64,
    is_closed: bool,
}

struct Job {
    ticket: u64,
    until: Instant,
    run: Box<dyn FnOnce() + Send>,
}

/// Tells a job that nobody waits for it any more.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    is_cancelled: Arc<AtomicBool>,
    until: Instant,
}

impl Stop {
    /// Whether its caller has left.
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// The end of its time.
    pub(super) fn until(&self) -> Instant {
        self.until
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The time is over, and the job stands still or has not begun.
    TimedOut,
    Cancelled,
    /// No thread could be started, or it could not take its user's ids.
    NoThread(io::Error),
    Panicked(String),
}

enum JobEnd<T> {
    Done(T),
    Panicked(String),
    Cancelled,
}

impl Threads {
    /// Threads that are called `name` (15 bytes are shown, `prctl(2)`) and open files as `user`, or as the server.
    pub(super) fn new(name: String, user: Option<User>) -> Self {
        let pool = ThreadPool::new(LIMITS);
        let state = State { pool, jobs: VecDeque::new(), next_ticket: 0, is_closed: false };
        Self(Arc::new(Shared {
            name,
            user,
            leaves_core_files: ids::leaves_core_files(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }))
    }

    /// As whom the threads open files.
    pub(super) fn user(&self) -> Option<&User> {
        self.0.user.as_ref()
    }

    /// Runs `job` on one of the threads and waits for its answer, as long as `limit`.
    pub(super) fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        cancel: &Cancel,
        job: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let begun = Instant::now();
        let until = begun + limit;
        let stop = Stop { is_cancelled: Arc::default(), until };
        let (replies, replied) = mpsc::sync_channel(2);
        let run = answering(job, stop.clone(), replies.clone());
        let ticket = self.0.submit(begun, until + GRACE, Box::new(run))?;
        let _waiting = Waiting { shared: &self.0, ticket };
        let _registered = cancel.on_cancel(move || {
            stop.is_cancelled.store(true, Ordering::Relaxed);
            // There is room for this reply and one more; where the job's came first, it counts.
            drop(replies.try_send(JobEnd::Cancelled));
        });
        loop {
            let now = Instant::now();
            let left = (until + GRACE).saturating_duration_since(now);
            let look_again = self.0.state.lock().pool.next_overdue(now);
            let pause = look_again.map_or(left, |at| left.min(at.saturating_duration_since(now)));
            match replied.recv_timeout(pause) {
                Ok(JobEnd::Done(answer)) => return Ok(answer),
                Ok(JobEnd::Panicked(message)) => return Err(Unanswered::Panicked(message)),
                Ok(JobEnd::Cancelled) => return Err(Unanswered::Cancelled),
                Err(RecvTimeoutError::Timeout) if left > pause => self.0.replace_stuck()?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(Unanswered::TimedOut);
                }
            }
        }
    }
}

/// `job` with its answer as a message.
fn answering<T: Send + 'static>(
    job: impl FnOnce(&Stop) -> T + Send + 'static,
    stop: Stop,
    replies: SyncSender<JobEnd<T>>,
) -> impl FnOnce() + Send + 'static {
    move || {
        let reply = match catch_unwind(AssertUnwindSafe(|| job(&stop))) {
            Ok(answer) => JobEnd::Done(answer),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                JobEnd::Panicked(text.unwrap_or_else(|| "it panicked".to_owned()))
            }
        };
        // Whoever asked may have left.
        drop(replies.try_send(reply));
    }
}

/// Whoever waits for a job. Dropped, a job that has not begun is taken back.
struct Waiting<'a> {
    shared: &'a Shared,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if let Some(at) = state.jobs.iter().position(|job| job.ticket == self.ticket) {
            state.jobs.remove(at);
            state.pool.withdraw();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.state.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name)
            .field("pool", &self.state.lock().pool)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Puts a job into the queue and sees to a thread for it.
    fn submit(
        self: &Arc<Self>,
        now: Instant,
        until: Instant,
        run: Box<dyn FnOnce() + Send>,
    ) -> Result<u64, Unanswered> {
        let (ticket, admission) = {
            let mut state = self.state.lock();
            let admission = state.pool.submit(now);
            if admission == Intake::Refuse {
                return Err(Unanswered::TimedOut);
            }
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.jobs.push_back(Job { ticket, until, run });
            (ticket, admission)
        };
        self.changed.notify_one();
        if admission == Intake::Start
            && let Err(error) = self.start()
        {
            drop(Waiting { shared: self, ticket });
            return Err(error);
        }
        Ok(ticket)
    }

    /// Starts a thread in the place of one that has come to stand still.
    fn replace_stuck(self: &Arc<Self>) -> Result<(), Unanswered> {
        let is_wanted = self.state.lock().pool.wants_thread(Instant::now());
        if is_wanted { self.start() } else { Ok(()) }
    }

    /// Starts a thread that the pool has counted already. Where others are there, they do its work as well.
    fn start(self: &Arc<Self>) -> Result<(), Unanswered> {
        let (ready, is_ready) = mpsc::sync_channel(1);
        let shared = Arc::clone(self);
        let body = move || {
            let user = shared.user.as_ref();
            let taken = user.map_or(Ok(()), |user| ids::open_files_as(user, shared.leaves_core_files));
            let is_good = taken.is_ok();
            // Whoever starts a thread waits for this.
            drop(ready.send(taken));
            if is_good {
                shared.work();
            }
        };
        let started = std::thread::Builder::new().name(self.name.clone()).spawn(body).and_then(|_| {
            is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at its start")))
        });
        started.or_else(|error| {
            let mut state = self.state.lock();
            state.pool.not_started();
            let others = state.pool.has_threads();
            drop(state);
            if others {
                tracing::warn!(%error, name = self.name, "no further thread could be started");
                return Ok(());
            }
            Err(Unanswered::NoThread(error))
        })
    }

    /// What a thread does until its pool is dropped.
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return;
            }
            if let Some(Job { until, run, .. }) = state.jobs.pop_front() {
                let id = state.pool.begin(until);
                drop(state);
                run();
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_mins(10);

    fn threads() -> Threads {
        Threads::new("test".to_owned(), None)
    }

    /// A job that stands still until the sender is dropped.
    fn still(until: Receiver<()>) -> impl FnOnce(&Stop) + Send + 'static {
        move |_| assert!(until.recv().is_err(), "nobody sends")
    }

    #[test]
    fn a_job_answers_from_a_thread_of_that_name() {
        let name = threads().run(LONG, &Cancel::new(), |_| std::thread::current().name().map(str::to_owned));
        assert_eq!(name.unwrap().as_deref(), Some("test"));
    }

    #[test]
    fn what_stands_still_is_left_and_what_moves_says_so_itself() {
        let threads = threads();
        let (_held, until) = channel();
        let answer = threads.run(SOON, &Cancel::new(), still(until));
        assert!(matches!(answer, Err(Unanswered::TimedOut)), "{answer:?}");
        let moves = threads.run(SOON, &Cancel::new(), |stop| {
            while Instant::now() < stop.until() {
                std::thread::yield_now();
            }
            "too long"
        });
        assert_eq!(moves.unwrap(), "too long");
    }

    #[test]
    fn threads_that_stand_still_are_replaced_and_at_last_the_answer_comes_at_once() {
        let threads = threads();
        let mut held = Vec::new();
        for _ in 0..LIMITS.threads + LIMITS.replacements {
            let (hold, until) = channel();
            held.push(hold);
            assert!(matches!(threads.run(SOON, &Cancel::new(), still(until)), Err(Unanswered::TimedOut)));
        }
        let refused = threads.run(LONG, &Cancel::new(), |_| ());
        assert!(matches!(refused, Err(Unanswered::TimedOut)), "{refused:?}");
        drop(held.pop());
        // The thread that was freed takes the next job, as soon as it has come back.
        while threads.run(LONG, &Cancel::new(), |_| ()).is_err() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn whoever_cancels_waits_no_longer_and_the_job_is_told() {
        let threads = threads();
        let cancel = Cancel::new();
        let (begun, has_begun) = channel();
        let (told, is_told) = channel();
        std::thread::scope(|scope| {
            let canceller = cancel.clone();
            scope.spawn(move || {
                has_begun.recv().unwrap();
                canceller.cancel();
            });
            let answer = threads.run(LONG, &cancel, move |stop| {
                begun.send(()).unwrap();
                while !stop.is_cancelled() {
                    std::thread::yield_now();
                }
                told.send(()).unwrap();
            });
            assert!(matches!(answer, Err(Unanswered::Cancelled)), "{answer:?}");
        });
        is_told.recv().unwrap();
    }

    #[test]
    fn a_panic_is_an_answer_and_its_thread_works_on() {
        let threads = threads();
        for _ in 0..2 * LIMITS.threads {
            let answer = threads.run(LONG, &Cancel::new(), |_| panic!("like this"));
            assert!(matches!(answer, Err(Unanswered::Panicked(said)) if said == "like this"));
        }
        assert_eq!(threads.run(LONG, &Cancel::new(), |_| 1).unwrap(), 1);
    }

    #[test]
    fn the_threads_of_another_user_read_what_that_user_may_and_no_other_thread_does() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can read as somebody else");
            return;
        }
        let threads = Threads::new("git-nobody".to_owned(), Some(User::of(65534, 65534)));
        let read = |path: &'static str| {
            threads.run(LONG, &Cancel::new(), move |_| std::fs::read(path).map_err(|error| error.kind()))
        };
        assert_eq!(read("/etc/shadow").unwrap(), Err(io::ErrorKind::PermissionDenied));
        assert!(read("/etc/passwd").unwrap().is_ok());
        // A thread that one of them starts is like it.
        let inherited = threads.run(LONG, &Cancel::new(), |_| {
            std::thread::spawn(|| std::fs::read("/etc/shadow").is_err()).join().unwrap()
        });
        assert!(inherited.unwrap());
        assert!(std::fs::read("/etc/shadow").is_ok(), "this thread is root's");
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(dumpable, rustix::process::DumpableBehavior::Dumpable, "core files are as before");
    }
}
