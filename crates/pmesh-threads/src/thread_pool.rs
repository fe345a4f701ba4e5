//! How many threads work on what may block, decided without a thread or a clock.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long no further thread is asked for where the system has refused one, and how often whoever waits for a thread
/// looks.
const PAUSE: Duration = Duration::from_millis(500);

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PoolLimits {
    /// Threads that work at a time; one at least.
    pub threads: usize,
    /// Jobs that wait for a thread.
    pub queue: usize,
    /// Threads that stand still and are replaced by another one.
    pub replacements: usize,
}

impl PoolLimits {
    /// So many threads at a time, so many jobs that wait for one, and 4 replacements.
    pub const fn new(threads: usize, queue: usize) -> Self {
        Self { threads, queue, replacements: 4 }
    }

    /// The same, but for what `change` does to it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A pool's threads and jobs. Threads are started when there is work for them and stay.
///
/// A thread that has not come back at its job's end stands still: nothing ends a thread that waits for a disk that
/// hangs. Up to [`PoolLimits::replacements`] others work in the place of such threads, and after that a job is refused
/// at once, until one of them comes back.
#[derive(Debug)]
pub(crate) struct ThreadPool {
    limits: PoolLimits,
    threads: usize,
    queued: usize,
    /// When each job that runs should have ended.
    running: BTreeMap<JobId, Instant>,
    next: u64,
    /// When a thread may be asked for again, where one was refused.
    refused_until: Option<Instant>,
}

/// A job that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId(u64);

/// What happens to a new job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    /// It waits for a thread that is there.
    Queue,
    /// It waits, and a thread is to be started; [`ThreadPool::not_started`] takes that back.
    Start,
    /// Too many wait.
    Busy,
    /// Every thread stands still.
    Stuck,
}

