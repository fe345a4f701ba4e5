//! Dates in header fields (RFC 9110, section 5.6.7).

use http::HeaderValue;
use time::{
    OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description,
    parsing::Parsed,
};

/// The form that is written.
const IMF_FIXDATE: &[BorrowedFormatItem<'static>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
/// Two forms that are read as well. The first says the last two digits of its year.
const RFC_850: &[BorrowedFormatItem<'static>] = format_description!(
    "[weekday repr:long], [day]-[month repr:short]-[year repr:last_two] [hour]:[minute]:[second] GMT"
);
const ASCTIME: &[BorrowedFormatItem<'static>] = format_description!(
    "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
);

/// Of two digits a year is the last one with them that is no more than so many years ahead.
const YEARS_AHEAD: i32 = 50;

/// A date in the form that is written; `None` of a year that has no four digits.
pub(crate) fn write(date: OffsetDateTime) -> Option<HeaderValue> {
    HeaderValue::try_from(date.format(IMF_FIXDATE).ok()?).ok()
}

/// A date in any of the three forms; `now` is asked where only two digits of its year are said.
pub(crate) fn read(value: &HeaderValue, now: impl FnOnce() -> OffsetDateTime) -> Option<OffsetDateTime> {
    let text = value.to_str().ok()?;
    let date = PrimitiveDateTime::parse(text, IMF_FIXDATE)
        .or_else(|_| PrimitiveDateTime::parse(text, ASCTIME))
        .ok()
        .or_else(|| read_rfc_850(text, now))?;
    Some(date.assume_utc())
}

fn read_rfc_850(text: &str, now: impl FnOnce() -> OffsetDateTime) -> Option<PrimitiveDateTime> {
    let mut parsed = Parsed::new();
    if !parsed.parse_items(text.as_bytes(), RFC_850).ok()?.is_empty() {
        return None;
    }
    let latest = now().year() + YEARS_AHEAD;
    let digits = i32::from(parsed.year_last_two()?);
    parsed.set_year(latest - (latest - digits).rem_euclid(100))?;
    PrimitiveDateTime::try_from(parsed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in(year: i32, text: &'static str) -> Option<String> {
        let now = || OffsetDateTime::UNIX_EPOCH.replace_year(year).unwrap();
        read(&HeaderValue::from_static(text), now)
            .map(|date| write(date).unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn the_three_forms_of_a_date_are_read() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(read_in(2026, text).as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"), "{text}");
        }
        assert_eq!(
            read_in(2026, "Sat Nov 16 08:49:37 1996").as_deref(),
            Some("Sat, 16 Nov 1996 08:49:37 GMT")
        );
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "yesterday",
            "0",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT+1",
            "Sunday, 31-Feb-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 94",
        ] {
            assert_eq!(read_in(2026, text), None, "{text:?}");
        }
    }

    #[test]
    fn a_year_of_two_digits_is_the_last_one_no_more_than_fifty_years_ahead() {
        for (year, text, expected) in [
            (2026, "Monday, 06-Nov-26 08:49:37 GMT", 2026),
            (2026, "Sunday, 06-Nov-27 08:49:37 GMT", 2027),
            (2026, "Friday, 06-Nov-76 08:49:37 GMT", 2076),
            (2026, "Sunday, 06-Nov-77 08:49:37 GMT", 1977),
            (1994, "Sunday, 06-Nov-94 08:49:37 GMT", 1994),
            (1994, "Sunday, 06-Nov-05 08:49:37 GMT", 2005),
        ] {
            let date = read_in(year, text).unwrap();
            assert!(date.contains(&format!(" {expected} ")), "{text} in {year} is {date}");
        }
    }
}
