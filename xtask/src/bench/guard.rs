//! Ends whatever a benchmark has started, and removes its folders, when the benchmark is gone: by Ctrl-C and by SIGKILL too.
//!
//! It is a process in a group of its own, which Ctrl-C does not reach, and learns of the benchmark's end by the end of
//! its standard input. It holds processes by pidfd, so that no signal ever goes to a process that was not named to it.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

/// The word by which this program starts itself as a guard.
pub(crate) const GUARD: &str = "guard";

/// How long processes may take to end after SIGTERM before they are killed.
pub(super) const GRACE: Duration = Duration::from_secs(10);

static GUARDING: Mutex<Option<Guard>> = Mutex::new(None);

/// The guard of this program.
struct Guard {
    told: ChildStdin,
    heard: BufReader<ChildStdout>,
}

/// Has a child ended when this program is gone.
pub(super) fn process(child: &Child) -> Result<()> {
    tell(&format!("process {}", child.id()))
}

/// A new folder that is gone when this is dropped, or when this program is.
pub(super) fn scratch() -> Result<TempDir> {
    let scratch = tempfile::tempdir()?;
    tell(&format!("folder {}", scratch.path().display()))?;
    Ok(scratch)
}

fn tell(line: &str) -> Result<()> {
    let mut guarding = GUARDING.lock().unwrap_or_else(PoisonError::into_inner);
    if guarding.is_none() {
        *guarding = Some(Guard::start().context("cannot start the guard")?);
    }
    let guard = guarding.as_mut().context("it was started just now")?;
    writeln!(guard.told, "{line}")?;
    let mut answer = String::new();
    guard.heard.read_line(&mut answer)?;
    ensure!(answer == "ok\n", "the guard did not take `{line}`");
    Ok(())
}

impl Guard {
    fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", GUARD]).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        Ok(Self {
            told: child.stdin.take().context("its input is a pipe")?,
            heard: BufReader::new(child.stdout.take().context("its output is a pipe")?),
        })
    }
}

/// Takes processes and folders, one a line, until `input` ends; then ends and removes what is left of them.
pub(super) fn serve(input: impl BufRead, mut output: impl Write, grace: Duration) -> Result<()> {
    let (mut processes, mut folders) = (Vec::new(), Vec::new());
    for line in input.lines() {
        let Ok(line) = line else { break };
        let (kind, name) = line.split_once(' ').unwrap_or_default();
        match kind {
            // Its parent has not waited for it before it hears the answer, so it is that process.
            "process" => {
                let pid = name.parse().ok().and_then(Pid::from_raw).context("not a pid")?;
                processes.push(pidfd_open(pid, PidfdFlags::empty())?);
            }
            "folder" => folders.push(PathBuf::from(name)),
            _ => break,
        }
        writeln!(output, "ok")?;
    }
    end(processes, grace)?;
    for folder in folders {
        remove(&folder);
    }
    Ok(())
}

fn end(mut processes: Vec<OwnedFd>, grace: Duration) -> Result<()> {
    for signal in [Signal::TERM, Signal::KILL] {
        for process in &processes {
            match pidfd_send_signal(process, signal) {
                // It has ended.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let start = Instant::now();
        while !processes.is_empty() && start.elapsed() < grace {
            processes.retain(|process| !has_ended(process, Duration::from_millis(50)));
        }
    }
    Ok(())
}

/// Whether a process has ended, or does within `limit`.
pub(super) fn has_ended(process: &OwnedFd, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).ok();
    matches!(poll(&mut [PollFd::new(process, PollFlags::IN)], limit.as_ref()), Ok(1..))
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("xtask: {}: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn what_it_was_told_of_ends_when_its_input_does() {
        let folder = tempfile::tempdir().unwrap().keep();
        std::fs::write(folder.join("file"), "").unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let input = format!("process {}\nfolder {}\n", child.id(), folder.display());
        let mut output = Vec::new();
        serve(input.as_bytes(), &mut output, Duration::from_mins(1)).unwrap();
        assert_eq!(output, b"ok\nok\n");
        assert_eq!(child.wait().unwrap().signal(), Some(15));
        assert!(!folder.exists());
    }

    #[test]
    fn what_ignores_sigterm_is_killed_and_what_has_ended_is_let_be() {
        let mut deaf = Command::new("sh");
        let mut deaf =
            deaf.args(["-c", "trap '' TERM; echo; exec sleep 1000"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(deaf.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let mut ended = Command::new("true").spawn().unwrap();
        let process = pidfd_open(Pid::from_child(&ended), PidfdFlags::empty()).unwrap();
        assert!(has_ended(&process, Duration::from_mins(1)));
        let input = format!("process {}\nprocess {}\n", ended.id(), deaf.id());
        serve(input.as_bytes(), Vec::new(), Duration::ZERO).unwrap();
        assert_eq!(deaf.wait().unwrap().signal(), Some(9));
        assert_eq!(ended.wait().unwrap().code(), Some(0));
    }
}
