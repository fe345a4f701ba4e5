//! How long things may take.

use std::time::Duration;

/// How long calls of a [`GitRepo`](super::GitRepo) may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GitLimits {
    /// A read.
    pub read: Duration,
    /// A move of the work tree, and a look at it. Filters (LFS) may go to the network, hence minutes.
    pub check_out: Duration,
    /// Putting back the files of a move that was cut in the middle.
    pub put_back: Duration,
    /// Tidying up. What it has not done by then is begun anew the next time.
    pub maintenance: Duration,
    /// How long a program may clean up (its lock files) after SIGTERM before it gets SIGKILL, and how long one is waited
    /// for that SIGKILL does not end at once, because it waits in the kernel.
    pub grace: Duration,
}

impl GitLimits {
    /// The same, but for what `change` does to it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for GitLimits {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(10),
            check_out: Duration::from_mins(10),
            put_back: Duration::from_secs(30),
            maintenance: Duration::from_mins(10),
            grace: Duration::from_secs(5),
        }
    }
}
