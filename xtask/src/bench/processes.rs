//! Processes that a benchmark starts: what they cost, by /proc, and their certain end.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a program may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(30);

/// How often a program that is to end or to become ready is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// A program that ends when this is dropped: by SIGTERM, so that it can end its own children, then by SIGKILL.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn();
        child.map(Self).with_context(|| format!("cannot start {}", command.get_program().display()))
    }

    /// Ends it and answers with the time from SIGTERM to its exit.
    pub(super) fn end(mut self) -> Result<Duration> {
        let start = Instant::now();
        self.terminate()?;
        Ok(start.elapsed())
    }

    fn terminate(&mut self) -> Result<()> {
        if self.0.try_wait()?.is_some() {
            bail!("process {} had ended already", self.0.id());
        }
        // It has not been waited for, so its pid cannot belong to anybody else.
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::TERM)?;
        if until(GRACE, || Ok(self.0.try_wait()?.is_some()))? {
            return Ok(());
        }
        self.0.kill()?;
        self.0.wait()?;
        bail!("process {} did not end within {} s of SIGTERM", self.0.id(), GRACE.as_secs());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None))
            && let Err(error) = self.terminate()
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
    let mut ticks_and_parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end between the listing and this.
        if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            let stat = Stat::parse(&stat)?;
            ticks_and_parents.insert(pid, (stat.own, stat.parent));
        }
    }
    let belongs = |mut pid: u32| loop {
        if pid == root {
            return true;
        }
        match ticks_and_parents.get(&pid) {
            Some((_, parent)) => pid = *parent,
            None => return false,
        }
    };
    let total = ticks_and_parents.iter().filter(|(pid, _)| belongs(**pid)).map(|(_, (ticks, _))| ticks).sum();
    Ok(duration(total))
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

/// Resident memory of one process alone, in KiB (proc(5): `VmRSS`).
pub(super) fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")
}

/// How many processes run with exactly these words.
pub(super) fn count(words: &[&str]) -> Result<usize> {
    let command_line: String = words.iter().flat_map(|word| [*word, "\0"]).collect();
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")? {
        // Not every entry is a process, and a process may end meanwhile.
        let found = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        count += usize::from(found == command_line.as_bytes());
    }
    Ok(count)
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
