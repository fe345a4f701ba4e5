//! Whoever waits for a job, as a thread or as a task.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep};

use crate::{
    Stop, Unanswered,
    answer_slot::AnswerSlot,
    crew::{Crew, JobTicket},
};

/// How long what still moves at its limit has to say so.
const GRACE: Duration = Duration::from_millis(500);

/// A job that has been given to [`Threads`](crate::Threads).
///
/// Dropped, a job that has not begun is taken back, and one that has is told ([`Stop`]) and goes on to its end. A future,
/// for a runtime with timers, that answers once; and [`wait`](Self::wait) for threads.
#[must_use = "dropped, a job that has not begun is taken back"]
pub struct Waiting<T> {
    slot: Arc<AnswerSlot<T>>,
    queued: Queued,
    /// When nothing more is waited for.
    until: Instant,
    /// When it is looked whether it has a thread, as long as that is not known.
    look: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    stop: Stop,
}

/// Takes a job back that has not begun.
struct Queued {
    crew: Arc<Crew>,
    ticket: JobTicket,
    /// It has ended, or is to be done whoever waits.
    is_over: bool,
}

/// Ends the wait for a job from elsewhere.
pub struct Canceller<T> {
    slot: Arc<AnswerSlot<T>>,
    stop: Stop,
}

impl<T> Waiting<T> {
    pub(crate) fn new(
        slot: Arc<AnswerSlot<T>>,
        crew: Arc<Crew>,
        ticket: JobTicket,
        look: Instant,
        stop: Stop,
    ) -> Self {
        let queued = Queued { crew, ticket, is_over: false };
        Self { slot, queued, until: stop.until() + GRACE, look: Some(look), timer: None, stop }
    }

    /// When the thread of a job that was to end at `until` stands still.
    pub(crate) fn overdue(until: Instant) -> Instant {
        until + GRACE
    }

    /// Blocks until the job has ended or its time is over.
    ///
    /// # Errors
    ///
    /// [`Unanswered`].
    pub fn wait(mut self) -> Result<T, Unanswered> {
        loop {
            let pause = self.next_look();
            if let Some(reply) = self.slot.wait(pause) {
                self.queued.is_over = true;
                return reply;
            }
            if let Some(timed_out) = self.look_again() {
                return Err(timed_out);
            }
        }
    }

    /// Ends the wait from elsewhere: the job is told, and whoever waits gets [`Unanswered::Cancelled`].
    pub fn canceller(&self) -> Canceller<T> {
        Canceller { slot: Arc::clone(&self.slot), stop: self.stop.clone() }
    }

    /// Has the job done though nobody waits for it.
    pub fn detach(mut self) {
        self.queued.is_over = true;
    }

    fn next_look(&self) -> Instant {
        self.look.map_or(self.until, |look| look.min(self.until))
    }

    /// Time has passed: the job's may be over, and a thread that has come to stand still is replaced.
    fn look_again(&mut self) -> Option<Unanswered> {
        let now = Instant::now();
        if now >= self.until {
            return Some(self.queued.crew.timed_out());
        }
        match self.queued.crew.replace_stuck(self.queued.ticket, now) {
            Ok(look) => {
                self.look = look;
                None
            }
            Err(error) => Some(error),
        }
    }
}

impl<T> Future for Waiting<T> {
    type Output = Result<T, Unanswered>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if let Poll::Ready(reply) = this.slot.poll(cx) {
                this.queued.is_over = true;
                return Poll::Ready(reply);
            }
            let pause = this.next_look().saturating_duration_since(Instant::now());
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(timer.as_mut().poll(cx));
            // Its clock may be another one than ours (a test's), and ours decides.
            this.timer = None;
            if let Some(error) = this.look_again() {
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl<T> Canceller<T> {
    /// Ends it; what came before counts.
    pub fn cancel(&self) {
        self.stop.cancel();
        self.slot.give(Err(Unanswered::Cancelled));
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        if !self.queued.is_over {
            self.stop.cancel();
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if !self.is_over {
            self.crew.withdraw(self.ticket);
        }
    }
}

impl<T> fmt::Debug for Waiting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("stop", &self.stop).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Canceller<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").field("stop", &self.stop).finish_non_exhaustive()
    }
}
