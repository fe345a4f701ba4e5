//! The key `server`: sites, and the routes of each.

use std::collections::HashMap;

use http::StatusCode;
use pmesh_proxy::{DestinationKey, Handler, Pattern, Route, Site, SiteHost};

use crate::{
    balancing::error_handlers,
    directive::{self, Directive, DirectiveOutcome},
    elsewhere, host, later,
    mistake::{KnownWord, quoted},
    not_served::Feature,
    report::Report,
    scalar::ScalarError,
    service::{NameStanding, Names},
    tree::Key,
    value::{KeyedMap, Value},
};

/// Tags of routers that are not served yet.
const MUXES: &[(&str, Feature)] = &[
    ("Switch-Host", Feature::SwitchHost),
    ("Switch-Path", Feature::SwitchPath),
    ("Switch-Method", Feature::SwitchMethod),
    ("Switch-Proto", Feature::SwitchProto),
    ("Switch-UserAgent", Feature::SwitchUserAgent),
    ("Switch-Referer", Feature::SwitchReferer),
    ("Internal", Feature::InternalMap),
    ("Limit", Feature::LimitMap),
];

pub(crate) fn sites(value: &Value, names: &Names, report: &mut Report<'_>) -> Vec<Site> {
    let mut sites = Vec::new();
    let mut lines: HashMap<SiteHost, usize> = HashMap::new();
    for (key, value) in value.entries(report, "a map of host names to sites").unwrap_or_default() {
        let hosts = hosts(&key, &value, &mut lines, report);
        let mut table = KeyedMap::of(&value, report, "a map such as {router: [web]}");
        if let Some(value) = table.take("no_upgrade")
            && value.flag(report) == Some(false)
        {
            value.not_served(report, Feature::Upgrade);
        }
        if let Some(value) = table.take_later("access_log") {
            later::access_log(&value, report);
        }
        if let Some(value) = table.take_later("certs") {
            value.not_served(report, Feature::Certs);
        }
        let reader = Router { names, host: first_name(&key) };
        let routes = match table.take("router") {
            Some(value) => reader.one_or_many(&value, report),
            None if value.is_map_or_null() => {
                let message = "`router` is missing; expected a list of routes".to_owned();
                report.mistake_at(table.place, &value.path, message);
                Vec::new()
            }
            None => Vec::new(),
        };
        table.end_with(elsewhere::SITE, report);
        sites.push(Site::new(hosts, routes));
    }
    sites
}

/// Finds the mistakes in the handlers for errors of all services.
pub(crate) fn check_error_handlers(services: &Value, names: &Names, report: &mut Report<'_>) {
    let reader = Router { names, host: None };
    for handler in services.values().flat_map(|service| error_handlers(&service)) {
        // Handlers for errors are not served, whatever they say; only their mistakes are told.
        drop(reader.handler(&handler, report));
    }
}

/// The names in the key of a site. Each belongs to one site.
fn hosts(
    key: &Key,
    value: &Value,
    lines: &mut HashMap<SiteHost, usize>,
    report: &mut Report<'_>,
) -> Vec<SiteHost> {
    let mut hosts = Vec::new();
    for name in key.text.split(',').map(str::trim) {
        let host = match name {
            "_" => SiteHost::Any,
            name => match host::parse(name) {
                Ok(name) => SiteHost::Name(name),
                Err(error) => {
                    report.mistake_at(key.place, &value.path, format!("{} {error}", quoted(name)));
                    continue;
                }
            },
        };
        if let Some(line) = lines.insert(host.clone(), key.place.line) {
            let message = format!("host {} is there twice, first in line {line}", quoted(name));
            report.mistake_at(key.place, &value.path, message);
        }
        hosts.push(host);
    }
    hosts
}

/// The name that the patterns of a site see; none if it is every host, or no name at all.
fn first_name(key: &Key) -> Option<String> {
    let first = key.text.split(',').next().unwrap_or_default().trim();
    if first == "_" { None } else { host::parse(first).ok() }
}

/// What the routes of one site are read with.
struct Router<'s> {
    names: &'s Names,
    host: Option<String>,
}

const ROUTES: &str = "a list of routes: `PATTERN: HANDLER`, a service, a directive, or a nested list";

