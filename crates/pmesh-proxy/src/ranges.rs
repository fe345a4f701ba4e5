//! Which part of a file a request asks for (RFC 9110, section 14).

use http::{HeaderMap, HeaderValue, header::RANGE};

/// A part of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// From this byte to that one; both are of it.
    Part { first: u64, last: u64 },
    /// It begins behind the end.
    Beyond,
}

/// The part that a request asks for; `None` if it asks for no part, or in a way that is answered with the whole:
/// more than one part, another unit, or something else than a range.
pub(crate) fn asked_for(headers: &HeaderMap, len: u64) -> Option<Range> {
    let mut ranges = headers.get_all(RANGE).iter();
    let range = ranges.next()?;
    if ranges.next().is_some() { None } else { range_of(range, len) }
}

fn range_of(range: &HeaderValue, len: u64) -> Option<Range> {
    let (unit, range) = range.to_str().ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    if first.is_empty() {
        return suffix(number(last)?, len);
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        None
    } else if first >= len {
        Some(Range::Beyond)
    } else {
        Some(Range::Part { first, last: last.min(len - 1) })
    }
}

/// The last bytes. Of an empty file any number of them is the whole (section 14.1.2), which no part of a file
/// can say: it has at least one byte (section 14.4).
fn suffix(wanted: u64, len: u64) -> Option<Range> {
    match (wanted, len) {
        (0, _) => Some(Range::Beyond),
        (_, 0) => None,
        _ => Some(Range::Part { first: len.saturating_sub(wanted), last: len - 1 }),
    }
}

/// One that is too large for us is beyond the end of every file.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_of_bytes_or_is_ignored() {
        let part = |first, last| Some(Range::Part { first, last });
        for (text, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-5", part(2, 5)),
            ("Bytes= 2-5 ", part(2, 5)),
            ("bytes=2-", part(2, 9)),
            ("bytes=2-99", part(2, 9)),
            ("bytes=2-18446744073709551616", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=-18446744073709551616", part(0, 9)),
            ("bytes=10-", Some(Range::Beyond)),
            ("bytes=18446744073709551616-", Some(Range::Beyond)),
            ("bytes=-0", Some(Range::Beyond)),
            ("bytes=5-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=+1-2", None),
            ("bytes=", None),
            ("bytes=-", None),
            ("bytes", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(range_of(&HeaderValue::from_static(text), 10), expected, "{text}");
        }
    }

    #[test]
    fn the_end_of_an_empty_file_is_all_of_it_and_its_begin_is_nowhere() {
        for (text, expected) in [
            ("bytes=-5", None),
            ("bytes=-0", Some(Range::Beyond)),
            ("bytes=0-", Some(Range::Beyond)),
            ("bytes=0-0", Some(Range::Beyond)),
        ] {
            assert_eq!(range_of(&HeaderValue::from_static(text), 0), expected, "{text}");
        }
    }

    #[test]
    fn whoever_asks_twice_asks_for_no_part() {
        let range = |text| (RANGE, HeaderValue::from_static(text));
        assert_eq!(asked_for(&[range("bytes=0-0"), range("bytes=1-1")].into_iter().collect(), 10), None);
        let part = Some(Range::Part { first: 1, last: 1 });
        assert_eq!(asked_for(&[range("bytes=1-1")].into_iter().collect(), 10), part);
        assert_eq!(asked_for(&HeaderMap::new(), 10), None);
    }
}
