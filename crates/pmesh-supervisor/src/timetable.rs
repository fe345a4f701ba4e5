//! When the next run of a job is due. A plain type: takes the time of day and that of the machine.

use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};

use crate::{Schedule, schedule::Times};

/// The longest pause between two looks at the clock, which somebody may have set.
const LOOK: Duration = Duration::from_secs(30);
/// Moments that are not told apart where nothing depends on it.
const NEAR: Duration = Duration::from_secs(1);
/// A run that could not begin so long after its time is missed.
const LATE: SignedDuration = SignedDuration::from_secs(60);
/// A clock that is set back by less than this repeats no time.
const REPEATS: SignedDuration = SignedDuration::from_hours(3);

/// When the next run of a job is due.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timetable {
    schedule: Schedule,
    next: Next,
    /// The last time that was due or missed.
    last: Option<Timestamp>,
    /// When the next one is on the time of the machine; not moved by the little that the two differ.
    next_at: Option<Instant>,
    look_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    In(Instant),
    At(Timestamp),
    Never,
}

/// What a look at the clock has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A run is due.
    Now,
    /// One was, and it is too late for it: the clock was put forward, or the machine slept.
    Missed,
    /// None is.
    NotYet,
}

impl Timetable {
    /// Begins now.
    pub(crate) fn new(schedule: Schedule, wall: SystemTime, now: Instant) -> Self {
        let mut timetable = Self { schedule, next: Next::Never, last: None, next_at: None, look_at: now };
        timetable.next = match timetable.schedule.times() {
            Times::Every(period) => Next::In(now + *period),
            Times::Cron(..) => timetable.next_time(wall),
        };
        timetable.plan_look(wall, now);
        timetable
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// When to [`look`](Self::look) the next time.
    pub(crate) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// When the next run is due, as the clock was at the last look.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next_at
    }

    /// Looks at the clock.
    pub(crate) fn look(&mut self, wall: SystemTime, now: Instant) -> Due {
        let due = match (self.next, self.schedule.times()) {
            (Next::In(at), Times::Every(period)) => {
                if at <= now {
                    // Periods that have passed meanwhile are not made up.
                    let passed = now.saturating_duration_since(at).as_nanos() / period.as_nanos().max(1);
                    let periods = u32::try_from(passed + 1).unwrap_or(u32::MAX);
                    self.next = Next::In(at + period.saturating_mul(periods));
                    Due::Now
                } else {
                    Due::NotYet
                }
            }
            (Next::At(time), _) => {
                let late = timestamp(wall).duration_since(time);
                let due = if late < SignedDuration::ZERO {
                    Due::NotYet
                } else if late <= LATE {
                    Due::Now
                } else {
                    Due::Missed
                };
                if due != Due::NotYet {
                    self.last = Some(time);
                }
                self.next = self.next_time(wall);
                due
            }
            (Next::In(_) | Next::Never, _) => Due::NotYet,
        };
        self.plan_look(wall, now);
        due
    }

    fn next_time(&mut self, wall: SystemTime) -> Next {
        let wall = timestamp(wall);
        // Of a clock that was set back far the times before are forgotten, or they would be left out when it comes near.
        self.last.take_if(|last| last.duration_since(wall) >= REPEATS);
        let from = self.last.map_or(wall, |last| last.max(wall));
        self.schedule.next_after(from).map_or(Next::Never, Next::At)
    }

    fn plan_look(&mut self, wall: SystemTime, now: Instant) {
        let next = match self.next {
            Next::In(at) => Some(at),
            Next::At(time) => Some(now + until(time, wall)),
            Next::Never => None,
        };
        let far = |one: Instant, other: Instant| {
            one.saturating_duration_since(other).max(other.saturating_duration_since(one)) >= NEAR
        };
        if self.next_at.zip(next).is_none_or(|(before, next)| far(before, next)) {
            self.next_at = next;
        }
        let look = now + LOOK;
        self.look_at = match self.next {
            Next::In(at) => at,
            Next::At(_) | Next::Never => next.map_or(look, |at| at.min(look)),
        };
    }
}

fn timestamp(wall: SystemTime) -> Timestamp {
    // A clock beyond the year 9999 shows no time of any schedule.
    Timestamp::try_from(wall).unwrap_or(Timestamp::MAX)
}