impl Router<'_> {
    fn list(&self, value: &Value, report: &mut Report<'_>) -> Vec<Route> {
        let mut routes = Vec::new();
        for item in value.items(report, ROUTES).unwrap_or_default() {
            self.item(&item, &mut routes, report);
        }
        routes
    }

    /// The value of `router`: a list, or a single route.
    fn one_or_many(&self, value: &Value, report: &mut Report<'_>) -> Vec<Route> {
        if value.is_list() || value.is_null() {
            return self.list(value, report);
        }
        let mut routes = Vec::new();
        self.item(value, &mut routes, report);
        routes
    }

    /// One item of a list: a map of patterns, or a bare handler.
    fn item(&self, item: &Value, routes: &mut Vec<Route>, report: &mut Report<'_>) {
        if item.tag().is_some() || !item.is_map() {
            routes.extend(self.handler(item, report).map(|handler| Route::new(Pattern::any(), handler)));
            return;
        }
        if item.is_empty() {
            item.expected(report, ROUTES);
        }
        for (key, value) in item.entries(report, ROUTES).unwrap_or_default() {
            let pattern = self.pattern(&key, item, report);
            let handler = self.handler(&value, report);
            if let (Some(pattern), Some(handler)) = (pattern, handler) {
                routes.push(Route::new(pattern, handler));
            }
        }
    }

    fn pattern(&self, key: &Key, item: &Value, report: &mut Report<'_>) -> Option<Pattern> {
        let expressions = parts(&key.text).filter_map(|part| part.strip_prefix('~'));
        for expression in expressions {
            match report.expressions.check(expression) {
                // The pattern itself says what is wrong with the syntax.
                Ok(()) | Err(ScalarError::RegularExpression(_)) => {}
                Err(error) => {
                    let found = quoted(&format!("~{expression}"));
                    report.mistake_at(key.place, &item.path, format!("expected {error}, found {found}"));
                    return None;
                }
            }
        }
        for part in parts(&key.text).filter(|part| !part.starts_with('~')) {
            if let Some(ours) = without_star(part) {
                let message = format!(
                    "pattern {} has a `*`, which stands for nothing but itself; did you mean {}?",
                    quoted(part),
                    quoted(&ours)
                );
                report.mistake_at(key.place, &item.path, message);
                return None;
            }
        }
        match Pattern::parse(&key.text) {
            Ok(pattern) => {
                self.check_hosts(&pattern, key, item, report);
                check_spelling(&pattern, key, item, report);
                Some(pattern)
            }
            Err(error) => {
                // The message of a regular expression has several lines, because it draws where the mistake is.
                let message = error.to_string();
                let lines = message.lines().map(str::trim).filter(|line| line.contains(|c| c != '^'));
                report.mistake_at(key.place, &item.path, lines.collect::<Vec<_>>().join(" "));
                None
            }
        }
    }

    /// A pattern sees the site's first name; one for another host would never match anything.
    fn check_hosts(&self, pattern: &Pattern, key: &Key, item: &Value, report: &mut Report<'_>) {
        let Some(site) = &self.host else { return };
        for host in pattern.foreign_hosts(site) {
            let begins =
                |part: &&str| part.get(..host.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(host));
            let part = parts(&key.text).find(begins).unwrap_or(&key.text);
            let message = format!(
                "pattern {} can never match: its host is {}, and patterns of this site see {} or a subdomain of it",
                quoted(part),
                quoted(host),
                quoted(site),
            );
            report.mistake_with(key.place, &item.path, message, |near_misses| {
                match near_misses.did_you_mean(host, [site.as_str()]) {
                    near if near.is_empty() && !host.contains('.') => {
                        format!("; did you mean {}?", quoted(&format!("/{part}")))
                    }
                    near => near,
                }
            });
        }
    }

    /// Finds the mistakes in the handlers of a `!Switch-…`, which is not served itself.
    fn check_switch(&self, value: &Value, report: &mut Report<'_>) {
        let wanted = "a list of `PATTERN: HANDLER`";
        for item in value.items(report, wanted).unwrap_or_default() {
            if item.is_map() {
                for (_, handler) in item.entries(report, wanted).unwrap_or_default() {
                    drop(self.handler(&handler, report));
                }
            } else {
                drop(self.handler(&item, report));
            }
        }
    }

    /// What comes of a tag that is not served, whose value is checked all the same.
    fn later(&self, value: &Value, feature: Feature, report: &mut Report<'_>) -> Option<Handler> {
        value.not_served(report, feature);
        let inner = value.without_tag();
        match feature {
            Feature::LimitMap => later::limit(&inner, report),
            Feature::InternalMap => {
                let mut table = KeyedMap::of(&inner, report, "a map such as {inner: HANDLER}");
                if let Some(inner) = table.take_later("inner") {
                    drop(self.handler(&inner, report));
                }
                table.end(report);
                return Some(closed(value, "!Internal", report));
            }
            _ => self.check_switch(&inner, report),
        }
        None
    }

    fn handler(&self, value: &Value, report: &mut Report<'_>) -> Option<Handler> {
        if let Some(tag) = value.tag() {
            if let Some((_, feature)) = MUXES.iter().find(|(mux, _)| *mux == tag) {
                return self.later(value, *feature, report);
            }
            let tag = format!("!{tag}");
            let tags: Vec<String> = MUXES.iter().map(|(mux, _)| format!("!{mux}")).collect();
            let known: Vec<KnownWord<'_>> =
                tags.iter().map(|word| KnownWord { word, served: false }).collect();
            let message = format!("unknown router {}", quoted(&tag));
            report.mistake_with(value.place, &value.path, message, |near_misses| {
                near_misses.did_you_mean_one_of(&tag, &known)
            });
            return None;
        }
        if value.is_list() {
            return Some(Handler::Mux(self.list(value, report)));
        }
        let text = value.text(report, "a service, a directive or a list of routes")?;
        if let Some(standing) = self.names.standing.get(text) {
            return destination(text, *standing, value, report);
        }
        let words = directive::words(value, text, report)?;
        let (word, arguments) = words.split_first()?;
        let Some(directive) = Directive::named(word) else {
            if let Some(standing) = self.names.standing.get(word) {
                if arguments.is_empty() {
                    return destination(word, *standing, value, report);
                }
                value.expected(report, &format!("nothing behind the service {}", quoted(word)));
                return None;
            }
            if self.names.incomplete && arguments.is_empty() {
                let message = format!("{} is left out; no service of this name is known", quoted(word));
                report.left_out(value.place, &value.path, message);
            } else {
                let services = self.names.standing.keys().map(String::as_str);
                directive::unknown(word, services, value, report);
            }
            return None;
        };
        match directive::read(directive, arguments, value, report) {
            DirectiveOutcome::Handler(handler) => Some(handler),
            DirectiveOutcome::LeftOut => None,
            DirectiveOutcome::Closed => Some(closed(value, directive.word, report)),
        }
    }
}

