//! Why there is no answer.

use std::io;

/// A thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot start a thread ({name}); raise the limit of processes and threads (TasksMax= of systemd, pids.max, ulimit -u)"
)]
pub struct NoThread {
    /// What the thread is called.
    pub name: String,
    /// What the system says.
    pub source: io::Error,
}

/// Why a job has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The time is over, and the job stands still or has not begun.
    #[error("a thread ({name}) has not answered in time; look for a disk or a resolver that hangs")]
    TimedOut {
        /// What the threads are called.
        name: String,
    },
    /// Every thread stands still, and no other one takes its place.
    #[error("every thread ({name}) waits for something that hangs; look for a disk or a resolver that does")]
    Stuck {
        /// What the threads are called.
        name: String,
    },
    /// As many wait as may. It is tried again a moment later.
    #[error("too much is asked at a time ({name}); try again")]
    Busy {
        /// What the threads are called.
        name: String,
    },
    /// No thread could be started, or it could not do what it has to do first.
    #[error(transparent)]
    NoThread(NoThread),
    /// The job panicked. Nothing of it is left.
    #[error("it ended early: {message}; that is a defect of pmesh")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// Its caller cancelled it, or the threads have ended.
    #[error("cancelled")]
    Cancelled,
}
