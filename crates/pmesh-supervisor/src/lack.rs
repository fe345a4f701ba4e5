//! What fails because this process has nothing left to do it with: processes and threads, descriptors, or memory of the
//! kernel. It says nothing about a service, and is tried again.

use std::{
    io,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pmesh_threads::is_refusal;
use rustix::io::Errno;
use tracing::warn;

/// How soon it is tried again.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// How often it is said at most.
const SILENCE: Duration = Duration::from_mins(1);

/// Whether something failed for want of what belongs to this process or machine (open(2), socket(2), fork(2)).
pub(crate) fn is_lack(error: &io::Error) -> bool {
    let ours = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    is_refusal(error) || Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno))
}

/// Says it once a minute, for all services together.
#[derive(Debug, Default)]
pub(crate) struct Lack(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    held_back: u64,
}

impl Said {
    /// How often it was not said since the last time, if it is to be said now.
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
    /// Something could not be done, and is tried again.
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
