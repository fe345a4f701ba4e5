//! Ids that rise with time. The decision is plain; the caller passes the time.

use std::time::{Duration, SystemTime};

/// 2024-01-01T00:00:00Z, since the Unix epoch: where the ids begin.
const EPOCH: Duration = Duration::from_hours(473_352);
/// Bits of a pid: the kernel gives none above 2^22 (proc(5), `pid_max`).
const PID_BITS: u32 = 22;

/// Makes 64-bit ids: milliseconds since 2024-01-01 in the upper 42 bits, then the server's pid. Each is
/// greater than the one before, also when the clock goes back, and unlike those of every other server of
/// the machine (with the same pids: containers have their own).
#[derive(Debug)]
pub(crate) struct Ids {
    pid: u64,
    /// The millisecond of the last id.
    last: u64,
}

impl Ids {
    /// For the server with this pid.
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid: u64::from(pid) % (1 << PID_BITS), last: 0 }
    }

    /// The next id at the time `now`.
    pub(crate) fn next(&mut self, now: SystemTime) -> u64 {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(EPOCH);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX >> PID_BITS);
        // A second id in one millisecond borrows the next one.
        self.last = (self.last + 1).max(millis);
        (self.last << PID_BITS) | self.pid
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
        for other in [4712, 4711 + 1024, 4711 + (1 << 21)] {
            assert_ne!(Ids::new(4711).next(now), Ids::new(other).next(now));
        }
    }
}
