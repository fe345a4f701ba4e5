//! The upstreams of a destination: which takes the next request, and what waits while there is none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    held::{Held, HeldBytes},
    live_upstream::{InFlight, LiveUpstream},
    spec::{LoadBalancing, QueueLimits, Strategy, WhenEmpty},
};

/// The present state of an upstream set; shared by the routes that lead there.
#[derive(Debug)]
pub(crate) struct UpstreamGroup {
    pub(crate) set: ArcSwap<GroupMembers>,
    pub(crate) balancing: ArcSwap<LoadBalancing>,
    /// Told after each swap of `set`.
    changed: Notify,
    /// Told after a request was not answered in its time.
    timed_out: Notify,
    turn: AtomicUsize,
    waiting: AtomicUsize,
    /// Of the heads of requests that wait, and of what was read ahead of bodies.
    pub(crate) held: HeldBytes,
}

#[derive(Debug)]
pub(crate) struct GroupMembers {
    pub(crate) upstreams: Vec<Arc<LiveUpstream>>,
    pub(crate) when_empty: WhenEmpty,
}

/// What [`UpstreamGroup::pick`] found.
#[derive(Debug)]
pub(crate) enum Picked {
    /// This one takes the request; it counts from here.
    Upstream(InFlight),
    Empty(WhenEmpty),
}

/// The queue is full, or it took too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoUpstream;

impl UpstreamGroup {
    pub(crate) fn new(set: GroupMembers, balancing: LoadBalancing) -> Arc<Self> {
        Arc::new(Self {
            set: ArcSwap::from_pointee(set),
            balancing: ArcSwap::from_pointee(balancing),
            changed: Notify::new(),
            timed_out: Notify::new(),
            turn: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            held: HeldBytes::default(),
        })
    }

    pub(crate) fn swap(&self, set: GroupMembers) {
        self.set.store(Arc::new(set));
        self.changed.notify_waiters();
    }

    /// The upstream for the next try: one that is not in `tried`, unless all are.
    pub(crate) fn pick(&self, tried: &[Arc<LiveUpstream>]) -> Picked {
        let set = self.set.load();
        let strategy = self.balancing.load().strategy;
        let is_new = |upstream: &&Arc<LiveUpstream>| !tried.iter().any(|tried| Arc::ptr_eq(tried, upstream));
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || {
            let start = turn.checked_rem(set.upstreams.len()).unwrap_or(0);
            let (before, from) = set.upstreams.split_at(start);
            from.iter().chain(before)
        };
        let chosen = choose(strategy, in_turn().filter(is_new)).or_else(|| choose(strategy, in_turn()));
        match chosen {
            Some(upstream) => Picked::Upstream(InFlight::begin(upstream.clone())),
            None => Picked::Empty(set.when_empty),
        }
    }

    /// This upstream has not answered a request in its time.
    pub(crate) fn on_timeout(&self, upstream: &LiveUpstream) {
        upstream.count_timeout();
        self.timed_out.notify_waiters();
    }

    /// Resolves with an upstream of which so many requests in a row were not answered in their time.
    pub(crate) async fn timed_out(&self, times: u32) -> u64 {
        loop {
            let mut told = std::pin::pin!(self.timed_out.notified());
            told.as_mut().enable();
            let set = self.set.load_full();
            if let Some(found) = set.upstreams.iter().find(|one| one.take_timeouts(times)) {
                return found.spec.id;
            }
            told.await;
        }
    }

    /// Whether requests are refused at once: it was stopped.
    pub(crate) fn refuses(&self) -> bool {
        let set = self.set.load();
        set.upstreams.is_empty() && set.when_empty == WhenEmpty::Refuse
    }

    /// Whether this upstream gets requests.
    pub(crate) fn has(&self, upstream: &Arc<LiveUpstream>) -> bool {
        !upstream.is_withdrawn() && self.set.load().upstreams.iter().any(|one| Arc::ptr_eq(one, upstream))
    }

    /// Whether an upstream is there that is not in `tried`.
    pub(crate) fn has_other_than(&self, tried: &[Arc<LiveUpstream>]) -> bool {
        let set = self.set.load();
        set.upstreams.iter().any(|upstream| !tried.iter().any(|tried| Arc::ptr_eq(tried, upstream)))
    }

    /// Waits `pause`, or until the set is swapped.
    pub(crate) async fn changed_within(&self, pause: Duration) {
        let mut changed = std::pin::pin!(self.changed.notified());
        changed.as_mut().enable();
        // Either way the next try looks at what is there then.
        if timeout(pause, changed).await.is_err() {
            tracing::trace!("no other upstream came up during the pause");
        }
    }

    /// Waits until the set has an upstream or refuses; `bytes` is what the request holds meanwhile, and
    /// `since` when it began to wait for the first time.
    ///
    /// Cancel-safe: dropped, the place in the queue is free again.
    pub(crate) async fn wait_for_one(&self, bytes: u64, since: Instant) -> Result<(), NoUpstream> {
        let queue = self.balancing.load().queue.clone();
        let _place = self.enter(&queue, bytes)?;
        let came = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                {
                    let set = self.set.load();
                    if !set.upstreams.is_empty() || set.when_empty == WhenEmpty::Refuse {
                        return;
                    }
                }
                changed.await;
            }
        };
        timeout_at(since + queue.wait, came).await.map_err(|_| NoUpstream)
    }

    fn enter(&self, queue: &QueueLimits, bytes: u64) -> Result<QueuePlace<'_>, NoUpstream> {
        let requests = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        let place = QueuePlace { of: self, _held: self.held.hold(bytes) };
        if requests > queue.requests || self.held.now() > queue.bytes { Err(NoUpstream) } else { Ok(place) }
    }
}

/// The first with the fewest in flight, or the first.
fn choose<'a>(
    strategy: Strategy,
    mut in_turn: impl Iterator<Item = &'a Arc<LiveUpstream>>,
) -> Option<&'a Arc<LiveUpstream>> {
    match strategy {
        Strategy::Least => in_turn.min_by_key(|upstream| upstream.in_flight()),
        Strategy::RoundRobin => in_turn.next(),
    }
}

struct QueuePlace<'a> {
    of: &'a UpstreamGroup,
    _held: Held,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.of.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
