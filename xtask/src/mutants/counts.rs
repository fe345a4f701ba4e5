//! How many mutants of a file had which fate.

use std::ops::AddAssign;

use super::mutant::{Fate, Mutant};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    caught: usize,
    missed: usize,
    unviable: usize,
    timed_out: usize,
}

/// The columns of [`Counts::row`].
pub(super) fn head(name: &str) -> String {
    format!(
        "{name:<52} {:>7} {:>6} {:>6} {:>8} {:>8} {:>7}",
        "mutants", "caught", "missed", "unviable", "timeouts", "percent"
    )
}

impl Counts {
    pub(super) fn of(mutants: &[Mutant]) -> Self {
        let count = |fate| mutants.iter().filter(|mutant| mutant.fate == fate).count();
        Self {
            caught: count(Fate::Caught),
            missed: count(Fate::Missed),
            unviable: count(Fate::Unviable),
            timed_out: count(Fate::TimedOut),
        }
    }

    /// Of those that compile, the share that the tests noticed; a test that does not end has noticed. All of none.
    pub(super) fn percent(self) -> f64 {
        let noticed = self.caught + self.timed_out;
        match noticed + self.missed {
            0 => 100.0,
            viable => 100.0 * noticed as f64 / viable as f64,
        }
    }

    pub(super) fn row(self, name: &str) -> String {
        let Self { caught, missed, unviable, timed_out } = self;
        let all = caught + missed + unviable + timed_out;
        // Rounded down, so that what is below a limit is not shown as having reached it.
        let percent = (self.percent() * 10.0).floor() / 10.0;
        format!("{name:<52} {all:>7} {caught:>6} {missed:>6} {unviable:>8} {timed_out:>8} {percent:>7.1}")
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.caught += other.caught;
        self.missed += other.missed;
        self.unviable += other.unviable;
        self.timed_out += other.timed_out;
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn what_does_not_compile_counts_for_nothing_and_a_test_without_end_has_noticed() {
        let counts = Counts { caught: 17, missed: 1, unviable: 10, timed_out: 1 };
        assert!((counts.percent() - 100.0 * 18.0 / 19.0).abs() < 1e-9);
        assert!(counts.row("a.rs").ends_with(" 94.7"), "{}", counts.row("a.rs"));
        assert!((Counts::default().percent() - 100.0).abs() < 1e-9);
    }
}
