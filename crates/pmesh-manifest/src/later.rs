//! Maps of the format of which nothing is served yet. What is written in them is checked all the same, so that a
//! slip is found today and not on the day when they are served.

use crate::{
    not_served::Feature,
    report::Report,
    value::{KeyedMap, Value, Zero},
};

/// `acme`: certificates that the server gets by itself.
pub(crate) fn acme(value: &Value, report: &mut Report<'_>) {
    let mut table = KeyedMap::of(value, report, "a map such as {email: ops@example.com}");
    for (key, wanted) in
        [("email", "an address"), ("directory", "the address of a directory"), ("ca_file", "a path")]
    {
        if let Some(value) = table.take_later(key) {
            value.text(report, wanted);
        }
    }
    if let Some(value) = table.take_later("challenge") {
        for challenge in value.one_or_many() {
            challenge.word(report, &[("tls-alpn-01", Ok(())), ("http-01", Ok(()))]);
        }
    }
    if let Some(value) = table.take_later("eab") {
        let mut inner = KeyedMap::of(&value, report, "a map of kid, hmac_file");
        for (key, wanted) in [("kid", "the id of a key"), ("hmac_file", "a path")] {
            if let Some(value) = inner.take_later(key) {
                value.text(report, wanted);
            }
        }
        inner.end(report);
    }
    table.end(report);
    written(value, Feature::Acme, report);
}

/// `limits`: those of the front.
pub(crate) fn limits(value: &Value, report: &mut Report<'_>) {
    let mut table = KeyedMap::of(value, report, "a map such as {idle: 75s}");
    for key in ["connections_per_client", "streams"] {
        if let Some(value) = table.take_later(key) {
            value.number(report, 1, u32::MAX);
        }
    }
    for key in ["header_timeout", "idle", "body_grace", "write_stall"] {
        if let Some(value) = table.take_later(key) {
            value.span(report, Zero::Refused);
        }
    }
    if let Some(value) = table.take_later("body_rate") {
        value.size(report);
    }
    table.end(report);
    written(value, Feature::Limits, report);
}

/// `access_log`, of all sites or of one.
pub(crate) fn access_log(value: &Value, report: &mut Report<'_>) {
    let mut table = KeyedMap::of(value, report, "a map such as {file: access.log}");
    if let Some(value) = table.take_later("file") {
        value.text(report, "a plain file name in the log folder, or `-`");
    }
    if let Some(value) = table.take_later("format") {
        value.word(report, &[("text", Ok(())), ("json", Ok(())), ("common", Ok(()))]);
    }
    rotation(&mut table, report);
    table.end(report);
    written(value, Feature::AccessLog, report);
}

/// How many files of a log there are, and how large they get.
pub(crate) fn rotation(table: &mut KeyedMap, report: &mut Report<'_>) {
    if let Some(value) = table.take_later("size") {
        value.size(report);
    }
    if let Some(value) = table.take_later("keep") {
        value.number(report, 0, 100_000);
    }
}

/// The keys of a `!Limit`.
pub(crate) fn limit(value: &Value, report: &mut Report<'_>) {
    let mut table = KeyedMap::of(value, report, "a map such as {rate: 10/s}");
    if let Some(value) = table.take_later("id") {
        value.text(report, "a name");
    }
    for key in ["rate", "block_after"] {
        if let Some(value) = table.take_later(key)
            && let Some(text) = value.text(report, "a rate")
            && let Err(error) = crate::scalar::rate(text)
        {
            value.expected(report, &error.to_string());
        }
    }
    if let Some(value) = table.take_later("burst") {
        value.number(report, 0, u32::MAX);
    }
    if let Some(value) = table.take_later("block_for") {
        value.duration(report, Zero::Refused);
    }
    if let Some(value) = table.take_later("advise") {
        value.flag(report);
    }
    table.end(report);
}

/// Says that `feature` is not served, unless what is written says nothing.
pub(crate) fn written(value: &Value, feature: Feature, report: &mut Report<'_>) {
    if !value.is_empty() {
        value.not_served(report, feature);
    }
}
