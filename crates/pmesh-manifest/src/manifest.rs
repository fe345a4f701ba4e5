//! The manifest as a whole.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pmesh_proxy::Site;
use pmesh_supervisor::{AppSpec, ServiceKind};

use crate::{
    DeclaredService, Mistake, Mistakes, RepoSpec, Unsupported,
    app::{address_variables, no_effect},
    command::environment,
    elsewhere, later,
    mistake::quoted,
    needs::Needs,
    not_served::Feature,
    place::{MAX_BYTES, Place},
    repo::repo,
    report::{Report, lines},
    routes::{check_error_handlers, sites},
    service::{DeclaredServices, Names, is_service_type, services},
    surroundings::Surroundings,
    tree,
    value::{KeyedMap, Value},
};

/// What a `pm3.yml` declares.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Manifest {
    /// The project's folder, absolute.
    pub root: PathBuf,
    /// The services, in the order of the file.
    pub services: Vec<DeclaredService>,
    /// The virtual hosts, in the order of the file. The key of a destination in their routes is the
    /// name of a service that serves something.
    pub sites: Vec<Site>,
    /// How the work tree follows its remote.
    pub repo: RepoSpec,
    /// What is served as it stands and surely not meant so, and what was left out with [`Unsupported::Warn`].
    pub warnings: Vec<Mistake>,
    /// What has to be on the disk: [`absent`](Self::absent) looks.
    pub(crate) needs: Needs,
}

/// A manifest's text and where it is from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ManifestText<'a> {
    /// The file's bytes.
    pub text: &'a [u8],
    /// The file, as messages name it.
    pub file: &'a Path,
    /// The absolute folder that relative paths of the manifest are relative to: its own.
    pub folder: &'a Path,
}

impl<'a> ManifestText<'a> {
    /// The bytes of `file`, whose relative paths are relative to `folder`.
    pub fn new(text: &'a [u8], file: &'a Path, folder: &'a Path) -> Self {
        Self { text, file, folder }
    }
}

/// Reads a manifest. Pure: the disk is never touched, so a manifest can be read out of a commit.
///
/// # Errors
///
/// Every mistake in it, also one for every part that is not served yet unless those are warnings.
pub fn parse(source: &ManifestText<'_>, unsupported: Unsupported) -> Result<Manifest, Mistakes> {
    let text = match std::str::from_utf8(source.text) {
        _ if source.text.len() > MAX_BYTES => return Err(Mistakes::too_large(source.file)),
        Ok(text) => text,
        Err(error) => {
            let good = std::str::from_utf8(&source.text[..error.valid_up_to()]).unwrap_or_default();
            let mut report = Report::new(source.file, good, unsupported);
            let line = lines(good).count();
            let column = lines(good).last().unwrap_or_default().chars().count() + 1;
            let message = "this is not UTF-8, the one encoding a manifest can have".to_owned();
            report.mistake_at(Place { line, column }, "", message);
            return report.finish(None).map(|(manifest, ..)| manifest);
        }
    };
    let mut report = Report::new(source.file, text, unsupported);
    let manifest =
        tree::parse(text, &mut report).map(|root| decode(&Value::root(root), source.folder, &mut report));
    let (mut manifest, warnings, needs) = report.finish(manifest)?;
    (manifest.warnings, manifest.needs) = (warnings, Needs(needs));
    Ok(manifest)
}

