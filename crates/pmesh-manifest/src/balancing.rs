//! The key `lb`: how requests are spread over upstreams.

use pmesh_proxy::{LoadBalancing, Retry, Strategy};

use crate::{
    elsewhere,
    not_served::Feature,
    report::Report,
    value::{KeyedMap, Value, Zero},
};

pub(crate) fn balancing(value: &Value, report: &mut Report<'_>) -> LoadBalancing {
    let mut balancing = LoadBalancing::default();
    let mut table = KeyedMap::of(value, report, "a map such as {strat: round-robin}");
    if let Some(value) = table.take("strat") {
        let words = [
            ("least", Ok(Strategy::Least)),
            ("round-robin", Ok(Strategy::RoundRobin)),
            ("random", Err(Feature::StrategyRandom)),
            ("hash", Err(Feature::StrategyHash)),
            ("p2c", Err(Feature::StrategyP2c)),
        ];
        if let Some(strategy) = value.word(report, &words) {
            balancing.strategy = strategy;
        }
    }
    if let Some(value) = table.take("state") {
        state(&value, report);
    }
    if let Some(value) = table.take("retry") {
        let mut inner = KeyedMap::of(&value, report, "a map of attempts, backoff, timeout");
        retry(&mut inner, None, &mut balancing.retry, report);
        inner.end(report);
        retry(&mut table, Some(&value), &mut balancing.retry, report);
    } else {
        retry(&mut table, None, &mut balancing.retry, report);
    }
    if let Some(value) = table.take_later("drain_streams") {
        value.span(report, Zero::Allowed);
        value.not_served(report, Feature::DrainStreams);
    }
    if let Some(time) = table.take("connect_timeout").and_then(|value| value.duration(report, Zero::Refused))
    {
        balancing.connect_timeout = time;
    }
    if let Some(time) =
        table.take("response_timeout").and_then(|value| value.duration_or_never(report, Zero::Refused))
    {
        balancing.response_timeout = time;
    }
    if let Some(bytes) = table.take("buffer").and_then(|value| value.size(report)) {
        balancing.buffer = bytes;
    }
    if let Some(value) = table.take("queue") {
        let mut inner = KeyedMap::of(&value, report, "a map of requests, bytes, for");
        let queue = &mut balancing.queue;
        if let Some(count) = inner.take("requests").and_then(|value| value.number(report, 0, 1_000_000)) {
            queue.requests = count;
        }
        if let Some(bytes) = inner.take("bytes").and_then(|value| value.size(report)) {
            queue.bytes = bytes;
        }
        if let Some(time) = inner.take("for").and_then(|value| value.duration_or_never(report, Zero::Allowed))
        {
            queue.wait = time;
        }
        inner.end(report);
    }
    if let Some(value) = table.take("proto") {
        value.word(report, &[("h1", Ok(())), ("h2", Err(Feature::ProtocolH2))]);
    }
    for key in ERROR_HANDLERS {
        if let Some(value) = table.take_later(key) {
            error_handler(&value, report);
        }
    }
    table.end_with(elsewhere::BALANCING, report);
    balancing
}

/// The keys of routes for answers that are errors.
const ERROR_HANDLERS: [&str; 3] = ["404", "4xx", "5xx"];

/// The handlers for errors in a service that is written like this, which are read once all services
/// are known.
pub(crate) fn error_handlers(service: &Value) -> impl Iterator<Item = Value> + use<> {
    let balancing = service.peek("lb");
    ERROR_HANDLERS.into_iter().filter_map(move |key| balancing.as_ref()?.peek(key)?.peek("handle"))
}

/// Whether a client stays with its upstream: a word, or the name of a cookie.
fn state(value: &Value, report: &mut Report<'_>) {
    if !value.is_map() {
        value.word(report, &[("none", Ok(())), ("sticky", Err(Feature::Sticky))]);
        return;
    }
    let mut table = KeyedMap::of(value, report, "none, or a map such as {cookie: NAME}");
    if let Some(cookie) = table.take_later("cookie") {
        cookie.text(report, "the name of a cookie");
    }
    table.end(report);
    value.not_served(report, Feature::StickyCookie);
}

/// Reads the three keys of `retry` from `table`. Directly under `lb`, beside a `retry` of their
/// own, they would say the same thing twice.
fn retry(table: &mut KeyedMap, beside: Option<&Value>, retry: &mut Retry, report: &mut Report<'_>) {
    let mut take = |key, report: &mut Report<'_>| {
        let value = table.take(key)?;
        if beside.is_some() {
            value.mistake(report, format!("`{key}` beside `retry`; write it inside of that"));
        }
        Some(value)
    };
    if let Some(count) = take("attempts", report).and_then(|value| value.number(report, 1, 100)) {
        retry.attempts = count;
    }
    if let Some(time) = take("backoff", report).and_then(|value| value.duration(report, Zero::Allowed)) {
        retry.backoff = time;
    }
    if let Some(time) = take("timeout", report).and_then(|value| value.duration(report, Zero::Refused)) {
        retry.timeout = time;
    }
}

fn error_handler(value: &Value, report: &mut Report<'_>) {
    let mut table = KeyedMap::of(value, report, "a map of limit, handle");
    if let Some(limit) = table.take("limit") {
        limit.text(report, "a limit such as `10/s`");
    }
    // See `error_handlers`.
    table.take("handle");
    table.end(report);
    value.not_served(report, Feature::ErrorHandler);
}
