//! One child process that can be stopped, with all that it has started: bounded output, a time limit, a [`Cancel`].
//!
//! A single thread waits for exit, output, cancellation and time with `poll`, so nothing is looked at
//! periodically and no helper thread is left behind.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal},
};

use super::descendants::{Descendants, described};
use crate::Cancel;

/// How much of the grace a hurried child still has.
const HURRIED: Duration = Duration::from_secs(1);

/// The most bytes of paths that a call of git is given: less than a pipe holds (64 KiB, pipe(7)).
pub(super) const INPUT_LIMIT: usize = 32 << 10;

/// What a child said and how it ended.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// How a child came to its end.
#[derive(Debug)]
pub(super) enum ChildEnd {
    Exited(Output),
    /// It was told to end before it had done.
    Cut(EndReason, LeftLocks),
}

/// Why a child was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndReason {
    Cancelled,
    TimedOut,
}

/// The lock files that a child had open when it was killed, and that are nobody's now. Empty for one that ended by itself, which
/// has removed them.
pub(super) type LeftLocks = Vec<PathBuf>;

/// What a child may take.
pub(super) struct ChildLimits<'a> {
    pub(super) time: Duration,
    pub(super) cancel: &'a Cancel,
    /// How long it may clean up after SIGTERM before it gets SIGKILL, and how long it is then waited for.
    pub(super) grace: Duration,
    /// The most that is kept of stdout, and of stderr. More is read and dropped: of stderr the beginning, because the end
    /// says what went wrong.
    pub(super) output_bytes: usize,
}

/// The pause before the second try to start a child for which something of our own is missing; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How often it is tried in all: for three seconds.
const TRIES: u32 = 7;

/// Tries again what fails for want of processes, descriptors or memory of our own: that says nothing about git, and passes.
fn patiently<T>(
    first_pause: Duration,
    tries: u32,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let is_lack = |error: &io::Error| {
        let ours = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno))
    };
    let mut pause = first_pause;
    for _ in 1..tries {
        match attempt() {
            Err(error) if is_lack(&error) => std::thread::sleep(pause),
            other => return other,
        }
        pause *= 2;
    }
    attempt()
}

/// A running child in a process group of its own. Dropping it ends the group.
pub(super) struct RunningChild {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    descendants: Descendants,
    grace: Duration,
    is_over: bool,
}

