//! Which crate may know which: the list of docs/ARCHITECTURE.md as data.

use std::collections::BTreeSet;

use super::finding::Finding;
use crate::workspace::{Dependency, Kind, Package};

/// The members of the workspace, top to bottom. Whoever adds a crate says here what it may know.
const LAYERS: &[Layer] = &[
    Layer { package: "xtask", knows: Knows::All },
    Layer { package: "pmesh-tests", knows: Knows::All },
    Layer { package: "pmesh-server", knows: Knows::All },
    // Not the proxy: the `pm3` host is a handler that the binary hands to it.
    Layer {
        package: "pmesh-api",
        knows: Knows::Only(&[
            "pmesh-node",
            "pmesh-manifest",
            "pmesh-sessions",
            "pmesh-supervisor",
            "pmesh-threads",
            "pmesh-vcs",
        ]),
    },
    Layer {
        package: "pmesh-node",
        knows: Knows::Only(&[
            "pmesh-manifest",
            "pmesh-proxy",
            "pmesh-sessions",
            "pmesh-supervisor",
            "pmesh-threads",
            "pmesh-vcs",
        ]),
    },
    Layer {
        package: "pmesh-manifest",
        knows: Knows::Only(&["pmesh-proxy", "pmesh-sessions", "pmesh-supervisor"]),
    },
    Layer { package: "pmesh-proxy", knows: Knows::Only(&["pmesh-sessions", "pmesh-threads"]) },
    Layer { package: "pmesh-sessions", knows: Knows::Only(&["pmesh-threads"]) },
    Layer { package: "pmesh-supervisor", knows: Knows::Only(&["pmesh-threads"]) },
    Layer { package: "pmesh-vcs", knows: Knows::Only(&["pmesh-threads"]) },
    Layer { package: "pmesh-threads", knows: Knows::Only(&[]) },
];

/// Outside crates that only some members may use, in what they ship. Tests may use what they like.
const HOMES: &[Home] = &[
    Home {
        outside: "serde",
        members: &["pmesh-api", "pmesh-server"],
        why: "only the api knows the wire format",
    },
    Home {
        outside: "serde_json",
        members: &["pmesh-api", "pmesh-server", "pmesh-tests", "xtask"],
        why: "only the api knows the wire format",
    },
    Home { outside: "gix", members: &["pmesh-vcs"], why: "no other crate knows which version control it is" },
    Home { outside: "granit-parser", members: &["pmesh-manifest"], why: "only the manifest is YAML" },
    Home { outside: "clap", members: &["pmesh-server"], why: "only the binary has a command line" },
    Home {
        outside: "tracing-subscriber",
        members: &["pmesh-server"],
        why: "where the log goes is the binary's decision",
    },
    Home { outside: "anyhow", members: &["xtask"], why: "a library's error is an enum to act on" },
];

/// A feature that has fakes for tests; it must not reach what is shipped.
const FAKES: &str = "testing";

struct Layer {
    package: &'static str,
    knows: Knows,
}

enum Knows {
    /// Tools, tests and the binary put everything together.
    All,
    /// These and nothing else; in its tests also itself, with its fakes.
    Only(&'static [&'static str]),
}

struct Home {
    outside: &'static str,
    members: &'static [&'static str],
    why: &'static str,
}

