//! What is closed where descriptors run short: what has been idle for longest.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    budget::{DescriptorBudget, Descriptors, Purpose},
    occupancy::Occupancy,
    phase::AtRest,
    pool::Pool,
    seldom::Seldom,
};

/// One of so many connections is closed at a time, and at least one: looking at all of them to close a single one would
/// cost too much.
const SHARE: usize = 64;
/// How soon it is looked again for something to close, where somebody waits and there was nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The pause before the next try where the system, not the budget, has no descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// A front's descriptors: whoever needs one asks here, and waits while there is none.
#[derive(Debug)]
pub(crate) struct Relief {
    budget: DescriptorBudget,
    /// What has been idle for less is left alone: it is about to be used.
    spared: Duration,
    threads: Vec<(Arc<Occupancy>, Pool)>,
    said: Seldom,
}

impl Relief {
    pub(crate) fn new(
        budget: DescriptorBudget,
        spared: Duration,
        threads: Vec<(Arc<Occupancy>, Pool)>,
    ) -> Self {
        Self { budget, spared, threads, said: Seldom::default() }
    }

    /// A descriptor for a client that waits to be served. Cancel-safe.
    pub(crate) async fn for_client(&self) -> Descriptors {
        self.budget.wait_for(Purpose::Client, 1, || self.make_room()).await
    }

    /// Descriptors for serving a client that is there; none if there are none within `limit`. Cancel-safe.
    pub(crate) async fn for_work(&self, count: usize, limit: Duration) -> Option<Descriptors> {
        let wait = self.budget.wait_for(Purpose::Work, count, || self.make_room());
        timeout(limit, wait).await.ok()
    }

    /// The system had none, whatever the budget says. Returns when it may be worth another try.
    pub(crate) async fn after_a_lack(&self) {
        self.make_room();
        self.pause().await;
    }

    /// Waits long enough for the system to have a descriptor again.
    pub(crate) async fn pause(&self) {
        sleep(PAUSE).await;
    }

    /// Closes what has been idle for longest: connections to upstreams, else clients'. Answers when to look again,
    /// if nothing is given back before.
    fn make_room(&self) -> Instant {
        let now = Instant::now();
        self.say(now);
        let (mut closed, mut next) = (0, now + LOOK_AGAIN);
        let mut sooner = |at: Option<Instant>| next = at.map_or(next, |at| next.min(at));
        for (_, pool) in &self.threads {
            let (dropped, at) = pool.drop_idle_for(self.spared, now);
            closed += dropped;
            sooner(at);
        }
        if closed > 0 {
            return next;
        }
        let all: usize = self.threads.iter().map(|(clients, _)| clients.connections()).sum();
        let resting = self.threads.iter().flat_map(|(clients, _)| clients.at_rest()).collect();
        let (longest, at) = longest_at_rest(resting, (all / SHARE).max(1), self.spared, now);
        sooner(at);
        for phase in longest {
            phase.dismiss();
        }
        next
    }

    fn say(&self, now: Instant) {
        if self.said.is_due(now).is_none() {
            return;
        }
        let usage = self.budget.usage();
        tracing::warn!(
            front = usage.taken,
            reserve = usage.reserve,
            limit = usage.limit,
            "open files run short: idle connections are closed, and new ones wait; raise the limit \
             (LimitNOFILE= of systemd, ulimit -n)"
        );
    }
}

/// Those that have been at rest for longest, at most `count`, none for less than `spared`; where there is none,
/// when the first will have been. What has sent a part of a request comes behind what has sent nothing.
fn longest_at_rest<T>(
    mut resting: Vec<(AtRest, T)>,
    count: usize,
    spared: Duration,
    now: Instant,
) -> (Vec<T>, Option<Instant>) {
    let first = resting.iter().map(|(rest, _)| rest.since + spared).min();
    resting.retain(|(rest, _)| rest.since + spared <= now);
    if resting.is_empty() {
        return (Vec::new(), first);
    }
    let order = |(rest, _): &(AtRest, T)| (rest.has_begun, rest.since);
    if count < resting.len() {
        resting.select_nth_unstable_by_key(count, order);
        resting.truncate(count);
    }
    (resting.into_iter().map(|(_, one)| one).collect(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_go_first_those_in_a_head_last_and_the_young_never() {
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        let resting = || {
            [(9, true), (5, false), (0, false), (7, false), (3, false), (8, true), (0, true)]
                .map(|(seconds, has_begun)| {
                    (AtRest { is_between_requests: !has_begun, has_begun, since: ago(seconds) }, seconds)
                })
                .to_vec()
        };
        let second = Duration::from_secs(1);
        for (count, expected) in
            [(1, &[7][..]), (2, &[5, 7]), (3, &[3, 5, 7]), (4, &[3, 5, 7, 9]), (9, &[3, 5, 7, 8, 9])]
        {
            let (mut longest, next) = longest_at_rest(resting(), count, second, now);
            longest.sort_unstable();
            assert_eq!((longest.as_slice(), next), (expected, None), "{count}");
        }
        let (longest, next) = longest_at_rest(resting(), 9, 10 * second, now);
        assert_eq!((longest, next), (vec![], Some(now + second)));
        assert_eq!(longest_at_rest::<()>(vec![], 1, second, now), (vec![], None));
    }
}
