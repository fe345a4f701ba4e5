//! The key `services`: a name and a type for everything that runs or is served.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use pmesh_proxy::{FilesSpec, LoadBalancing};
use pmesh_supervisor::{ServiceKind, ServiceName, ServiceSpec};

use crate::{
    app::{self, App, WRAPPERS, app},
    external::external,
    files::files,
    mistake::{did_you_mean, quoted},
    report::Report,
    tree::Place,
    value::Value,
};

/// A service of the manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
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

/// What every service is read with.
pub(crate) struct Surroundings {
    pub(crate) service_root: PathBuf,
    /// The environment of the manifest's top level.
    pub(crate) env: BTreeMap<String, String>,
    /// All names that are declared, whether or not they are good.
    pub(crate) names: BTreeSet<String>,
}

/// What a route may find behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
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
pub(crate) struct Services {
    pub(crate) services: Vec<Service>,
    pub(crate) names: Names,
}

/// The names that routes can use.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) standing: BTreeMap<String, Standing>,
    /// Whether there may be more, which a mistake elsewhere hides: then an unknown one is none.
    pub(crate) incomplete: bool,
}

/// The most services of one manifest.
const MOST_SERVICES: usize = 1000;

pub(crate) fn services(value: &Value, mut around: Surroundings, report: &mut Report<'_>) -> Services {
    let mut found = Services::default();
    found.names.incomplete = !value.is_map_or_null() || value.has_computed_keys();
    let entries = value.entries(report, "a map of names to services").unwrap_or_default();
    if entries.len() > MOST_SERVICES {
        value.mistake(report, format!("{} services; at most {MOST_SERVICES} can be served", entries.len()));
        found.names.standing =
            entries.iter().map(|(key, _)| (key.text.to_string(), Standing::Serves)).collect();
        return found;
    }
    around.names = entries.iter().map(|(key, _)| key.text.to_string()).collect();
    let mut logs: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in entries {
        let name = match key.text.parse::<ServiceName>() {
            Ok(name) => name,
            Err(error) => {
                report.mistake_at(key.place, &value.path, error.to_string());
                found.names.standing.insert(key.text.to_string(), Standing::Serves);
                continue;
            }
        };
        let standing = match read(&value, key.place, &name, &around, report) {
            Err(standing) => standing,
            Ok((service, log_place)) => {
                if let ServiceKind::App(spec) = &service.spec.kind
                    && let Some(other) = logs.insert(spec.log.clone(), name.to_string())
                {
                    let message = format!(
                        "its log file {} is that of service {} too; each has one of its own",
                        quoted(&spec.log),
                        quoted(&other)
                    );
                    report.mistake_at(log_place.unwrap_or(key.place), &value.path, message);
                }
                let standing = standing(&service);
                found.services.push(service);
                standing
            }
        };
        found.names.standing.insert(name.to_string(), standing);
    }
    found
}

fn standing(service: &Service) -> Standing {
    match &service.spec.kind {
        ServiceKind::App(spec) if spec.background => Standing::Background,
        ServiceKind::App(_) if service.serves == Serves::Nothing => Standing::BuildOnly,
        ServiceKind::App(_) | ServiceKind::External(_) | ServiceKind::Files => Standing::Serves,
    }
}

/// A service with the place of its log file's name, or what a route may think of it.
fn read(
    value: &Value,
    place: Place,
    name: &ServiceName,
    around: &Surroundings,
    report: &mut Report<'_>,
) -> Result<(Service, Option<Place>), Standing> {
    let inner = value.without_tag();
    let (kind, serves, log_place) = match value.tag() {
        Some("App") => {
            let App { spec, balancing, log_place } = app(&inner, name, around, None, report);
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
            (ServiceKind::Files, Serves::Files(spec), None)
        }
        Some("Proxy") => {
            let (spec, balancing) = external(&inner, report);
            if spec.addresses.is_empty() {
                let message = "it is left out, because none of its upstreams is served yet".to_owned();
                report.left_out(value.place, &value.path, message);
                return Err(Standing::NotServed);
            }
            (ServiceKind::External(spec), Serves::Upstreams(balancing), None)
        }
        Some(tag) => {
            let Some((_, feature, keys)) = WRAPPERS.iter().find(|(wrapper, ..)| *wrapper == tag) else {
                let message = format!("unknown type {}; {}", quoted(&format!("!{tag}")), types(Some(tag)));
                report.mistake_at(value.place, &value.path, message);
                return Err(Standing::Serves);
            };
            app(&inner, name, around, Some(keys), report);
            value.not_served(report, *feature);
            return Err(Standing::NotServed);
        }
        None => {
            report.mistake_at(place, &value.path, format!("its type is missing; {}", types(None)));
            return Err(Standing::Serves);
        }
    };
    Ok((Service { spec: ServiceSpec { name: name.clone(), kind }, serves }, log_place))
}

/// The types that a service can be of, with the one nearest to `tag`.
fn types(tag: Option<&str>) -> String {
    let served = ["!App", "!FS", "!Proxy"].map(str::to_owned);
    let all: Vec<String> =
        served.into_iter().chain(WRAPPERS.iter().map(|(tag, ..)| format!("!{tag}"))).collect();
    let near =
        tag.map_or_else(String::new, |tag| did_you_mean(&format!("!{tag}"), all.iter().map(String::as_str)));
    format!("expected one of {}{near}", all.join(", "))
}