/// What is put in the place of something that is left out: without it requests would pass that were to be kept away.
fn closed(value: &Value, word: &str, report: &mut Report<'_>) -> Handler {
    let message = format!("requests are answered 403 here, because `{word}` is not served yet");
    report.left_out(value.place, &value.path, message);
    Handler::Status(StatusCode::FORBIDDEN)
}

/// What somebody means by a pattern with a `*` at its beginning or end, as other servers have it.
fn without_star(part: &str) -> Option<String> {
    if !part.is_empty() && part.chars().all(|c| matches!(c, '*' | '/' | '.')) && part.contains('*') {
        return Some("_".to_owned());
    }
    // The subdomains of a site's name are seen as that name.
    let rest = part.strip_prefix("*.").filter(|rest| rest.contains('/')).unwrap_or(part);
    if let Some(begin) = rest.strip_suffix("/**").or_else(|| rest.strip_suffix("/*")) {
        return Some(format!("{begin}/"));
    }
    if let Some(begin) = rest.strip_suffix('*') {
        return Some(format!("{}+", begin.trim_end_matches('*')));
    }
    let end = rest.trim_start_matches('*');
    match end.len() {
        length if length < rest.len() => Some(format!("+{end}")),
        _ => (rest.len() < part.len()).then(|| rest.to_owned()),
    }
}

/// A pattern sees paths in one spelling; one in another would never match anything.
fn check_spelling(pattern: &Pattern, key: &Key, item: &Value, report: &mut Report<'_>) {
    for (part, seen) in pattern.unseen_parts() {
        let near = seen.map(|seen| format!("; did you mean {}?", quoted(&seen))).unwrap_or_default();
        let message = format!(
            "pattern {} can never match: patterns see a path with its escapes decoded, repeated slashes merged and \
             dot segments removed{near}",
            quoted(part),
        );
        report.mistake_at(key.place, &item.path, message);
    }
}

/// The way to a service that is declared.
fn destination(
    name: &str,
    standing: NameStanding,
    value: &Value,
    report: &mut Report<'_>,
) -> Option<Handler> {
    let reason = match standing {
        NameStanding::Serves => return Some(Handler::Destination(DestinationKey::new(name))),
        NameStanding::Background => "it runs in the background",
        NameStanding::BuildOnly => "it has no `run`",
        NameStanding::NotServed => {
            let message =
                format!("the route to {} is left out, because that service is not served yet", quoted(name));
            report.left_out(value.place, &value.path, message);
            return None;
        }
    };
    value.mistake(report, format!("service {} serves nothing: {reason}", quoted(name)));
    None
}

/// The parts of a pattern of which one has to match.
fn parts(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split(", ").map(str::trim)
}
