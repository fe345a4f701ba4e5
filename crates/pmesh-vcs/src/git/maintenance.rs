//! Tidying up: what `git fetch` would start in the background by itself.

use std::{ffi::OsStr, time::Duration};

use super::{
    child::EndReason,
    deadline::Deadline,
    program::{Extra, message},
    repo::GitRepo,
};
use crate::{Cancel, VcsError};

/// How long it may take. What it has not done by then is begun anew the next time.
const LIMIT: Duration = Duration::from_mins(10);

/// Runs what is due by the repository's own settings (`gc.auto` and others, git-maintenance(1)).
pub(super) fn maintain(repo: &GitRepo, cancel: &Cancel) -> Result<(), VcsError> {
    let git = repo.program(cancel);
    let args = ["run", "--auto", "--quiet"].map(OsStr::new);
    match git.run_limited("maintenance", &args, &Extra::default(), Deadline::after(LIMIT))? {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(VcsError::Git { command: "maintenance", message: message(&output.stderr, &[]) }),
        Err(EndReason::TimedOut) => Err(VcsError::Timeout { root: repo.root.clone(), after: LIMIT }),
        Err(EndReason::Cancelled) => Err(VcsError::Cancelled),
    }
}