/// What a document declares; `folder` is what its relative paths are relative to.
pub(crate) fn decode(value: &Value, folder: &Path, report: &mut Report<'_>) -> Manifest {
    let mut table = KeyedMap::of(value, report, "a map of root, service_root, env, services, server, repo");
    let root = table.take("root").and_then(|value| value.path_under(report, folder));
    let root = root.unwrap_or_else(|| crate::path::resolve(folder, "."));
    let service_root = table.take("service_root").and_then(|value| value.path_under(report, folder));
    let service_root = service_root.unwrap_or_else(|| root.clone());
    let env_written = table.take("env");
    let env = env_written.as_ref().map_or_else(BTreeMap::new, |value| environment(value, report));
    if let Some(value) = table.take_later("custom_errors") {
        value.text(report, "a folder");
        value.not_served(report, Feature::CustomErrors);
    }
    if let Some(value) = table.take_later("acme") {
        later::acme(&value, report);
    }
    if let Some(value) = table.take_later("hosts") {
        check_hosts(&value, report);
    }
    let repo = table.take("repo").map_or_else(RepoSpec::default, |value| repo(&value, report));
    if let Some(value) = table.take_later("limits") {
        later::limits(&value, report);
    }
    if let Some(value) = table.take_later("access_log") {
        later::access_log(&value, report);
    }
    let around = Surroundings {
        folder: folder.to_owned(),
        service_root,
        env,
        names: std::collections::BTreeSet::new(),
    };
    let written = table.take("services");
    let server = table.take("server");
    for (key, feature) in [("runners", Feature::Runners), ("jet", Feature::Jet), ("ipinfo", Feature::IpInfo)]
    {
        if let Some(value) = table.take_later(key)
            && !value.is_empty()
        {
            value.not_served(report, feature);
        }
    }
    let nothing = DeclaredServices {
        names: Names { incomplete: table.has_more(), ..Names::default() },
        ..DeclaredServices::default()
    };
    let DeclaredServices { services, names } =
        written.as_ref().map_or(nothing, |value| services(value, around, report));
    if let Some(value) = &env_written {
        check_address(value, &services, report);
    }
    if let Some(value) = &written {
        check_error_handlers(value, &names, report);
    }
    let sites = server.map_or_else(Vec::new, |value| sites(&value, &names, report));
    for (key, value) in table.take_all(|value| value.tag().is_some_and(is_service_type)) {
        let what = format!("unknown key {}", quoted(&key.text));
        let kind = value.tag().unwrap_or_default();
        report.mistake_at(key.place, "", format!("{what}; an `!{kind}` belongs under `services`"));
    }
    table.end_with(elsewhere::TOP, report);
    Manifest { root, services, sites, repo, warnings: Vec::new(), needs: Needs::default() }
}

/// Warns of a variable of the environment in which every service finds something else.
fn check_address(env: &Value, services: &[DeclaredService], report: &mut Report<'_>) {
    let apps = || {
        services.iter().filter_map(|service| match &service.spec.kind {
            ServiceKind::App(app) if app.run.is_some() => Some(&**app),
            ServiceKind::App(_) | ServiceKind::External(_) | ServiceKind::Files => None,
        })
    };
    let Some(first) = apps().next() else { return };
    for (variable, key) in address_variables(first) {
        let is_told = |app: &AppSpec| {
            !app.background && address_variables(app).iter().any(|(other, _)| *other == variable)
        };
        if let Some(value) = env.peek(variable)
            && apps().all(is_told)
        {
            report.warning(value.place, &value.path, no_effect(variable, key));
        }
    }
}

/// Finds the mistakes in `hosts`: names, or maps of names to addresses.
fn check_hosts(value: &Value, report: &mut Report<'_>) {
    let wanted = "a list of host names, or of maps of names to addresses";
    for item in value.items(report, wanted).unwrap_or_default() {
        if item.is_map() {
            for (_, address) in item.entries(report, wanted).unwrap_or_default() {
                let wanted = "an IP address";
                if address.text(report, wanted).is_some_and(|text| text.parse::<std::net::IpAddr>().is_err())
                {
                    address.expected(report, wanted);
                }
            }
        } else if let Some(name) = item.text(report, "a host name")
            && let Err(error) = crate::host::parse(name)
        {
            item.mistake(report, format!("{} {error}", crate::mistake::quoted(name)));
        }
    }
    if !value.is_empty() {
        value.not_served(report, Feature::Hosts);
    }
}
