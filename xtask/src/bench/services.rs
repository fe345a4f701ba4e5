//! `services`: 200 background services up, idle and down, against supervisord with the same 200.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::api_client::Connection;
use super::figures::{PAIRS, Row, table};
use super::peers::{SUPERVISORD, first_line, install};
use super::pmesh::Binary;
use super::processes::{Running, count, own_ticks, resident_kib, until};

const SERVICES: usize = 200;
const UP: Duration = Duration::from_mins(2);
/// Between "all are up" and the idle measurement, so that the start's last work is not counted as idleness.
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(10);

/// What one run of a supervisor gave.
struct Outcome {
    up: Duration,
    down: Duration,
    resident_kib: u64,
    idle_ticks: u64,
}

/// Measures both and answers with the table.
pub(super) fn measure(server: &Binary) -> Result<String> {
    install(&[SUPERVISORD])?;
    let mut outcomes = Vec::new();
    for _ in 0..PAIRS {
        let ours = by_pmesh(server).context("pmesh-server")?;
        outcomes.push((ours, by_supervisord().context("supervisord")?));
    }
    let row = |what, unit, of: fn(&Outcome) -> f64| Row {
        what,
        unit,
        pairs: outcomes.iter().map(|(ours, theirs)| (of(ours), of(theirs))).collect(),
    };
    let rows = [
        row("until all are up", "s", |outcome| outcome.up.as_secs_f64()),
        row("until all are down", "s", |outcome| outcome.down.as_secs_f64()),
        row("resident memory", "MiB", |outcome| outcome.resident_kib as f64 / 1024.0),
        row("CPU in 10 s idle", "ticks of 10 ms", |outcome| outcome.idle_ticks as f64),
    ];
    let versions = [
        server.version.clone(),
        format!("supervisord {}", first_line(Command::new("supervisord").arg("--version"))?),
    ];
    Ok(format!("{}.\n\n{}", versions.join("; "), table("supervisord", &rows)))
}

fn by_pmesh(server: &Binary) -> Result<Outcome> {
    let scratch = tempfile::tempdir()?;
    let nap = nap();
    let mut manifest = String::from("services:\n");
    for number in 0..SERVICES {
        writeln!(manifest, "  s{number:03}: !App {{ root: ., run: sleep {nap}, background: true }}")?;
    }
    let folder = scratch.path().join("project");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("pm3.yml"), manifest)?;

    let start = Instant::now();
    let pmesh = server.serve(&folder, scratch.path())?;
    let mut api = Connection::open(pmesh.api)?;
    let mut last = Value::Null;
    let up = until(UP, || {
        last = api.json("/service/health")?;
        let healths = last.as_object().context("/service/health is no object")?;
        Ok(healths.len() == SERVICES && healths.values().all(|health| health["status"] == "OK"))
    })?;
    ensure!(up, "not all services are up after {} s: {last}", UP.as_secs());
    outcome(pmesh.process, start.elapsed(), &nap)
}

fn by_supervisord() -> Result<Outcome> {
    let scratch = tempfile::tempdir()?;
    let nap = nap();
    let log = scratch.path().join("supervisord.log");
    let config = scratch.path().join("supervisord.conf");
    std::fs::write(&config, supervisord_config(scratch.path(), &log, &nap)?)?;

    let start = Instant::now();
    let mut command = Command::new("supervisord");
    command.arg("--nodaemon").arg("--configuration").arg(&config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Running::start(&mut command)?;
    // Its log tells when a program is up, so that nobody has to ask it meanwhile, which costs it more than it costs us.
    let up = until(UP, || {
        let told = std::fs::read_to_string(&log).unwrap_or_default();
        Ok(told.matches("entered RUNNING state").count() == SERVICES)
    })?;
    ensure!(up, "not all programs are up after {} s", UP.as_secs());
    outcome(process, start.elapsed(), &nap)
}

/// Its defaults, but for the places of its files.
fn supervisord_config(scratch: &Path, log: &Path, nap: &str) -> Result<String> {
    let folder = scratch.display();
    let mut config = format!(
        "[supervisord]\nlogfile={}\npidfile={folder}/supervisord.pid\nchildlogdir={folder}\n",
        log.display()
    );
    for number in 0..SERVICES {
        write!(config, "[program:s{number:03}]\ncommand=sleep {nap}\n")?;
    }
    Ok(config)
}

/// Measures a supervisor with all its services up, then ends it.
fn outcome(process: Running, up: Duration, nap: &str) -> Result<Outcome> {
    let running = count(&["sleep", nap])?;
    ensure!(running == SERVICES, "{running} of {SERVICES} services run");
    std::thread::sleep(SETTLE);
    let before = own_ticks(process.id())?;
    std::thread::sleep(IDLE);
    let idle_ticks = own_ticks(process.id())? - before;
    let resident_kib = resident_kib(process.id())?;
    let down = process.end()?;
    let left = count(&["sleep", nap])?;
    ensure!(left == 0, "{left} services are still there after the end");
    Ok(Outcome { up, down, resident_kib, idle_ticks })
}

/// The argument of `sleep`: more than a day, and of this program alone, so that its processes can be told from others.
fn nap() -> String {
    (1_000_000 + u64::from(std::process::id())).to_string()
}
