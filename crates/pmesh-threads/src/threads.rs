//! The owner's side: jobs go in here.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

#[cfg(feature = "testing")]
use crate::held_clock::HeldClock;
use crate::{
    NoThread, PoolLimits, Stop, Unanswered, Waiting,
    answer_slot::{AnswerSlot, Replier},
    crew::{AtStart, Crew},
};

/// What counts as no limit, for an `Instant` ends somewhere.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 30);

/// Named threads that stay; clones are the same ones. When the last is dropped, what waits is cancelled, threads that are
/// idle end, and the others as soon as they can.
#[derive(Clone, Debug)]
pub struct Threads(Arc<CrewOwner>);

#[derive(Debug)]
struct CrewOwner(Arc<Crew>);

impl Threads {
    /// Starts the first of the threads that are called `name` (15 bytes are shown, `prctl(2)`).
    ///
    /// # Errors
    ///
    /// [`NoThread`].
    pub fn start(name: impl Into<String>, limits: PoolLimits) -> Result<Self, NoThread> {
        Crew::new(name.into(), limits, None).begin().map(Self::of)
    }

    /// The same, and each thread does something first, such as to take a user's ids for good: nothing has to be set back
    /// then, and nothing can be forgotten.
    ///
    /// # Errors
    ///
    /// [`NoThread`], also with the error of `at_start`.
    pub fn start_with(
        name: impl Into<String>,
        limits: PoolLimits,
        at_start: AtStart,
    ) -> Result<Self, NoThread> {
        Crew::new(name.into(), limits, Some(at_start)).begin().map(Self::of)
    }

    fn of(crew: Arc<Crew>) -> Self {
        Self(Arc::new(CrewOwner(crew)))
    }

    #[cfg(feature = "testing")]
    pub(crate) fn holding_the_clock(name: String, limits: PoolLimits) -> Result<Self, NoThread> {
        Crew::new(name, limits, None).holding_the_clock().begin().map(Self::of)
    }

    /// Has `job` done on one of the threads, within `limit` (`Duration::MAX` for none): afterwards nobody waits for it, and its
    /// thread counts as one that stands still. Never waits itself, but for the start of a thread.
    ///
    /// # Errors
    ///
    /// [`Unanswered::Busy`], [`Unanswered::Stuck`] and [`Unanswered::NoThread`]; then `job` is dropped.
    pub fn begin<T: Send + 'static>(
        &self,
        limit: Duration,
        job: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<Waiting<T>, Unanswered> {
        let crew = &self.0.0;
        let now = Instant::now();
        let until = now.checked_add(limit.min(FOR_EVER)).unwrap_or(now);
        let (slot, stop) = (Arc::new(AnswerSlot::new()), Stop::new(until));
        let (replier, told) = (Replier::new(Arc::clone(&slot)), stop.clone());
        #[cfg(feature = "testing")]
        let clock = crew.holds_clock().then(HeldClock::hold);
        let run = move || {
            #[cfg(feature = "testing")]
            let _clock = clock;
            let ended = catch_unwind(AssertUnwindSafe(|| job(&told)));
            replier.give(ended.map_err(|panic| Unanswered::Panicked { message: said(&*panic) }));
        };
        let (ticket, look) = crew.submit(now, Waiting::<T>::overdue(until), Box::new(run))?;
        Ok(Waiting::new(slot, Arc::clone(crew), ticket, look, stop))
    }

    /// The same, and waits. Cancel-safe in that dropped before its job has begun, nothing is done; after, the job goes on
    /// without a listener.
    ///
    /// # Errors
    ///
    /// [`Unanswered`].
    pub async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        job: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        self.begin(limit, job)?.await
    }
}

