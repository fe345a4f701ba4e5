//! How long a failing instance waits before it is started again. A plain type.

use std::time::Duration;

use crate::saved::saved;

/// The pause before the second restart in a row; the first comes at once.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause, without jitter.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An instance that was ready for so long has recovered: its next failure counts as the first.
pub(crate) const RECOVERED_AFTER: Duration = Duration::from_secs(30);

/// The pause before a build that failed is tried again.
pub(crate) const FIRST_BUILD_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause between tries of a build, without jitter.
pub(crate) const LONGEST_BUILD_PAUSE: Duration = Duration::from_mins(5);

/// A seed for jitter, made from a name: things that fail together get different pauses.
pub(crate) fn seed(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

/// The pauses of one instance: none before the first restart, then [`FIRST_PAUSE`], doubling with
/// each failure up to [`LONGEST_PAUSE`], each lengthened by up to a tenth so that instances that
/// fail together do not come back together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
    /// How many failures in a row cost no pause.
    free: u32,
    first: Duration,
    longest: Duration,
    random: u64,
}

saved!(struct Backoff { failures, free, first, longest, random });

impl Backoff {
    /// The pauses of an instance that has not failed yet; `seed` decides the jitter.
    pub(crate) fn new(seed: u64) -> Self {
        Self { failures: 0, free: 1, first: FIRST_PAUSE, longest: LONGEST_PAUSE, random: seed }
    }

    /// The pauses of a build, which costs more than a start and is mended more rarely: [`FIRST_BUILD_PAUSE`],
    /// doubling with each failure up to [`LONGEST_BUILD_PAUSE`].
    pub(crate) fn of_builds(seed: u64) -> Self {
        Self { free: 0, first: FIRST_BUILD_PAUSE, longest: LONGEST_BUILD_PAUSE, ..Self::new(seed) }
    }

    /// Whether more than the first restart has been needed since it was all right.
    pub(crate) fn has_failed_again(&self) -> bool {
        self.failures > self.free
    }

    /// Takes a failure of an instance that had been ready for `ready_for` (`None`: it never was), and answers
    /// with the pause before the next start.
    pub(crate) fn on_failure(&mut self, ready_for: Option<Duration>) -> Duration {
        if ready_for.is_some_and(|time| time >= RECOVERED_AFTER) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = self.failures.checked_sub(1 + self.free) else { return Duration::ZERO };
        let pause = self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.longest);
        pause + pause.mul_f64(self.jitter())
    }

    /// From 0 to 0.1. `SplitMix64` (Steele, Lea, Flood 2014): spread matters here, secrecy does not.
    fn jitter(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 / 10.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Backoff, LONGEST_PAUSE, seed};

    #[test]
    fn the_second_failure_in_a_row_is_one_too_many_until_it_has_been_all_right() {
        let mut backoff = Backoff::new(7);
        let mut after = |ready_for| {
            backoff.on_failure(ready_for);
            backoff.has_failed_again()
        };
        assert_eq!([after(None), after(None), after(None)], [false, true, true]);
        assert!(!after(Some(Duration::from_mins(1))));
        assert!(!Backoff::new(7).has_failed_again());
    }

    #[test]
    fn the_first_restart_is_at_once_and_each_further_failure_doubles_the_pause() {
        let mut backoff = Backoff::new(7);
        let pauses: Vec<u128> = (0..12).map(|_| backoff.on_failure(None).as_millis()).collect();
        let plain = [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000];
        for (pause, plain) in pauses.iter().zip(plain) {
            assert!((plain..=plain + plain / 10).contains(pause), "{pauses:?}");
        }
    }

    #[test]
    fn half_a_minute_of_readiness_forgives_all_failures() {
        let mut backoff = Backoff::new(7);
        for _ in 0..9 {
            backoff.on_failure(None);
        }
        assert!(backoff.on_failure(Some(Duration::from_secs(29))) > Duration::from_secs(20));
        assert_eq!(backoff.on_failure(Some(Duration::from_secs(30))), Duration::ZERO);
    }

    #[test]
    fn instances_that_fail_together_do_not_come_back_together() {
        let third = |name: &str| {
            let mut backoff = Backoff::new(seed(name));
            [(); 3].map(|()| backoff.on_failure(None))[2]
        };
        assert_ne!(third("web-1"), third("web-2"));
        assert_eq!(third("web-1"), third("web-1"), "a restart of the server changes nothing");
    }

    #[test]
    fn the_spread_is_that_of_splitmix64() {
        // The first numbers for this seed, as other implementations of `SplitMix64` give them.
        let numbers = [6_457_827_717_110_365_317_u64, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        let mut backoff = Backoff::new(1_234_567);
        for number in numbers {
            let tenth = number as f64 / u64::MAX as f64 / 10.0;
            let jitter = backoff.jitter();
            assert!((jitter - tenth).abs() < 1e-12, "{jitter} for {tenth}");
        }
    }

    proptest! {
        #[test]
        fn no_pause_is_ever_longer_than_the_longest_and_a_tenth(
            seed: u64,
            ready in proptest::collection::vec(proptest::option::of(0_u64..60), 1..200),
        ) {
            let mut backoff = Backoff::new(seed);
            for seconds in ready {
                let pause = backoff.on_failure(seconds.map(Duration::from_secs));
                prop_assert!(pause <= LONGEST_PAUSE + LONGEST_PAUSE / 10);
            }
        }
    }
}
