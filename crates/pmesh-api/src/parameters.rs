//! What a call may be told: parameters from the query or from a body, JSON or a form.

use std::{fmt, time::Duration};

use pmesh_sessions::SortBy;
use serde::{
    Deserializer as _,
    de::{self, MapAccess},
};
use serde_json::Value;

use crate::{
    error::{ApiError, Code},
    near_miss::{did_you_mean, quoted},
    percent,
    since_when::SinceWhen,
};

/// How many lines of logs are answered with at most.
pub const MAX_LINES: usize = 10_000;

/// A parameter of a route. `pretty` (a flag) is none of these: every route has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Parameter {
    /// `fetch`, a flag: ask the remote first.
    Fetch,
    /// `follow`, a flag: go on with what comes, as server-sent events.
    Follow,
    /// `instance`, a number: of which instance of a service.
    Instance,
    /// `invalidate`, a flag: build again although nothing changed.
    Invalidate,
    /// `limit`, a number: how many entries at most.
    Limit,
    /// `lines`, a number up to [`MAX_LINES`](crate::MAX_LINES): how many lines at most.
    Lines,
    /// `raw`, a flag: bytes instead of JSON.
    Raw,
    /// `since`, a time or a duration: from when on.
    Since,
    /// `sort`, a word: the order of the entries.
    Sort,
    /// `wait`, a flag or a duration: how long to wait for the end of the operation.
    Wait,
}

/// The types that parameters have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParameterType {
    /// `true`, `1`, `false` or `0`; in a query or form the bare name is true.
    Flag,
    /// A number without sign and fraction.
    Number,
    /// A number without sign and fraction, at most this one.
    UpTo(usize),
    /// A time (RFC 3339), or how long ago it is: a duration such as `10m`.
    Since,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A [flag](Self::Flag), or a duration such as `30s`, `500ms` or `1m30s`.
    Wait,
}

impl Parameter {
    /// The name in a query or body.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Follow => "follow",
            Self::Instance => "instance",
            Self::Invalidate => "invalidate",
            Self::Limit => "limit",
            Self::Lines => "lines",
            Self::Raw => "raw",
            Self::Since => "since",
            Self::Sort => "sort",
            Self::Wait => "wait",
        }
    }

    /// What a value of it looks like.
    pub fn value_type(self) -> ParameterType {
        match self {
            Self::Fetch | Self::Follow | Self::Invalidate | Self::Raw => ParameterType::Flag,
            Self::Limit => ParameterType::Number,
            Self::Lines => ParameterType::UpTo(MAX_LINES),
            Self::Instance => ParameterType::UpTo(u32::MAX as usize),
            Self::Since => ParameterType::Since,
            Self::Sort => ParameterType::Word(&["num_reqs", "avg_rps", "last_seen"]),
            Self::Wait => ParameterType::Wait,
        }
    }
}

impl fmt::Display for ParameterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("true or false"),
            Self::Number => f.write_str("a whole number"),
            Self::UpTo(most) => write!(f, "a whole number up to {most}"),
            Self::Since => {
                f.write_str("a time such as 2026-03-09T02:02:52Z, or how long ago that is, such as 10m")
            }
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
            Self::Wait => f.write_str("true, false or a duration such as 30s"),
        }
    }
}

/// How long a call waits for the end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    ToTheEnd,
    NotAtAll,
    For(Duration),
}

/// The parameters of a call, each as it was given, if it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) pretty: Option<bool>,
    pub(crate) fetch: Option<bool>,
    pub(crate) follow: Option<bool>,
    pub(crate) invalidate: Option<bool>,
    pub(crate) limit: Option<usize>,
    pub(crate) lines: Option<usize>,
    pub(crate) instance: Option<usize>,
    pub(crate) raw: Option<bool>,
    pub(crate) since: Option<SinceWhen>,
    pub(crate) sort: Option<SortBy>,
    pub(crate) wait: Option<Wait>,
}

/// A value as it came, with the types that its format has.
enum Given {
    /// Of a query or form: a text, or none for a bare name.
    Text(Option<String>),
    Json(Value),
}

