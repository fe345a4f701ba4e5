//! Tidying up: what `git fetch` would start in the background by itself.

use std::ffi::OsStr;

use super::{
    child::EndReason,
    deadline::Deadline,
    program::{Extra, message},
    repo::GitRepo,
};
use crate::{Cancel, VcsError};

/// Runs what is due by the repository's own settings (`gc.auto` and others, git-maintenance(1)).
pub(super) fn maintain(repo: &GitRepo, cancel: &Cancel) -> Result<(), VcsError> {
    let (git, limit) = (repo.program(cancel), repo.limits.maintenance);
    let args = ["run", "--auto", "--quiet"].map(OsStr::new);
    match git.run_limited("maintenance", &args, &Extra::default(), Deadline::after(limit))? {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(VcsError::Git { command: "maintenance", message: message(&output.stderr, &[]) }),
        Err(EndReason::TimedOut) => Err(VcsError::Timeout { root: repo.root.clone(), after: limit }),
        Err(EndReason::Cancelled) => Err(VcsError::Cancelled),
    }
}
