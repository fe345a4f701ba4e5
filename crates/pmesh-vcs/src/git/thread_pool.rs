//! How many threads work on what may block, decided without a thread or a clock.

use std::{collections::BTreeMap, time::Instant};

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolLimits {
    /// Threads that work at a time.
    pub(super) threads: usize,
    /// Jobs that wait for a thread.
    pub(super) queue: usize,
    /// Threads that stand still and are replaced by another one.
    pub(super) replacements: usize,
}

/// A pool's threads and jobs. Threads are started when there is work for them and stay.
///
/// A thread that has not come back at its job's end stands still: nothing ends a thread that waits for a disk that
/// hangs. Up to [`PoolLimits::replacements`] others work in the place of such threads, and after that a job is refused
/// at once, until one of them comes back.
#[derive(Debug)]
pub(super) struct ThreadPool {
    limits: PoolLimits,
    threads: usize,
    queued: usize,
    /// When each job that runs should have ended.
    running: BTreeMap<JobId, Instant>,
    next: u64,
}

/// A job that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobId(u64);

/// What happens to a new job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// It waits for a thread that is there.
    Queue,
    /// It waits, and a thread is to be started; [`ThreadPool::not_started`] takes that back.
    Start,
    /// Too many wait, or every thread stands still.
    Refuse,
}

impl ThreadPool {
    pub(super) fn new(limits: PoolLimits) -> Self {
        Self { limits, threads: 0, queued: 0, running: BTreeMap::new(), next: 0 }
    }

    /// A job wants to run.
    pub(super) fn submit(&mut self, now: Instant) -> Intake {
        let is_stuck = self.threads >= self.capacity(now) && self.stuck(now) >= self.threads;
        if self.queued >= self.limits.queue || is_stuck {
            return Intake::Refuse;
        }
        self.queued += 1;
        if self.wants_thread(now) { Intake::Start } else { Intake::Queue }
    }

    /// Whether a thread is to be started for those that wait: one of the others has come to stand still.
    /// [`not_started`](Self::not_started) takes that back.
    pub(super) fn wants_thread(&mut self, now: Instant) -> bool {
        let idle = self.threads.saturating_sub(self.running.len());
        let wants = self.queued > idle && self.threads < self.capacity(now);
        if wants {
            self.threads += 1;
        }
        wants
    }

    /// When [`wants_thread`](Self::wants_thread) may change its answer by itself.
    pub(super) fn next_overdue(&self, now: Instant) -> Option<Instant> {
        self.running.values().copied().filter(|&at| at > now).min()
    }

    /// A thread could not be started.
    pub(super) fn not_started(&mut self) {
        self.threads -= 1;
    }

    /// A job has left the queue without having run.
    pub(super) fn withdraw(&mut self) {
        self.queued -= 1;
    }

    /// A thread takes a job from the queue, which should have ended at `until`.
    pub(super) fn begin(&mut self, until: Instant) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        self.queued -= 1;
        self.running.insert(id, until);
        id
    }

    /// A job has ended.
    pub(super) fn end(&mut self, id: JobId) {
        self.running.remove(&id);
    }

    /// Whether a thread that has nothing to do is to end, because others work in the place of one that has come
    /// back. Then it counts no more.
    pub(super) fn retire(&mut self, now: Instant) -> bool {
        let is_surplus = self.threads > self.capacity(now);
        if is_surplus {
            self.threads -= 1;
        }
        is_surplus
    }

    /// Whether any thread is there.
    pub(super) fn has_threads(&self) -> bool {
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
        assert_eq!(pool.submit(now), Refuse, "three wait already");
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
        assert_eq!(pool.next_overdue(now), Some(now + SEC));
        let later = now + SEC;
        assert!(pool.wants_thread(later), "two stand still, one is replaced");
        assert!(!pool.wants_thread(later));
        running.push(pool.begin(later + SEC));
        assert_eq!(pool.submit(later), Queue, "the one in their place will be free again");
        pool.withdraw();
        let last = later + SEC;
        assert_eq!(pool.submit(last), Refuse, "all three stand still");
        assert_eq!(pool.next_overdue(last), None);
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
        pool.not_started();
        assert!(!pool.has_threads());
        assert!(pool.wants_thread(now));
    }
}
