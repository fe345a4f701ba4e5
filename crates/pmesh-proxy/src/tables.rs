//! The tables that a front works by: sites, upstreams, clients.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Weak},
};

use arc_swap::{ArcSwap, Guard};
use futures_util::future::join_all;
use parking_lot::Mutex;
use pmesh_sessions::{PeerOwner, SessionLimits, Sessions, TrustedProxies};
use tokio::sync::{mpsc, oneshot};

use crate::{
    budget::DescriptorBudget,
    live_upstream::{LiveUpstream, UpstreamStatistics},
    routing_table::{LiveDestination, RoutingTable},
    spec::{Destination, DestinationKey, LoadBalancing, Routing, Upstream, WhenEmpty},
    upstream_group::{GroupMembers, UpstreamGroup},
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
    routing: ArcSwap<RoutingTable>,
    /// Whom services run as that do not run as the server.
    users: ArcSwap<BTreeMap<DestinationKey, u32>>,
    /// Held by whoever changes something, never by a request.
    registry: Mutex<Registry>,
    threads: Mutex<Vec<mpsc::UnboundedSender<Withdrawal>>>,
}

#[derive(Default)]
struct Registry {
    destinations: BTreeMap<DestinationKey, LiveDestination>,
    /// Every upstream of which anything is left, also of destinations that are gone.
    upstreams: Vec<Weak<LiveUpstream>>,
    /// Those that left a set and may come back.
    former: BTreeMap<DestinationKey, VecDeque<Arc<LiveUpstream>>>,
}

/// Told to every front thread: these upstreams keep no idle connection.
pub(crate) struct Withdrawal {
    pub(crate) upstreams: Arc<[Arc<LiveUpstream>]>,
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
            users: ArcSwap::default(),
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

    /// Says whom a service runs as; none: whoever the server runs as, or it does not run. Requests of such a user on this
    /// machine are internal, like those of the server's own.
    pub fn set_user(&self, key: &DestinationKey, user: Option<u32>) {
        if self.0.users.load().get(key).copied() == user {
            return;
        }
        self.0.users.rcu(|users| {
            let mut users = BTreeMap::clone(users);
            match user {
                Some(user) => users.insert(key.clone(), user),
                None => users.remove(key),
            };
            users
        });
    }

    /// Whether a peer on this machine belongs to whoever runs the server, to root or to whom a service runs as.
    pub(crate) fn is_internal(&self, owner: PeerOwner) -> bool {
        let own = rustix::process::geteuid().as_raw();
        let is_of_a_service = |user: u32| self.0.users.load().values().any(|&other| other == user);
        owner.is_of(own) || owner.user().is_some_and(is_of_a_service)
    }

