//! What steps are of that have to succeed before something may start.

use crate::LogStream;

/// What the steps are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// Of a build.
    Build,
    /// Of a release.
    Release,
}

impl StepKind {
    /// The word for all of them.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Release => "release",
        }
    }

    /// Where their output goes in the service's log.
    pub(crate) fn stream(self) -> LogStream {
        match self {
            Self::Build => LogStream::Build,
            Self::Release => LogStream::Release,
        }
    }
}
