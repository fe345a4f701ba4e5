//! Whether a request with conditions is answered, and with how much (RFC 9110, section 13).

use http::{
    HeaderMap, HeaderValue,
    header::{AsHeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE},
};
use time::OffsetDateTime;

use crate::http_date;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validators<'a> {
    /// The entity tag as it is sent.
    pub(crate) tag: &'a str,
    /// When it was changed last.
    pub(crate) modified: OffsetDateTime,
}

/// What a request gets by its conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConditionResult {
    /// The file, or the part of it that is asked for.
    Answer,
    /// All of the file, whatever part is asked for.
    Whole,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client took it for.
    Failed,
}

/// Judges a GET or HEAD by its conditions, in the order of RFC 9110, section 13.2.2. `now` is asked where a date
/// says two digits of its year.
pub(crate) fn evaluate(
    file: &Validators<'_>,
    headers: &HeaderMap,
    now: impl Fn() -> OffsetDateTime,
) -> ConditionResult {
    // A date that cannot be read, or is there twice, is ignored.
    let date = |name| only(headers, name).and_then(|value| http_date::read(value, &now));
    let seconds = |date: OffsetDateTime| date.unix_timestamp();
    let modified = seconds(file.modified);

    if headers.contains_key(IF_MATCH) {
        if !is_named(headers, IF_MATCH, |tag| tag.is_strongly(file.tag)) {
            return ConditionResult::Failed;
        }
    } else if date(IF_UNMODIFIED_SINCE).is_some_and(|since| modified > seconds(since)) {
        return ConditionResult::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if is_named(headers, IF_NONE_MATCH, |tag| tag.is_weakly(file.tag)) {
            return ConditionResult::NotModified;
        }
    } else if date(IF_MODIFIED_SINCE).is_some_and(|since| modified <= seconds(since)) {
        return ConditionResult::NotModified;
    }
    // A date is for whoever has no tag and got the file a second or more after its last change, so that it was not
    // changed again within the second (sections 13.1.5, 8.8.2.2); no tag of ours is strong.
    let is_met = || match only(headers, IF_RANGE).and_then(|value| Some((value, Tag::first_of(value)?))) {
        Some((_, tag)) => tag.is_strongly(file.tag),
        None => date(IF_RANGE).is_some_and(|since| modified == seconds(since)),
    };
    if headers.contains_key(IF_RANGE) && !is_met() { ConditionResult::Whole } else { ConditionResult::Answer }
}

fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    value.filter(|_| values.next().is_none())
}

/// Whether a field of entity tags, or `*`, names one.
fn is_named(headers: &HeaderMap, name: http::HeaderName, is_it: impl Fn(Tag<'_>) -> bool) -> bool {
    let is_any = |value: &HeaderValue| value.as_bytes().trim_ascii() == b"*";
    headers.get_all(name).iter().any(|value| is_any(value) || Tag::all_of(value).any(&is_it))
}

/// An entity tag (RFC 9110, section 8.8.3).
#[derive(Clone, Copy, Debug)]
struct Tag<'a> {
    is_weak: bool,
    /// What stands between its quotes.
    opaque: &'a [u8],
}

impl<'a> Tag<'a> {
    /// The tags of a list, up to what is none.
    fn all_of(value: &'a HeaderValue) -> impl Iterator<Item = Self> {
        let mut rest = value.as_bytes();
        std::iter::from_fn(move || {
            let (tag, behind) = Self::begin_of(rest)?;
            rest = behind;
            Some(tag)
        })
    }

    fn first_of(value: &'a HeaderValue) -> Option<Self> {
        Self::all_of(value).next()
    }

