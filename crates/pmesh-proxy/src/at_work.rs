//! Who tells the phases of a client's connection, and who waits for their times.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering, fence},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::{
    limits::FrontLimits,
    next_head::BodyLength,
    phase::{AtRest, ConnectionEvent, Outlook, Phases},
};

/// The phases of a connection, told by its stream, its service and the bodies on it.
#[derive(Debug)]
pub(crate) struct PhaseCell {
    now: Mutex<PhasesNow>,
    /// Somebody else needs its descriptor.
    is_dismissed: AtomicBool,
    /// The task that serves it.
    task: OnceLock<Waker>,
}

/// What a connection is to do that was dismissed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dismissal {
    /// End behind what is still to be written.
    Finish,
    /// End.
    Close,
}

#[derive(Debug)]
struct PhasesNow {
    phases: Phases,
    /// How many [`AtWork`] there are.
    at_work: usize,
}

/// Why a connection is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutReason {
    /// The client is not there any more.
    Gone,
    /// It was its turn to send or to read, for too long.
    TooSlow,
    /// Somebody else needs its descriptor.
    Dismissed,
}

impl PhaseCell {
    pub(crate) fn new(limits: &FrontLimits) -> Arc<Self> {
        let phases = Phases::new(limits, Instant::now());
        Arc::new(Self {
            now: Mutex::new(PhasesNow { phases, at_work: 0 }),
            is_dismissed: AtomicBool::new(false),
            task: OnceLock::new(),
        })
    }

    /// Something happened.
    pub(crate) fn on(&self, event: ConnectionEvent) {
        self.now.lock().phases.on(event, Instant::now);
    }

    /// Bytes came in.
    pub(crate) fn on_bytes(&self, bytes: &[u8]) {
        self.now.lock().phases.on_bytes(bytes, Instant::now);
    }

    /// Ready when the connection is to end; what happens must wake the task that asks.
    ///
    /// The alarm is set anew only where it would come too late: it may come too early, once.
    pub(crate) fn poll_verdict(&self, cx: &mut Context<'_>, mut alarm: Pin<&mut Sleep>) -> Poll<CutReason> {
        loop {
            let outlook = self.now.lock().phases.outlook();
            let deadline = match outlook {
                Outlook::Gone => return Poll::Ready(CutReason::Gone),
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
                return Poll::Ready(CutReason::TooSlow);
            }
            alarm.as_mut().reset(deadline);
        }
    }
}

/// For whoever needs its descriptor more.
impl PhaseCell {
    /// How long nothing has been asked on it; none while something is, and once it was dismissed.
    pub(crate) fn at_rest(&self) -> Option<AtRest> {
        if self.is_dismissed.load(Ordering::Acquire) { None } else { self.now.lock().phases.at_rest() }
    }

    /// Asks the connection to end, unless a request comes before.
    pub(crate) fn dismiss(&self) {
        self.is_dismissed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }

    /// What the connection is to do now, if it was dismissed and no request has come before. The task that asks
    /// first is the one that a dismissal wakes.
    pub(crate) fn dismissal(&self, cx: &Context<'_>) -> Option<Dismissal> {
        if self.task.get().is_none() {
            self.task.get_or_init(|| cx.waker().clone());
            // The task is there before the flag is read, and whoever dismisses sets the flag before reading the task: so one
            // of the two sees the other.
            fence(Ordering::SeqCst);
        }
        if !self.is_dismissed.load(Ordering::Acquire) {
            return None;
        }
        match self.now.lock().phases.at_rest() {
            Some(rest) if rest.is_between_requests => Some(Dismissal::Finish),
            Some(_) => Some(Dismissal::Close),
            None => {
                self.is_dismissed.store(false, Ordering::Release);
                None
            }
        }
    }
}

/// The connection is at work as long as somebody has this: the answer, and what is left of the request's body.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<PhaseCell>);

impl AtWork {
    /// A request's head is whole, and this is its body.
    pub(crate) fn begin(phase: &Arc<PhaseCell>, body: BodyLength) -> Self {
        let mut now = phase.now.lock();
        now.phases.on_head(body, Instant::now);
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
            now.phases.on(ConnectionEvent::Done, Instant::now);
        }
    }
}
