//! Processes that a benchmark starts: what they cost, by /proc, and their certain end.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::guard::{self, has_ended};

/// How long a program may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(30);

/// How often a program that is to end or to become ready is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// A program that ends when this is dropped: by SIGTERM, so that it can end its own children, then by SIGKILL. It is in
/// a group of its own, and ends with this program, too.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let child = command.process_group(0).spawn();
        let child = Self(child.with_context(|| format!("cannot start {}", command.get_program().display()))?);
        guard::process(&child)?;
        Ok(child)
    }

    /// Sends SIGTERM and answers with the moment of that.
    pub(super) fn begin_end(&self) -> Result<Instant> {
        let now = Instant::now();
        // It has not been waited for, so its pid cannot belong to anybody else.
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        Ok(now)
    }

    /// Waits for its end, which has been begun, and answers with the moment of it.
    pub(super) fn end(mut self) -> Result<Instant> {
        self.wait_or_kill()?;
        Ok(Instant::now())
    }

    fn wait_or_kill(&mut self) -> Result<()> {
        let process = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty())?;
        let ended = has_ended(&process, GRACE);
        if !ended {
            self.0.kill()?;
        }
        self.0.wait()?;
        ensure!(ended, "process {} did not end within {} s of SIGTERM", self.0.id(), GRACE.as_secs());
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None))
            && let Err(error) = self.begin_end().and_then(|_| self.wait_or_kill())
        {
            eprintln!("xtask: {error:#}");
        }
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// Looks until `holds` does; `false` if it does not within `limit`.
pub(super) fn until(limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<bool> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if holds()? {
            return Ok(true);
        }
        std::thread::sleep(GLANCE);
    }
    Ok(false)
}

/// CPU time of a process and of its living descendants, user and system (proc(5): utime, stime).
pub(super) fn cpu_of_tree(root: u32) -> Result<Duration> {
    let processes = Processes::now()?;
    Ok(duration(processes.tree(root).filter_map(|pid| Some(processes.0.get(&pid)?.own)).sum()))
}

/// All processes, as they were at one moment.
pub(super) struct Processes(BTreeMap<u32, Stat>);

impl Processes {
    pub(super) fn now() -> Result<Self> {
        let mut processes = BTreeMap::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process may end between the listing and this.
            if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
                processes.insert(pid, Stat::parse(&stat)?);
            }
        }
        Ok(Self(processes))
    }

    fn tree(&self, root: u32) -> impl Iterator<Item = u32> {
        let belongs = move |mut pid: u32| loop {
            if pid == root {
                return true;
            }
            match self.0.get(&pid) {
                Some(stat) => pid = stat.parent,
                None => return false,
            }
        };
        self.0.keys().copied().filter(move |pid| belongs(*pid))
    }

    /// A process and its descendants, but for those with these command lines.
    pub(super) fn tree_without(&self, root: u32, command_lines: &[Vec<u8>]) -> Vec<u32> {
        self.tree(root).filter(|pid| !command_lines.contains(&command_line(*pid))).collect()
    }
}

/// Empty where the process has ended.
fn command_line(pid: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// Kills the one of these processes that runs with this command line, and answers with the moment of that.
pub(super) fn kill_one(processes: &Processes, words: &[u8]) -> Result<Instant> {
    let pid = processes.0.keys().copied().find(|pid| command_line(*pid) == words);
    let pid = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())).context("the process is not there")?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    // Looked at again: whom the descriptor holds is the one that is meant.
    ensure!(command_line(pid.as_raw_pid().cast_unsigned()) == words, "the process has ended");
    let now = Instant::now();
    pidfd_send_signal(&process, Signal::KILL)?;
    Ok(now)
}

/// CPU time of one process alone, in clock ticks (mostly 10 ms each).
pub(super) fn own_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    Ok(Stat::parse(&stat)?.own)
}

/// CPU time of all ended children of this program (proc(5): cutime, cstime).
pub(super) fn cpu_of_ended_children() -> Result<Duration> {
    Ok(duration(Stat::parse(&std::fs::read_to_string("/proc/self/stat")?)?.ended_children))
}

/// CPU time of all living threads of a process, as the scheduler counts it; `None` where it does not.
pub(super) fn run_time(pid: u32) -> Result<Option<Duration>> {
    let mut total = Duration::ZERO;
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).context("the process has ended")? {
        let Ok(text) = std::fs::read_to_string(entry?.path().join("schedstat")) else { return Ok(None) };
        let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
        total += Duration::from_nanos(nanos.context("a schedstat without a number")?);
    }
    Ok(Some(total))
}

/// Resident memory of one process alone, in KiB (proc(5): `VmRSS`).
pub(super) fn resident_kib(pid: u32) -> Result<u64> {
    kib(pid, "status", "VmRSS:")
}

/// The same, pages that several processes have counted in parts (proc(5): `Pss`).
pub(super) fn proportional_kib(pid: u32) -> Result<u64> {
    kib(pid, "smaps_rollup", "Pss:")
}

fn kib(pid: u32, file: &str, field: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).context("the process has ended")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let line = line.with_context(|| format!("no {field}"))?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{field} is no number"))
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

/// What is needed of `/proc/<pid>/stat`; times in clock ticks.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own: u64,
    ended_children: u64,
}

impl Stat {
    fn parse(line: &str) -> Result<Self> {
        // The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
        let (_, fields) = line.rsplit_once(')').context("no name in /proc/<pid>/stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // Numbered as in proc(5), where the state, the first one here, is field 3.
        let field = |number: usize| -> Result<u64> {
            let text = fields.get(number - 3).context("too few fields in /proc/<pid>/stat")?;
            text.parse().context("a field of /proc/<pid>/stat is no number")
        };
        Ok(Self {
            parent: u32::try_from(field(4)?)?,
            own: field(14)? + field(15)?,
            ended_children: field(16)? + field(17)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Stat;

    #[test]
    fn the_fields_are_counted_behind_a_name_that_looks_like_fields() {
        let line = "7 (a) S 1 (b)) S 3 7 7 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 1 0 99";
        assert_eq!(Stat::parse(line).unwrap(), Stat { parent: 3, own: 110, ended_children: 15 });
    }
}
