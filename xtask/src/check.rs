//! `cargo xtask check`: the rules of docs/ARCHITECTURE.md that a program can verify.
//!
//! Each rule answers with findings: the place, what is wrong there and what to do about it.

mod alone;
mod circles;
mod closed_types;
mod documents;
mod finding;
mod layers;
mod module_paths;
mod mutants;
mod public;
mod rust_text;
mod skips;
mod sources;
mod tracked;
mod type_names;
mod ways;

use anyhow::{Result, bail};

use self::finding::Finding;
use crate::workspace::{Package, Workspace};

/// Verifies every rule and prints every finding, one a line, on standard error.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let packages = workspace.packages()?;
    let mut findings = quick_findings(workspace, &packages)?;
    // Last, because these take minutes on an empty target and the others take milliseconds.
    findings.extend(documents::api_findings(workspace)?);
    findings.extend(alone::findings(workspace, &packages)?);
    report(&findings)
}

/// As [`run`], without the rules that need a build.
pub(crate) fn run_quick(workspace: &Workspace) -> Result<()> {
    let packages = workspace.packages()?;
    report(&quick_findings(workspace, &packages)?)
}

fn quick_findings(workspace: &Workspace, packages: &[Package]) -> Result<Vec<Finding>> {
    let files = workspace.files()?;
    let root_manifest = workspace.read("Cargo.toml")?;
    let mut findings = layers::findings(packages, &root_manifest);
    findings.extend(sources::findings(workspace, &files)?);
    findings.extend(skips::findings(workspace, &files)?);
    findings.extend(circles::findings(workspace, &files)?);
    findings.extend(public::findings(workspace, packages, &files)?);
    findings.extend(closed_types::findings(workspace, packages, &files)?);
    findings.extend(tracked::findings(workspace, &files)?);
    findings.extend(type_names::findings(workspace, &files)?);
    findings.extend(ways::findings(workspace)?);
    findings.extend(mutants::findings(workspace, &files)?);
    findings.extend(documents::findings(workspace, &root_manifest));
    Ok(findings)
}

fn report(findings: &[Finding]) -> Result<()> {
    for finding in findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("1 finding"),
        more => bail!("{more} findings"),
    }
}
