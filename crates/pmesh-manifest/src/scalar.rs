//! Durations, sizes and rates: text in, plain values or the reason why not out.

use std::time::Duration;

/// A duration, or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    For(Duration),
    Never,
}

/// The longest duration there is, which `never` is where a key takes a plain one: 292 years.
pub(crate) const LONGEST: Duration = Duration::from_nanos(i64::MAX.unsigned_abs());

/// Why a text is no duration, size, rate or regular expression; reads on from "expected …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScalarError {
    #[error("a duration such as `500ms`, `30s` or `1h30m`")]
    Duration,
    #[error("a duration with a unit (did you mean \"{0}s\"?)")]
    NoUnit(String),
    #[error("a duration that is not negative")]
    Negative,
    #[error("a duration of at most 292 years")]
    TooLong,
    #[error("a size such as `512M`, `1GiB` or `1gb`")]
    Size,
    #[error("a rate such as `10/s`, `100/5m` or `1m` (one a minute)")]
    Rate,
    #[error("a regular expression ({0})")]
    RegularExpression(String),
    #[error("a regular expression of at most {} bytes", Expressions::LONGEST)]
    LongExpression,
    #[error(
        "a smaller regular expression (this one is too large; `\\w` and the like stand for thousands of letters, `[0-9a-z]` for few)"
    )]
    LargeExpression,
    #[error(
        "no more regular expressions than this server holds for one manifest (a simpler one takes less of it)"
    )]
    ManyExpressions,
}

/// A duration as the manifest writes it (`500ms`, `1h30m`); none for anything else, `never` included.
pub fn parse_duration(text: &str) -> Option<Duration> {
    match duration(text) {
        Ok(Span::For(duration)) => Some(duration),
        Ok(Span::Never) | Err(_) => None,
    }
}

/// A duration in Go's grammar (`1h30m`, `1.5s`, `.5s`, `+3s`, plain `0`; units h, m, s, ms, us or
/// µs, ns), or `never`.
///
/// As in Go (package time, `ParseDuration`) the longest is 2⁶³−1 ns.
pub(crate) fn duration(text: &str) -> Result<Span, ScalarError> {
    if text == "never" {
        return Ok(Span::Never);
    }
    // Only one sign: a text of nothing but signs must not recurse for each of them.
    if let Some(positive) = text.strip_prefix('-')
        && !positive.is_empty()
        && !positive.starts_with('-')
    {
        return duration(positive).and(Err(ScalarError::Negative));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Span::For(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(ScalarError::Duration);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(ScalarError::Duration);
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" if rest.len() == text.len() => return Err(ScalarError::NoUnit(text.to_owned())),
            _ => return Err(ScalarError::Duration),
        };
        let whole: u128 = match whole {
            "" => 0,
            digits if digits.trim_start_matches('0').len() > 19 => return Err(ScalarError::TooLong),
            digits => digits.parse().map_err(|_| ScalarError::Duration)?,
        };
        total += whole * nanos;
        // Digits beyond a nanosecond of the largest unit do not count.
        let fraction = &fraction[..fraction.len().min(13)];
        if let Ok(digits) = fraction.parse::<u128>() {
            let scale = fraction.bytes().fold(1, |scale: u128, _| scale * 10);
            total += nanos * digits / scale;
        }
        if total > LONGEST.as_nanos() {
            return Err(ScalarError::TooLong);
        }
        rest = tail;
    }
    u64::try_from(total).map(|nanos| Span::For(Duration::from_nanos(nanos))).map_err(|_| ScalarError::TooLong)
}

/// A number of bytes: `512M` and `1gb` by 1000, `1GiB` by 1024, a bare number as it is.
pub(crate) fn size(text: &str) -> Result<u64, ScalarError> {
    text.parse::<bytesize::ByteSize>().map(|size| size.as_u64()).map_err(|_| ScalarError::Size)
}

/// Checks a rate: `10/s`, `100/5m`, or `1m` for one in that time.
pub(crate) fn rate(text: &str) -> Result<(), ScalarError> {
    let time = |text: &str| match duration(text) {
        Ok(Span::For(time)) if !time.is_zero() => Ok(()),
        _ => Err(ScalarError::Rate),
    };
    let Some((count, per)) = text.split_once('/') else { return time(text) };
    match count.parse::<u32>() {
        Ok(count) if count > 0 => {}
        _ => return Err(ScalarError::Rate),
    }
    if per.starts_with(|c: char| c.is_ascii_digit()) { time(per) } else { time(&format!("1{per}")) }
}

