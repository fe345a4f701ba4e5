//! The tables that a front works by: sites, upstreams, clients.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Weak},
};

use arc_swap::{ArcSwap, Guard};
use futures_util::future::join_all;
use parking_lot::Mutex;
use pmesh_sessions::{SessionLimits, Sessions, TrustedProxies};
use tokio::sync::{mpsc, oneshot};

use crate::{
    budget::DescriptorBudget,
    destination::{SetNow, UpstreamsNow},
    routing::{DestinationNow, RoutingNow},
    spec::{Destination, DestinationKey, LoadBalancing, Routing, Upstream, WhenEmpty},
    upstream::{Live, UpstreamStatistics},
};

/// How many upstreams that left a set without being withdrawn keep their counters, per destination.
const FORMER: usize = 64;

/// What a [`Front`](crate::Front) works by: sites and routes, upstreams, clients.
///
/// Has no socket and needs no front: it is made first and filled by whoever owns the services. A clone
/// is a handle to the same tables. Readers take no lock: what they read is swapped whole. Any number of
/// fronts may work by the same tables.
#[derive(Clone)]
pub struct Tables(Arc<Shared>);

struct Shared {
    sessions: Arc<Sessions>,
    trusted: TrustedProxies,
    budget: DescriptorBudget,
    routing: ArcSwap<RoutingNow>,
    /// Held by whoever changes something, never by a request.
    registry: Mutex<Registry>,
    threads: Mutex<Vec<mpsc::UnboundedSender<Withdrawal>>>,
}

#[derive(Default)]
struct Registry {
    destinations: BTreeMap<DestinationKey, DestinationNow>,
    /// Every upstream of which anything is left, also of destinations that are gone.
    lives: Vec<Weak<Live>>,
    /// Those that left a set and may come back.
    former: BTreeMap<DestinationKey, VecDeque<Arc<Live>>>,
}

/// Told to every front thread: these upstreams keep no idle connection.
pub(crate) struct Withdrawal {
    pub(crate) lives: Arc<[Arc<Live>]>,
    /// Dropped or sent when the thread has closed them.
    pub(crate) done: oneshot::Sender<()>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Default for Tables {
    /// Tables without a site, with a table of clients and trusted proxies as they are by default.
    fn default() -> Self {
        Self::new(Arc::new(Sessions::new(&SessionLimits::default())), TrustedProxies::default())
    }
}

impl Tables {
    /// Tables without a site, for a front that may take every descriptor of the process.
    pub fn new(sessions: Arc<Sessions>, trusted: TrustedProxies) -> Self {
        Self::within(DescriptorBudget::unlimited(), sessions, trusted)
    }

    /// Tables without a site; the fronts that work by them take their descriptors from this budget.
    pub fn within(budget: DescriptorBudget, sessions: Arc<Sessions>, trusted: TrustedProxies) -> Self {
        Self(Arc::new(Shared {
            sessions,
            trusted,
            budget,
            routing: ArcSwap::default(),
            registry: Mutex::default(),
            threads: Mutex::default(),
        }))
    }

    /// The clients that the front's requests are counted for.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.0.sessions
    }

    /// The descriptors that fronts may take.
    pub fn budget(&self) -> &DescriptorBudget {
        &self.0.budget
    }

    pub(crate) fn trusted(&self) -> &TrustedProxies {
        &self.0.trusted
    }

    pub(crate) fn routing(&self) -> Guard<Arc<RoutingNow>> {
        self.0.routing.load()
    }

    /// Swaps all sites and routes in one step; requests in flight keep the route they were given.
    ///
    /// A set of upstreams whose key was there before keeps its upstreams, its counters and its queue:
    /// `upstreams` and `when_empty` in `routing` are for new keys alone (those of a key that
    /// [`set_upstreams`](Self::set_upstreams) had named already are kept as well). What waits for an
    /// upstream of a key that is gone is answered 503; withdrawing its upstreams goes on working.
    pub fn set_routing(&self, routing: Routing) {
        let mut registry = self.0.registry.lock();
        let mut before = std::mem::take(&mut registry.destinations);
        for (key, destination) in routing.destinations {
            let now = match (before.remove(&key), destination) {
                (Some(DestinationNow::Upstreams(now)), Destination::Upstreams(set)) => {
                    now.balancing.store(Arc::new(set.balancing));
                    DestinationNow::Upstreams(now)
                }
                (gone, Destination::Upstreams(set)) => {
                    refuse_what_waits(gone);
                    let lives = registry.lives_of(&key, set.upstreams);
                    for live in &lives {
                        live.come_back();
                    }
                    let now = SetNow { lives, when_empty: set.when_empty };
                    DestinationNow::Upstreams(UpstreamsNow::new(now, set.balancing))
                }
                (gone, Destination::Files(files)) => {
                    refuse_what_waits(gone);
                    DestinationNow::Files(Arc::new(files))
                }
            };
            registry.destinations.insert(key, now);
        }
        for (key, gone) in before {
            refuse_what_waits(Some(gone));
            registry.former.remove(&key);
        }
        self.0.routing.store(Arc::new(RoutingNow::new(routing.sites, &registry.destinations)));
    }

