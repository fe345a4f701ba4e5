//! Ids that rise with time. The decision is plain; the caller passes the time.

use std::time::{Duration, SystemTime};

/// 2024-01-01T00:00:00Z, since the Unix epoch: where the ids begin.
const EPOCH: Duration = Duration::from_hours(473_352);
/// Bits for ids of one millisecond.
const COUNTER_BITS: u32 = 12;
/// Bits that tell the servers of a machine apart.
const SERVER_BITS: u32 = 10;

/// Makes 64-bit ids: milliseconds since 2024-01-01 in the upper 42 bits, then 10 bits of the
/// server's pid, then a counter. Each is greater than the one before, also when the clock goes back.
#[derive(Debug)]
pub(crate) struct Ids {
    server: u64,
    /// The last id without the server's bits.
    last: u64,
}

impl Ids {
    /// For the server with this pid.
    pub(crate) fn new(pid: u32) -> Self {
        Self { server: u64::from(pid) % (1 << SERVER_BITS), last: 0 }
    }

    /// The next id at the time `now`.
    pub(crate) fn next(&mut self, now: SystemTime) -> u64 {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(EPOCH);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX >> 22);
        // A millisecond that has run out of numbers borrows from the next one.
        self.last = (self.last + 1).max(millis << COUNTER_BITS);
        let (millis, counter) = (self.last >> COUNTER_BITS, self.last % (1 << COUNTER_BITS));
        (millis << (COUNTER_BITS + SERVER_BITS)) | (self.server << COUNTER_BITS) | counter
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{EPOCH, Ids};

    #[test]
    fn the_upper_bits_are_the_milliseconds_since_2024() {
        let at = SystemTime::UNIX_EPOCH + EPOCH + Duration::from_millis(5);
        assert_eq!(Ids::new(3).next(at) >> 22, 5);
    }

    #[test]
    fn ids_rise_also_within_a_millisecond_and_when_the_clock_goes_back() {
        let mut ids = Ids::new(70_000);
        let mut now = SystemTime::UNIX_EPOCH + EPOCH + Duration::from_hours(48);
        let mut last = 0;
        for step in 0..20_000 {
            if step == 9_000 {
                now -= Duration::from_hours(1);
            }
            let id = ids.next(now);
            assert!(id > last);
            last = id;
        }
    }

    #[test]
    fn two_servers_of_a_machine_make_different_ids() {
        let now = SystemTime::now();
        assert_ne!(Ids::new(4711).next(now), Ids::new(4712).next(now));
    }
}
