//! Ending a blocking call from another thread.

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::Mutex;

type Wake = Box<dyn FnOnce() + Send>;

/// A flag that ends a blocking call, and wakes it up for that. Clones are the same flag.
///
/// It has two levels, and goes up only. [Cancelled](Self::cancel), a call ends as soon as it can, but in good order: programs
/// have some seconds to clean up, and what was half done is put back. [Hurried](Self::hurry), nothing more is waited for.
/// Neither has an effect on a call that has ended.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    level: Level,
    next: u64,
    // Bounded by the calls that wait right now: each has a few entries.
    wakes: BTreeMap<u64, (Level, Wake)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Wanted,
    Cancelled,
    Hurried,
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag and wakes the calls that [wait](Self::on_cancel) for it.
    pub fn cancel(&self) {
        self.raise(Level::Cancelled);
    }

    /// Sets the flag, also for what takes its time to end well: nothing more is waited for.
    pub fn hurry(&self) {
        self.raise(Level::Hurried);
    }

    fn raise(&self, to: Level) {
        let wakes = {
            let mut state = self.0.lock();
            state.level = state.level.max(to);
            let level = state.level;
            let (due, kept) =
                std::mem::take(&mut state.wakes).into_iter().partition(|(_, (at, _))| *at <= level);
            state.wakes = kept;
            due
        };
        let wakes: BTreeMap<u64, (Level, Wake)> = wakes;
        for (_, wake) in wakes.into_values() {
            wake();
        }
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.lock().level >= Level::Cancelled
    }

    /// Whether nothing more is waited for.
    pub fn is_hurried(&self) -> bool {
        self.0.lock().level >= Level::Hurried
    }

    /// Calls `wake` once when the flag is set, and at once if it is set already. After the answer is dropped it is not
    /// called any more, but a call that has begun by then goes on to its end. For implementations of [`Vcs`](crate::Vcs)
    /// that wait for several things. `wake` runs on the thread that cancels and must not block.
    pub fn on_cancel(&self, wake: impl FnOnce() + Send + 'static) -> OnCancel<'_> {
        self.on(Level::Cancelled, wake)
    }

    /// As [`on_cancel`](Self::on_cancel), when nothing more is waited for.
    pub fn on_hurry(&self, wake: impl FnOnce() + Send + 'static) -> OnCancel<'_> {
        self.on(Level::Hurried, wake)
    }

    fn on(&self, level: Level, wake: impl FnOnce() + Send + 'static) -> OnCancel<'_> {
        let mut state = self.0.lock();
        if state.level >= level {
            drop(state);
            wake();
            return OnCancel { cancel: self, id: None };
        }
        let id = state.next;
        state.next += 1;
        state.wakes.insert(id, (level, Box::new(wake)));
        OnCancel { cancel: self, id: Some(id) }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("level", &self.0.lock().level).finish_non_exhaustive()
    }
}

/// Keeps a call of [`Cancel::on_cancel`] or [`Cancel::on_hurry`] registered.
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

    #[test]
    fn whoever_waits_for_a_hurry_is_not_woken_before_and_a_hurry_cancels_as_well() {
        let cancel = Cancel::new();
        let (calls, called) = mpsc::channel();
        let (first, second) = (calls.clone(), calls);
        let _polite = cancel.on_cancel(move || first.send("cancelled").unwrap());
        let _hurried = cancel.on_hurry(move || second.send("hurried").unwrap());
        cancel.cancel();
        assert_eq!(called.try_iter().collect::<Vec<_>>(), ["cancelled"]);
        assert!(!cancel.is_hurried());
        cancel.hurry();
        cancel.cancel();
        assert_eq!(called.try_iter().collect::<Vec<_>>(), ["hurried"]);
        assert!(cancel.is_hurried());
        let at_once = Cancel::new();
        at_once.hurry();
        assert!(at_once.is_cancelled());
    }
}
