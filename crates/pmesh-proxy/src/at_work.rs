//! Who tells the phases of a client's connection, and who waits for their times.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::{
    limits::FrontLimits,
    phase::{Event, Outlook, Phases},
};

/// The phases of a connection, told by its stream, its service and the bodies on it.
#[derive(Debug)]
pub(crate) struct PhaseCell {
    now: Mutex<PhasesNow>,
}

#[derive(Debug)]
struct PhasesNow {
    phases: Phases,
    /// How many [`AtWork`] there are.
    at_work: usize,
}

/// Why a connection is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The client is not there any more.
    Gone,
    /// It was its turn to send or to read, for too long.
    TooSlow,
}

impl PhaseCell {
    pub(crate) fn new(limits: &FrontLimits) -> Arc<Self> {
        let phases = Phases::new(limits, Instant::now());
        Arc::new(Self { now: Mutex::new(PhasesNow { phases, at_work: 0 }) })
    }

    /// Something happened.
    pub(crate) fn on(&self, event: Event) {
        self.now.lock().phases.on(event, Instant::now);
    }

    /// Ready when the connection is to end; what happens must wake the task that asks.
    ///
    /// The alarm is set anew only where it would come too late: it may come too early, once.
    pub(crate) fn poll_verdict(&self, cx: &mut Context<'_>, mut alarm: Pin<&mut Sleep>) -> Poll<Verdict> {
        loop {
            let outlook = self.now.lock().phases.outlook();
            let deadline = match outlook {
                Outlook::Gone => return Poll::Ready(Verdict::Gone),
                Outlook::Open => return Poll::Pending,
                Outlook::Until(deadline) => deadline,
            };
            if deadline < alarm.deadline() {
                alarm.as_mut().reset(deadline);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(Verdict::TooSlow);
            }
            alarm.as_mut().reset(deadline);
        }
    }
}

/// The connection is at work as long as somebody has this: the answer, and what is left of the request's body.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<PhaseCell>);

impl AtWork {
    /// A request's head is whole.
    pub(crate) fn begin(phase: &Arc<PhaseCell>) -> Self {
        let mut now = phase.now.lock();
        now.phases.on(Event::Asked, Instant::now);
        now.at_work += 1;
        Self(phase.clone())
    }

    /// The phases of the connection.
    pub(crate) fn phases(&self) -> &Arc<PhaseCell> {
        &self.0
    }
}

impl Clone for AtWork {
    fn clone(&self) -> Self {
        self.0.now.lock().at_work += 1;
        Self(self.0.clone())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut now = self.0.now.lock();
        now.at_work -= 1;
        if now.at_work == 0 {
            now.phases.on(Event::Done, Instant::now);
        }
    }
}