impl ThreadPool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        let limits = PoolLimits { threads: limits.threads.max(1), ..limits };
        Self { limits, threads: 0, queued: 0, running: BTreeMap::new(), next: 0, refused_until: None }
    }

    /// A thread is to be started before there is work for it; [`not_started`](Self::not_started) takes that back.
    pub(crate) fn prepare(&mut self) {
        self.threads += 1;
    }

    /// A job wants to run.
    pub(crate) fn submit(&mut self, now: Instant) -> Intake {
        let can_grow = self.threads < self.capacity(now) && !self.is_refused(now);
        if self.threads > 0 && self.stuck(now) >= self.threads && !can_grow {
            return Intake::Stuck;
        }
        if self.queued >= self.limits.queue {
            return Intake::Busy;
        }
        self.queued += 1;
        if self.wants_thread(now) { Intake::Start } else { Intake::Queue }
    }

    /// Whether a thread is to be started for those that wait: one of the others has come to stand still.
    /// [`not_started`](Self::not_started) takes that back.
    pub(crate) fn wants_thread(&mut self, now: Instant) -> bool {
        let idle = self.threads.saturating_sub(self.running.len());
        let wants = self.queued > idle && self.threads < self.capacity(now) && !self.is_refused(now);
        if wants {
            self.threads += 1;
        }
        wants
    }

    /// When a job that waits looks whether [`wants_thread`](Self::wants_thread) has changed its answer by itself; at the
    /// latest after a pause, for what is before it in the queue may have begun since, and stand still.
    pub(crate) fn next_look(&self, now: Instant) -> Instant {
        let ends = self.running.values().copied().chain(self.refused_until).filter(|&at| at > now);
        ends.fold(now + PAUSE, Instant::min)
    }

    /// A thread could not be started. None is asked for again before a pause is over, if others are there.
    pub(crate) fn not_started(&mut self, now: Instant) {
        self.threads -= 1;
        self.refused_until = Some(now + PAUSE);
    }

    fn is_refused(&self, now: Instant) -> bool {
        self.has_threads() && self.refused_until.is_some_and(|until| now < until)
    }

    /// A job has left the queue without having run.
    pub(crate) fn withdraw(&mut self) {
        self.queued -= 1;
    }

    /// A thread takes a job from the queue, which should have ended at `until`.
    pub(crate) fn begin(&mut self, until: Instant) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        self.queued -= 1;
        self.running.insert(id, until);
        id
    }

    /// A job has ended.
    pub(crate) fn end(&mut self, id: JobId) {
        self.running.remove(&id);
    }

    /// Whether a thread that has nothing to do is to end, because others work in the place of one that has come
    /// back. Then it counts no more.
    pub(crate) fn retire(&mut self, now: Instant) -> bool {
        let is_surplus = self.threads > self.capacity(now);
        if is_surplus {
            self.threads -= 1;
        }
        is_surplus
    }

    /// Whether any thread is there.
    pub(crate) fn has_threads(&self) -> bool {
        self.threads > 0
    }

    fn stuck(&self, now: Instant) -> usize {
        self.running.values().filter(|&&until| until <= now).count()
    }

    fn capacity(&self, now: Instant) -> usize {
        self.limits.threads + self.stuck(now).min(self.limits.replacements)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Intake::*, *};

    const LIMITS: PoolLimits = PoolLimits { threads: 2, queue: 3, replacements: 1 };
    const SEC: Duration = Duration::from_secs(1);

    fn pool() -> (ThreadPool, Instant) {
        (ThreadPool::new(LIMITS), Instant::now())
    }

    #[test]
    fn threads_are_started_for_jobs_that_find_none_idle_and_no_more() {
        let (mut pool, now) = pool();
        assert_eq!(pool.submit(now), Start);
        let first = pool.begin(now + SEC);
        pool.end(first);
        assert_eq!(pool.submit(now), Queue, "the first one is idle");
        assert_eq!(pool.submit(now), Start);
        assert_eq!(pool.submit(now), Queue);
        assert_eq!(pool.submit(now), Busy, "three wait already");
        pool.withdraw();
        assert_eq!(pool.submit(now), Queue);
    }

    #[test]
    fn a_thread_that_stands_still_is_replaced_once_and_then_jobs_are_refused_at_once() {
        let (mut pool, now) = pool();
        let mut running = Vec::new();
        for _ in 0..2 {
            assert_eq!(pool.submit(now), Start);
            running.push(pool.begin(now + SEC));
        }
        assert_eq!(pool.submit(now), Queue);
        assert!(!pool.wants_thread(now));
        assert_eq!(pool.next_look(now + SEC / 2 + PAUSE / 2), now + SEC);
        assert_eq!(pool.next_look(now), now + PAUSE);
        let later = now + SEC;
        assert!(pool.wants_thread(later), "two stand still, one is replaced");
        assert!(!pool.wants_thread(later));
        running.push(pool.begin(later + SEC));
        assert_eq!(pool.submit(later), Queue, "the one in their place will be free again");
        pool.withdraw();
        let last = later + SEC;
        assert_eq!(pool.submit(last), Stuck, "all three stand still");
        pool.end(running[0]);
        assert!(!pool.retire(last), "two others stand still");
        assert_eq!(pool.submit(last), Queue);
    }

    #[test]
    fn when_those_that_stood_still_come_back_one_is_too_many() {
        let (mut pool, now) = pool();
        let mut running = Vec::new();
        for at in [now, now, now + SEC] {
            assert_eq!(pool.submit(at), Start);
            running.push(pool.begin(at + SEC));
        }
        for id in running {
            pool.end(id);
        }
        assert!(pool.retire(now + SEC));
        assert!(!pool.retire(now + SEC));
    }

    #[test]
    fn a_thread_that_could_not_be_started_does_not_count() {
        let (mut pool, now) = pool();
        assert_eq!(pool.submit(now), Start);
        pool.not_started(now);
        assert!(!pool.has_threads());
        assert!(pool.wants_thread(now), "without it nothing is done");
    }

    #[test]
    fn where_a_thread_was_refused_the_others_do_the_work_and_one_is_asked_for_after_a_pause() {
        let (mut pool, now) = pool();
        pool.prepare();
        assert_eq!(pool.submit(now), Queue);
        let first = pool.begin(now + 2 * SEC);
        assert_eq!(pool.submit(now), Start);
        pool.not_started(now);
        assert_eq!(pool.submit(now), Queue, "it is not asked for with each job");
        assert_eq!(pool.next_look(now + PAUSE / 2), now + PAUSE);
        assert!(pool.wants_thread(now + PAUSE));
        pool.not_started(now + PAUSE);
        pool.end(first);
        let first = pool.begin(now + PAUSE);
        assert_eq!(pool.submit(now + PAUSE), Stuck, "the one that is there stands still");
        pool.end(first);
        assert_eq!(pool.submit(now + PAUSE), Queue);
    }
}
