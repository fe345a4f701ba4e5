//! What a client's connection is waiting for, and until when.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits::FrontLimits;

/// What a connection is waiting for, and until when.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The first byte of a request.
    Idle { until: Instant },
    /// The rest of a head.
    Head { until: Instant },
    /// The front: no limit here.
    Working,
}

/// The phase of a connection, told by its stream, its service and the bodies on it.
#[derive(Debug)]
pub(crate) struct PhaseCell {
    now: Mutex<PhaseNow>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

#[derive(Debug)]
struct PhaseNow {
    phase: Phase,
    /// How many [`AtWork`] there are.
    at_work: usize,
}

impl PhaseCell {
    /// A connection that has just been made. One that says nothing at all gets the time of a head, not that
    /// between two requests.
    pub(crate) fn new(limits: &FrontLimits) -> Self {
        let first = Phase::Head { until: Instant::now() + limits.header_timeout };
        Self {
            now: Mutex::new(PhaseNow { phase: first, at_work: 0 }),
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
        }
    }

    /// When the client's time is over, if it is the client's turn.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.now.lock().phase {
            Phase::Idle { until } | Phase::Head { until } => Some(until),
            Phase::Working => None,
        }
    }

    /// Bytes came in.
    pub(crate) fn read(&self) {
        let mut now = self.now.lock();
        if matches!(now.phase, Phase::Idle { .. }) {
            now.phase = Phase::Head { until: Instant::now() + self.header_timeout };
        }
    }

    /// Bytes went out: the end of an answer may still be on its way to a slow client.
    pub(crate) fn written(&self) {
        let mut now = self.now.lock();
        if let Phase::Idle { until } = &mut now.phase {
            *until = Instant::now() + self.idle_timeout;
        }
    }
}

/// The connection is at work as long as somebody has this: the answer, and what is left of the request's body.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<PhaseCell>);

impl AtWork {
    pub(crate) fn begin(phase: &Arc<PhaseCell>) -> Self {
        let mut now = phase.now.lock();
        now.phase = Phase::Working;
        now.at_work += 1;
        Self(phase.clone())
    }
}

impl Clone for AtWork {
    fn clone(&self) -> Self {
        Self::begin(&self.0)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut now = self.0.now.lock();
        now.at_work -= 1;
        if now.at_work == 0 {
            now.phase = Phase::Idle { until: Instant::now() + self.0.idle_timeout };
        }
    }
}