impl RunningChild {
    /// Starts `command`, whose process must become the leader of a process group, at once or by itself. `grace` is that of
    /// [`ChildLimits`], for one that is dropped.
    pub(super) fn start(command: &mut Command, stdin: Stdio, grace: Duration) -> io::Result<Self> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = patiently(FIRST_PAUSE, TRIES, || command.spawn())?;
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                Ok(Self { child, pid, pidfd, descendants: Descendants::default(), grace, is_over: false })
            }
            Err(error) => {
                // Not waited for otherwise: without the descriptor nothing would end this child.
                child.kill()?;
                child.wait()?;
                Err(error.into())
            }
        }
    }

    /// Writes to the child's stdin; only for less than a pipe holds (64 KiB, pipe(7)).
    pub(super) fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match &mut self.child.stdin {
            Some(stdin) => stdin.write_all(text),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Reads a line of stdout; an error of kind `TimedOut` after `limit`, `UnexpectedEof` at the end.
    pub(super) fn read_line(&mut self, limit: Duration) -> io::Result<String> {
        const LINE_LIMIT: usize = 4096;
        let until = Instant::now() + limit;
        let stdout = self.child.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') && line.len() < LINE_LIMIT {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return Err(io::ErrorKind::TimedOut.into());
            };
            if wait_for(&mut [PollFd::new(&*stdout, PollFlags::IN)], Some(left))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut byte = [0];
            if stdout.read(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Closes stdin, reads what the child says and waits for its end, by force if `limits` say so.
    pub(super) fn finish(mut self, limits: &ChildLimits<'_>) -> io::Result<ChildEnd> {
        self.wait(limits)
    }

    fn wait(&mut self, limits: &ChildLimits<'_>) -> io::Result<ChildEnd> {
        drop(self.child.stdin.take());
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let waking = || {
            let wake = Arc::clone(&wake);
            move || {
                if let Err(error) = rustix::io::write(&*wake, &1_u64.to_ne_bytes()) {
                    tracing::warn!(%error, "cannot wake a call that was cancelled");
                }
            }
        };
        let _registered = (limits.cancel.on_cancel(waking()), limits.cancel.on_hurry(waking()));

        let mut stdout = Sink::new(self.child.stdout.take(), Keep::Beginning(limits.output_bytes))?;
        let mut stderr = Sink::new(self.child.stderr.take(), Keep::End(limits.output_bytes))?;
        let mut stage = ChildStage::Running { until: Instant::now().checked_add(limits.time) };
        let mut locks = LeftLocks::new();
        loop {
            let now = Instant::now();
            let is_hurried = limits.cancel.is_hurried();
            let grace = if is_hurried { HURRIED.min(limits.grace) } else { limits.grace };
            stage = match stage {
                ChildStage::Running { .. } if limits.cancel.is_cancelled() => {
                    self.terminate();
                    ChildStage::Terminating { why: EndReason::Cancelled, until: now + grace }
                }
                ChildStage::Running { until: Some(until) } if until <= now => {
                    self.terminate();
                    ChildStage::Terminating { why: EndReason::TimedOut, until: now + grace }
                }
                ChildStage::Terminating { why, until } if until <= now => {
                    locks = self.kill();
                    ChildStage::Killed { why, until: now + grace }
                }
                // It will end when the kernel lets it; its caller has waited long enough. Its locks are its own.
                ChildStage::Killed { why, until } if until <= now => {
                    self.is_over = true;
                    tracing::warn!("git does not end: {}", described(self.pid));
                    return Ok(ChildEnd::Cut(why, LeftLocks::new()));
                }
                ChildStage::Terminating { why, until } => {
                    ChildStage::Terminating { why, until: until.min(now + grace) }
                }
                ChildStage::Killed { why, until } => {
                    ChildStage::Killed { why, until: until.min(now + grace) }
                }
                running @ ChildStage::Running { .. } => running,
            };

            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            fds.push(PollFd::new(&*wake, PollFlags::IN));
            fds.extend(stdout.poll_fd());
            fds.extend(stderr.poll_fd());
            wait_for(&mut fds, stage.deadline().map(|until| until.saturating_duration_since(now)))?;
            let has_exited = !fds[0].revents().is_empty();
            drop(fds);
            // Takes the wake-up, so that the next one is seen: hurried comes after cancelled.
            let _unwoken = rustix::io::read(&*wake, &mut [0_u8; 8]);
            stdout.read_what_is_there()?;
            stderr.read_what_is_there()?;
            if has_exited {
                // Descendants that keep the pipes open (a credential cache) are not waited for. Those of a
                // child that was told to end must end too; until the child is reaped, its group's number is taken.
                if !matches!(stage, ChildStage::Running { .. }) {
                    self.descendants.look(self.pid);
                    self.signal(Signal::KILL);
                }
                stdout.read_what_is_there()?;
                stderr.read_what_is_there()?;
                self.is_over = true;
                let status = self.child.wait()?;
                return Ok(match stage {
                    ChildStage::Running { .. } => {
                        let (stdout, mut stderr) = (stdout.into_kept(), stderr.into_kept());
                        // Such a child has said nothing of it (SIGBUS on a full disk, SIGKILL for want of memory).
                        if status.signal().is_some() {
                            stderr.extend(format!("\nthe process was ended by a {status}").into_bytes());
                        }
                        ChildEnd::Exited(Output { status, stdout, stderr })
                    }
                    ChildStage::Terminating { why, .. } | ChildStage::Killed { why, .. } => {
                        ChildEnd::Cut(why, locks)
                    }
                });
            }
        }
    }

    /// Asks the child and all that it has started to end.
    fn terminate(&mut self) {
        self.descendants.look(self.pid);
        self.signal(Signal::TERM);
        // One that was stopped hears nothing else.
        self.signal(Signal::CONT);
    }

    /// Ends them, and answers with the locks that stay behind.
    fn kill(&mut self) -> LeftLocks {
        self.descendants.look(self.pid);
        let locks = self.descendants.locks(self.pid);
        self.signal(Signal::KILL);
        locks
    }

    /// Signals the group, or the child if it has not made one yet, and then whoever has left the group: a git that learns of the
    /// end of its filter first goes on without it.
    fn signal(&self, signal: Signal) {
        if kill_process_group(self.pid, signal) == Err(Errno::SRCH)
            && let Err(error) = pidfd_send_signal(&self.pidfd, signal)
        {
            tracing::debug!(%error, "a child ended before its signal");
        }
        self.descendants.signal(signal);
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = self.wait(&ChildLimits {
                time: Duration::ZERO,
                cancel: &Cancel::new(),
                grace: self.grace,
                output_bytes: 0,
            })
        {
            tracing::warn!(%error, "cannot end a child");
        }
    }
}

enum ChildStage {
    Running { until: Option<Instant> },
    Terminating { why: EndReason, until: Instant },
    Killed { why: EndReason, until: Instant },
}

impl ChildStage {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Running { until } => *until,
            Self::Terminating { until, .. } | Self::Killed { until, .. } => Some(*until),
        }
    }
}

/// Which part of the output is kept; the number is in bytes.
#[derive(Clone, Copy)]
enum Keep {
    Beginning(usize),
    End(usize),
}

/// The reading end of a pipe and what came out of it.
struct Sink<R> {
    pipe: Option<R>,
    kept: Vec<u8>,
    keep: Keep,
}

