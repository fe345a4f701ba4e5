//! What a job knows of whoever waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Tells a job that nobody waits for it any more.
#[derive(Clone, Debug)]
pub struct Stop {
    is_cancelled: Arc<AtomicBool>,
    until: Instant,
}

impl Stop {
    pub(crate) fn new(until: Instant) -> Self {
        Self { is_cancelled: Arc::default(), until }
    }

    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether its caller has left.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// The end of its time. What still moves then has half a second to say so itself.
    pub fn until(&self) -> Instant {
        self.until
    }
}
