//! What the three have in common: services to supervise, and one run of a supervisor with them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use crate::bench::processes::Running;

/// How much of a service's output stays, with every supervisor: this much a file, and so many old files.
pub(super) const LOG_BYTES: usize = 16 << 20;
pub(super) const OLD_LOGS: usize = 4;

/// A service: its name, and the words of its command, none of which needs quotes.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) words: Vec<String>,
}

/// A program that supervises.
pub(super) trait Supervisor {
    fn name(&self) -> &'static str;

    /// Its name and version, as it tells them.
    fn version(&self) -> Result<String>;

    /// Writes all its files into the folder, which is empty, and starts it.
    fn start(&self, scratch: &Path, services: &[Service]) -> Result<Run>;
}

/// The files of a service's output, the newest first.
pub(super) type Logs = Box<dyn Fn(&str) -> Vec<PathBuf>>;

/// A supervisor that runs.
pub(super) struct Run {
    pub(super) process: Running,
    /// When its program was started.
    pub(super) since: Instant,
    /// Whether it says itself that all services are up; `None` if it says no more than that they run.
    pub(super) is_ready: Option<Box<dyn FnMut() -> Result<bool>>>,
    /// Where what the services use is asked for.
    pub(super) metrics: Option<SocketAddr>,
    pub(super) logs: Logs,
}