impl Parameters {
    /// Reads the query and the body of a request to a route that takes `known`.
    ///
    /// A body is JSON when its type says so or when it begins like an object, an array or a string of
    /// it: published examples send JSON with the type of a form. Else it is a form.
    pub(crate) fn read(
        known: &[Parameter],
        query: Option<&str>,
        body: &[u8],
        body_is_json: bool,
    ) -> Result<Self, ApiError> {
        let mut parameters = Self::default();
        for (name, value) in decoded("query", query.unwrap_or_default())? {
            parameters.take(known, &name, &Given::Text(value))?;
        }
        let trimmed = body.trim_ascii();
        match trimmed.first() {
            None => {}
            Some(b'{' | b'[' | b'"') => parameters.take_json(known, body)?,
            Some(_) if body_is_json => parameters.take_json(known, body)?,
            Some(_) => {
                let form =
                    str::from_utf8(trimmed).map_err(|_| bad_request("the body is not UTF-8".to_owned()))?;
                for (name, value) in decoded("form", form)? {
                    parameters.take(known, &name, &Given::Text(value))?;
                }
            }
        }
        Ok(parameters)
    }

    /// Takes the members of a JSON object in order, with those that stand there twice. What is wrong is
    /// named with line and column of what stands behind it.
    fn take_json(&mut self, known: &[Parameter], body: &[u8]) -> Result<(), ApiError> {
        // Before any member is looked at: what is no JSON says nothing.
        let malformed = |error| bad_request(format!("the body is not JSON: {error}"));
        serde_json::from_slice::<de::IgnoredAny>(body).map_err(malformed)?;
        let mut json = serde_json::Deserializer::from_slice(body);
        let mut refused = None;
        let members = Members { parameters: self, known, refused: &mut refused };
        let Err(error) = json.deserialize_map(members).and_then(|()| json.end()) else { return Ok(()) };
        Err(match refused {
            Some(ApiError { code, message, .. }) => {
                ApiError::new(code, format!("{message} (line {} column {})", error.line(), error.column()))
            }
            None if error.is_data() => {
                let (line, column) = first_place(body);
                bad_request(format!(
                    "the body must be a JSON object, such as {{\"invalidate\": true}} (line {line} column {column})"
                ))
            }
            None => malformed(error),
        })
    }

    fn take(&mut self, known: &[Parameter], name: &str, value: &Given) -> Result<(), ApiError> {
        if name == PRETTY {
            return put(&mut self.pretty, name, flag(value), ParameterType::Flag);
        }
        let Some(parameter) = known.iter().find(|parameter| parameter.name() == name) else {
            return Err(unknown(known, name));
        };
        let expected = parameter.value_type();
        match parameter {
            Parameter::Fetch => put(&mut self.fetch, name, flag(value), expected),
            Parameter::Follow => put(&mut self.follow, name, flag(value), expected),
            Parameter::Invalidate => put(&mut self.invalidate, name, flag(value), expected),
            Parameter::Limit => put(&mut self.limit, name, number(value), expected),
            Parameter::Sort => put(&mut self.sort, name, order(value), expected),
            Parameter::Lines => put(&mut self.lines, name, up_to(MAX_LINES, value), expected),
            Parameter::Instance => put(&mut self.instance, name, up_to(u32::MAX as usize, value), expected),
            Parameter::Raw => put(&mut self.raw, name, flag(value), expected),
            Parameter::Since => put(&mut self.since, name, word(value).and_then(SinceWhen::read), expected),
            Parameter::Wait => put(&mut self.wait, name, wait(value), expected),
        }
    }
}

/// Whether a query asks for indented answers, read without complaint: an answer that complains of the
/// query has a form too.
pub(crate) fn asks_for_pretty(query: Option<&str>) -> bool {
    let is_true = |value: Option<String>| flag(&Given::Text(value)) == Some(true);
    percent::pairs(query.unwrap_or_default())
        .is_ok_and(|pairs| pairs.into_iter().any(|(name, value)| name == PRETTY && is_true(value)))
}

fn put<T: PartialEq>(
    slot: &mut Option<T>,
    name: &str,
    value: Option<T>,
    expected: ParameterType,
) -> Result<(), ApiError> {
    let Some(value) = value else {
        return Err(ApiError::new(Code::BadParameter, format!("parameter {name} must be {expected}")));
    };
    if slot.as_ref().is_some_and(|first| *first != value) {
        let message = format!("parameter {name} is given twice, with different values; give it once");
        return Err(ApiError::new(Code::BadParameter, message));
    }
    *slot = Some(value);
    Ok(())
}