    fn begin_of(list: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let begin = list.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        let text = list.get(begin..)?;
        let (is_weak, quoted) = match text.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, text),
        };
        let inner = quoted.strip_prefix(b"\"")?;
        let end = inner.iter().position(|byte| *byte == b'"')?;
        Some((Self { is_weak, opaque: inner.get(..end)? }, inner.get(end + 1..)?))
    }

    /// The comparison for those who want the same bytes.
    fn is_strongly(self, other: &str) -> bool {
        !self.is_weak && !other.starts_with("W/") && self.is_weakly(other)
    }

    /// The comparison for those who want the same meaning.
    fn is_weakly(self, other: &str) -> bool {
        Tag::begin_of(other.as_bytes()).is_some_and(|(other, _)| other.opaque == self.opaque)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn of(tag: &str, fields: &[(&'static str, &str)]) -> ConditionResult {
        let modified = OffsetDateTime::from_unix_timestamp_nanos(784_111_777_900_000_000).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        evaluate(&Validators { tag, modified }, &headers, || modified)
    }

    #[test]
    fn each_condition_is_judged_by_its_own_kind_of_comparison() {
        use ConditionResult::{Answer, Failed, NotModified, Whole};
        for (name, value, if_weak, if_strong) in [
            ("if-match", "*", Answer, Answer),
            ("if-match", "\"a-1\"", Failed, Answer),
            ("if-match", "W/\"a-1\"", Failed, Failed),
            ("if-match", "\"x\", \"a-1\"", Failed, Answer),
            ("if-match", "\"x\"", Failed, Failed),
            ("if-match", "a-1", Failed, Failed),
            ("if-match", "", Failed, Failed),
            ("if-unmodified-since", DATE, Answer, Answer),
            ("if-unmodified-since", AFTER, Answer, Answer),
            ("if-unmodified-since", BEFORE, Failed, Failed),
            ("if-unmodified-since", "Sunday, 06-Nov-94 08:49:36 GMT", Failed, Failed),
            ("if-unmodified-since", "Sun Nov  6 08:49:36 1994", Failed, Failed),
            ("if-unmodified-since", "yesterday", Answer, Answer),
            ("if-none-match", "*", NotModified, NotModified),
            ("if-none-match", "\"a-1\"", NotModified, NotModified),
            ("if-none-match", "\"x\",W/\"a-1\"", NotModified, NotModified),
            ("if-none-match", "\"x\"", Answer, Answer),
            ("if-none-match", "\"x,*,y\"", Answer, Answer),
            ("if-none-match", "\"x, W/\"a-1\"", Answer, Answer),
            ("if-none-match", "a-1", Answer, Answer),
            ("if-modified-since", DATE, NotModified, NotModified),
            ("if-modified-since", AFTER, NotModified, NotModified),
            ("if-modified-since", BEFORE, Answer, Answer),
            ("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT", NotModified, NotModified),
            ("if-modified-since", "Sun Nov  6 08:49:37 1994", NotModified, NotModified),
            ("if-modified-since", "yesterday", Answer, Answer),
            ("if-range", "\"a-1\"", Whole, Answer),
            ("if-range", "W/\"a-1\"", Whole, Whole),
            ("if-range", DATE, Answer, Answer),
            ("if-range", "Sun Nov  6 08:49:37 1994", Answer, Answer),
            ("if-range", BEFORE, Whole, Whole),
            ("if-range", AFTER, Whole, Whole),
            ("if-range", "*", Whole, Whole),
        ] {
            assert_eq!(of("W/\"a-1\"", &[(name, value)]), if_weak, "{name}: {value}, weak");
            assert_eq!(of("\"a-1\"", &[(name, value)]), if_strong, "{name}: {value}, strong");
        }
    }

    #[test]
    fn conditions_are_judged_in_the_order_of_rfc_9110() {
        use ConditionResult::{Answer, Failed, NotModified, Whole};
        for (fields, expected) in [
            (&[][..], Answer),
            // A tag decides where there is one, whatever a date says.
            (&[("if-match", "*"), ("if-unmodified-since", BEFORE)], Answer),
            (&[("if-match", "\"x\""), ("if-unmodified-since", AFTER)], Failed),
            (&[("if-none-match", "\"x\""), ("if-modified-since", DATE)], Answer),
            (&[("if-none-match", "\"a-1\""), ("if-modified-since", BEFORE)], NotModified),
            // What must not be answered is not even told to be the same.
            (&[("if-match", "\"x\""), ("if-none-match", "*")], Failed),
            (&[("if-unmodified-since", BEFORE), ("if-modified-since", DATE)], Failed),
            (&[("if-match", "*"), ("if-none-match", "*")], NotModified),
            (&[("if-unmodified-since", DATE), ("if-modified-since", BEFORE)], Answer),
            // The part comes last.
            (&[("if-match", "\"x\""), ("if-range", DATE)], Failed),
            (&[("if-modified-since", DATE), ("if-range", DATE)], NotModified),
            (&[("if-unmodified-since", DATE), ("if-range", BEFORE)], Whole),
            (&[("if-none-match", "\"x\""), ("if-range", DATE)], Answer),
            // One of several fields, of tags; of dates, none.
            (&[("if-none-match", "\"x\""), ("if-none-match", "\"a-1\"")], NotModified),
            (&[("if-modified-since", DATE), ("if-modified-since", DATE)], Answer),
            (&[("if-unmodified-since", BEFORE), ("if-unmodified-since", BEFORE)], Answer),
            (&[("if-range", DATE), ("if-range", DATE)], Whole),
        ] {
            assert_eq!(of("W/\"a-1\"", fields), expected, "{fields:?}");
        }
    }
}
