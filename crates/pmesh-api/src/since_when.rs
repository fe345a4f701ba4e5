//! A moment, as it is told: by the clock, or by how long ago it is.

use std::time::{Duration, SystemTime};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// From when on something is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinceWhen {
    Time(SystemTime),
    Ago(Duration),
}

impl SinceWhen {
    /// A time (RFC 3339), or a duration such as `10m`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if let Some(ago) = pmesh_manifest::parse_duration(text) {
            return Some(Self::Ago(ago));
        }
        // In a query a plus is a space.
        let time = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).ok()?;
        Some(Self::Time(time.into()))
    }

    /// The moment, where it is `now`.
    pub(crate) fn at(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Time(time) => time,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago_it_is() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |text: &str| SinceWhen::read(text).map(|since| since.at(now));
        assert_eq!(at("10m"), Some(now - Duration::from_mins(10)));
        assert_eq!(at("1h30m"), Some(now - Duration::from_mins(90)));
        let told = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_500));
        for text in
            ["1970-01-02T00:00:00.5Z", "1970-01-02T02:00:00.500+02:00", "1970-01-02T02:00:00.500 02:00"]
        {
            assert_eq!(at(text), told, "{text}");
        }
        assert!(at("999999h") < Some(SystemTime::UNIX_EPOCH), "before all that was written");
        for text in ["", "yesterday", "1970-01-02", "-1m", "10"] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
