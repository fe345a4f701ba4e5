//! Ending a blocking call from another thread.

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::Mutex;

type Wake = Box<dyn FnOnce() + Send>;

/// A flag that ends a blocking call, and wakes it up for that. Clones are the same flag.
///
/// Once set it stays set. Setting it has no effect on a call that has ended.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cancelled: bool,
    next: u64,
    // One entry for each call that is waiting right now.
    wakes: BTreeMap<u64, Wake>,
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag and wakes the calls that [wait](Self::on_cancel) for it.
    pub fn cancel(&self) {
        let wakes = {
            let mut state = self.0.lock();
            state.cancelled = true;
            std::mem::take(&mut state.wakes)
        };
        for wake in wakes.into_values() {
            wake();
        }
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.lock().cancelled
    }

    /// Calls `wake` once when the flag is set, at once if it is set already, and no more when the answer
    /// is dropped (a call that has begun by then still ends). For implementations of
    /// [`Vcs`](crate::Vcs) that wait for several things. `wake` runs on the thread that cancels and must not block.
    pub fn on_cancel(&self, wake: impl FnOnce() + Send + 'static) -> OnCancel<'_> {
        let mut state = self.0.lock();
        if state.cancelled {
            drop(state);
            wake();
            return OnCancel { cancel: self, id: None };
        }
        let id = state.next;
        state.next += 1;
        state.wakes.insert(id, Box::new(wake));
        OnCancel { cancel: self, id: Some(id) }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish()
    }
}

/// Keeps a call of [`Cancel::on_cancel`] registered.
#[derive(Debug)]
#[must_use = "dropping it takes the call back"]
pub struct OnCancel<'a> {
    cancel: &'a Cancel,
    id: Option<u64>,
}

impl Drop for OnCancel<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.cancel.0.lock().wakes.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_registered_call_happens_once_and_at_once_when_the_flag_is_set_already() {
        let cancel = Cancel::new();
        let (calls, called) = mpsc::channel();
        let early = calls.clone();
        let guard = cancel.on_cancel(move || early.send("early").unwrap());
        assert!(called.try_recv().is_err());
        cancel.cancel();
        cancel.cancel();
        let late = cancel.on_cancel(move || calls.send("late").unwrap());
        assert_eq!(called.try_iter().collect::<Vec<_>>(), ["early", "late"]);
        drop((guard, late));
    }

    #[test]
    fn a_call_that_was_taken_back_does_not_happen() {
        let cancel = Cancel::new();
        let (calls, called) = mpsc::channel();
        drop(cancel.on_cancel(move || calls.send(()).unwrap()));
        cancel.cancel();
        assert!(called.try_recv().is_err());
    }
}