fn flag(value: &Given) -> Option<bool> {
    match value {
        Given::Text(None) => Some(true),
        Given::Text(Some(text)) => match text.as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        Given::Json(value) => value.as_bool(),
    }
}

fn number(value: &Given) -> Option<usize> {
    match value {
        Given::Text(text) => {
            let digits = text.as_deref()?;
            // `parse` alone would take a sign.
            if digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None }
        }
        Given::Json(value) => value.as_u64().and_then(|number| number.try_into().ok()),
    }
}

fn up_to(most: usize, value: &Given) -> Option<usize> {
    number(value).filter(|number| *number <= most)
}

fn word(value: &Given) -> Option<&str> {
    match value {
        Given::Text(text) => text.as_deref(),
        Given::Json(value) => value.as_str(),
    }
}

fn order(value: &Given) -> Option<SortBy> {
    match word(value)? {
        "num_reqs" => Some(SortBy::NumReqs),
        "avg_rps" => Some(SortBy::AvgRps),
        "last_seen" => Some(SortBy::LastSeen),
        _ => None,
    }
}

fn wait(value: &Given) -> Option<Wait> {
    match flag(value) {
        Some(true) => Some(Wait::ToTheEnd),
        Some(false) => Some(Wait::NotAtAll),
        None => pmesh_manifest::parse_duration(word(value)?).map(Wait::For),
    }
}

fn bad_request(message: String) -> ApiError {
    ApiError::new(Code::BadRequest, message)
}

fn decoded(what: &str, text: &str) -> Result<Vec<percent::Pair>, ApiError> {
    percent::pairs(text).map_err(|error| bad_request(format!("cannot read the {what}: {error}")))
}

/// The parameter that every route has.
const PRETTY: &str = "pretty";

fn is_known(known: &[Parameter], name: &str) -> bool {
    name == PRETTY || known.iter().any(|parameter| parameter.name() == name)
}

fn unknown(known: &[Parameter], name: &str) -> ApiError {
    let names: Vec<_> = known.iter().map(|parameter| parameter.name()).chain([PRETTY]).collect();
    let near = did_you_mean(name, names.iter().copied());
    let message = format!("no parameter {} here, only {}{near}", quoted(name), names.join(", "));
    ApiError::new(Code::UnknownParameter, message)
}

/// Reads the members of an object into parameters.
struct Members<'a> {
    parameters: &'a mut Parameters,
    known: &'a [Parameter],
    /// Why it stopped, if that was no fault of the JSON. The parser adds the place to its own error.
    refused: &'a mut Option<ApiError>,
}

impl<'de> de::Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { parameters, known, refused } = self;
        let mut keep = |error: ApiError| {
            *refused = Some(error);
            de::Error::custom("refused")
        };
        while let Some(name) = map.next_key::<String>()? {
            if !is_known(known, &name) {
                return Err(keep(unknown(known, &name)));
            }
            let value = Given::Json(map.next_value()?);
            parameters.take(known, &name, &value).map_err(&mut keep)?;
        }
        Ok(())
    }
}