/// Every dependency that breaks a border.
pub(super) fn findings(packages: &[Package], root_manifest: &str) -> Vec<Finding> {
    let members: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let declared = workspace_dependencies(root_manifest);
    let mut findings = Vec::new();

    for layer in LAYERS.iter().filter(|layer| !members.contains(layer.package)) {
        findings.push(Finding::new(
            "xtask/src/check/layers.rs",
            format!("{} is no member of the workspace", layer.package),
            "take it out of the table",
        ));
    }
    for package in packages {
        let Some(layer) = LAYERS.iter().find(|layer| layer.package == package.name) else {
            findings.push(Finding::new(
                &package.manifest,
                format!("{} has no place among the layers", package.name),
                "give it one in docs/ARCHITECTURE.md and in xtask/src/check/layers.rs",
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let finding = if members.contains(dependency.name.as_str()) {
                border(layer, package, dependency)
            } else {
                home(package, dependency)
            };
            findings.extend(finding);
            findings.extend(fakes(package, dependency));
            if !declared.contains(dependency.name.as_str()) {
                findings.push(Finding::new(
                    &package.manifest,
                    format!("{} is not in [workspace.dependencies]", dependency.name),
                    "declare it there, with its version, and write `workspace = true` here",
                ));
            }
        }
    }
    let used: BTreeSet<&str> = packages
        .iter()
        .flat_map(|package| &package.dependencies)
        .map(|dependency| dependency.name.as_str())
        .collect();
    for name in declared.difference(&used) {
        findings.push(Finding::new(
            "Cargo.toml",
            format!("nothing uses the workspace dependency {name}"),
            "take it out, also of docs/ARCHITECTURE.md",
        ));
    }
    findings
}

fn border(layer: &Layer, package: &Package, dependency: &Dependency) -> Option<Finding> {
    let known = match layer.knows {
        Knows::All => return None,
        Knows::Only(known) => known,
    };
    let itself = dependency.kind == Kind::Development && dependency.name == package.name;
    if itself || known.contains(&dependency.name.as_str()) {
        return None;
    }
    Some(Finding::new(
        &package.manifest,
        format!("{} must not know {}", package.name, dependency.name),
        match known {
            [] => "it knows no other crate of this workspace; have its caller pass plain values".to_owned(),
            known => format!("it may know {}; have its caller pass plain values", known.join(", ")),
        },
    ))
}

fn home(package: &Package, dependency: &Dependency) -> Option<Finding> {
    let home = HOMES.iter().find(|home| home.outside == dependency.name)?;
    if dependency.kind == Kind::Development || home.members.contains(&package.name.as_str()) {
        return None;
    }
    Some(Finding::new(
        &package.manifest,
        format!("{} must not use {}", package.name, dependency.name),
        format!("{}: leave it to {}", home.why, home.members.join(", ")),
    ))
}

fn fakes(package: &Package, dependency: &Dependency) -> Option<Finding> {
    if dependency.kind == Kind::Development || !dependency.features.contains(FAKES) {
        return None;
    }
    Some(Finding::new(
        &package.manifest,
        format!("{} ships with the fakes of {}", package.name, dependency.name),
        format!("turn `{FAKES}` on in [dev-dependencies], or by a feature of that name"),
    ))
}

/// The names in `[workspace.dependencies]`, in the one-line form that the root manifest has.
pub(super) fn workspace_dependencies(root_manifest: &str) -> BTreeSet<&str> {
    root_manifest
        .lines()
        .skip_while(|line| line.trim() != "[workspace.dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Dependency, Finding, Kind, LAYERS, Package, findings};

    const ROOT: &str =
        "[workspace.dependencies]\npmesh-proxy = \"1\"\npmesh-vcs = \"1\"\nserde = \"1\"\n[lints]\n";

    /// The findings about `package` in a workspace where nothing else is wrong.
    fn about(package: &str, dependencies: &[(&str, Kind, &[&str])]) -> Vec<Finding> {
        let packages: Vec<Package> = LAYERS
            .iter()
            .map(|layer| Package {
                name: layer.package.to_owned(),
                manifest: layer.package.to_owned(),
                features: BTreeSet::new(),
                dependencies: dependencies
                    .iter()
                    .filter(|_| layer.package == package)
                    .map(|(name, kind, features)| Dependency {
                        name: (*name).to_owned(),
                        kind: *kind,
                        features: features.iter().map(|feature| (*feature).to_owned()).collect(),
                    })
                    .collect(),
            })
            .collect();
        findings(&packages, ROOT).into_iter().filter(|finding| finding.place == package).collect()
    }

    #[test]
    fn a_crate_may_not_know_its_neighbour_nor_what_is_above_it() {
        assert_eq!(about("pmesh-node", &[("pmesh-vcs", Kind::Normal, &[])]), []);
        let beside = about("pmesh-supervisor", &[("pmesh-vcs", Kind::Normal, &[])]);
        assert_eq!(beside[0].problem, "pmesh-supervisor must not know pmesh-vcs");
        let above = about("pmesh-manifest", &[("pmesh-vcs", Kind::Development, &[])]);
        assert_eq!(above[0].problem, "pmesh-manifest must not know pmesh-vcs");
    }

    #[test]
    fn a_crate_may_use_its_own_fakes_in_its_tests_and_nobody_elses_in_what_it_ships() {
        assert_eq!(about("pmesh-vcs", &[("pmesh-vcs", Kind::Development, &["testing"])]), []);
        let shipped = about("pmesh-node", &[("pmesh-vcs", Kind::Normal, &["testing"])]);
        assert_eq!(shipped[0].problem, "pmesh-node ships with the fakes of pmesh-vcs");
    }

    #[test]
    fn only_the_api_and_the_binary_know_the_wire_format() {
        assert_eq!(about("pmesh-api", &[("serde", Kind::Normal, &[])]), []);
        assert_eq!(about("pmesh-node", &[("serde", Kind::Development, &[])]), []);
        let finding = &about("pmesh-node", &[("serde", Kind::Normal, &[])])[0];
        assert_eq!(finding.problem, "pmesh-node must not use serde");
    }

    #[test]
    fn a_version_stands_in_the_root_manifest_only() {
        let finding = &about("pmesh-vcs", &[("libc", Kind::Normal, &[])])[0];
        assert_eq!(finding.problem, "libc is not in [workspace.dependencies]");
    }
}
