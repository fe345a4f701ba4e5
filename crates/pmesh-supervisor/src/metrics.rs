//! What instances use, read from `/proc` when somebody asks and at no other time.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use pmesh_threads::Threads;

use crate::{
    proc::{self, DiskBytes, Memory, Proc, Stat},
    work_threads::PROC_LIMIT,
};

/// A sample younger than this says too little about the use of the processor: the kernel counts in steps of
/// 10 ms.
const SHORTEST: Duration = Duration::from_millis(100);
/// A sample older than this says too little about the present.
const LONGEST: Duration = Duration::from_secs(30);

/// What one process, or a tree of them, uses. Sizes are in bytes; what the kernel does not tell is 0.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProcessFigures {
    /// The process id; of a tree, that of its first process.
    pub pid: u32,
    /// When it was started; the epoch if unknown.
    pub create_time: SystemTime,
    /// Its command line, at most 4 KiB.
    pub cmd: String,
    /// The share of one core since the last sample: 1.0 means one core fully used.
    pub cpu: f64,
    /// Resident memory (`VmRSS`).
    pub rss: u64,
    /// Virtual memory (`VmSize`).
    pub vms: u64,
    /// The peak of resident memory (`VmHWM`).
    pub hwm: u64,
    /// Memory for data (`VmData`).
    pub data: u64,
    /// Memory for the stack (`VmStk`).
    pub stack: u64,
    /// Memory that is locked in RAM (`VmLck`).
    pub locked: u64,
    /// Memory that was swapped out (`VmSwap`).
    pub swap: u64,
    /// What was read from disks.
    pub io_read: u64,
    /// What was written to disks.
    pub io_write: u64,
}

/// What an instance uses.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct InstanceFigures {
    /// The sums over its processes; pid, start and command line are those of the first one.
    pub figures: ProcessFigures,
    /// Its processes, by pid.
    pub tree: BTreeMap<u32, ProcessFigures>,
}

impl ProcessFigures {
    fn nothing(pid: u32) -> Self {
        Self {
            pid,
            create_time: SystemTime::UNIX_EPOCH,
            cmd: String::new(),
            cpu: 0.0,
            rss: 0,
            vms: 0,
            hwm: 0,
            data: 0,
            stack: 0,
            locked: 0,
            swap: 0,
            io_read: 0,
            io_write: 0,
        }
    }

    fn add(&mut self, other: &Self) {
        self.cpu += other.cpu;
        for (sum, value) in [
            (&mut self.rss, other.rss),
            (&mut self.vms, other.vms),
            (&mut self.hwm, other.hwm),
            (&mut self.data, other.data),
            (&mut self.stack, other.stack),
            (&mut self.locked, other.locked),
            (&mut self.swap, other.swap),
            (&mut self.io_read, other.io_read),
            (&mut self.io_write, other.io_write),
        ] {
            *sum = sum.saturating_add(value);
        }
    }
}

/// Measures instances. Clones share the samples: of each process the two latest moments, as long as it was
/// measured within the last 30 s.
#[derive(Clone, Debug)]
pub struct Sampler {
    samples: Arc<Mutex<Samples>>,
    boot: SystemTime,
    threads: Threads,
}

impl Sampler {
    /// A sampler that has seen nothing and reads `/proc` on these threads.
    pub fn new(proc: Threads) -> Self {
        Self { samples: Arc::default(), boot: proc::boot_time(), threads: proc }
    }

    /// What each tree uses, in the order given. A tree is given by its pids, the first process first;
    /// processes that are gone are left out, and a tree without any gives zeros.
    ///
    /// Answers at once if the first process of every tree was measured between 100 ms and 30 s ago; otherwise
    /// takes two samples 100 ms apart. Cancel-safe.
    pub async fn measure(&self, trees: Vec<Vec<u32>>) -> Vec<InstanceFigures> {
        let trees = Arc::new(trees);
        let mut readings = self.read(Arc::clone(&trees)).await;
        let known = {
            let mut samples = self.samples.lock();
            let known = trees.iter().all(|tree| {
                let first = tree.first().and_then(|pid| readings.processes.get(pid));
                first.is_none_or(|first| samples.reference(&first.stat, readings.at).is_some())
            });
            if !known {
                samples.record(&readings);
            }
            known
        };
        if !known {
            tokio::time::sleep(SHORTEST).await;
            readings = self.read(Arc::clone(&trees)).await;
        }
        let mut samples = self.samples.lock();
        let figures = trees.iter().map(|tree| self.instance(tree, &readings, &samples)).collect();
        samples.record(&readings);
        figures
    }

