//! The public items of each crate, as a list that a person can read in review: `docs/public/<crate>.txt`.
//!
//! Read from the sources, so that every toolchain gives the same list. That nothing is `pub` but what others can
//! name is checked by the compiler (`unreachable_pub`).

mod items;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use self::items::public_items;
use crate::workspace::{Package, Workspace};

/// A list: where it is kept, and what it says now.
pub(crate) struct List {
    /// Relative to the workspace's root.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The lists of all crates below `crates/`.
pub(crate) fn lists(workspace: &Workspace, packages: &[Package], files: &[String]) -> Result<Vec<List>> {
    let libraries = packages.iter().filter(|package| package.manifest.starts_with("crates/"));
    libraries.map(|package| list(workspace, package, files)).collect()
}

fn list(workspace: &Workspace, package: &Package, files: &[String]) -> Result<List> {
    let home = package.manifest.trim_end_matches("Cargo.toml");
    let sources = format!("{home}src/");
    let mut items = BTreeSet::new();
    let root = syn::parse_file(&workspace.read(&format!("{sources}lib.rs"))?)
        .with_context(|| format!("{sources}lib.rs is no Rust"))?;
    let open = items::public_modules(&root);
    for path in files.iter().filter(|path| path.starts_with(&sources) && is_rust(path)) {
        let file = syn::parse_file(&workspace.read(path)?).with_context(|| format!("{path} is no Rust"))?;
        let module = path[sources.len()..].split(['/', '.']).next().unwrap_or_default();
        let prefix = if open.contains(module) { format!("{module}::") } else { String::new() };
        items.extend(public_items(&file).into_iter().map(|(kind, name)| format!("{prefix}{name}: {kind}\n")));
    }
    let title = format!("# What `{}` shows to others; written by `cargo xtask public`.\n", package.name);
    Ok(List {
        path: format!("docs/public/{}.txt", package.name),
        text: title + &items.into_iter().collect::<String>(),
    })
}

/// Writes every list.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    std::fs::create_dir_all(workspace.root.join("docs/public")).context("cannot make docs/public")?;
    for list in lists(workspace, &workspace.packages()?, &workspace.files()?)? {
        std::fs::write(workspace.root.join(&list.path), list.text)
            .with_context(|| format!("cannot write {}", list.path))?;
    }
    Ok(())
}

fn is_rust(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|end| end == "rs")
}
