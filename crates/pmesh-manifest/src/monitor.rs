//! The key `monitor`: how something is probed.

use pmesh_supervisor::{Check, Monitor, NamedCheck, PortOwner, Readiness};

use crate::{
    command::command,
    elsewhere,
    mistake::{KnownWord, quoted},
    not_served::Feature,
    report::Report,
    value::{KeyedMap, Value, Zero},
};

/// Whose health is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MonitoredKind {
    /// Processes of our own: their ports have owners.
    Instances,
    /// Addresses of somebody else's.
    Addresses,
}

impl MonitoredKind {
    /// What makes it ready where no checks are written.
    fn readiness(self) -> Readiness {
        match self {
            Self::Instances => Readiness::Answer,
            Self::Addresses => Readiness::ChecksPass,
        }
    }
}

pub(crate) fn monitor(value: &Value, watched: MonitoredKind, report: &mut Report<'_>) -> Monitor {
    let mut monitor = Monitor::default().with(|monitor| monitor.readiness = watched.readiness());
    let wanted = "a map of healthy, unhealthy, timeout, test";
    let mut table = KeyedMap::of(value, report, wanted);
    if let Some(value) = table.take("healthy") {
        pace(&value, &mut monitor.healthy_interval, &mut monitor.healthy_threshold, report);
    }
    if let Some(value) = table.take("unhealthy") {
        pace(&value, &mut monitor.unhealthy_interval, &mut monitor.unhealthy_threshold, report);
    }
    if let Some(timeout) = table.take("timeout").and_then(|value| value.duration(report, Zero::Refused)) {
        monitor.timeout = timeout;
    }
    if let Some(value) = table.take("test") {
        let checks = checks(&value, report);
        if !checks.is_empty() {
            monitor.checks = checks;
            monitor.readiness = Readiness::ChecksPass;
        }
    }
    if watched == MonitoredKind::Instances
        && let Some(value) = table.take("port_owner")
        && let Some(owner) =
            value.word(report, &[("instance", Ok(PortOwner::Instance)), ("any", Ok(PortOwner::Any))])
    {
        monitor.port_owner = owner;
    }
    table.end_with(elsewhere::MONITOR, report);
    monitor
}

fn pace(value: &Value, interval: &mut std::time::Duration, threshold: &mut u32, report: &mut Report<'_>) {
    let mut table = KeyedMap::of(value, report, "a map of interval, threshold");
    if let Some(time) = table.take("interval").and_then(|value| value.duration(report, Zero::Refused)) {
        *interval = time;
    }
    if let Some(count) = table.take("threshold").and_then(|value| value.number(report, 1, 1000)) {
        *threshold = count;
    }
    table.end(report);
}

const WANTED: &str = "a map of names to checks such as `tcp: !Tcp`";

const CHECKS: [KnownWord<'_>; 3] = [
    KnownWord::served("!Tcp"),
    KnownWord { word: "!Http", served: false },
    KnownWord { word: "!Exec", served: false },
];

fn checks(value: &Value, report: &mut Report<'_>) -> Vec<NamedCheck> {
    let mut checks = Vec::new();
    let Some(entries) = value.entries(report, WANTED) else { return checks };
    if entries.is_empty() {
        value.mistake(
            report,
            "a probe without a check; expected at least one, such as `tcp: !Tcp`".to_owned(),
        );
    }
    for (key, value) in entries {
        if let Some(check) = check(&value, report) {
            checks.push(NamedCheck::new(key.text.to_string(), check));
        }
    }
    checks
}

fn check(value: &Value, report: &mut Report<'_>) -> Option<Check> {
    match value.tag() {
        Some("Tcp") => {
            KeyedMap::of(&value.without_tag(), report, "!Tcp with nothing in it").end(report);
            return Some(Check::Tcp);
        }
        Some("Http") => http(&value.without_tag(), report),
        Some("Exec") => {
            command(&value.without_tag(), report);
            value.not_served(report, Feature::ExecCheck);
            return None;
        }
        Some(tag) => {
            let tag = format!("!{tag}");
            let message = format!("unknown check {}", quoted(&tag));
            report.unknown(value.place, &value.path, message, &tag, &CHECKS);
            return None;
        }
        None => {
            let text = value.text(report, "the check !Tcp")?;
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let good = match words[..] {
                [method, path] => is_method(method) && path.starts_with('/'),
                [method, path, code] => is_method(method) && path.starts_with('/') && is_status(code),
                _ => false,
            };
            if !good {
                value.expected(report, "the check !Tcp");
                return None;
            }
        }
    }
    value.not_served(report, Feature::HttpCheck);
    None
}

fn is_method(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether a text is a status, or a class of them such as `2xx`.
fn is_status(text: &str) -> bool {
    let class = text.strip_suffix("xx").filter(|class| matches!(class.as_bytes(), [b'1'..=b'5']));
    class.is_some() || text.parse().is_ok_and(|code: u16| (100..600).contains(&code))
}

/// Finds the mistakes in an HTTP check.
fn http(value: &Value, report: &mut Report<'_>) {
    let mut table =
        KeyedMap::of(value, report, "a map of method, path, follow_redirects, header, code, body");
    if let Some(method) = table.take("method")
        && method.text(report, "a method").is_some_and(|text| !is_method(text))
    {
        method.expected(report, "a method such as GET");
    }
    if let Some(path) = table.take("path")
        && path.text(report, "a path").is_some_and(|text| !text.starts_with('/'))
    {
        path.expected(report, "a path that begins with `/`");
    }
    if let Some(flag) = table.take("follow_redirects") {
        flag.flag(report);
    }
    if let Some(header) = table.take("header") {
        header.texts(report, "a map of names to values", |_| Ok(()));
    }
    if let Some(code) = table.take("code") {
        for code in code.one_or_many() {
            let wanted = "a status such as `200`, or a class such as `2xx`";
            if code.text(report, wanted).is_some_and(|text| !is_status(text)) {
                code.expected(report, wanted);
            }
        }
    }
    if let Some(body) = table.take("body") {
        match body.raw_text(report, "a text, or `~` and a regular expression") {
            Some(text) if text.starts_with('~') => {
                if let Err(error) = report.expressions.check(&text[1..]) {
                    body.expected(report, &error.to_string());
                }
            }
            Some(_) | None => {}
        }
    }
    table.end(report);
}
