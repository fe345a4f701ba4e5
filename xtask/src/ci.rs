//! `cargo xtask ci`: everything that has to hold before a change is taken. `.ci/run` installs what the
//! tests need and runs this.
//!
//! The stages share one target folder and one profile. They stop at the first one that fails, because each is
//! a condition of the next; the times stand at the end either way.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::check;
use crate::workspace::Workspace;

type Stage = (&'static str, fn(&Workspace) -> Result<()>);

/// In this order: what fails fastest comes first.
const STAGES: &[Stage] =
    &[("format", format), ("clippy", clippy), ("docs", docs), ("xtask check", check::run), ("tests", tests)];

/// Runs every stage, with its output as it comes, and prints what each one took.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut outcome = Ok(());
    for (name, stage) in STAGES {
        println!("==> {name}");
        let start = Instant::now();
        outcome = stage(workspace).with_context(|| format!("stage `{name}`"));
        times.push((name, start.elapsed()));
        if outcome.is_err() {
            break;
        }
    }
    let total: Duration = times.iter().map(|(_, time)| *time).sum();
    println!("==> times");
    for (name, time) in times.into_iter().chain([("total", total)]) {
        println!("{name:<12} {:>6.1} s", time.as_secs_f64());
    }
    outcome
}

fn format(workspace: &Workspace) -> Result<()> {
    succeed(workspace.cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let what =
        ["clippy", "--locked", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    succeed(workspace.cargo().args(what))
}

fn docs(workspace: &Workspace) -> Result<()> {
    let what = ["doc", "--locked", "--workspace", "--no-deps", "--all-features"];
    succeed(workspace.cargo().args(what).env("RUSTDOCFLAGS", "-D warnings"))
}

fn tests(workspace: &Workspace) -> Result<()> {
    let readme = workspace.read("README.md")?;
    let command = test_command(&readme).context("README.md has no line that starts with `cargo test`")?;
    println!("{command}");
    let mut words = command.split_whitespace();
    words.next().expect("the command starts with `cargo`");
    succeed(workspace.cargo().args(words))
}

/// The command by which the README has its reader run the tests, without a comment behind it.
fn test_command(readme: &str) -> Option<&str> {
    let line = readme.lines().map(str::trim).find(|line| line.starts_with("cargo test"))?;
    Some(line.split_once('#').map_or(line, |(command, _)| command.trim_end()))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status =
        command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} {}: {status}", command.get_program().display(), arguments(command));
    }
    Ok(())
}

fn arguments(command: &Command) -> String {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::test_command;

    #[test]
    fn the_tests_are_run_as_the_readme_says() {
        let readme = "# pmesh\n\n    cargo run -p pmesh-server\n    cargo test --workspace   # its second\n";
        assert_eq!(test_command(readme), Some("cargo test --workspace"));
        assert_eq!(test_command("no command"), None);
    }
}