/// Line and column of what stands first in a body, both from 1.
fn first_place(body: &[u8]) -> (usize, usize) {
    let blank = &body[..body.len() - body.trim_ascii_start().len()];
    let lines = || blank.split(|&byte| byte == b'\n');
    (lines().count(), lines().next_back().map_or(0, <[u8]>::len) + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pmesh_sessions::SortBy;

    use super::{Code, Parameter, Parameters, Wait, asks_for_pretty};

    const ALL: &[Parameter] =
        &[Parameter::Fetch, Parameter::Invalidate, Parameter::Limit, Parameter::Sort, Parameter::Wait];

    fn query(text: &str) -> Result<Parameters, (Code, String)> {
        Parameters::read(ALL, Some(text), b"", false).map_err(|error| (error.code, error.message))
    }

    fn body(text: &str) -> Result<Parameters, (Code, String)> {
        Parameters::read(ALL, None, text.as_bytes(), false).map_err(|error| (error.code, error.message))
    }

    fn invalidate(value: bool) -> Parameters {
        Parameters { invalidate: Some(value), ..Parameters::default() }
    }

    #[test]
    fn a_flag_is_true_by_its_name_alone() {
        for (text, value) in [
            ("invalidate", true),
            ("invalidate=true", true),
            ("invalidate=1", true),
            ("%69nvalidate=%31", true),
            ("&invalidate&&", true),
            ("invalidate=false", false),
            ("invalidate=0", false),
        ] {
            assert_eq!(query(text), Ok(invalidate(value)), "{text}");
            assert_eq!(body(text), Ok(invalidate(value)), "as a form: {text}");
        }
        assert_eq!(query(""), Ok(Parameters::default()));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_what_is_expected() {
        for text in [
            "invalidate=yes",
            "invalidate=",
            "invalidate=TRUE",
            "limit",
            "limit=-1",
            "limit=+1",
            "limit=1.5",
            "limit=99999999999999999999999",
            "sort=name",
            "sort",
            "wait=",
            "wait=30",
            "wait=never",
            "wait=-1s",
            "wait=soon",
            "pretty=banana",
        ] {
            let (code, message) = query(text).unwrap_err();
            let name = text.split('=').next().unwrap();
            assert_eq!(code, Code::BadParameter, "{text}");
            assert!(message.contains(name), "{message}");
        }
        for text in [
            r#"{"invalidate": 1}"#,
            r#"{"invalidate": "true"}"#,
            r#"{"invalidate": null}"#,
            r#"{"limit": "5"}"#,
            r#"{"limit": -1}"#,
            r#"{"limit": 1.5}"#,
            r#"{"sort": true}"#,
            r#"{"wait": 30}"#,
            r#"{"wait": []}"#,
        ] {
            assert_eq!(body(text).unwrap_err().0, Code::BadParameter, "{text}");
        }
    }

    #[test]
    fn what_is_expected_is_said_in_words_for_each_type() {
        for (text, expected) in [
            ("fetch=x", "parameter fetch must be true or false"),
            ("limit=x", "parameter limit must be a whole number"),
            ("sort=x", "parameter sort must be one of num_reqs, avg_rps, last_seen"),
            ("wait=x", "parameter wait must be true, false or a duration such as 30s"),
        ] {
            assert_eq!(query(text).unwrap_err().1, expected);
        }
    }

    #[test]
    fn an_unknown_parameter_is_named_with_a_near_miss() {
        for unknown in [query("invaldate"), body(r#"{"invaldate": true}"#), body("invaldate=true")] {
            let (code, message) = unknown.unwrap_err();
            assert_eq!(code, Code::UnknownParameter);
            assert!(
                message.contains("\"invaldate\"") && message.contains("did you mean \"invalidate\"?"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_body_is_json_or_a_form_whatever_its_type_says() {
        for text in
            [r#"{"invalidate": true}"#, " \r\n{\"invalidate\":true}\n", "invalidate=true", "invalidate=1\r\n"]
        {
            assert_eq!(body(text), Ok(invalidate(true)), "{text}");
        }
        for text in ["", " \n", "{}", "{ }\n"] {
            assert_eq!(body(text), Ok(Parameters::default()), "{text:?}");
        }
        let declared = Parameters::read(ALL, None, b"invalidate=true", true).unwrap_err();
        assert_eq!(declared.code, Code::BadRequest);
    }

    #[test]
    fn malformed_json_is_named_with_line_and_column() {
        let (code, message) = body("{\"invalidate\":\n  tru}").unwrap_err();
        assert_eq!(code, Code::BadRequest);
        assert!(message.contains("line 2 column 6"), "{message}");
        for text in
            ["{", "{\"invalidate\": true} x", "{\"invalidate\": true}{}", "{invalidate: true}", "{\"a\": 1,}"]
        {
            let (code, message) = body(text).unwrap_err();
            assert_eq!(code, Code::BadRequest, "{text}");
            assert!(message.contains("line 1 column"), "{message}");
        }
    }

    #[test]
    fn what_is_wrong_in_json_is_named_with_line_and_column() {
        for (text, code, place) in [
            ("\n\n  {\"invalidate\": tru}", Code::BadRequest, "line 3 column 21"),
            ("{\"invalidate\": true,\n \"limit\": \"5\"}", Code::BadParameter, "line 2 column 14"),
            ("{\"invalidate\": 1}", Code::BadParameter, "line 1 column 17"),
            ("\n{\"invaldate\": true}", Code::UnknownParameter, "line 2 column 12"),
            ("{\"limit\": 1,\n\"limit\": 2}", Code::BadParameter, "line 2 column 11"),
            ("\n\n [1]", Code::BadRequest, "line 3 column 2"),
            ("\"x\"", Code::BadRequest, "line 1 column 1"),
        ] {
            let (got, message) = body(text).unwrap_err();
            assert_eq!(got, code, "{text}: {message}");
            assert!(message.contains(place), "{text}: {message}");
        }
    }

    #[test]
    fn a_text_that_is_no_unicode_is_no_json() {
        for text in [r#"{"wait": "\ud800"}"#, r#"{"\ud800": true}"#] {
            let (code, message) = body(text).unwrap_err();
            assert_eq!(code, Code::BadRequest, "{text}");
            assert!(message.starts_with("the body is not JSON: "), "{message}");
        }
    }

    #[test]
    fn json_that_is_no_object_is_refused() {
        for text in ["[]", "\"invalidate\"", "[{}]"] {
            let (code, message) = body(text).unwrap_err();
            assert_eq!((code, message.contains("object")), (Code::BadRequest, true), "{text}: {message}");
        }
        for text in ["null", "true", "1"] {
            let declared = Parameters::read(ALL, None, text.as_bytes(), true).unwrap_err();
            assert_eq!(declared.code, Code::BadRequest, "{text}");
        }
    }

    #[test]
    fn broken_encoding_is_a_bad_request() {
        for text in ["invalidate=%", "%zz", "invalidate=%ff"] {
            assert_eq!(query(text).unwrap_err().0, Code::BadRequest, "{text}");
            assert_eq!(body(text).unwrap_err().0, Code::BadRequest, "{text}");
        }
        let bytes = Parameters::read(ALL, None, b"invalidate=\xff", false).unwrap_err();
        assert_eq!(bytes.code, Code::BadRequest);
    }

    #[test]
    fn a_parameter_that_is_given_twice_must_say_the_same() {
        assert_eq!(query("invalidate&invalidate=true"), Ok(invalidate(true)));
        assert_eq!(query("invalidate=1&invalidate=0").unwrap_err().0, Code::BadParameter);
        assert_eq!(body(r#"{"invalidate": true, "invalidate": false}"#).unwrap_err().0, Code::BadParameter);
        let both = |body: &[u8]| Parameters::read(ALL, Some("invalidate"), body, false);
        assert_eq!(both(b"{\"invalidate\": true}").unwrap(), invalidate(true));
        assert_eq!(both(b"{\"invalidate\": false}").unwrap_err().code, Code::BadParameter);
        assert_eq!(both(b"invalidate=0").unwrap_err().code, Code::BadParameter);
    }

    #[test]
    fn wait_is_a_flag_or_a_duration() {
        for (text, wait) in [
            ("wait", Wait::ToTheEnd),
            ("wait=true", Wait::ToTheEnd),
            ("wait=false", Wait::NotAtAll),
            ("wait=30s", Wait::For(Duration::from_secs(30))),
            ("wait=500ms", Wait::For(Duration::from_millis(500))),
            ("wait=1m30s", Wait::For(Duration::from_secs(90))),
        ] {
            assert_eq!(query(text).unwrap().wait, Some(wait), "{text}");
        }
        assert_eq!(body(r#"{"wait": "30s"}"#).unwrap().wait, Some(Wait::For(Duration::from_secs(30))));
        assert_eq!(body(r#"{"wait": false}"#).unwrap().wait, Some(Wait::NotAtAll));
    }

    #[test]
    fn limit_and_sort_are_a_number_and_a_word() {
        let read = query("limit=5&sort=last_seen").unwrap();
        assert_eq!((read.limit, read.sort), (Some(5), Some(SortBy::LastSeen)));
        let orders =
            [("num_reqs", SortBy::NumReqs), ("avg_rps", SortBy::AvgRps), ("last_seen", SortBy::LastSeen)];
        for (word, order) in orders {
            assert_eq!(query(&format!("sort={word}")).unwrap().sort, Some(order));
        }
        let read = body(r#"{"limit": 0, "sort": "avg_rps"}"#).unwrap();
        assert_eq!((read.limit, read.sort), (Some(0), Some(SortBy::AvgRps)));
    }

    #[test]
    fn every_route_can_be_pretty() {
        let none = Parameters::read(&[], Some("pretty"), b"", false).unwrap();
        assert_eq!(none.pretty, Some(true));
        for (query, pretty) in
            [("pretty", true), ("a=%zz&pretty", false), ("x=1&pretty=1", true), ("pretty=0", false)]
        {
            assert_eq!(asks_for_pretty(Some(query)), pretty, "{query}");
        }
    }
}
