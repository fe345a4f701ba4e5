//! The workspace that this package belongs to: its folder, its packages as cargo sees them, and cargo itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The checkout that this program was built from.
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
}

/// A member of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its `Cargo.toml`, relative to the workspace's root.
    pub(crate) manifest: String,
    pub(crate) features: BTreeSet<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a dependency table.
pub(crate) struct Dependency {
    /// The package's name, also where it is renamed.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) features: BTreeSet<String>,
}

/// Which table a dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Development,
    Build,
}

impl Workspace {
    /// The workspace whose `xtask` folder this program was compiled in.
    pub(crate) fn of_this_package() -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().expect("xtask lies in a folder of the workspace");
        Self { root: root.to_path_buf() }
    }

    /// A cargo command that runs in the root, as if it had been typed there.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        // What `cargo run` sets for this program is nothing that its own children should see: build scripts
        // that look at it would run again, and half of the dependencies with them.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// The text of a file, by its path relative to the root.
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        std::fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read {path}"))
    }

    /// The files that git would commit, relative to the root: tracked ones, and new ones that are not ignored.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let output = Command::new("git")
            .current_dir(&self.root)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()
            .context("cannot run git; install it")?;
        if !output.status.success() {
            bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        // A file that was deleted and not yet committed is still in the index.
        let exists = |path: &&str| !path.is_empty() && self.root.join(path).is_file();
        Ok(listing.split('\0').filter(exists).map(str::to_owned).collect())
    }

    /// The members, as `cargo metadata` tells them.
    pub(crate) fn packages(&self) -> Result<Vec<Package>> {
        let metadata = self.metadata()?;
        let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
        packages.iter().map(|package| self.package(package)).collect()
    }

    /// The folder that cargo builds into.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        Ok(text(&self.metadata()?, "target_directory")?.into())
    }

    fn metadata(&self) -> Result<Value> {
        let output = self
            .cargo()
            .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
            .output()
            .context("cannot run cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("cargo metadata is no JSON")
    }

    fn package(&self, package: &Value) -> Result<Package> {
        let manifest = Path::new(text(package, "manifest_path")?);
        let manifest = manifest.strip_prefix(&self.root).unwrap_or(manifest);
        let dependencies = package["dependencies"].as_array().context("a package without dependencies")?;
        let features = package["features"].as_object().context("a package without features")?;
        Ok(Package {
            name: text(package, "name")?.to_owned(),
            manifest: manifest.display().to_string(),
            features: features.keys().cloned().collect(),
            dependencies: dependencies.iter().map(dependency).collect::<Result<_>>()?,
        })
    }
}

fn dependency(dependency: &Value) -> Result<Dependency> {
    let features = dependency["features"].as_array().context("a dependency without features")?;
    Ok(Dependency {
        name: text(dependency, "name")?.to_owned(),
        kind: match dependency["kind"].as_str() {
            None => Kind::Normal,
            Some("dev") => Kind::Development,
            Some("build") => Kind::Build,
            Some(other) => bail!("cargo metadata has a dependency of the unknown kind {other}"),
        },
        features: features.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

fn text<'a>(object: &'a Value, key: &str) -> Result<&'a str> {
    object[key].as_str().with_context(|| format!("cargo metadata lacks {key}"))
}
