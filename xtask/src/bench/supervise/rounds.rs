//! One round of one supervisor: many services, fewer that rest, and one that writes much.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::output::{BURST, WRITER, difference, end_of, last_block};
use super::roll_call::{RollCall, command_line, name};
use super::supervisor::{Run, Service, Supervisor};
use crate::bench::api_client::Connection;
use crate::bench::figures::median;
use crate::bench::guard::scratch;
use crate::bench::processes::{
    Processes, kill_one, own_ticks, proportional_kib, resident_kib, run_time, until,
};
use crate::bench::side_by_side::{Measured, Quantity, percentile};

const MANY: usize = 200;
const RESTING: usize = 100;
const LIMIT: Duration = Duration::from_mins(2);
/// Between "all are up" and what is measured then, so that the start's last work is not counted, and no supervisor takes
/// what crashes for a service that never came up.
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(10);
/// No further crash after this, so that a supervisor that takes a second for each does not take minutes.
const CRASHES: Duration = Duration::from_secs(8);
const SAMPLES: u32 = 20;
/// More than what pmesh needs between two samples to tell the use of the processor.
const BETWEEN_SAMPLES: Duration = Duration::from_millis(150);
const BURSTS: usize = 8;

const EXIST: &str = "start of 200, until all processes run";
const READY: &str = "start of 200, until it says that all are up";
const CRASH: &str = "crash to new process, median";
const CRASH_99: &str = "crash to new process, p99";
const SAMPLE: &str = "one sample of 200 services, CPU";
const GONE: &str = "end with 200, until all processes are gone";
const ENDED: &str = "end with 200, until the supervisor has ended";
const RESIDENT: &str = "resident memory with 100";
const PROPORTIONAL: &str = "proportional memory (PSS) with 100";
const TICKS: &str = "CPU in 10 s idle with 100";
const OUTPUT: &str = "output of one writer";

pub(super) const QUANTITIES: &[Quantity] = &[
    Quantity { what: EXIST, unit: "s", aim: "0.3" },
    Quantity { what: READY, unit: "s", aim: "" },
    Quantity { what: CRASH, unit: "ms", aim: "5" },
    Quantity { what: CRASH_99, unit: "ms", aim: "20" },
    Quantity { what: SAMPLE, unit: "ms", aim: "8" },
    Quantity { what: GONE, unit: "s", aim: "0.1" },
    Quantity { what: ENDED, unit: "s", aim: "" },
    Quantity { what: RESIDENT, unit: "MB", aim: "10" },
    Quantity { what: PROPORTIONAL, unit: "MB", aim: "" },
    Quantity { what: TICKS, unit: "ticks of 10 ms", aim: "0" },
    Quantity { what: OUTPUT, unit: "MB/s", aim: "500" },
];

/// What was measured, and by what pmesh holds its services.
pub(super) fn measure(supervisor: &dyn Supervisor) -> Result<(Measured, Option<String>)> {
    let mut measured = Measured::new();
    let containment = many(supervisor, &mut measured).context("200 services")?;
    resting(supervisor, &mut measured).context("100 services")?;
    measured.insert(OUTPUT, output(supervisor).context("output")?);
    Ok((measured, containment))
}

/// Starts services that are `cat`, and waits until each of them runs. The moment of that comes with them.
fn start(supervisor: &dyn Supervisor, scratch: &Path, count: usize) -> Result<(Run, RollCall, Instant)> {
    let mut roll = RollCall::new(scratch.join("pipes"), count)?;
    let words = |number| vec!["cat".to_owned(), roll.pipe(number).display().to_string()];
    let services: Vec<_> =
        (0..count).map(|number| Service { name: name(number), words: words(number) }).collect();
    let folder = scratch.join("supervisor");
    std::fs::create_dir(&folder)?;
    let run = supervisor.start(&folder, &services)?;
    let all = roll.wait(LIMIT, "all services run", |runs| runs.iter().all(|runs| runs.begun > 0))?;
    Ok((run, roll, all))
}

fn many(supervisor: &dyn Supervisor, measured: &mut Measured) -> Result<Option<String>> {
    let scratch = scratch()?;
    let (mut run, mut roll, all) = start(supervisor, scratch.path(), MANY)?;
    measured.insert(EXIST, (all - run.since).as_secs_f64());
    if let Some(is_ready) = &mut run.is_ready {
        ensure!(until(LIMIT, is_ready)?, "not all are up after {} s", LIMIT.as_secs());
        measured.insert(READY, run.since.elapsed().as_secs_f64());
    }
    std::thread::sleep(SETTLE);

    let mut containment = None;
    if let Some(api) = run.metrics {
        let mut api = Connection::open(api)?;
        let metrics = api.json("/service/metrics")?;
        containment = metrics[name(0)]["containment"].as_str().map(str::to_owned);
        if let Some(cpu) = sample(&mut api, run.process.id())? {
            measured.insert(SAMPLE, cpu.as_secs_f64() * 1e3);
        }
    }

    let crashes = crashes(&mut roll)?;
    measured.insert(CRASH, median(crashes.iter().copied()));
    measured.insert(CRASH_99, percentile(crashes, 0.99));

    std::thread::sleep(SETTLE);
    let signalled = run.process.begin_end()?;
    let gone =
        roll.wait(LIMIT, "all services are gone", |runs| runs.iter().all(|runs| runs.begun == runs.ended))?;
    measured.insert(GONE, (gone - signalled).as_secs_f64());
    measured.insert(ENDED, run.process.end()?.saturating_duration_since(signalled).as_secs_f64());
    Ok(containment)
}

