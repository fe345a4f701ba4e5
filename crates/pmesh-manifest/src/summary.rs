//! What a manifest would run, for a person.

use std::{collections::BTreeSet, fmt, path::Path};

use pmesh_proxy::{Handler, Route, SiteHost};
use pmesh_supervisor::ServiceKind;

use crate::{DeclaredService, Manifest, Serves};

/// What a manifest would run, in aligned columns: its services, and its sites with where their
/// routes lead. Printed by `pmesh-server check`.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a>(&'a Manifest);

impl Manifest {
    /// What this manifest would run, to be printed.
    pub fn summary(&self) -> Summary<'_> {
        Summary(self)
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manifest { root, services, sites, .. } = self.0;
        writeln!(f, "root {}", root.display())?;
        if !services.is_empty() {
            writeln!(f, "\nservices")?;
            let rows: Vec<_> = services.iter().map(|service| row(service, root)).collect();
            table(f, &rows)?;
        }
        if !sites.is_empty() {
            writeln!(f, "\nsites")?;
            let rows: Vec<_> = sites
                .iter()
                .map(|site| {
                    let hosts: Vec<&str> = site.hosts.iter().map(host).collect();
                    vec![hosts.join(", "), counted(site.routes.len(), "route"), destinations(&site.routes)]
                })
                .collect();
            table(f, &rows)?;
        }
        Ok(())
    }
}

/// Name, type, how many, where, and what.
fn row(DeclaredService { spec, serves }: &DeclaredService, root: &Path) -> Vec<String> {
    let shown = |folder: &Path| match folder.strip_prefix(root) {
        Ok(inside) if inside == Path::new("") => ".".to_owned(),
        Ok(inside) => inside.display().to_string(),
        Err(_) => folder.display().to_string(),
    };
    let (kind, count, folder, what) = match (&spec.kind, serves) {
        (ServiceKind::App(app), _) => {
            let count = match &app.run {
                None => "build only".to_owned(),
                Some(_) if app.background => format!("{} in the background", app.instances),
                Some(_) => counted(app.instances as usize, "instance"),
            };
            let command = app.run.as_ref().map_or_else(String::new, ToString::to_string);
            ("!App", count, shown(&app.folder), command)
        }
        (ServiceKind::Files, Serves::Files(files)) => {
            ("!FS", "files".to_owned(), shown(&files.folder), String::new())
        }
        (ServiceKind::Files, _) => ("!FS", "files".to_owned(), String::new(), String::new()),
        (ServiceKind::External(external), _) => {
            let addresses: Vec<String> = external.addresses.iter().map(ToString::to_string).collect();
            ("!Proxy", counted(addresses.len(), "upstream"), String::new(), addresses.join(", "))
        }
    };
    vec![spec.name.to_string(), kind.to_owned(), count, folder, what]
}

fn host(host: &SiteHost) -> &str {
    match host {
        SiteHost::Name(name) => name,
        SiteHost::Any => "_",
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The services that routes lead to, each once.
fn destinations(routes: &[Route]) -> String {
    fn collect<'a>(routes: &'a [Route], keys: &mut BTreeSet<&'a str>) {
        for route in routes {
            match &route.handler {
                Handler::Destination(key) => {
                    keys.insert(key.as_str());
                }
                Handler::Mux(routes) => collect(routes, keys),
                Handler::Return { .. } | Handler::Status(_) | Handler::Redirect(_) => {}
            }
        }
    }
    let mut keys = BTreeSet::new();
    collect(routes, &mut keys);
    if keys.is_empty() {
        return String::new();
    }
    format!("to {}", keys.into_iter().collect::<Vec<_>>().join(", "))
}

/// Rows with their columns aligned, each line indented by two spaces.
fn table(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            if *width > 0 {
                line.push_str("  ");
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