/// The regular expressions of one manifest, which share a budget: each takes a part of it by its compiled
/// size and the length of its text, so that neither memory nor time grows with their number.
#[derive(Debug)]
pub(crate) struct Expressions {
    left: usize,
}

impl Default for Expressions {
    fn default() -> Self {
        Self { left: Self::ALL }
    }
}

impl Expressions {
    /// The longest text, in bytes.
    pub(crate) const LONGEST: usize = 1024;
    /// What all of them may take together, in bytes as compiled.
    const ALL: usize = 12 << 20;
    /// The sizes that are told apart: a few letters, a few classes such as `\w`, many of them.
    const SIZES: [usize; 4] = [16 << 10, 64 << 10, 128 << 10, 256 << 10];
    /// What each byte of text takes out of the budget. Character classes are worked out before the size is known, so the
    /// text alone costs something.
    const TEXT: usize = 64;

    /// Checks a regular expression and takes its part of the budget, also where it is refused: that has
    /// cost as much.
    pub(crate) fn check(&mut self, text: &str) -> Result<(), ScalarError> {
        if text.len() > Self::LONGEST {
            return Err(ScalarError::LongExpression);
        }
        for size in Self::SIZES {
            let cost = size + text.len() * Self::TEXT;
            if cost > self.left {
                self.left = 0;
                return Err(ScalarError::ManyExpressions);
            }
            match regex::RegexBuilder::new(text).size_limit(size).build() {
                Ok(_) => {
                    self.left -= cost;
                    return Ok(());
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                // The crate draws a picture of several lines; the last one names the reason.
                Err(error) => {
                    self.left -= cost;
                    let picture = error.to_string();
                    let reason = picture.lines().last().unwrap_or_default();
                    let reason = reason.trim_start_matches("error: ").to_owned();
                    return Err(ScalarError::RegularExpression(reason));
                }
            }
        }
        let cost = Self::SIZES.iter().sum::<usize>() + text.len() * Self::TEXT;
        self.left = self.left.saturating_sub(cost);
        Err(ScalarError::LargeExpression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let nanos = |nanos| Ok(Span::For(Duration::from_nanos(nanos)));
        for (text, expected) in [
            ("0", nanos(0)),
            ("0s", nanos(0)),
            ("500ms", nanos(500_000_000)),
            ("1h30m", nanos(5_400_000_000_000)),
            ("1.5s", nanos(1_500_000_000)),
            (".5s", nanos(500_000_000)),
            ("1.s", nanos(1_000_000_000)),
            ("+3s", nanos(3_000_000_000)),
            ("1us2µs3μs4ns", nanos(6_004)),
            ("0.0000000001h", nanos(360)),
            ("2562047h47m16.854775807s", nanos(i64::MAX.unsigned_abs())),
            ("never", Ok(Span::Never)),
            ("2562047h47m16.854775808s", Err(ScalarError::TooLong)),
            ("99999999999999999999999999h", Err(ScalarError::TooLong)),
            ("-5s", Err(ScalarError::Negative)),
            ("30", Err(ScalarError::NoUnit("30".to_owned()))),
            ("1.5", Err(ScalarError::NoUnit("1.5".to_owned()))),
            ("", Err(ScalarError::Duration)),
            ("-", Err(ScalarError::Duration)),
            ("s", Err(ScalarError::Duration)),
            (".s", Err(ScalarError::Duration)),
            ("1d", Err(ScalarError::Duration)),
            ("1 s", Err(ScalarError::Duration)),
            ("1m30", Err(ScalarError::Duration)),
            ("1..5s", Err(ScalarError::Duration)),
            ("1S", Err(ScalarError::Duration)),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_count_by_1000_or_by_1024_as_they_say() {
        for (text, bytes) in
            [("512M", 512_000_000), ("1gb", 1_000_000_000), ("1GiB", 1 << 30), ("16MiB", 16 << 20), ("7", 7)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1M", "1X", "lots"] {
            assert_eq!(size(text), Err(ScalarError::Size), "{text}");
        }
    }

    #[test]
    fn rates_are_a_number_in_a_time() {
        for text in ["10/s", "100/5m", "1m", "1/h", "5/1.5s"] {
            assert_eq!(rate(text), Ok(()), "{text}");
        }
        for text in ["", "10", "0/s", "10/", "/s", "10/0s", "never", "1/never", "x/s", "-1/s"] {
            assert_eq!(rate(text), Err(ScalarError::Rate), "{text}");
        }
    }
}
