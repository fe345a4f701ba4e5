//! Lines of the log that would come too often.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How often the same is said at most.
const PAUSE: Duration = Duration::from_mins(1);

/// Lets one line a minute through.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// Whether it may be said now; if so, how often it was not said since the last time.
    pub(crate) fn is_due(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.last.is_some_and(|last| now < last + PAUSE) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_is_let_through_and_says_how_many_were_not() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        let said: Vec<_> =
            [0, 1, 59, 60, 61, 200].map(|s| seldom.is_due(now + Duration::from_secs(s))).into();
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