fn until(time: Timestamp, wall: SystemTime) -> Duration {
    time.duration_since(timestamp(wall)).try_into().unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::{Due, LOOK, Timetable};
    use crate::Schedule;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);

    /// A clock that shows 2026-11-27T12:00:00Z, and the time of a machine.
    struct Clock {
        wall: SystemTime,
        now: Instant,
        timetable: Timetable,
    }

    impl Clock {
        fn new(schedule: Schedule) -> Self {
            let wall = SystemTime::UNIX_EPOCH + Duration::from_hours(498_828);
            let now = Instant::now();
            Self { wall, now, timetable: Timetable::new(schedule, wall, now) }
        }

        fn of(pattern: &str) -> Self {
            Self::new(Schedule::cron(pattern, Some("UTC")).unwrap())
        }

        /// Lets so much time pass, with the looks that are planned; answers with what was due, and when.
        fn pass(&mut self, time: Duration) -> Vec<(Duration, Due)> {
            let (begin, end) = (self.now, self.now + time);
            let mut due = Vec::new();
            while self.timetable.look_at() <= end {
                let step = self.timetable.look_at() - self.now;
                assert!(step <= LOOK || matches!(self.timetable.next, super::Next::In(_)), "{step:?}");
                (self.wall, self.now) = (self.wall + step, self.now + step);
                match self.timetable.look(self.wall, self.now) {
                    Due::NotYet => {}
                    what => due.push((self.now - begin, what)),
                }
            }
            (self.wall, self.now) = (self.wall + (end - self.now), end);
            due
        }
    }

    #[test]
    fn a_run_is_due_at_its_times() {
        let mut clock = Clock::of("*/20 * * * *");
        assert_eq!(clock.timetable.next(), Some(clock.now + 20 * MINUTE));
        assert_eq!(clock.pass(HOUR), [20, 40, 60].map(|minute| (minute * MINUTE, Due::Now)));
        let mut clock = Clock::new(Schedule::every(10 * MINUTE));
        assert_eq!(clock.timetable.next(), Some(clock.now + 10 * MINUTE));
        assert_eq!(clock.pass(25 * MINUTE), [10, 20].map(|minute| (minute * MINUTE, Due::Now)));
    }

    #[test]
    fn a_time_that_a_clock_that_is_put_forward_has_passed_is_missed_and_not_made_up() {
        let mut clock = Clock::of("20 * * * *");
        clock.wall += 5 * HOUR;
        assert_eq!(clock.pass(LOOK), [(LOOK, Due::Missed)]);
        assert_eq!(clock.pass(HOUR), [(39 * LOOK, Due::Now)]);
        let mut clock = Clock::of("20 * * * *");
        clock.wall += 20 * MINUTE;
        assert_eq!(clock.pass(LOOK), [(LOOK, Due::Now)], "within a minute");
    }

    #[test]
    fn a_clock_that_is_set_back_a_little_repeats_nothing_and_one_that_is_set_back_far_goes_on_from_there() {
        let mut clock = Clock::of("20 * * * *");
        assert_eq!(clock.pass(30 * MINUTE).len(), 1);
        clock.wall -= 20 * MINUTE;
        assert_eq!(clock.pass(HOUR + 9 * MINUTE), [], "12:20 comes again, and is over");
        assert_eq!(clock.pass(2 * MINUTE), [(MINUTE, Due::Now)]);
        clock.wall -= 100 * HOUR;
        assert_eq!(clock.pass(HOUR).len(), 1);
    }

    #[test]
    fn what_repeats_ends_at_three_hours() {
        for (back, runs) in [(3 * HOUR, 4), (359 * LOOK, 1)] {
            let mut clock = Clock::of("20 * * * *");
            assert_eq!(clock.pass(20 * MINUTE).len(), 1);
            // It shows 12:20, which was the last time; the next look comes after half a minute.
            clock.wall -= back + LOOK;
            assert_eq!(clock.pass(4 * HOUR + MINUTE).len(), runs, "{back:?}");
        }
    }

    #[test]
    fn the_next_time_is_told_without_the_little_that_clocks_differ_and_moves_with_one_that_is_set() {
        let mut clock = Clock::of("20 * * * *");
        let told = clock.timetable.next();
        clock.wall += Duration::from_millis(999);
        clock.pass(MINUTE);
        assert_eq!(clock.timetable.next(), told);
        clock.wall += Duration::from_millis(1);
        clock.pass(MINUTE);
        assert_eq!(clock.timetable.next(), told.and_then(|at| at.checked_sub(SECOND)));
        clock.wall -= 5 * MINUTE;
        clock.pass(MINUTE);
        assert_eq!(clock.timetable.next(), told.and_then(|at| (at + 5 * MINUTE).checked_sub(SECOND)));
    }

    #[test]
    fn periods_know_no_clock_and_those_that_were_slept_through_are_one() {
        let mut clock = Clock::new(Schedule::every(10 * MINUTE));
        clock.wall += 100 * HOUR;
        assert_eq!(clock.pass(10 * MINUTE), [(10 * MINUTE, Due::Now)]);
        clock.now += 35 * MINUTE;
        assert_eq!(clock.timetable.look(clock.wall, clock.now), Due::Now);
        assert_eq!(clock.pass(5 * MINUTE), [(5 * MINUTE, Due::Now)]);
    }
}
