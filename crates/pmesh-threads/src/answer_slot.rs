//! Where the answer of a job is put down for whoever waits for it, a thread or a task.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use parking_lot::{Condvar, Mutex};

use crate::Unanswered;

/// Holds one answer, the first that comes.
pub(crate) struct AnswerSlot<T> {
    state: Mutex<State<T>>,
    given: Condvar,
}

struct State<T> {
    reply: Option<Result<T, Unanswered>>,
    is_given: bool,
    waker: Option<Waker>,
}

impl<T> AnswerSlot<T> {
    pub(crate) fn new() -> Self {
        let state = State { reply: None, is_given: false, waker: None };
        Self { state: Mutex::new(state), given: Condvar::new() }
    }

    pub(crate) fn give(&self, reply: Result<T, Unanswered>) {
        let (late, waker) = {
            let mut state = self.state.lock();
            if state.is_given {
                (Some(reply), None)
            } else {
                state.is_given = true;
                state.reply = Some(reply);
                (None, state.waker.take())
            }
        };
        // What is dropped here is the caller's and may do anything: never under the lock.
        drop(late);
        self.given.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The answer, if it comes before `until`.
    pub(crate) fn wait(&self, until: Instant) -> Option<Result<T, Unanswered>> {
        let mut state = self.state.lock();
        while !state.is_given {
            if self.given.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.reply.take()
    }

    /// The answer, or the task is woken when it comes.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<T, Unanswered>> {
        let mut state = self.state.lock();
        if let Some(reply) = state.reply.take() {
            return Poll::Ready(reply);
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// The job's side of a slot. Dropped without an answer, such as with the queue it was in, whoever waits is told.
pub(crate) struct Replier<T>(Arc<AnswerSlot<T>>);

impl<T> Replier<T> {
    pub(crate) fn new(slot: Arc<AnswerSlot<T>>) -> Self {
        Self(slot)
    }

    pub(crate) fn give(&self, reply: Result<T, Unanswered>) {
        self.0.give(reply);
    }
}

impl<T> Drop for Replier<T> {
    fn drop(&mut self) {
        self.0.give(Err(Unanswered::Cancelled));
    }
}
