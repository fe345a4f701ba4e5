//! Why there is no build.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use pmesh_threads::Unanswered;

use crate::{
    Exit, ServiceFailure, SpawnError, accounts::AccountError, causes::with_causes, env_files::EnvFileError,
    lack::remedy, step_kind::StepKind,
};

/// Why there is no build, or no release. What was there before the attempt is unchanged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// A command failed.
    #[error("{} step `{step}` ended with {exit}{}", kind.as_str(), Lines(lines))]
    Failed {
        /// What the command is of.
        kind: StepKind,
        /// The command.
        step: String,
        /// How it ended.
        exit: Exit,
        /// The end of its output.
        lines: Vec<String>,
    },
    /// A command could not be started.
    #[error("{} step `{step}` cannot be started: {}{}", kind.as_str(), with_causes(error), remedy(&error.source))]
    Spawn {
        /// What the command is of.
        kind: StepKind,
        /// The command.
        step: String,
        /// The system's reason. It is in the text, and no cause, because what helps stands behind it.
        error: SpawnError,
    },
    /// The commands took too long together.
    #[error(
        "{0} step `{step}` was ended: the {0} took longer than `build_timeout`, {limit:?}{1}",
        kind.as_str(),
        Lines(lines)
    )]
    Timeout {
        /// What the commands are of.
        kind: StepKind,
        /// The command that ran then.
        step: String,
        /// The limit.
        limit: Duration,
        /// The end of its output.
        lines: Vec<String>,
    },
    /// The caller asked for its end.
    #[error("the build was cancelled")]
    Cancelled,
    /// Something in the service's folder cannot be read or made.
    #[error("cannot {action} {}", path.display())]
    Files {
        /// What was tried, as a verb: `read`, `link`…
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The environment that its steps would get cannot be read.
    #[error(transparent)]
    EnvFile(EnvFileError),
    /// Its steps cannot be started as its user.
    #[error(transparent)]
    Account(AccountError),
    /// The threads for files did not answer in time, or none was free to ask.
    #[error(transparent)]
    Unanswered(Unanswered),
}

impl BuildError {
    /// The same as the failure that a service's health shows: a message in one line, with the last lines
    /// apart.
    pub(crate) fn into_failure(mut self) -> ServiceFailure {
        let last_lines = match &mut self {
            Self::Failed { lines, .. } | Self::Timeout { lines, .. } => std::mem::take(lines),
            Self::Spawn { .. }
            | Self::Cancelled
            | Self::Files { .. }
            | Self::EnvFile(_)
            | Self::Account(_)
            | Self::Unanswered(_) => Vec::new(),
        };
        ServiceFailure { what: with_causes(&self), retry_at: None, last_lines }
    }
}

/// The last lines of an output, as an error message appends them.
struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; its last lines:\n{}", self.0.join("\n")) }
    }
}

pub(super) fn files(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    move |source| BuildError::Files { action, path: path.to_owned(), source }
}
