//! The end of a time.

use std::time::{Duration, Instant};

/// The end of a time that several steps share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    /// How long it was in all.
    pub(super) limit: Duration,
    /// None if that is never.
    at: Option<Instant>,
}

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        Self { limit, at: Instant::now().checked_add(limit) }
    }

    /// What is left of it.
    pub(super) fn left(&self) -> Duration {
        self.at.map_or(self.limit, |at| at.saturating_duration_since(Instant::now()))
    }

    /// The same for a step that may take so long by itself.
    pub(super) fn within(&self, step: Duration) -> Self {
        let step = Self::after(step);
        if self.left() < step.limit { *self } else { step }
    }
}
