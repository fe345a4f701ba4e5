//! Knows to the moment when a service's process runs and when it is gone, without asking anybody.
//!
//! Each service is `cat PIPE`, with a named pipe of its own into which nobody writes. The kernel tells (inotify(7)) when the
//! program opens it, which is the first thing that it does, and when it is closed, which is when the process ends. As
//! only the benchmark holds the other ends, all of them end with it, whatever becomes of their supervisor.

use std::fs::{File, OpenOptions};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// The pipes of some services, and what has become of them.
pub(super) struct RollCall {
    folder: PathBuf,
    pipes: Vec<File>,
    events: OwnedFd,
    pub(super) runs: Vec<Runs>,
}

/// How often a service's process has begun and ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) begun: usize,
    pub(super) ended: usize,
}

impl RollCall {
    /// Makes the pipes, in a folder of their own.
    pub(super) fn new(folder: PathBuf, services: usize) -> Result<Self> {
        std::fs::create_dir(&folder)?;
        let mut pipes = Vec::new();
        for number in 0..services {
            let path = folder.join(name(number));
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            // For reading too: that does not wait for a reader.
            pipes.push(OpenOptions::new().read(true).write(true).open(path)?);
        }
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&events, &folder, WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE)?;
        Ok(Self { folder, pipes, events, runs: vec![Runs::default(); services] })
    }

    pub(super) fn pipe(&self, number: usize) -> PathBuf {
        self.folder.join(name(number))
    }

    /// The end by which a service is written to.
    pub(super) fn writer(&self, number: usize) -> &File {
        &self.pipes[number]
    }

    /// The moment from which on `holds`.
    pub(super) fn wait(
        &mut self,
        limit: Duration,
        what: &str,
        holds: impl Fn(&[Runs]) -> bool,
    ) -> Result<Instant> {
        let start = Instant::now();
        loop {
            self.read()?;
            let now = Instant::now();
            if holds(&self.runs) {
                return Ok(now);
            }
            let Some(left) = limit.checked_sub(now - start).filter(|left| !left.is_zero()) else {
                bail!("after {} s not: {what}", limit.as_secs());
            };
            let left = Timespec::try_from(left).context("a limit without end")?;
            match poll(&mut [PollFd::new(&self.events, PollFlags::IN)], Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = Reader::new(&self.events, &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                bail!("the kernel has dropped events");
            }
            let number = event.file_name().and_then(|name| name.to_str().ok()).and_then(number);
            let Some(runs) = number.and_then(|number| self.runs.get_mut(number)) else { continue };
            runs.begun += usize::from(event.events().contains(ReadFlags::OPEN));
            runs.ended += usize::from(event.events().contains(ReadFlags::CLOSE_NOWRITE));
        }
    }
}

/// The name of a service, and of its pipe.
pub(super) fn name(number: usize) -> String {
    format!("s{number:03}")
}

fn number(name: &str) -> Option<usize> {
    name.strip_prefix('s')?.parse().ok()
}

/// The command line of a service, as /proc has it.
pub(super) fn command_line(pipe: &Path) -> Vec<u8> {
    format!("cat\0{}\0", pipe.display()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const LIMIT: Duration = Duration::from_mins(1);

    #[test]
    fn a_process_is_seen_to_begin_and_to_end() {
        let scratch = tempfile::tempdir().unwrap();
        let mut roll = RollCall::new(scratch.path().join("pipes"), 2).unwrap();
        let mut cat = Command::new("cat").arg(roll.pipe(1)).spawn().unwrap();
        roll.wait(LIMIT, "begun", |runs| runs[1].begun == 1).unwrap();
        cat.kill().unwrap();
        roll.wait(LIMIT, "ended", |runs| runs[1].ended == 1).unwrap();
        assert_eq!(roll.runs, [Runs::default(), Runs { begun: 1, ended: 1 }]);
        assert!(roll.wait(Duration::ZERO, "never", |_| false).is_err());
        cat.wait().unwrap();
    }

    #[test]
    fn services_end_with_the_one_who_holds_their_pipes() {
        let scratch = tempfile::tempdir().unwrap();
        let mut roll = RollCall::new(scratch.path().join("pipes"), 1).unwrap();
        let mut cat = Command::new("cat").arg(roll.pipe(0)).spawn().unwrap();
        roll.wait(LIMIT, "begun", |runs| runs[0].begun == 1).unwrap();
        drop(roll);
        assert!(cat.wait().unwrap().success());
    }
}
