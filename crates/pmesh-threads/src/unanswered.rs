//! Why there is no answer.

use std::io;

/// A thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot start a thread ({name}); raise the limit of processes and threads (TasksMax= of systemd, pids.max, ulimit -u)"
)]
#[non_exhaustive]
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

impl Unanswered {
    /// Whether it was not tried at all, for want of what belongs to this server or machine: it says nothing about what was
    /// asked, and is to be tried again.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::NoThread(_) => true,
            Self::TimedOut { .. } | Self::Stuck { .. } | Self::Panicked { .. } | Self::Cancelled => false,
        }
    }
}

impl From<NoThread> for io::Error {
    fn from(error: NoThread) -> Self {
        Self::new(error.source.kind(), error)
    }
}

impl From<Unanswered> for io::Error {
    fn from(error: Unanswered) -> Self {
        let kind = match &error {
            Unanswered::TimedOut { .. } | Unanswered::Stuck { .. } => io::ErrorKind::TimedOut,
            Unanswered::Busy { .. } => io::ErrorKind::ResourceBusy,
            Unanswered::NoThread(error) => error.source.kind(),
            Unanswered::Panicked { .. } | Unanswered::Cancelled => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Whether the error is an [`Unanswered`] that [was not tried](Unanswered::is_refusal).
pub fn is_refusal(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Unanswered>());
    inner.is_some_and(Unanswered::is_refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_also_as_an_error_of_the_system() {
        let name = || "files".to_owned();
        assert!(is_refusal(&Unanswered::Busy { name: name() }.into()));
        let refused = NoThread { name: name(), source: io::ErrorKind::WouldBlock.into() };
        assert!(is_refusal(&Unanswered::NoThread(refused).into()));
        assert!(!is_refusal(&Unanswered::Stuck { name: name() }.into()));
        assert!(!is_refusal(&io::ErrorKind::NotFound.into()));
    }
}
