//! How far a walk over trees, references or history may go, decided without a clock.

use std::{fmt, time::Instant};

/// What a walk may take. What a repository holds can be far more than its size on the disk: eight folders within each
/// other, each ten times the same one, are a hundred million files in 300 KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct WalkLimits {
    /// Entries of trees, commits or references that are looked at.
    pub(super) entries: u64,
    /// Folders within each other.
    pub(super) depth: usize,
    /// Bytes that are kept at a time: the trees that are open, and the answer.
    pub(super) bytes: u64,
}

impl Default for WalkLimits {
    fn default() -> Self {
        Self { entries: 2_000_000, depth: 256, bytes: 256 << 20 }
    }
}

/// What is left of it.
#[derive(Debug)]
pub(super) struct WalkBudget {
    limits: WalkLimits,
    until: Instant,
    entries: u64,
    bytes: u64,
}

/// Which of the limits a walk has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    Entries(u64),
    Depth(usize),
    Bytes(u64),
    Time,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(limit) => write!(f, "more than {limit} entries would have to be looked at"),
            Self::Depth(limit) => write!(f, "it has more than {limit} folders within each other"),
            Self::Bytes(limit) => write!(f, "more than {} MiB would have to be kept", limit >> 20),
            Self::Time => write!(f, "it was not walked through in time"),
        }
    }
}

impl WalkBudget {
    pub(super) fn new(limits: WalkLimits, until: Instant) -> Self {
        Self { limits, until, entries: 0, bytes: 0 }
    }

    /// An entry is looked at, `depth` folders below the top.
    pub(super) fn entry(&mut self, depth: usize, now: Instant) -> Result<(), Exceeded> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Exceeded::Entries(self.limits.entries));
        }
        if depth > self.limits.depth {
            return Err(Exceeded::Depth(self.limits.depth));
        }
        if now >= self.until { Err(Exceeded::Time) } else { Ok(()) }
    }

    /// So many bytes are about to be kept.
    pub(super) fn keep(&mut self, bytes: u64) -> Result<(), Exceeded> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes { Err(Exceeded::Bytes(self.limits.bytes)) } else { Ok(()) }
    }

    /// They are kept no more.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: WalkLimits = WalkLimits { entries: 3, depth: 2, bytes: 10 };

    fn budget() -> (WalkBudget, Instant) {
        let now = Instant::now();
        (WalkBudget::new(LIMITS, now + Duration::from_secs(10)), now)
    }

    #[test]
    fn a_walk_ends_at_its_last_entry() {
        let (mut budget, now) = budget();
        for _ in 0..3 {
            assert_eq!(budget.entry(0, now), Ok(()));
        }
        assert_eq!(budget.entry(0, now), Err(Exceeded::Entries(3)));
    }

    #[test]
    fn a_walk_ends_where_it_is_too_deep_or_too_late() {
        let (mut budget, now) = budget();
        assert_eq!(budget.entry(2, now), Ok(()));
        assert_eq!(budget.entry(3, now), Err(Exceeded::Depth(2)));
        assert_eq!(budget.entry(1, now + Duration::from_secs(10)), Err(Exceeded::Time));
    }

    #[test]
    fn what_is_given_back_can_be_kept_again() {
        let (mut budget, _) = budget();
        assert_eq!(budget.keep(8), Ok(()));
        budget.give_back(8);
        assert_eq!(budget.keep(10), Ok(()));
        assert_eq!(budget.keep(u64::MAX), Err(Exceeded::Bytes(10)));
    }

    #[test]
    fn the_limits_are_those_of_the_documents() {
        let limits = WalkLimits::default();
        assert_eq!((limits.entries, limits.depth), (2_000_000, 256));
    }
}
