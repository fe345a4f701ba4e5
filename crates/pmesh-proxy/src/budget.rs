//! The descriptors of the process: how many the front may take, and who waits for one.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use rustix::io::Errno;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// What is kept for the rest of the server besides what its instances take: the API, logs, git, a build.
const KEPT: usize = 64;
/// What is kept for each wanted instance: its output, its log, its process, a probe, and another one beside it
/// while it is replaced.
const KEPT_PER_INSTANCE: usize = 8;
/// The most that clients leave to upstreams and files.
const MOST_FOR_WORK: usize = 4096;

/// A budget of the process's descriptors: counted, never looked up.
///
/// The front takes one for each client and each connection to an upstream, and two for a file that it looks for,
/// and stops where only the reserve is left: the smaller of half the limit and 64 + 8 per wanted instance, which
/// belongs to the API, probes, builds and git. Clients stop earlier, at three quarters of the rest (or 4,096
/// before its end), so that there is something to serve them with.
///
/// Others may take from it too what can become much ([`take`](Self::take)). Clones are handles to one budget.
///
/// ```
/// use pmesh_proxy::DescriptorBudget;
/// let budget = DescriptorBudget::new(128);
/// budget.set_wanted_instances(1);
/// let taken = budget.take(128 - (64 - 8)).unwrap_or_else(|| budget.take(64).unwrap());
/// assert!(budget.take(1).is_none());
/// drop(taken);
/// assert!(budget.take(1).is_some());
/// ```
#[derive(Clone, Debug)]
pub struct DescriptorBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    reserve: AtomicUsize,
    taken: AtomicUsize,
    for_clients: Queue,
    for_work: Queue,
}

/// Those that wait for something to be given back.
#[derive(Debug, Default)]
struct Queue {
    /// How many; nobody is told of anything while that is none.
    waiting: AtomicUsize,
    freed: Notify,
}

/// Descriptors that are in use; dropped, they are given back.
#[must_use = "dropped, they are given back"]
#[derive(Debug)]
pub struct Descriptors {
    of: DescriptorBudget,
    count: usize,
}

/// Whom descriptors are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client's connection.
    Client,
    /// Serving one that is there.
    Work,
}

/// What a budget has given, of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) taken: usize,
    pub(crate) limit: usize,
    pub(crate) reserve: usize,
}

impl DescriptorBudget {
    /// The budget of a process that may have `limit` descriptors open (getrlimit(2), `RLIMIT_NOFILE`), with a
    /// reserve for no instance yet.
    pub fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self(Arc::new(Shared {
            limit,
            reserve: AtomicUsize::new(reserve_of(limit, 0)),
            taken: AtomicUsize::new(0),
            for_clients: Queue::default(),
            for_work: Queue::default(),
        }))
    }

    /// One that never ends: the process has no limit, or something else keeps it.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// How many instances are wanted of all services: the reserve grows with them.
    pub fn set_wanted_instances(&self, wanted: usize) {
        self.0.reserve.store(reserve_of(self.0.limit, wanted), SeqCst);
        self.0.for_clients.freed.notify_waiters();
        self.0.for_work.freed.notify_waiters();
    }

    /// How many of the limit are kept from the front.
    pub fn reserve(&self) -> usize {
        self.0.reserve.load(SeqCst)
    }

    /// How many descriptors something may have that is not counted one by one: this part of the limit, `most` at
    /// most.
    pub fn share(&self, part: usize, most: usize) -> usize {
        (self.0.limit / part.max(1)).min(most)
    }

    /// Takes so many, if they can be had at once without touching the reserve.
    pub fn take(&self, count: usize) -> Option<Descriptors> {
        self.take_for(Purpose::Work, count)
    }

    /// Takes what is in use already, whether or not it can be had.
    pub(crate) fn take_anyway(&self, count: usize) -> Descriptors {
        self.0.taken.fetch_add(count, SeqCst);
        Descriptors { of: self.clone(), count }
    }

    /// How many threads a front may have that wants so many, each with descriptors of its own: they get a quarter
    /// of its room, at least one.
    pub(crate) fn threads(&self, wanted: usize, each: usize) -> usize {
        let room = self.0.limit - self.reserve();
        wanted.min(room / 4 / each.max(1)).max(1)
    }

    fn take_for(&self, purpose: Purpose, count: usize) -> Option<Descriptors> {
        let most = most_for(purpose, self.0.limit - self.reserve());
        let more = |taken: usize| taken.checked_add(count).filter(|taken| *taken <= most);
        self.0.taken.fetch_update(SeqCst, SeqCst, more).ok()?;
        Some(Descriptors { of: self.clone(), count })
    }

    /// Takes so many as soon as they can be had. `relieve` is called where they cannot; it frees what it can, and
    /// says when it is to be called again. A count that can never be had is waited for for ever.
    ///
    /// Cancel-safe.
    pub(crate) async fn wait_for(
        &self,
        purpose: Purpose,
        count: usize,
        mut relieve: impl FnMut() -> Instant,
    ) -> Descriptors {
        loop {
            if let Some(taken) = self.take_for(purpose, count) {
                return taken;
            }
            let queue = match purpose {
                Purpose::Client => &self.0.for_clients,
                Purpose::Work => &self.0.for_work,
            };
            let _waiting = WaitingForRoom::begin(queue);
            let mut freed = pin!(queue.freed.notified());
            freed.as_mut().enable();
            // Looked at once more: what was given back before this one waited was told to nobody.
            if let Some(taken) = self.take_for(purpose, count) {
                return taken;
            }
            let again = relieve();
            tokio::select! {
                () = freed => {}
                () = sleep_until(again) => {}
            }
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage { taken: self.0.taken.load(SeqCst), limit: self.0.limit, reserve: self.reserve() }
    }
}

