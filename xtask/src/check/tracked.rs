//! What no file of the repository may name: the machine that it was written on, and where that machine gets
//! its packages from.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::finding::Finding;
use crate::workspace::Workspace;

/// Where every package of `Cargo.lock` comes from. A mirror would end up in this place.
const INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Settings that send a package manager to a registry other than its own.
const REGISTRY_SETTINGS: &[&str] =
    &["replace-with", "[registries", "[source.", "--index-url", "--registry", "GOPROXY", "extra-index"];

/// This file names the settings, so that they can be found.
const THIS_FILE: &str = "xtask/src/check/tracked.rs";

/// Folders that any Linux machine has; below them only this very checkout is a build machine's.
const EVERYWHERE: &[&str] = &[
    "bin", "boot", "dev", "etc", "home", "lib", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp",
    "usr", "var",
];

/// Every place in `files` that names this machine or a registry.
pub(super) fn findings(workspace: &Workspace, files: &[String]) -> Result<Vec<Finding>> {
    let machine = machine_paths(&workspace.root, std::env::home_dir().as_deref());
    let mut findings = Vec::new();
    for path in files {
        let bytes = std::fs::read(workspace.root.join(path))?;
        if let Ok(text) = String::from_utf8(bytes) {
            findings.extend(in_file(path, &text, &machine));
        }
    }
    Ok(findings)
}

/// The paths that would give this machine away: the checkout, the user's home (but not root's, which every
/// machine has), and the checkout's first folder if other machines have none of that name.
fn machine_paths(root: &Path, home: Option<&Path>) -> Vec<String> {
    let home = home.filter(|home| *home != Path::new("/root"));
    let mut paths: Vec<PathBuf> = [Some(root), home].into_iter().flatten().map(Path::to_path_buf).collect();
    if let Some(first) = root.iter().nth(1).filter(|name| !EVERYWHERE.iter().any(|known| *name == *known)) {
        paths.push(Path::new("/").join(first));
    }
    paths.sort();
    paths.dedup();
    let long_enough = |path: &String| path.len() > 1;
    paths.iter().map(|path| path.display().to_string()).filter(long_enough).collect()
}

fn in_file(path: &str, text: &str, machine: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = || format!("{path}:{}", index + 1);
        if let Some(named) = machine.iter().find(|named| names_path(line, named)) {
            findings.push(Finding::new(
                place(),
                format!("names {named}, a path of this machine"),
                "write a relative path, or one that any machine may have",
            ));
        }
        if path.ends_with("Cargo.lock") {
            if let Some(source) = line.strip_prefix("source = ").map(|source| source.trim_matches('"'))
                && source != INDEX
            {
                findings.push(Finding::new(
                    place(),
                    format!("a package comes from {source}"),
                    "use a released version from the public index, and lock without a mirror",
                ));
            }
        } else if path != THIS_FILE
            && let Some(setting) = REGISTRY_SETTINGS.iter().find(|setting| line.contains(**setting))
        {
            findings.push(Finding::new(
                place(),
                format!("`{setting}` chooses a registry"),
                "leave that to the machine's own configuration",
            ));
        }
    }
    findings
}

/// Whether `line` names `path` or something in it, as a path that starts at the root.
fn names_path(line: &str, path: &str) -> bool {
    let starts = |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || "._-~/}>".contains(c));
    let ends = |after: &str| !after.starts_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
    line.match_indices(path).any(|(at, _)| starts(&line[..at]) && ends(&line[at + path.len()..]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{in_file, machine_paths};

    #[test]
    fn a_path_of_the_build_machine_is_found_and_one_of_any_machine_is_not() {
        let machine = machine_paths(Path::new("/build7/pmesh"), Some(Path::new("/home/ada")));
        let finds = |line: &str| in_file("README.md", line, &machine).len();
        assert_eq!(finds("cd /build7/pmesh"), 1);
        assert_eq!(finds("export X=/build7/cache"), 1);
        assert_eq!(finds("ls /home/ada/.cargo"), 1);
        assert_eq!(finds("ls /home/adam"), 0);
        assert_eq!(finds("http://localhost:8080/build7/"), 0);
        assert_eq!(finds("cp app /srv/app"), 0);
    }

    #[test]
    fn a_checkout_in_a_folder_that_every_machine_has_is_named_whole() {
        let machine = machine_paths(Path::new("/tmp/clone"), None);
        assert_eq!(machine, ["/tmp/clone"]);
    }

    #[test]
    fn a_locked_package_from_a_mirror_is_a_finding() {
        let finds = |line: &str| in_file("Cargo.lock", line, &[]).len();
        assert_eq!(finds("source = \"registry+https://github.com/rust-lang/crates.io-index\""), 0);
        assert_eq!(finds("source = \"sparse+https://mirror.example/index/\""), 1);
    }
}