    /// Reads the processes; if `/proc` cannot be read, nothing is measured.
    async fn read(&self, trees: Arc<Vec<Vec<u32>>>) -> Readings {
        let reading = self.threads.run(PROC_LIMIT, move |_| {
            let at = Instant::now();
            let processes = read_processes(trees.iter().flatten().copied())?;
            Ok(Readings { at, processes })
        });
        reading.await.map_err(io::Error::from).flatten().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read /proc; nothing is measured");
            Readings { at: Instant::now(), processes: HashMap::new() }
        })
    }

    fn instance(&self, tree: &[u32], readings: &Readings, samples: &Samples) -> InstanceFigures {
        let first = tree.first().copied().unwrap_or(0);
        let mut sum = ProcessFigures::nothing(first);
        let mut processes = BTreeMap::new();
        let since =
            readings.processes.get(&first).and_then(|first| samples.reference(&first.stat, readings.at));
        for (pid, process) in tree.iter().filter_map(|pid| readings.processes.get_key_value(pid)) {
            // A process that did not exist at the time of the first one's sample had used nothing then.
            let before = samples.reference(&process.stat, readings.at);
            let before = before.or_else(|| since.map(|since| Point { ticks: 0, ..since }));
            let cpu = before.map_or(0.0, |before| before.share(process.stat.ticks, readings.at));
            let Memory { resident, virtual_size, resident_peak, data, stack, locked, swapped } =
                process.memory;
            let figures = ProcessFigures {
                pid: *pid,
                create_time: self.boot + ticks(process.stat.start),
                cmd: process.command_line.clone(),
                cpu,
                rss: resident,
                vms: virtual_size,
                hwm: resident_peak,
                data,
                stack,
                locked,
                swap: swapped,
                io_read: process.disk.read,
                io_write: process.disk.written,
            };
            if *pid == first {
                sum.create_time = figures.create_time;
                sum.cmd.clone_from(&figures.cmd);
            }
            sum.add(&figures);
            processes.insert(*pid, figures);
        }
        InstanceFigures { figures: sum, tree: processes }
    }
}

/// Clock ticks as a duration; one is 10 ms on every known Linux.
fn ticks(count: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second();
    Duration::from_millis(count.saturating_mul(1000) / per_second)
}

/// All that was read of some processes at one time.
#[derive(Debug)]
struct Readings {
    at: Instant,
    processes: HashMap<u32, Reading>,
}

#[derive(Debug)]
struct Reading {
    stat: Stat,
    memory: Memory,
    disk: DiskBytes,
    command_line: String,
}

fn read_processes(pids: impl Iterator<Item = u32>) -> io::Result<HashMap<u32, Reading>> {
    let mut proc = Proc::open()?;
    let mut processes = HashMap::new();
    for pid in pids {
        let Some(stat) = proc.stat(pid)?.filter(|stat| stat.alive) else { continue };
        let reading = Reading {
            stat,
            memory: proc.memory(pid)?.unwrap_or_default(),
            disk: proc.disk_bytes(pid)?.unwrap_or_default(),
            command_line: proc.command_line(pid)?.unwrap_or_default(),
        };
        processes.insert(pid, reading);
    }
    Ok(processes)
}

/// The processor time of a process at one moment.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: Instant,
    ticks: u64,
}

impl Point {
    /// The share of one core that was used from this moment to `now`.
    fn share(self, now_ticks: u64, now: Instant) -> f64 {
        let used = ticks(now_ticks.saturating_sub(self.ticks)).as_secs_f64();
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        if passed > 0.0 { used / passed } else { 0.0 }
    }
}

/// The last two samples of each process.
#[derive(Debug, Default)]
struct Samples(HashMap<u32, Sampled>);

#[derive(Debug)]
struct Sampled {
    start: u64,
    last: Point,
    before: Option<Point>,
}

impl Samples {
    /// The newest sample of a process that is old enough to compare `now` with, and not too old.
    fn reference(&self, process: &Stat, now: Instant) -> Option<Point> {
        let sampled = self.0.get(&process.pid).filter(|sampled| sampled.start == process.start)?;
        let age = |point: &Point| now.saturating_duration_since(point.at);
        let fits = |point: &Point| (SHORTEST..=LONGEST).contains(&age(point));
        Some(sampled.last).filter(fits).or_else(|| sampled.before.filter(fits))
    }