impl Descriptors {
    /// Gives all but `count` of them back.
    pub(crate) fn keep(&mut self, count: usize) {
        let back = self.count.saturating_sub(count);
        self.count -= back;
        self.of.give_back(back);
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.of.give_back(self.count);
    }
}

impl DescriptorBudget {
    fn give_back(&self, count: usize) {
        self.0.taken.fetch_sub(count, SeqCst);
        for queue in [&self.0.for_work, &self.0.for_clients] {
            for _ in 0..count.min(queue.waiting.load(SeqCst)) {
                queue.freed.notify_one();
            }
        }
    }
}

struct WaitingForRoom<'a>(&'a Queue);

impl<'a> WaitingForRoom<'a> {
    fn begin(queue: &'a Queue) -> Self {
        queue.waiting.fetch_add(1, SeqCst);
        Self(queue)
    }
}

impl Drop for WaitingForRoom<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

/// What of `limit` descriptors the front leaves to the rest of the server.
fn reserve_of(limit: usize, wanted_instances: usize) -> usize {
    let wanted = wanted_instances.saturating_mul(KEPT_PER_INSTANCE).saturating_add(KEPT);
    wanted.min(limit / 2)
}

/// What of the front's `room` may be taken when somebody takes more for this.
fn most_for(purpose: Purpose, room: usize) -> usize {
    match purpose {
        Purpose::Work => room,
        Purpose::Client => room - (room / 4).min(MOST_FOR_WORK),
    }
}

/// Whether something failed because this process, or this machine, has nothing left to do it with.
pub(crate) fn is_for_want_of_our_own(error: &io::Error) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn the_reserve_is_the_smaller_of_half_the_limit_and_what_the_instances_want() {
        for (limit, wanted, reserve) in [
            (256, 1, 72),
            (256, 0, 64),
            (256, 8, 128),
            (256, 1000, 128),
            (128, 1, 64),
            (20, 3, 10),
            (1, 1, 0),
            (0, 1, 0),
            (1_048_576, 10, 144),
            (usize::MAX, usize::MAX, usize::MAX / 2),
        ] {
            assert_eq!(reserve_of(limit, wanted), reserve, "{limit} {wanted}");
        }
    }

    #[test]
    fn clients_leave_a_quarter_to_what_serves_them_and_4096_at_most() {
        for (room, clients) in [(184, 138), (3, 3), (0, 0), (1000, 750), (100_000, 95_904)] {
            assert_eq!(most_for(Purpose::Client, room), clients, "{room}");
            assert_eq!(most_for(Purpose::Work, room), room);
        }
    }

    #[test]
    fn what_was_taken_is_counted_until_it_is_given_back() {
        let budget = DescriptorBudget::new(40);
        let mut some = budget.take(12).unwrap();
        let fixed = budget.take_anyway(10);
        assert!(budget.take(1).is_none(), "half of 40 is reserved");
        some.keep(1);
        assert_eq!(budget.usage(), Usage { taken: 11, limit: 40, reserve: 20 });
        some.keep(5);
        assert!(budget.take(9).is_some());
        assert!(budget.take(10).is_none());
        assert_eq!([1, 9, 0].map(|wanted| budget.threads(wanted, 2)), [1, 2, 1], "of a room of 20");
        assert_eq!([(4, 512), (1, 8), (0, 8)].map(|(part, most)| budget.share(part, most)), [10, 8, 8]);
        drop((some, fixed));
        assert_eq!(budget.usage().taken, 0);
        assert!(DescriptorBudget::unlimited().take(1 << 40).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_when_something_is_given_back_and_asks_for_relief_before() {
        let budget = DescriptorBudget::new(20);
        let mut all = budget.take(10).unwrap();
        let mut relieved = 0;
        {
            let wait = budget.wait_for(Purpose::Work, 1, || {
                relieved += 1;
                Instant::now() + HOUR
            });
            let mut wait = pin!(wait);
            assert!(futures_util::poll!(wait.as_mut()).is_pending());
            all.keep(9);
            drop(wait.await);
        }
        assert_eq!(relieved, 1);
        let mut held = Vec::new();
        let waited = budget.wait_for(Purpose::Client, 1, || {
            held.push(());
            if held.len() == 2 {
                all.keep(0);
            }
            Instant::now() + Duration::from_secs(1)
        });
        let begin = Instant::now();
        drop(waited.await);
        assert_eq!(begin.elapsed().as_secs(), 1, "more could be freed then, and was");
    }

    #[tokio::test]
    async fn each_that_is_given_back_is_for_one_of_those_that_wait() {
        let budget = DescriptorBudget::new(20);
        let mut all = budget.take(10).unwrap();
        let mut waits: Vec<_> =
            (0..3).map(|_| Box::pin(budget.wait_for(Purpose::Work, 1, || Instant::now() + HOUR))).collect();
        for wait in &mut waits {
            assert!(futures_util::poll!(wait.as_mut()).is_pending());
        }
        all.keep(9);
        all.keep(8);
        // One was told and does not want it any more: it is another's.
        drop(waits.remove(0));
        for wait in waits {
            let descriptor = wait.await;
            std::mem::forget(descriptor);
        }
        assert_eq!(budget.usage().taken, 10);
    }
}
