//! `cargo xtask bench`: what the server costs, as ratios to a peer that is measured in the same run.
//!
//! Other work on the machine, and the machine itself, change wall-clock figures by far more than any difference
//! between two programs. So the server and its peer run back to back, five times, and what counts is the median
//! of the five ratios; CPU time, which is steadier than wall time, stands before it.
//!
//! All load goes to 127.0.0.1, each measurement is bounded in time, and whatever is started here is ended here,
//! by its pid, also when something fails and by Ctrl-C (`guard.rs`). Nothing is installed.

mod api_client;
mod document;
mod figures;
mod front;
mod guard;
mod peers;
mod pmesh;
mod processes;
mod repo;
mod side_by_side;
mod supervise;
mod upstream;

use anyhow::{Context, Result, bail};

pub(crate) use self::guard::GUARD;
pub(crate) use self::supervise::WRITER;
pub(crate) use self::upstream::UPSTREAM;
use crate::workspace::Workspace;

/// Runs the benchmark with the server binary it is given and answers with its section of the document.
type Benchmark = fn(&pmesh::Binary) -> Result<String>;

const BENCHMARKS: &[(&str, Benchmark)] =
    &[("front", front::measure), ("repo", repo::measure), ("supervise", supervise::measure)];

/// Whether there is a benchmark of this name.
pub(crate) fn knows(name: &str) -> bool {
    BENCHMARKS.iter().any(|(known, _)| *known == name)
}

/// Runs the named benchmarks, or all, and writes each one's figures into docs/benchmarks.md as soon as it has them.
pub(crate) fn run(workspace: &Workspace, names: &[&str]) -> Result<()> {
    let server = build(workspace)?;
    for (name, measure) in BENCHMARKS.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        println!("==> {name}");
        let machine = document::Machine::now()?;
        let figures = measure(&server).with_context(|| format!("benchmark `{name}`"))?;
        let section = format!("{machine}\n\n{figures}");
        println!("{section}");
        document::write(workspace, name, &section)?;
    }
    Ok(())
}

fn build(workspace: &Workspace) -> Result<pmesh::Binary> {
    let build = ["build", "--release", "--locked", "--package", "pmesh-server"];
    if !workspace.cargo().args(build).status().context("cannot run cargo")?.success() {
        bail!("pmesh-server does not build");
    }
    pmesh::Binary::new(workspace.target()?.join("release/pmesh-server"))
}

/// Measures `front` of this build and of another one, whose program file is named, in one run, and prints the table.
pub(crate) fn compare_front(workspace: &Workspace, other: &str) -> Result<()> {
    let other = pmesh::Binary::new(other.into())?;
    println!("{}", front::compare(&build(workspace)?, &other)?);
    Ok(())
}

/// Answers every request with the same kilobyte until standard input ends.
pub(crate) fn serve_upstream() -> Result<()> {
    upstream::serve()
}

/// Ends what it is told of when standard input does.
pub(crate) fn guard() -> Result<()> {
    guard::serve(std::io::stdin().lock(), std::io::stdout().lock(), guard::GRACE)
}

/// Is the service of `supervise` with much output, until `pipe` ends.
pub(crate) fn write_output(pipe: &str) -> Result<()> {
    supervise::write_output(pipe)
}