/// Kills one service after the other and answers with the times, in ms, until its program has been started again.
fn crashes(roll: &mut RollCall) -> Result<Vec<f64>> {
    let processes = Processes::now()?;
    let start = Instant::now();
    let mut times = Vec::new();
    for number in 0..MANY {
        if start.elapsed() > CRASHES {
            break;
        }
        let command_line = command_line(&roll.pipe(number));
        let before = roll.runs[number].begun;
        let crash = kill_one(&processes, &command_line)?;
        let again = roll.wait(LIMIT, "started again", |runs| runs[number].begun > before)?;
        times.push((again - crash).as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// The mean CPU time of the server for a sample that somebody asks for, with the answer; `None` where the kernel does
/// not count that closely.
fn sample(api: &mut Connection, server: u32) -> Result<Option<Duration>> {
    let mut total = Duration::ZERO;
    for _ in 0..SAMPLES {
        std::thread::sleep(BETWEEN_SAMPLES);
        let Some(before) = run_time(server)? else { return Ok(None) };
        api.json("/service/metrics")?;
        total += run_time(server)?.context("it was there just now")?.saturating_sub(before);
    }
    Ok(Some(total / SAMPLES))
}

fn resting(supervisor: &dyn Supervisor, measured: &mut Measured) -> Result<()> {
    let scratch = scratch()?;
    let (mut run, roll, _) = start(supervisor, scratch.path(), RESTING)?;
    if let Some(is_ready) = &mut run.is_ready {
        ensure!(until(LIMIT, is_ready)?, "not all are up after {} s", LIMIT.as_secs());
    }
    std::thread::sleep(SETTLE);
    let services: Vec<_> = (0..RESTING).map(|number| command_line(&roll.pipe(number))).collect();
    let supervising = Processes::now()?.tree_without(run.process.id(), &services);
    let sum = |of: fn(u32) -> Result<u64>| -> Result<u64> { supervising.iter().map(|&pid| of(pid)).sum() };
    let before = sum(own_ticks)?;
    std::thread::sleep(IDLE);
    measured.insert(TICKS, (sum(own_ticks)? - before) as f64);
    measured.insert(RESIDENT, sum(resident_kib)? as f64 * 1024.0 / 1e6);
    measured.insert(PROPORTIONAL, sum(proportional_kib)? as f64 * 1024.0 / 1e6);
    run.process.begin_end()?;
    run.process.end()?;
    Ok(())
}

/// Fails where the files do not have the burst, byte for byte.
fn compare(run: &Run, burst: usize) -> Result<()> {
    let mut place = None;
    // Files that change their names while they are read are read once more.
    let is_whole = until(SETTLE, || {
        place = difference(&end_of(&(run.logs)(&name(0)), BURST), burst);
        Ok(place.is_none())
    })?;
    ensure!(is_whole, "burst {burst} is another in the files from byte {place:?} on");
    Ok(())
}

/// MB/s of a service that writes as fast as its output is taken, from the byte that has it begin to the last one in the
/// files. Then all bytes are compared.
fn output(supervisor: &dyn Supervisor) -> Result<f64> {
    let scratch = scratch()?;
    let mut roll = RollCall::new(scratch.path().join("pipes"), 1)?;
    let program = std::env::current_exe()?.display().to_string();
    let words = vec![program, "bench".to_owned(), WRITER.to_owned(), roll.pipe(0).display().to_string()];
    let folder = scratch.path().join("supervisor");
    std::fs::create_dir(&folder)?;
    let run = supervisor.start(&folder, &[Service { name: name(0), words }])?;
    roll.wait(LIMIT, "the writer runs", |runs| runs[0].begun > 0)?;
    std::thread::sleep(SETTLE);

    let mut took = Duration::ZERO;
    for burst in 0..BURSTS {
        let last = last_block(burst);
        let start = Instant::now();
        roll.writer(0).write_all(b"x")?;
        while end_of(&(run.logs)(&name(0)), last.len()) != last {
            if start.elapsed() > LIMIT {
                bail!("burst {burst} is not in the files after {} s", LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        took += start.elapsed();
        compare(&run, burst)?;
    }
    run.process.begin_end()?;
    run.process.end()?;
    Ok((BURSTS * BURST) as f64 / 1e6 / took.as_secs_f64())
}
