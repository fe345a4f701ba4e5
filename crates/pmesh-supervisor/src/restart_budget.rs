//! How many instances that fail again and again a node starts at a time.

use std::{thread, time::Instant};

/// The starts that are there at once.
const BURST: f64 = 50.0;
/// The starts that come each second, and for each core.
const EACH_SECOND: f64 = 10.0;
const FOR_A_CORE: f64 = 2.0;

/// A bucket of starts (token bucket). Each instance has its pauses; where hundreds fail together, these alone would have the machine
/// do nothing but start what fails. The first restart of an instance is not counted.
#[derive(Debug)]
pub(crate) struct RestartBudget {
    left: f64,
    a_second: f64,
    at: Option<Instant>,
}

impl RestartBudget {
    pub(crate) fn of_cores(cores: usize) -> Self {
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        Self { left: BURST, a_second: EACH_SECOND + FOR_A_CORE * f64::from(cores), at: None }
    }

    /// Takes one start, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = self.at.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.left = (self.left + since * self.a_second).min(BURST);
        let is_there = self.left >= 1.0;
        if is_there {
            self.left -= 1.0;
        }
        is_there
    }
}

impl Default for RestartBudget {
    /// That of this machine.
    fn default() -> Self {
        Self::of_cores(thread::available_parallelism().map_or(1, usize::from))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::RestartBudget;

    #[test]
    fn fifty_starts_are_there_at_once_and_ten_and_two_for_each_core_come_in_a_second() {
        let (mut budget, now) = (RestartBudget::of_cores(4), Instant::now());
        let mut taken = |at| (0..1000).filter(|_| budget.take(at)).count();
        assert_eq!(taken(now), 50);
        assert_eq!(taken(now + Duration::from_millis(500)), 9);
        assert_eq!(taken(now + Duration::from_millis(1500)), 18);
        assert_eq!(taken(now + Duration::from_hours(1)), 50, "no more than that is saved");
        assert_eq!(taken(now), 0, "a clock that goes back gives nothing");
    }
}