    fn record(&mut self, readings: &Readings) {
        let now = readings.at;
        self.0.retain(|_, sampled| now.saturating_duration_since(sampled.last.at) <= LONGEST);
        for (&pid, Reading { stat, .. }) in &readings.processes {
            let point = Point { at: now, ticks: stat.ticks };
            let new = Sampled { start: stat.start, last: point, before: None };
            match self.0.get_mut(&pid) {
                Some(sampled) if sampled.start == stat.start => {
                    // A caller that comes more often must not replace the only sample that is old enough.
                    if now.saturating_duration_since(sampled.last.at) >= SHORTEST {
                        sampled.before = Some(sampled.last);
                        sampled.last = point;
                    }
                }
                _ => drop(self.0.insert(pid, new)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn stat(start: u64, ticks: u64) -> Stat {
        Stat { pid: 7, parent: 1, group: 7, session: 7, alive: true, start, ticks }
    }

    fn record(samples: &mut Samples, at: Instant, stat: Stat) {
        let reading = Reading {
            stat,
            memory: Memory::default(),
            disk: DiskBytes::default(),
            command_line: String::new(),
        };
        samples.record(&Readings { at, processes: HashMap::from([(stat.pid, reading)]) });
    }

    #[test]
    fn a_share_is_processor_time_over_time() {
        let (mut samples, begin) = (Samples::default(), Instant::now());
        record(&mut samples, begin, stat(1, 100));
        let now = begin + 200 * MS;
        let reference = samples.reference(&stat(1, 110), now).unwrap();
        let share = reference.share(100 + rustix::param::clock_ticks_per_second() / 10, now);
        assert!((share - 0.5).abs() < 0.001, "{share}");
    }

    #[test]
    fn a_sample_is_compared_with_one_between_100_ms_and_30_s_ago() {
        let (mut samples, begin) = (Samples::default(), Instant::now());
        record(&mut samples, begin, stat(1, 0));
        let age = |samples: &Samples, now| samples.reference(&stat(1, 0), now).map(|point| now - point.at);
        assert_eq!(age(&samples, begin + 99 * MS), None);
        assert_eq!(age(&samples, begin + 100 * MS), Some(100 * MS));
        assert_eq!(age(&samples, begin + 30_000 * MS), Some(30_000 * MS));
        assert_eq!(age(&samples, begin + 30_001 * MS), None);
    }

    #[test]
    fn a_caller_that_asks_all_the_time_is_compared_with_100_ms_ago_and_more() {
        let (mut samples, begin) = (Samples::default(), Instant::now());
        record(&mut samples, begin, stat(1, 0));
        for step in 11..100 {
            let now = begin + step * 10 * MS;
            let point = samples.reference(&stat(1, 0), now).unwrap();
            assert!(now - point.at >= 100 * MS && now - point.at <= 210 * MS, "{:?}", now - point.at);
            record(&mut samples, now, stat(1, 0));
        }
    }

    #[test]
    fn a_pid_that_was_given_again_is_another_process() {
        let (mut samples, begin) = (Samples::default(), Instant::now());
        record(&mut samples, begin, stat(1, 1000));
        assert!(samples.reference(&stat(2, 0), begin + 200 * MS).is_none());
        record(&mut samples, begin + 200 * MS, stat(2, 0));
        assert!(samples.reference(&stat(2, 0), begin + 400 * MS).is_some());
    }

    #[test]
    fn what_nobody_asked_for_in_30_s_is_forgotten() {
        let (mut samples, begin) = (Samples::default(), Instant::now());
        record(&mut samples, begin, stat(1, 0));
        let other = Stat { pid: 8, ..stat(1, 0) };
        record(&mut samples, begin + 40_000 * MS, other);
        assert_eq!(samples.0.len(), 1);
    }

    #[tokio::test]
    async fn the_figures_of_a_tree_are_sums_and_what_is_gone_is_zero() {
        let own = std::process::id();
        let sampler = Sampler::new(pmesh_threads::testing::threads("proc"));
        let begin = Instant::now();
        let trees = vec![vec![own, u32::MAX], vec![u32::MAX - 1], vec![]];
        let figures = sampler.measure(trees.clone()).await;
        assert!(begin.elapsed() >= SHORTEST, "the first answer takes two samples");
        let one = &figures[0];
        assert_eq!(one.tree.keys().copied().collect::<Vec<_>>(), [own]);
        let single = &one.tree[&own];
        assert_eq!((&one.figures, one.figures.pid), (single, own));
        assert!(single.rss > 100_000 && single.vms >= single.rss && single.cmd.contains("pmesh_supervisor"));
        let age = SystemTime::now().duration_since(single.create_time).unwrap();
        assert!(age < Duration::from_hours(1), "{age:?}");
        for gone in &figures[1..] {
            assert_eq!(gone.figures, ProcessFigures::nothing(gone.figures.pid));
            assert_eq!(gone.tree.len(), 0);
        }
        let begin = Instant::now();
        sampler.measure(trees).await;
        assert!(begin.elapsed() < SHORTEST, "the next one does not");
    }
}
