//! The key `services`: a name and a type for everything that runs or is served.

use std::collections::BTreeMap;

use pmesh_proxy::{FilesSpec, LoadBalancing};
use pmesh_supervisor::{AppSpec, Ports, ServiceKind, ServiceName, ServiceSpec};

use crate::{
    after::After,
    app::{self, App, MOST_INSTANCES, WRAPPERS, app},
    command::{MAX_ALL_ENV_BYTES, environment_bytes},
    elsewhere::{self, Ours},
    external::external,
    files::files,
    mistake::{KnownWord, expected_one_of, quoted},
    needs::Needed,
    place::Place,
    report::Report,
    surroundings::Surroundings,
    value::Value,
};

/// A service of the manifest.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeclaredService {
    /// What is kept running for it.
    pub spec: ServiceSpec,
    /// What a route to it leads to.
    pub serves: Serves,
}

/// What a service has for the front.
#[derive(Clone, Debug, PartialEq)]
pub enum Serves {
    /// Addresses that take requests, and how they are spread.
    Upstreams(LoadBalancing),
    /// Files of a folder.
    Files(FilesSpec),
    /// Nothing: it runs in the background or is only built. No route leads to it.
    Nothing,
}

/// What a route finds behind the name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameStanding {
    /// Something to route to. Also where the service itself has mistakes: those are told already.
    Serves,
    /// Nothing, because it runs in the background.
    Background,
    /// Nothing, because it is only built.
    BuildOnly,
    /// Nothing, because its type or what it leads to is not served yet.
    NotServed,
}

/// The services and what is known of every name.
#[derive(Default)]
pub(crate) struct DeclaredServices {
    pub(crate) services: Vec<DeclaredService>,
    pub(crate) names: Names,
}

/// The names that routes can use.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) standing: BTreeMap<String, NameStanding>,
    /// Whether a mistake elsewhere may hide further names: then an unknown name is no mistake.
    pub(crate) incomplete: bool,
}

/// The most services of one manifest.
const MOST_SERVICES: usize = 1000;

pub(crate) fn services(whole: &Value, mut around: Surroundings, report: &mut Report<'_>) -> DeclaredServices {
    let mut found = DeclaredServices::default();
    found.names.incomplete = !whole.is_map_or_null() || whole.has_computed_keys();
    let entries = whole.entries(report, "a map of names to services").unwrap_or_default();
    if entries.len() > MOST_SERVICES {
        whole.mistake(report, format!("{} services; at most {MOST_SERVICES} can be served", entries.len()));
        found.names.standing =
            entries.iter().map(|(key, _)| (key.text.to_string(), NameStanding::Serves)).collect();
        return found;
    }
    around.names = entries.iter().map(|(key, _)| key.text.to_string()).collect();
    let mut logs: BTreeMap<String, (String, Value, Place)> = BTreeMap::new();
    let mut after = After::default();
    let mut env_bytes = 0;
    for (key, value) in entries {
        let name = match key.text.parse::<ServiceName>() {
            Ok(name) => name,
            Err(error) => {
                report.mistake_at(key.place, &value.path, error.to_string());
                found.names.standing.insert(key.text.to_string(), NameStanding::Serves);
                continue;
            }
        };
        let standing = match read(&value, key.place, &name, &around, &mut after, report) {
            Err(standing) => standing,
            Ok((mut service, log_place)) => {
                if let ServiceKind::App(spec) = &mut service.spec.kind {
                    let place = log_place.unwrap_or(key.place);
                    if let Some((other, ..)) =
                        logs.insert(spec.log.clone(), (name.to_string(), value.clone(), place))
                    {
                        let message = format!(
                            "its log file {} is that of service {} too; each has one of its own",
                            quoted(&spec.log),
                            quoted(&other)
                        );
                        report.mistake_at(place, &value.path, message);
                    }
                    env_bytes += environment_bytes(&spec.env);
                    if env_bytes > MAX_ALL_ENV_BYTES {
                        spec.env.clear();
                    }
                }
                let standing = standing(&service);
                found.services.push(service);
                standing
            }
        };
        found.names.standing.insert(name.to_string(), standing);
    }
    if env_bytes > MAX_ALL_ENV_BYTES {
        let message = format!("the environments of all services come to more than {MAX_ALL_ENV_BYTES} bytes");
        whole.mistake(report, message);
    }
    check_rotated(&logs, report);
    check_ports(whole, &found.services, report);
    after.check(report);
    found
}

/// Each instance that is not in the background has a port of its own, and so has each new one beside it.
fn check_ports(whole: &Value, services: &[DeclaredService], report: &mut Report<'_>) {
    let apps = || {
        services.iter().filter_map(|service| match &service.spec.kind {
            ServiceKind::App(app) if app.run.is_some() && !app.background => Some(&**app),
            ServiceKind::App(_) | ServiceKind::External(_) | ServiceKind::Files => None,
        })
    };
    let count = |app: &AppSpec| u64::from(app.instances);
    let all: u64 = apps().map(count).sum();
    let beside: u64 = apps().filter(|app| app.overlaps()).map(count).sum();
    let ports = format!("{MOST_INSTANCES} ports ({}–{}) for them", Ports::RANGE.start(), Ports::RANGE.end());
    if all > u64::from(MOST_INSTANCES) {
        whole.mistake(report, format!("{all} instances in all, and there are {ports}"));
    } else if all + beside > u64::from(MOST_INSTANCES) {
        let message = format!(
            "{all} instances in all, of which {beside} overlap with new ones in a rollout, and there are {ports}; \
             such a rollout will fail"
        );
        report.warning(whole.place, &whole.path, message);
    }
}

