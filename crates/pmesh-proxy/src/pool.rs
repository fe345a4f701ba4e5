//! The idle connections of one front thread.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    discard::discard_late,
    live_upstream::{InFlight, LiveUpstream},
    upstream_connection::{AfterAnswer, UpstreamConnection},
};

/// Idle connections, the last one used first.
///
/// At most `cap` per upstream, none longer than `idle`: an app closes its side after a time that nobody
/// tells, 5 s for Node, and a request that is then on its way is lost.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    cap: usize,
    time: Duration,
    /// Told when something becomes idle while the reaper waits for that.
    filled: Notify,
}

#[derive(Default)]
struct State {
    /// By the address of the upstream's live state, which each entry keeps alive.
    idle: HashMap<usize, Vec<Idle>>,
    /// Those that one client's connection has to itself; nothing while they are at work, or for good.
    bound: HashMap<BindingId, Option<Bound>>,
    last_binding: u64,
    reaper_waits: bool,
}

/// An idle connection for one client's connection.
struct Bound {
    connection: Box<UpstreamConnection>,
    upstream: Arc<LiveUpstream>,
}

/// The name of a place in the pool that is for one client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BindingId(u64);

/// A connection that goes back there.
pub(crate) struct Owned {
    pub(crate) connection: Box<UpstreamConnection>,
    pub(crate) owner: BindingId,
}

/// Such a place; dropped, what lies there is closed.
#[derive(Debug)]
pub(crate) struct Binding {
    id: BindingId,
    pool: Pool,
}

impl Binding {
    pub(crate) fn id(&self) -> BindingId {
        self.id
    }

    /// The connection, if it lies there and is open; the system is asked: a login is not to be lost silently.
    pub(crate) fn take(&self) -> Option<Owned> {
        let Bound { connection, .. } = self.pool.0.state.lock().bound.get_mut(&self.id)?.take()?;
        let is_open = connection.is_open() && connection.is_open_now();
        is_open.then_some(Owned { connection, owner: self.id })
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        let left = self.pool.0.state.lock().bound.remove(&self.id);
        drop(left);
    }
}

struct Idle {
    connection: Box<UpstreamConnection>,
    until: Instant,
    /// Keeps the address under which this entry is found.
    _upstream: Arc<LiveUpstream>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

fn key_of(upstream: &Arc<LiveUpstream>) -> usize {
    Arc::as_ptr(upstream).addr()
}

impl Pool {
    pub(crate) fn new(cap: usize, time: Duration) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), cap, time, filled: Notify::new() }))
    }

    /// The one used last, if it is open; `surely` asks the system, for what cannot be sent twice.
    pub(crate) fn take(
        &self,
        upstream: &Arc<LiveUpstream>,
        surely: bool,
        now: Instant,
    ) -> Option<Box<UpstreamConnection>> {
        let mut state = self.0.state.lock();
        let idle = state.idle.get_mut(&key_of(upstream))?;
        while let Some(last) = idle.pop() {
            if last.until <= now {
                // The others are older.
                idle.clear();
            } else if last.connection.is_open() && (!surely || last.connection.is_open_now()) {
                return Some(last.connection);
            }
        }
        None
    }

    /// A place for one client's connection.
    pub(crate) fn bind(&self) -> Binding {
        let mut state = self.0.state.lock();
        state.last_binding += 1;
        let id = BindingId(state.last_binding);
        state.bound.insert(id, None);
        Binding { id, pool: self.clone() }
    }

    /// Keeps a connection, or closes it where its upstream is withdrawn or has enough of them, or where the
    /// client that it is for has gone.
    fn put(
        &self,
        connection: Box<UpstreamConnection>,
        upstream: Arc<LiveUpstream>,
        owner: Option<BindingId>,
    ) {
        if upstream.is_withdrawn() {
            return;
        }
        let mut state = self.0.state.lock();
        if let Some(id) = owner {
            if let Some(place) = state.bound.get_mut(&id) {
                *place = Some(Bound { connection, upstream });
            }
            return;
        }
        let idle = state.idle.entry(key_of(&upstream)).or_default();
        if idle.len() < self.0.cap {
            idle.push(Idle { connection, until: Instant::now() + self.0.time, _upstream: upstream });
            if std::mem::take(&mut state.reaper_waits) {
                self.0.filled.notify_one();
            }
        }
    }

    /// Closes all idle connections to those of these upstreams that are still withdrawn.
    pub(crate) fn drop_idle(&self, upstreams: &[Arc<LiveUpstream>]) {
        let mut state = self.0.state.lock();
        for upstream in upstreams.iter().filter(|upstream| upstream.is_withdrawn()) {
            state.idle.remove(&key_of(upstream));
            for place in state.bound.values_mut() {
                place.take_if(|bound| Arc::ptr_eq(&bound.upstream, upstream));
            }
        }
    }

    /// Closes what has been idle for `least` or longer, because descriptors run short; answers how many those
    /// were, and when the next will have been.
    pub(crate) fn drop_idle_for(&self, least: Duration, now: Instant) -> (usize, Option<Instant>) {
        let due = |one: &Idle| one.until.checked_sub(self.0.time).unwrap_or(one.until) + least;
        let mut dropped = Vec::new();
        let mut state = self.0.state.lock();
        for idle in state.idle.values_mut() {
            dropped.extend(idle.extract_if(.., |one| due(one) <= now));
        }
        let next = state.idle.values().flatten().map(due).min();
        drop(state);
        (dropped.len(), next)
    }

    /// Closes what has been idle for too long. Sleeps without a timer while nothing is idle.
    pub(crate) async fn reap(&self) {
        loop {
            let oldest = {
                let mut state = self.0.state.lock();
                let oldest = state.idle.values().filter_map(|idle| idle.first()).map(|idle| idle.until).min();
                state.reaper_waits = oldest.is_none();
                oldest
            };
            match oldest {
                Some(until) => sleep_until(until).await,
                None => self.0.filled.notified().await,
            }
            let now = Instant::now();
            self.0.state.lock().idle.retain(|_, idle| {
                idle.retain(|one| one.until > now && one.connection.is_open());
                !idle.is_empty()
            });
        }
    }
}

/// A connection at work: goes back to the pool when its answer has ended, and is closed if it is dropped.
pub(crate) struct Lease {
    pub(crate) connection: Box<UpstreamConnection>,
    pub(crate) pool: Pool,
    pub(crate) in_flight: InFlight,
    /// Whom it is kept for, if not for everybody.
    pub(crate) owner: Option<BindingId>,
}

impl Lease {
    pub(crate) fn give_back(self) {
        let Self { mut connection, pool, in_flight, owner } = self;
        match connection.after_answer() {
            AfterAnswer::Request => pool.put(connection, in_flight.upstream().clone(), owner),
            // It is the upstream's work as long as the rest of the upload takes.
            AfterAnswer::Upload => {
                tokio::spawn(async move {
                    if connection.finish_upload().await {
                        pool.put(connection, in_flight.upstream().clone(), owner);
                    } else if let Some(left) = connection.take_abandoned() {
                        discard_late(left);
                    }
                });
            }
            AfterAnswer::Nothing => {
                if let Some(left) = connection.take_abandoned() {
                    discard_late(left);
                }
            }
        }
    }
}
