//! Bytes, shares and times as people read them.

use std::time::Duration;

use pmesh_api::wire::NO_TIME;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// `412 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // From here on it would be rounded to 1024.
    while value >= 1023.5 {
        value /= 1024.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// The share of one core in percent: `41 %`, `0.4 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 9.95 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// `1234`, `99k`, `1.2M`: four characters, for what is counted in practice.
pub(crate) fn short(count: u64) -> String {
    const UNITS: [&str; 5] = ["k", "M", "G", "T", "P"];
    if count < 10_000 {
        return count.to_string();
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    // From here on it would be rounded to 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1}{}", UNITS[unit]) } else { format!("{value:.0}{}", UNITS[unit]) }
}

/// `1 service`, `2 services`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `0.8 s`, `14 s`, `3 min`, `5 h`, `12 d`: the two digits that matter.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..=9 => format!("{:.1} s", span.as_secs_f64()),
        10..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// A time of the API; none for "no time" and for what is no time.
pub(crate) fn instant(text: &str) -> Option<OffsetDateTime> {
    if text == NO_TIME { None } else { OffsetDateTime::parse(text, &Rfc3339).ok() }
}

/// From one time to another; nothing if the clock was set back in between.
pub(crate) fn between(from: OffsetDateTime, to: OffsetDateTime) -> Duration {
    (to - from).try_into().unwrap_or_default()
}

/// `3 h ago`, or `-` for no time.
pub(crate) fn ago(text: &str, now: OffsetDateTime) -> String {
    instant(text).map_or_else(|| "-".to_owned(), |then| format!("{} ago", span(between(then, now))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use super::{ago, bytes, counted, percent, short, span};

    #[test]
    fn bytes_have_the_unit_that_leaves_few_digits() {
        for (count, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10_189, "10 KiB"),
            (1_048_575, "1.0 MiB"),
            (432_013_312, "412 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }

    #[test]
    fn a_count_keeps_the_digits_that_matter() {
        for (count, shown) in
            [(0, "0"), (9999, "9999"), (10_000, "10k"), (98_765, "99k"), (999_499, "999k"), (999_500, "1.0M")]
        {
            assert_eq!(short(count), shown);
        }
        assert_eq!(short(u64::MAX), "18447P");
    }

    #[test]
    fn a_share_is_in_percent_of_one_core() {
        for (share, shown) in
            [(0.0, "0 %"), (0.004, "0.4 %"), (0.0995, "10 %"), (0.41, "41 %"), (3.2, "320 %")]
        {
            assert_eq!(percent(share), shown);
        }
    }

    #[test]
    fn a_time_is_as_long_ago_as_it_matters() {
        let now = datetime!(2024-03-09 12:00:00 UTC);
        for (then, shown) in [
            ("2024-03-09T11:59:59.200Z", "0.8 s ago"),
            ("2024-03-09T11:59:01.000Z", "59 s ago"),
            ("2024-03-09T11:57:01.000Z", "2 min ago"),
            ("2024-03-09T09:00:00.000Z", "3 h ago"),
            ("2024-02-26T12:00:00.000Z", "12 d ago"),
            ("2024-03-09T12:00:05.000Z", "0.0 s ago"),
            ("0001-01-01T00:00:00Z", "-"),
            ("", "-"),
        ] {
            assert_eq!(ago(then, now), shown, "{then}");
        }
        assert_eq!(span(Duration::from_secs(14)), "14 s");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(
            [counted(0, "service"), counted(1, "service"), counted(2, "service")],
            ["0 services", "1 service", "2 services"]
        );
    }
}
