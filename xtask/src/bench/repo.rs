//! `repo`: the API's answer about the repository, against the three git commands that tell the same.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::api_client::Connection;
use super::figures::{PAIRS, Row, table};
use super::guard::scratch;
use super::peers::first_line;
use super::pmesh::Binary;
use super::processes::{cpu_of_ended_children, cpu_of_tree};

const REQUESTS: u32 = 2000;
const GIT_ROUNDS: u32 = 50;
const COMMITS: usize = 100;
const FILES: usize = 200;

/// Time for one answer.
struct Cost {
    wall: Duration,
    cpu: Duration,
}

/// Measures both and answers with the table.
pub(super) fn measure(server: &Binary) -> Result<String> {
    let scratch = scratch()?;
    let clone = repository(scratch.path())?;
    let pmesh = server.serve(&clone, scratch.path())?;
    let mut api = Connection::open(pmesh.api)?;

    // The figures are about the same answer, so it has to be the same.
    let told = api.json("/repo")?;
    let head = git(&clone, &["rev-parse", "HEAD"])?;
    ensure!(told["ref"]["hash"] == head.trim(), "/repo names {}, git names {head}", told["ref"]["hash"]);

    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let ours = by_api(&mut api, pmesh.process.id())?;
        pairs.push((ours, by_git(&clone)?));
    }
    let row = |what, of: fn(&Cost) -> Duration| Row {
        what,
        unit: "µs",
        pairs: pairs
            .iter()
            .map(|(ours, git)| (of(ours).as_secs_f64() * 1e6, of(git).as_secs_f64() * 1e6))
            .collect(),
    };
    let rows = [row("CPU per answer", |cost| cost.cpu), row("time per answer", |cost| cost.wall)];
    let git = first_line(Command::new("git").arg("--version"))?;
    Ok(format!("{}; {git}.\n\n{}", server.version, table("git", &rows)))
}

fn by_api(api: &mut Connection, server: u32) -> Result<Cost> {
    let cpu = cpu_of_tree(server)?;
    let start = Instant::now();
    for _ in 0..REQUESTS {
        let (status, _) = api.get("/repo")?;
        ensure!(status == 200, "/repo is answered by {status}");
    }
    Ok(Cost { wall: start.elapsed() / REQUESTS, cpu: cpu_of_tree(server)?.saturating_sub(cpu) / REQUESTS })
}

fn by_git(clone: &Path) -> Result<Cost> {
    let cpu = cpu_of_ended_children()?;
    let start = Instant::now();
    for _ in 0..GIT_ROUNDS {
        git(clone, &["rev-parse", "HEAD"])?;
        git(clone, &["log", "-1"])?;
        git(clone, &["remote", "get-url", "origin"])?;
    }
    let wall = start.elapsed() / GIT_ROUNDS;
    Ok(Cost { wall, cpu: cpu_of_ended_children()?.saturating_sub(cpu) / GIT_ROUNDS })
}

/// A clone with some history of a bare remote beside it; its manifest serves one folder.
fn repository(scratch: &Path) -> Result<std::path::PathBuf> {
    let (remote, clone) = (scratch.join("remote.git"), scratch.join("clone"));
    std::fs::create_dir_all(clone.join("files"))?;
    git(scratch, &["init", "--quiet", "--bare", "--initial-branch=main", "remote.git"])?;
    git(&clone, &["init", "--quiet", "--initial-branch=main"])?;
    let url = remote.to_str().context("the folder for temporary files has a strange name")?;
    git(&clone, &["remote", "add", "origin", url])?;
    std::fs::write(clone.join("pm3.yml"), "services:\n  files: !FS\n    path: files\n")?;
    for commit in 0..COMMITS {
        for file in (commit..FILES).step_by(COMMITS) {
            std::fs::write(clone.join(format!("files/{file}.txt")), format!("{file}\n"))?;
        }
        git(&clone, &["add", "--all"])?;
        git(&clone, &["commit", "--quiet", "--message", &format!("Add files, step {commit}")])?;
    }
    git(&clone, &["push", "--quiet", "--set-upstream", "origin", "main"])?;
    Ok(clone)
}

/// Runs git with no configuration but this and the repository's own.
fn git(folder: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "gc.auto=0"])
        .args(words)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .context("cannot run git")?;
    if !output.status.success() {
        bail!("git {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