impl<R: Read + AsFd> Sink<R> {
    fn new(pipe: Option<R>, keep: Keep) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, kept: Vec::new(), keep })
    }

    fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN))
    }

    /// Reads until the pipe is empty for now, or closed, or has given as much as a pipe can hold (1 MiB,
    /// pipe(7)): whoever writes faster than we read must not keep us from looking at the clock.
    fn read_what_is_there(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let mut left = 1_usize << 20;
        while let Some(pipe) = &mut self.pipe
            && left > 0
        {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    left = left.saturating_sub(length);
                    self.take(&buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        match self.keep {
            Keep::Beginning(limit) => {
                let room = limit.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Keep::End(limit) => {
                self.kept.extend_from_slice(bytes);
                // Only when there is twice as much as is kept, because each cut moves what is kept to the front.
                if self.kept.len() / 2 > limit {
                    self.drop_surplus(limit);
                }
            }
        }
    }

    fn drop_surplus(&mut self, limit: usize) {
        let surplus = self.kept.len().saturating_sub(limit);
        self.kept.drain(..surplus);
    }

    /// What is kept in the end.
    fn into_kept(mut self) -> Vec<u8> {
        if let Keep::End(limit) = self.keep {
            self.drop_surplus(limit);
        }
        self.kept
    }
}

/// `poll` that goes on after a signal; answers with the number of descriptors that are ready.
fn wait_for(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<usize> {
    // A time that the kernel cannot express is no limit.
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(fds, limit.as_ref()) {
        // Whoever waits looks at the clock again.
        Err(Errno::INTR) => Ok(0),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn shell(script: &str) -> RunningChild {
        RunningChild::start(Command::new("sh").args(["-c", script]).process_group(0), Stdio::null(), GRACE)
            .unwrap()
    }

    fn within(time: Duration, cancel: &Cancel) -> ChildLimits<'_> {
        ChildLimits { time, cancel, grace: GRACE, output_bytes: 8 }
    }

    #[test]
    fn a_lack_of_our_own_is_waited_for_and_everything_else_is_told_at_once() {
        let tried = |most, errors: &[Errno]| {
            let (mut errors, mut tries) = (errors.iter(), 0);
            let end = patiently(Duration::ZERO, most, || {
                tries += 1;
                errors.next().map_or(Ok(()), |&error| Err(error.into()))
            });
            (end.map_err(|error| error.raw_os_error()), tries)
        };
        assert_eq!(tried(3, &[]), (Ok(()), 1));
        assert_eq!(tried(4, &[Errno::MFILE, Errno::NFILE]), (Ok(()), 3));
        assert_eq!(tried(3, &[Errno::NOENT]), (Err(Some(2)), 1));
        assert_eq!(tried(2, &[Errno::MFILE; 9]), (Err(Some(24)), 2));
    }

    #[test]
    fn of_long_output_the_beginning_and_of_long_errors_the_end_is_kept() {
        let script =
            "i=0; while [ $i -lt 9000 ]; do echo 0123456789; echo abcdefghij >&2; i=$((i+1)); done; exit 3";
        let ChildEnd::Exited(output) =
            shell(script).finish(&within(Duration::from_mins(1), &Cancel::new())).unwrap()
        else {
            panic!("it was not told to end");
        };
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, b"01234567");
        assert_eq!(output.stderr, b"defghij\n");
    }

    #[test]
    fn a_flood_does_not_keep_us_from_the_clock() {
        let endless = || Some(std::fs::File::open("/dev/zero").unwrap());
        let mut beginning = Sink::new(endless(), Keep::Beginning(8)).unwrap();
        let mut end = Sink::new(endless(), Keep::End(100_000)).unwrap();
        for _ in 0..3 {
            beginning.read_what_is_there().unwrap();
            end.read_what_is_there().unwrap();
            assert!(end.kept.len() <= 250_000);
        }
        assert_eq!((beginning.into_kept().len(), end.into_kept().len()), (8, 100_000));
    }

    #[test]
    fn at_the_time_limit_the_whole_group_is_ended() {
        let (mut reader, writer) = io::pipe().unwrap();
        // The grandchild holds the pipe; its end is seen when the pipe is closed.
        let script = format!("exec 3>&{}; sleep 600 & sleep 600", std::os::fd::AsRawFd::as_raw_fd(&writer));
        rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &script]).process_group(0);
        let running = RunningChild::start(&mut command, Stdio::null(), GRACE).unwrap();
        drop(writer);
        let ended = running.finish(&within(Duration::from_millis(50), &Cancel::new())).unwrap();
        assert!(matches!(ended, ChildEnd::Cut(EndReason::TimedOut, _)));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "nobody holds the pipe");
    }

    #[test]
    fn a_cancelled_child_ends_long_before_its_limit() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        let running = shell("sleep 600");
        let canceller = std::thread::spawn(move || other.cancel());
        let ended = running.finish(&within(Duration::from_mins(10), &cancel)).unwrap();
        assert!(matches!(ended, ChildEnd::Cut(EndReason::Cancelled, _)));
        canceller.join().unwrap();
    }

    #[test]
    fn a_descendant_that_keeps_the_pipes_is_not_waited_for() {
        let ended =
            shell("sleep 600 & echo $!").finish(&within(Duration::from_mins(1), &Cancel::new())).unwrap();
        let ChildEnd::Exited(output) = ended else { panic!("it was not told to end") };
        let pid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
}
