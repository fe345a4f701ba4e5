//! How many connections a front thread has, and when none is left.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// A front thread has one connection more for as long as this or a clone of it lives.
#[derive(Clone, Debug)]
pub(crate) struct Occupied {
    _shared: Arc<OccupiedOnce>,
}

#[derive(Debug)]
struct OccupiedOnce(Arc<Occupancy>);

/// How many connections a thread has.
#[derive(Debug, Default)]
pub(crate) struct Occupancy {
    connections: AtomicUsize,
    /// Told when the last one has ended.
    empty: Notify,
}

impl Occupancy {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn occupy(self: &Arc<Self>) -> Occupied {
        self.connections.fetch_add(1, Ordering::SeqCst);
        Occupied { _shared: Arc::new(OccupiedOnce(self.clone())) }
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
        if self.0.connections.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.empty.notify_waiters();
        }
    }
}
