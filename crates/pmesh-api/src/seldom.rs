//! Lines of the log that would come too often. A plain type.

use std::time::{Duration, Instant};

/// How often the same is said at most.
const PAUSE: Duration = Duration::from_mins(1);

/// Lets one line a minute through, and counts.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It has happened again; how often it has since the last line, if one is due.
    pub(crate) fn again(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < PAUSE) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_tells_how_often_it_was() {
        let (mut seldom, now) = (Seldom::default(), Instant::now());
        let said: Vec<_> = [0, 1, 59, 60, 61].map(|s| seldom.again(now + Duration::from_secs(s))).into();
        assert_eq!(said, [Some(1), None, None, Some(3), None]);
    }
}
