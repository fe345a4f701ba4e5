//! Every crate checks alone: what a crate needs stands in its own manifest and is not lent by a neighbour whose
//! features happen to be on.

use anyhow::{Context, Result};

use super::finding::Finding;
use crate::workspace::{Package, Workspace};

/// The crates that do not check with no feature, or not with all.
pub(super) fn findings(workspace: &Workspace, packages: &[Package]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in packages {
        // A crate without features has only one way to be checked.
        let ways: &[&str] = match package.features.len() {
            0 => &["--no-default-features"],
            _ => &["--no-default-features", "--all-features"],
        };
        for way in ways {
            let output = workspace
                .cargo()
                .args(["check", "--locked", "--quiet", "--color=never", "--package", &package.name, way])
                .output()
                .context("cannot run cargo")?;
            if !output.status.success() {
                eprint!("{}", String::from_utf8_lossy(&output.stderr));
                findings.push(Finding::new(
                    &package.manifest,
                    format!("{} does not check alone", package.name),
                    format!("see `cargo check -p {} {way}`", package.name),
                ));
            }
        }
    }
    Ok(findings)
}
