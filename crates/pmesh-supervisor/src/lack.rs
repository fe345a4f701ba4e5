//! Failures because this process or machine has run out of something: processes, threads, descriptors, or
//! memory of the kernel. Such a failure says nothing about a service, and the attempt is repeated.

use std::{
    io,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pmesh_threads::is_refusal;
use rustix::io::Errno;
use tracing::warn;

/// How soon the attempt is repeated.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// How long a step of a build that cannot be started is tried again.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The least time between two lines about it in the log.
const SILENCE: Duration = Duration::from_mins(1);

/// Whether something failed because this process or machine has run out of something (open(2), socket(2),
/// fork(2)).
pub(crate) fn is_lack(error: &io::Error) -> bool {
    let ours = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    is_refusal(error) || Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno))
}

/// What helps against it, to be put behind the reason; nothing where it is no lack of ours, or says itself what helps.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN) => {
            "; raise the limit of processes and threads (TasksMax= of systemd, pids.max, ulimit -u)"
        }
        Some(Errno::MFILE | Errno::NFILE) => {
            "; raise the limit of open files (LimitNOFILE= of systemd, ulimit -Hn)"
        }
        _ => "",
    }
}

/// Logs such failures, at most once a minute for all services together.
#[derive(Debug, Default)]
pub(crate) struct Lack(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    held_back: u64,
}

impl Said {
    /// If the log line is due now: how many were left out since the last one.
    fn is_due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + SILENCE) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

impl Lack {
    /// Says that something could not be done for such a reason, and is tried again.
    pub(crate) fn say(&self, what: &str, reason: &str) {
        if let Some(held_back) = self.0.lock().is_due(Instant::now()) {
            warn!(
                what,
                reason,
                held_back,
                "the server itself runs short of processes, threads, open files or memory; it is tried again; raise the \
                 limit (TasksMax= and LimitNOFILE= of systemd, ulimit -u and -n)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_told_from_what_is_theirs() {
        for (errno, is_ours) in [
            (Errno::AGAIN, true),
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::NOMEM, true),
            (Errno::CONNREFUSED, false),
            (Errno::NOENT, false),
        ] {
            assert_eq!(is_lack(&errno.into()), is_ours, "{errno}");
        }
        assert!(!is_lack(&io::ErrorKind::TimedOut.into()));
    }

    #[test]
    fn it_is_said_once_a_minute() {
        let (mut said, now) = (Said::default(), Instant::now());
        let due: Vec<_> = [0, 1, 59, 60].map(|s| said.is_due(now + Duration::from_secs(s))).into();
        assert_eq!(due, [Some(0), None, None, Some(2)]);
    }
}