/// A log that has the name of one that another service's is rotated to, or of its index, would be overwritten by it.
fn check_rotated(logs: &BTreeMap<String, (String, Value, Place)>, report: &mut Report<'_>) {
    for (log, (_, service, place)) in logs {
        let (file, is_index) = match log.strip_suffix(".index") {
            Some(file) => (file, true),
            None => (&**log, false),
        };
        let rotated =
            file.rsplit_once('.').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
        let older = rotated.and_then(|(other, _)| logs.get(other));
        let Some((owner, ..)) = older.or_else(|| logs.get(file).filter(|_| is_index)) else { continue };
        let what = if is_index { "where the index of that of service" } else { "where that of service" };
        let is_kept = if is_index { "is kept" } else { "is rotated to" };
        let message = format!("its log file {} is {what} {} {is_kept}", quoted(log), quoted(owner));
        report.mistake_at(*place, &service.path, message);
    }
}

fn standing(service: &DeclaredService) -> NameStanding {
    match &service.spec.kind {
        ServiceKind::App(spec) if spec.background => NameStanding::Background,
        ServiceKind::App(_) if service.serves == Serves::Nothing => NameStanding::BuildOnly,
        ServiceKind::App(_) | ServiceKind::External(_) | ServiceKind::Files => NameStanding::Serves,
    }
}

/// A service with the place of its log file's name, or what a route may think of it.
fn read(
    value: &Value,
    place: Place,
    name: &ServiceName,
    around: &Surroundings,
    after: &mut After,
    report: &mut Report<'_>,
) -> Result<(DeclaredService, Option<Place>), NameStanding> {
    let inner = value.without_tag();
    let (kind, serves, log_place) = match value.tag() {
        Some("App") => {
            let App { spec, balancing, log_place } = app(&inner, name, around, after, None, report);
            let serves = if spec.background || !app::runs(&inner) {
                Serves::Nothing
            } else {
                Serves::Upstreams(balancing)
            };
            (ServiceKind::App(Box::new(spec)), serves, log_place)
        }
        Some("FS") => {
            let folder = around.service_root.join(name.as_str());
            let spec = files(&inner, &folder, &around.service_root, report);
            let written = if inner.is_null() { place } else { inner.place };
            report.needs(written, &value.path, Needed::Files(spec.folder.clone()));
            (ServiceKind::Files, Serves::Files(spec), None)
        }
        Some("Proxy") => {
            let (spec, balancing) = external(&inner, report);
            if spec.addresses.is_empty() {
                let message = "it is left out, because none of its upstreams is served yet".to_owned();
                report.left_out(value.place, &value.path, message);
                return Err(NameStanding::NotServed);
            }
            (ServiceKind::External(spec), Serves::Upstreams(balancing), None)
        }
        Some(tag) => {
            let Some((_, feature, keys)) = WRAPPERS.iter().find(|(wrapper, ..)| *wrapper == tag) else {
                unknown_type(tag, value, report);
                return Err(NameStanding::Serves);
            };
            app(&inner, name, around, after, Some(keys), report);
            value.not_served(report, *feature);
            return Err(NameStanding::NotServed);
        }
        None => {
            let expected = expected_one_of(&SERVED_TYPES);
            report.mistake_at(place, &value.path, format!("its type is missing; {expected}"));
            return Err(NameStanding::Serves);
        }
    };
    Ok((DeclaredService { spec: ServiceSpec::new(name.clone(), kind), serves }, log_place))
}

/// The types that a service can be of, as they are written.
const SERVED_TYPES: [KnownWord<'_>; 3] =
    [KnownWord::served("!App"), KnownWord::served("!FS"), KnownWord::served("!Proxy")];

/// Whether a tag is a type of services, served or not.
pub(crate) fn is_service_type(tag: &str) -> bool {
    SERVED_TYPES.iter().any(|known| known.word.strip_prefix('!') == Some(tag))
        || WRAPPERS.iter().any(|(wrapper, ..)| *wrapper == tag)
}

fn unknown_type(tag: &str, value: &Value, report: &mut Report<'_>) {
    let what = format!("unknown type {}", quoted(&format!("!{tag}")));
    if let Some(Ours::Told(told)) = elsewhere::find(elsewhere::TYPES, tag) {
        value.mistake(report, format!("{what}; {told}"));
        return;
    }
    let wrappers: Vec<String> = WRAPPERS.iter().map(|(tag, ..)| format!("!{tag}")).collect();
    let later = wrappers.iter().map(|word| KnownWord { word, served: false });
    let known: Vec<KnownWord<'_>> = SERVED_TYPES.into_iter().chain(later).collect();
    report.unknown(value.place, &value.path, what, &format!("!{tag}"), &known);
}
