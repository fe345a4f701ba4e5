//! How many connections a front thread has, and when none is left.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{at_work::PhaseCell, budget::Descriptors, phase::AtRest};

/// A front thread has one connection more for as long as this or a clone of it lives.
#[derive(Clone, Debug)]
pub(crate) struct Occupied {
    shared: Arc<OccupiedOnce>,
}

#[derive(Debug)]
struct OccupiedOnce {
    of: Arc<Occupancy>,
    _descriptor: Descriptors,
}

/// How many connections a thread has.
#[derive(Debug, Default)]
pub(crate) struct Occupancy {
    connections: AtomicUsize,
    /// Those that are served, by the address of what they show.
    shown: Mutex<HashMap<usize, Arc<PhaseCell>>>,
    /// Told when the last one has ended.
    empty: Notify,
}

impl Occupancy {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn occupy(self: &Arc<Self>, descriptor: Descriptors) -> Occupied {
        self.connections.fetch_add(1, Ordering::SeqCst);
        Occupied { shared: Arc::new(OccupiedOnce { of: self.clone(), _descriptor: descriptor }) }
    }

    /// The connections that nobody is at work for.
    pub(crate) fn at_rest(&self) -> Vec<(AtRest, Arc<PhaseCell>)> {
        let shown = self.shown.lock();
        shown.values().filter_map(|phase| Some((phase.at_rest()?, phase.clone()))).collect()
    }

    /// Returns when no connection is left.
    pub(crate) async fn empty(&self) {
        loop {
            let mut empty = pin!(self.empty.notified());
            empty.as_mut().enable();
            if self.connections() == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl Drop for OccupiedOnce {
    fn drop(&mut self) {
        if self.of.connections.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.of.empty.notify_waiters();
        }
    }
}

impl Occupied {
    /// Shows what the connection is doing to whoever looks for one to close, as long as the answer lives.
    fn show(&self, phase: &Arc<PhaseCell>) -> Shown {
        let key = Arc::as_ptr(phase).addr();
        self.shared.of.shown.lock().insert(key, phase.clone());
        Shown { of: self.shared.of.clone(), key }
    }
}

/// The place that a connection takes on its thread, and what it is doing there, shown to whoever looks for one to
/// close.
#[derive(Debug)]
pub(crate) struct OccupiedPlace {
    pub(crate) occupied: Occupied,
    pub(crate) phases: Arc<PhaseCell>,
    _shown: Shown,
}

impl OccupiedPlace {
    pub(crate) fn shown(occupied: Occupied, phases: Arc<PhaseCell>) -> Self {
        let shown = occupied.show(&phases);
        Self { occupied, phases, _shown: shown }
    }
}

/// A connection that is shown.
#[derive(Debug)]
struct Shown {
    of: Arc<Occupancy>,
    key: usize,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.of.shown.lock().remove(&self.key);
    }
}