    pub(crate) fn routing(&self) -> Guard<Arc<RoutingTable>> {
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
                (Some(LiveDestination::Upstreams(now)), Destination::Upstreams(set)) => {
                    now.balancing.store(Arc::new(set.balancing));
                    LiveDestination::Upstreams(now)
                }
                (gone, Destination::Upstreams(set)) => {
                    refuse_what_waits(gone);
                    let upstreams = registry.upstreams_of(&key, set.upstreams);
                    for upstream in &upstreams {
                        upstream.come_back();
                    }
                    let now = GroupMembers { upstreams, when_empty: set.when_empty };
                    LiveDestination::Upstreams(UpstreamGroup::new(now, set.balancing))
                }
                (gone, Destination::Files(files)) => {
                    refuse_what_waits(gone);
                    LiveDestination::Files(Arc::new(files))
                }
            };
            registry.destinations.insert(key, now);
        }
        for (key, gone) in before {
            refuse_what_waits(Some(gone));
            registry.former.remove(&key);
        }
        self.0.routing.store(Arc::new(RoutingTable::new(routing.sites, &registry.destinations)));
    }

    /// Swaps the upstreams of a destination; requests that wait for one go on at once.
    ///
    /// An upstream that is in the old set and in the new one goes on with its counters and connections,
    /// and so does one that comes back (the last 64 that left are remembered). What the new set leaves
    /// out gets no new request; [`withdraw`](Self::withdraw) is the way to know when the old ones have
    /// ended. A key that no routing names yet is kept for the next one, with the default balancing.
    pub fn set_upstreams(&self, key: &DestinationKey, upstreams: Vec<Upstream>, when_empty: WhenEmpty) {
        let mut registry = self.0.registry.lock();
        let upstreams = registry.upstreams_of(key, upstreams);
        for upstream in &upstreams {
            upstream.come_back();
        }
        if let Some(LiveDestination::Upstreams(now)) = registry.destinations.get(key) {
            let now = now.clone();
            let left = now.set.load_full();
            let is_gone =
                |upstream: &&Arc<LiveUpstream>| !upstreams.iter().any(|new| Arc::ptr_eq(new, upstream));
            let left = left.upstreams.iter().filter(is_gone).cloned();
            let former = registry.former.entry(key.clone()).or_default();
            former.retain(|upstream| is_gone(&upstream));
            former.extend(left);
            former.drain(..former.len().saturating_sub(FORMER));
            now.swap(GroupMembers { upstreams, when_empty });
        } else if !registry.destinations.contains_key(key) {
            let now = UpstreamGroup::new(GroupMembers { upstreams, when_empty }, LoadBalancing::default());
            registry.destinations.insert(key.clone(), LiveDestination::Upstreams(now));
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
        let leaving: Arc<[Arc<LiveUpstream>]> = {
            let mut registry = self.0.registry.lock();
            let is_named = |upstream: &Arc<LiveUpstream>| {
                upstream.key == *key && upstream_ids.contains(&upstream.spec.id)
            };
            let leaving: Arc<[_]> = registry.upstreams().filter(is_named).collect();
            for upstream in leaving.iter() {
                upstream.withdraw();
            }
            if let Some(former) = registry.former.get_mut(key) {
                former.retain(|upstream| !is_named(upstream));
            }
            if let Some(LiveDestination::Upstreams(now)) = registry.destinations.get(key) {
                let set = now.set.load();
                let upstreams =
                    set.upstreams.iter().filter(|upstream| !is_named(upstream)).cloned().collect();
                now.swap(GroupMembers { upstreams, when_empty: set.when_empty });
            }
            leaving
        };
        let mut told = Vec::new();
        self.0.threads.lock().retain(|thread| {
            let (done, is_done) = oneshot::channel();
            let is_there = thread.send(Withdrawal { upstreams: leaving.clone(), done }).is_ok();
            told.push(is_done);
            is_there
        });
        async move {
            for answer in join_all(told).await {
                if answer.is_err() {
                    tracing::trace!("a front thread ended before it could say that it keeps no connection");
                }
            }
            for upstream in leaving.iter() {
                upstream.quiet().await;
            }
        }
    }

    /// Resolves with the id of an upstream of a destination that has left `times` requests in a row, with none
    /// answered between, without an answer in their time; they are counted anew then. Never for files and for an
    /// unknown key. Cancel-safe.
    pub fn timed_out(
        &self,
        key: &DestinationKey,
        times: u32,
    ) -> impl Future<Output = u64> + Send + 'static + use<> {
        let now = match self.0.registry.lock().destinations.get(key) {
            Some(LiveDestination::Upstreams(now)) => Some(now.clone()),
            Some(LiveDestination::Files(_)) | None => None,
        };
        async move {
            match now {
                Some(now) => now.timed_out(times).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Resolves when an upstream that [`timed_out`](Self::timed_out) has told of has answered a request since, also one
    /// that was sent before it left its set. Never for an unknown one. Cancel-safe.
    pub fn answered(
        &self,
        key: &DestinationKey,
        id: u64,
    ) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut registry = self.0.registry.lock();
        let upstream = registry.upstreams().find(|upstream| upstream.key == *key && upstream.spec.id == id);
        async move {
            match upstream {
                Some(upstream) => upstream.answered().await,
                None => std::future::pending().await,
            }
        }
    }

    /// What is known about the upstreams of a destination, in the order of its set; none for files and
    /// for an unknown key.
    pub fn statistics(&self, key: &DestinationKey) -> Vec<UpstreamStatistics> {
        match self.0.registry.lock().destinations.get(key) {
            Some(LiveDestination::Upstreams(now)) => {
                now.set.load().upstreams.iter().map(|upstream| upstream.statistics()).collect()
            }
            Some(LiveDestination::Files(_)) | None => Vec::new(),
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
fn refuse_what_waits(gone: Option<LiveDestination>) {
    if let Some(LiveDestination::Upstreams(now)) = gone {
        let upstreams = now.set.load().upstreams.clone();
        now.swap(GroupMembers { upstreams, when_empty: WhenEmpty::Refuse });
    }
}

impl Registry {
    fn upstreams(&mut self) -> impl Iterator<Item = Arc<LiveUpstream>> {
        self.upstreams.retain(|upstream| upstream.strong_count() > 0);
        self.upstreams.iter().filter_map(Weak::upgrade)
    }

    /// The live states of these upstreams: those that exist, else new ones.
    fn upstreams_of(&mut self, key: &DestinationKey, specs: Vec<Upstream>) -> Vec<Arc<LiveUpstream>> {
        let mut upstreams: Vec<Arc<LiveUpstream>> = Vec::with_capacity(specs.len());
        for spec in specs {
            if upstreams.iter().any(|upstream| upstream.spec == spec) {
                continue;
            }
            let known = self.upstreams().find(|upstream| upstream.key == *key && upstream.spec == spec);
            let upstream = known.unwrap_or_else(|| {
                let upstream = LiveUpstream::new(key.clone(), spec);
                self.upstreams.push(Arc::downgrade(&upstream));
                upstream
            });
            upstreams.push(upstream);
        }
        upstreams
    }
}
