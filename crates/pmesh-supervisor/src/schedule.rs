//! The times at which a job is started.

use std::{fmt, time::Duration};

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};

use crate::saved::{BadBytes, Saved, SavedReader, SavedWriter};

/// The times at which a job is started.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    zone: Option<String>,
    times: Times,
}

#[derive(Clone)]
pub(crate) enum Times {
    /// After each such period.
    Every(Duration),
    /// When the clock of a time zone shows what matches.
    Cron(Box<Cron>, TimeZone),
}

/// Why something is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// It is not written as cron has it.
    #[error(
        "expected five fields (minute, hour, day of the month, month, day of the week) such as `30 3 * * *`, or \
         `every 10m`: {0}"
    )]
    Pattern(String),
    /// It never comes.
    #[error("no day and time is ever like this")]
    Never,
    /// There is no such time zone on this machine.
    #[error("there is no time zone `{0}` on this machine; expected one such as `Europe/Berlin` or `UTC`")]
    Zone(String),
}

impl Schedule {
    /// After each `period`, first when one has passed.
    pub fn every(period: Duration) -> Self {
        Self { text: format!("every {}ms", period.as_millis()), zone: None, times: Times::Every(period) }
    }

    /// At the times of crontab(5), five fields, on the clock of this time zone (by default the machine's). A time that
    /// the clock jumps over when it is put forward comes right behind the gap; of one that it shows twice only the first
    /// counts, but for patterns of every hour or minute.
    ///
    /// # Errors
    ///
    /// The pattern is none, or matches nothing; there is no such time zone.
    pub fn cron(pattern: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let times = match zone {
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::Zone(name.to_owned()))?,
        };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|error| ScheduleError::Pattern(error.to_string()))?;
        let schedule = Self {
            text: pattern.to_owned(),
            zone: zone.map(str::to_owned),
            times: Times::Cron(Box::new(cron), times),
        };
        // Leap days come within eight years.
        let begin = Timestamp::UNIX_EPOCH;
        if schedule.next_after(begin).is_none() { Err(ScheduleError::Never) } else { Ok(schedule) }
    }

    pub(crate) fn times(&self) -> &Times {
        &self.times
    }

    /// The first time after this one; none for a period, which knows no clock.
    pub(crate) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let Times::Cron(cron, zone) = &self.times else { return None };
        let next = cron.find_next_occurrence(&time.to_zoned(zone.clone()), false).ok()?;
        Some(next.timestamp())
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.zone) == (&other.text, &other.zone)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").field("text", &self.text).field("zone", &self.zone).finish_non_exhaustive()
    }
}

impl Saved for Schedule {
    fn write(&self, to: &mut SavedWriter) {
        match &self.times {
            Times::Every(period) => {
                to.variant(0);
                period.write(to);
            }
            Times::Cron(..) => {
                to.variant(1);
                self.text.write(to);
                self.zone.write(to);
            }
        }
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        match from.variant()? {
            0 => Ok(Self::every(Duration::read(from)?)),
            1 => {
                let (text, zone) = (String::read(from)?, Option::<String>::read(from)?);
                Self::cron(&text, zone.as_deref()).map_err(|_| from.bad("no schedule"))
            }
            _ => Err(from.bad("no kind of schedule")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Schedule, ScheduleError};

    /// The times from the begin on, in this zone.
    fn times(pattern: &str, zone: &str, begin: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::cron(pattern, Some(zone)).unwrap();
        let zone = jiff::tz::TimeZone::get(zone).unwrap();
        let mut at = begin.parse::<jiff::Timestamp>().unwrap();
        let mut times = Vec::new();
        for _ in 0..count {
            at = schedule.next_after(at).unwrap();
            times.push(at.to_zoned(zone.clone()).strftime("%a %F %R %z").to_string());
        }
        times
    }

    #[test]
    fn times_are_those_of_cron() {
        assert_eq!(
            times("*/20 3 * * *", "UTC", "2026-11-27T03:30:00Z", 3),
            ["Fri 2026-11-27 03:40 +0000", "Sat 2026-11-28 03:00 +0000", "Sat 2026-11-28 03:20 +0000"]
        );
        assert_eq!(
            times("0 0 13 * 5", "UTC", "2026-11-01T00:00:00Z", 3),
            ["Fri 2026-11-06 00:00 +0000", "Fri 2026-11-13 00:00 +0000", "Fri 2026-11-20 00:00 +0000"],
            "either of the two fields of days"
        );
        assert_eq!(times("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1), ["Tue 2028-02-29 00:00 +0000"]);
    }

    #[test]
    fn what_the_clock_jumps_over_comes_behind_the_gap_and_what_it_shows_twice_comes_once() {
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
            ["Sat 2026-03-28 02:30 +0100", "Sun 2026-03-29 03:00 +0200", "Mon 2026-03-30 02:30 +0200"]
        );
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["Sun 2026-10-25 02:30 +0200", "Mon 2026-10-26 02:30 +0100"]
        );
        assert_eq!(
            times("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
            ["Sun 2026-10-25 02:30 +0200", "Sun 2026-10-25 02:30 +0100", "Sun 2026-10-25 03:30 +0100"]
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for pattern in ["", "* * * *", "* * * * * *", "61 * * * *", "x * * * *", "every day"] {
            let refused = Schedule::cron(pattern, None);
            assert!(matches!(refused, Err(ScheduleError::Pattern(_))), "{pattern}: {refused:?}");
        }
        assert_eq!(Schedule::cron("0 0 30 2 *", None), Err(ScheduleError::Never));
        let zone = Err(ScheduleError::Zone("Mars/Olympus".to_owned()));
        assert_eq!(Schedule::cron("0 0 * * *", Some("Mars/Olympus")), zone);
    }
}