    /// Swaps the upstreams of a destination; requests that wait for one go on at once.
    ///
    /// An upstream that is in the old set and in the new one goes on with its counters and connections,
    /// and so does one that comes back (the last 64 that left are remembered). What the new set leaves
    /// out gets no new request; [`withdraw`](Self::withdraw) is the way to know when the old ones have
    /// ended. A key that no routing names yet is kept for the next one, with the default balancing.
    pub fn set_upstreams(&self, key: &DestinationKey, upstreams: Vec<Upstream>, when_empty: WhenEmpty) {
        let mut registry = self.0.registry.lock();
        let lives = registry.lives_of(key, upstreams);
        for live in &lives {
            live.come_back();
        }
        if let Some(DestinationNow::Upstreams(now)) = registry.destinations.get(key) {
            let now = now.clone();
            let left = now.set.load_full();
            let is_gone = |live: &&Arc<Live>| !lives.iter().any(|new| Arc::ptr_eq(new, live));
            let left = left.lives.iter().filter(is_gone).cloned();
            let former = registry.former.entry(key.clone()).or_default();
            former.retain(|live| is_gone(&live));
            former.extend(left);
            former.drain(..former.len().saturating_sub(FORMER));
            now.swap(SetNow { lives, when_empty });
        } else if !registry.destinations.contains_key(key) {
            let now = UpstreamsNow::new(SetNow { lives, when_empty }, LoadBalancing::default());
            registry.destinations.insert(key.clone(), DestinationNow::Upstreams(now));
        }
    }

    /// Takes upstreams out of a set and lets what they do end.
    ///
    /// At once, also if the future is never polled or dropped: they get no new request, every front
    /// thread closes its idle connections to them and keeps no new one. The future resolves when all
    /// threads have said so and no request, websocket or stream to them is in flight; it has no time
    /// limit of its own. Without a front it waits for what is in flight alone.
    /// What is not in the set, or was there before and is still at work, is waited for in the same way. An
    /// upstream that is put back meanwhile is not waited for any longer.
    pub fn withdraw(
        &self,
        key: &DestinationKey,
        upstream_ids: &[u64],
    ) -> impl Future<Output = ()> + Send + 'static + use<> {
        let leaving: Arc<[Arc<Live>]> = {
            let mut registry = self.0.registry.lock();
            let is_named = |live: &Arc<Live>| live.key == *key && upstream_ids.contains(&live.upstream.id);
            let leaving: Arc<[_]> = registry.lives().filter(is_named).collect();
            for live in leaving.iter() {
                live.withdraw();
            }
            if let Some(former) = registry.former.get_mut(key) {
                former.retain(|live| !is_named(live));
            }
            if let Some(DestinationNow::Upstreams(now)) = registry.destinations.get(key) {
                let set = now.set.load();
                let lives = set.lives.iter().filter(|live| !is_named(live)).cloned().collect();
                now.swap(SetNow { lives, when_empty: set.when_empty });
            }
            leaving
        };
        let mut told = Vec::new();
        self.0.threads.lock().retain(|thread| {
            let (done, is_done) = oneshot::channel();
            let is_there = thread.send(Withdrawal { lives: leaving.clone(), done }).is_ok();
            told.push(is_done);
            is_there
        });
        async move {
            for answer in join_all(told).await {
                if answer.is_err() {
                    tracing::trace!("a front thread ended before it could say that it keeps no connection");
                }
            }
            for live in leaving.iter() {
                live.quiet().await;
            }
        }
    }

    /// What is known about the upstreams of a destination, in the order of its set; none for files and
    /// for an unknown key.
    pub fn statistics(&self, key: &DestinationKey) -> Vec<UpstreamStatistics> {
        match self.0.registry.lock().destinations.get(key) {
            Some(DestinationNow::Upstreams(now)) => {
                now.set.load().lives.iter().map(|live| live.statistics()).collect()
            }
            Some(DestinationNow::Files(_)) | None => Vec::new(),
        }
    }

    /// A front thread tells where it listens for withdrawals. Each is bounded by the calls of
    /// [`withdraw`](Self::withdraw), which the owner of the services makes.
    pub(crate) fn register_thread(&self) -> mpsc::UnboundedReceiver<Withdrawal> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.threads.lock().push(sender);
        receiver
    }
}

/// Nobody will give this destination an upstream any more.
fn refuse_what_waits(gone: Option<DestinationNow>) {
    if let Some(DestinationNow::Upstreams(now)) = gone {
        let lives = now.set.load().lives.clone();
        now.swap(SetNow { lives, when_empty: WhenEmpty::Refuse });
    }
}

impl Registry {
    fn lives(&mut self) -> impl Iterator<Item = Arc<Live>> {
        self.lives.retain(|live| live.strong_count() > 0);
        self.lives.iter().filter_map(Weak::upgrade)
    }

    /// The live states of these upstreams: those that exist, else new ones.
    fn lives_of(&mut self, key: &DestinationKey, upstreams: Vec<Upstream>) -> Vec<Arc<Live>> {
        let mut lives: Vec<Arc<Live>> = Vec::with_capacity(upstreams.len());
        for upstream in upstreams {
            if lives.iter().any(|live| live.upstream == upstream) {
                continue;
            }
            let known = self.lives().find(|live| live.key == *key && live.upstream == upstream);
            let live = known.unwrap_or_else(|| {
                let live = Live::new(key.clone(), upstream);
                self.lives.push(Arc::downgrade(&live));
                live
            });
            lives.push(live);
        }
        lives
    }
}