impl Drop for CrewOwner {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            atomic::{AtomicBool, Ordering},
            mpsc::{Receiver, channel},
        },
        thread,
    };

    use parking_lot::Mutex;

    use super::*;

    const LIMITS: PoolLimits = PoolLimits { threads: 2, queue: 8, replacements: 2 };
    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_mins(10);

    fn threads() -> Threads {
        Threads::start("test", LIMITS).unwrap()
    }

    /// Threads of which the system refuses all but the first `count`.
    fn refused_after(count: usize, limits: PoolLimits) -> Result<Threads, NoThread> {
        let left = Mutex::new(count);
        let refuse = move || {
            let mut left = left.lock();
            *left = left.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
            Ok(())
        };
        Threads::start_with("test", limits, Arc::new(refuse))
    }

    fn now<T: Send + 'static>(
        threads: &Threads,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        threads.begin(LONG, move |_| job())?.wait()
    }

    /// A job that stands still until the sender is dropped.
    fn still(until: Receiver<()>) -> impl FnOnce(&Stop) + Send + 'static {
        move |_| assert!(until.recv().is_err(), "nobody sends")
    }

    /// One that has begun.
    fn standing(threads: &Threads) -> (std::sync::mpsc::Sender<()>, Waiting<()>) {
        let ((hold, until), (begun, has_begun)) = (channel(), channel());
        let job = threads.begin(LONG, move |stop| {
            begun.send(()).unwrap();
            still(until)(stop);
        });
        has_begun.recv().unwrap();
        (hold, job.unwrap())
    }

    #[test]
    fn a_job_answers_from_a_thread_of_that_name_which_is_there_before_it() {
        let (begun, has_begun) = channel();
        let at_start = Arc::new(move || begun.send(()).map_err(io::Error::other));
        let threads = Threads::start_with("test", LIMITS, at_start).unwrap();
        has_begun.try_recv().unwrap();
        let name = now(&threads, || thread::current().name().map(str::to_owned));
        assert_eq!(name.unwrap().as_deref(), Some("test"));
        assert!(has_begun.try_recv().is_err(), "one is enough for one job");
    }

    #[test]
    fn without_its_first_thread_there_is_no_pool_and_the_error_names_the_limit() {
        let error = refused_after(0, LIMITS).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::WouldBlock);
        assert!(error.to_string().starts_with("cannot start a thread (test); raise"), "{error}");
        assert!(error.to_string().contains("ulimit -u"), "{error}");
    }

    #[test]
    fn where_the_system_refuses_further_threads_those_that_are_there_do_the_work() {
        let threads = refused_after(1, LIMITS).unwrap();
        let (held, first) = standing(&threads);
        let others: Vec<_> = (0..LIMITS.queue).map(|n| threads.begin(LONG, move |_| n).unwrap()).collect();
        let busy = threads.begin(LONG, |_| ());
        assert!(matches!(busy, Err(Unanswered::Busy { .. })), "{busy:?}");
        drop(held);
        first.wait().unwrap();
        let answers: Vec<usize> = others.into_iter().map(|other| other.wait().unwrap()).collect();
        assert_eq!(answers, (0..LIMITS.queue).collect::<Vec<_>>());
    }

    #[test]
    fn what_stands_still_is_left_and_what_moves_says_so_itself() {
        let threads = threads();
        let (_held, until) = channel();
        let answer = threads.begin(SOON, still(until)).unwrap().wait();
        assert!(matches!(answer, Err(Unanswered::TimedOut { .. })), "{answer:?}");
        let moves = threads.begin(SOON, |stop| {
            while Instant::now() < stop.until() {
                thread::yield_now();
            }
            "too long"
        });
        assert_eq!(moves.unwrap().wait().unwrap(), "too long");
    }

    #[test]
    fn threads_that_stand_still_are_replaced_and_at_last_the_answer_comes_at_once() {
        let threads = threads();
        let mut held = Vec::new();
        for _ in 0..LIMITS.threads + LIMITS.replacements {
            let (hold, until) = channel();
            held.push(hold);
            let answer = threads.begin(SOON, still(until)).unwrap().wait();
            assert!(matches!(answer, Err(Unanswered::TimedOut { .. })));
        }
        let refused = now(&threads, || ());
        assert!(matches!(refused, Err(Unanswered::Stuck { .. })), "{refused:?}");
        drop(held.pop());
        // The thread that was freed takes the next job, as soon as it has come back.
        while now(&threads, || ()).is_err() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_job_that_waits_behind_threads_that_come_to_stand_still_gets_one_in_their_place() {
        let threads = threads();
        let mut held = Vec::new();
        for _ in 0..LIMITS.threads {
            let (hold, until) = channel();
            held.push(hold);
            threads.begin(SOON, still(until)).unwrap().detach();
        }
        assert_eq!(now(&threads, || "done").unwrap(), "done");
    }

    #[test]
    fn whoever_cancels_waits_no_longer_and_the_job_is_told() {
        let threads = threads();
        let (begun, has_begun) = channel();
        let (told, is_told) = channel();
        let waiting = threads.begin(LONG, move |stop| {
            begun.send(()).unwrap();
            while !stop.is_cancelled() {
                thread::yield_now();
            }
            told.send(()).unwrap();
        });
        let waiting = waiting.unwrap();
        let canceller = waiting.canceller();
        let cancelling = thread::spawn(move || {
            has_begun.recv().unwrap();
            canceller.cancel();
        });
        let answer = waiting.wait();
        assert!(matches!(answer, Err(Unanswered::Cancelled)), "{answer:?}");
        cancelling.join().unwrap();
        is_told.recv().unwrap();
    }

    #[test]
    fn a_job_that_nobody_waits_for_is_taken_back_before_it_begins_and_one_that_is_detached_is_done() {
        let threads = refused_after(1, LIMITS).unwrap();
        let (held, first) = standing(&threads);
        let (done, is_done) = channel();
        let taken = Arc::new(());
        for (number, is_detached) in [(1, false), (2, true)] {
            let (done, kept) = (done.clone(), Arc::clone(&taken));
            let job = threads.begin(LONG, move |_| done.send((number, kept)).is_ok()).unwrap();
            if is_detached {
                job.detach();
            }
        }
        assert_eq!(Arc::strong_count(&taken), 2, "what the job has taken goes with it");
        drop(held);
        first.wait().unwrap();
        assert_eq!(is_done.recv().unwrap().0, 2);
        drop(done);
        assert!(is_done.recv().is_err());
    }

    #[test]
    fn a_panic_is_an_answer_its_thread_works_on_and_nothing_stays_taken() {
        struct Worse;
        impl Drop for Worse {
            fn drop(&mut self) {
                assert!(thread::panicking(), "when nobody expects it");
            }
        }
        let threads = threads();
        let taken = Arc::new(());
        for _ in 0..2 * LIMITS.threads {
            let kept = Arc::clone(&taken);
            let answer = now(&threads, move || {
                panic!("like {}", if Arc::strong_count(&kept) > 0 { "this" } else { "that" })
            });
            assert!(
                matches!(answer, Err::<(), _>(Unanswered::Panicked { message }) if message == "like this")
            );
        }
        assert_eq!(Arc::strong_count(&taken), 1);
        for _ in 0..2 * LIMITS.threads {
            // Nobody takes what it answers with.
            let ((begun, has_begun), (left, has_left)) = (channel(), channel::<()>());
            let job = threads.begin(LONG, move |_| {
                begun.send(()).unwrap();
                assert!(has_left.recv().is_err(), "nobody sends");
                Worse
            });
            has_begun.recv().unwrap();
            drop(job.unwrap());
            drop(left);
        }
        assert_eq!(now(&threads, || 1).unwrap(), 1);
    }

    #[test]
    fn when_the_last_owner_is_gone_whoever_waits_is_told() {
        let threads = refused_after(1, LIMITS).unwrap();
        let (held, first) = standing(&threads);
        let second = threads.begin(LONG, |_| ()).unwrap();
        drop(threads.clone());
        drop(threads);
        let answer = second.wait();
        assert!(matches!(answer, Err(Unanswered::Cancelled)), "{answer:?}");
        drop(held);
        first.wait().unwrap();
    }

    #[tokio::test]
    async fn a_task_waits_as_a_thread_does_and_its_runtime_goes_on_meanwhile() {
        let threads = threads();
        let (go, may_go) = channel();
        let (answer, ()) = tokio::join!(threads.run(LONG, move |_| may_go.recv().unwrap()), async {
            go.send("from the runtime").unwrap();
        },);
        assert_eq!(answer.unwrap(), "from the runtime");
        let panicked = threads.run(LONG, |_| -> () { panic!("like this") }).await;
        assert!(matches!(panicked, Err(Unanswered::Panicked { message }) if message == "like this"));
        let (_held, until) = channel();
        let late = threads.run(SOON, still(until)).await;
        assert!(matches!(late, Err(Unanswered::TimedOut { .. })), "{late:?}");
    }

    #[tokio::test]
    async fn a_task_that_waits_behind_what_stands_still_gets_a_thread_in_its_place() {
        let threads = threads();
        let mut held = Vec::new();
        for _ in 0..LIMITS.threads {
            let (hold, until) = channel();
            held.push(hold);
            threads.begin(SOON, still(until)).unwrap().detach();
        }
        assert_eq!(threads.run(LONG, |_| "done").await.unwrap(), "done");
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_waits_for_a_job_of_a_test() {
        let threads = crate::testing::threads("test");
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        let job = threads.run(LONG, move |_| {
            let begun = Instant::now();
            while begun.elapsed() < SOON {
                thread::yield_now();
            }
            done.store(true, Ordering::Relaxed);
        });
        let begun = tokio::time::Instant::now();
        tokio::time::timeout(SOON, job).await.unwrap().unwrap();
        assert!(is_done.load(Ordering::Relaxed));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        tokio::time::sleep(SOON).await;
    }
}
