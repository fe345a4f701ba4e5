//! Threads for what a supervisor does that may block.

use std::{thread::available_parallelism, time::Duration};

use pmesh_threads::{HostNames, NoThread, PoolLimits, Threads};

/// How long a look at `/proc` may take. On a crowded machine it is some 100 ms.
pub(crate) const PROC_LIMIT: Duration = Duration::from_secs(10);

/// How long something may take with the files of a build, such as to remove an old one with all its modules.
pub(crate) const FILES_LIMIT: Duration = Duration::from_mins(10);

/// How long it may take to read all that a build is made from.
pub(crate) const HASHING_LIMIT: Duration = Duration::from_mins(10);

/// One pool for each kind of thing that can hang; clones share them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkThreads {
    /// For looks at `/proc`.
    pub proc: Threads,
    /// For reading what builds are made from.
    pub hashing: Threads,
    /// For the files and links of builds.
    pub files: Threads,
    /// For logs: one writer.
    pub logs: Threads,
    /// For reading logs.
    pub log_readers: Threads,
    /// For names of hosts.
    pub names: HostNames,
}

impl WorkThreads {
    /// The same, but for what `change` does to it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl WorkThreads {
    /// Starts one thread of each kind; more come with work.
    ///
    /// # Errors
    ///
    /// [`NoThread`].
    pub fn start() -> Result<Self, NoThread> {
        let cores = available_parallelism().map_or(1, usize::from);
        Ok(Self {
            proc: Threads::start("proc", PoolLimits::new(4, 4096))?,
            hashing: Threads::start("hashing", PoolLimits::new(cores, 1024))?,
            files: Threads::start("build-files", PoolLimits::new(4, 1024))?,
            // A disk that hangs holds the one writer, and another one could write nothing in its place.
            logs: Threads::start("logs", PoolLimits::new(1, 16).with(|limits| limits.replacements = 0))?,
            log_readers: Threads::start("log-readers", PoolLimits::new(4, 128))?,
            names: HostNames::start()?,
        })
    }
}
