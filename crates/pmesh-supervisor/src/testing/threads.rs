//! Threads for tests with a paused clock.

use pmesh_threads::{HostNames, testing::threads};

use crate::WorkThreads;

/// Threads as a supervisor's, that hold a paused clock still while they work ([`pmesh_threads::testing`]).
///
/// # Panics
///
/// If no thread can be started.
pub fn work_threads() -> WorkThreads {
    WorkThreads {
        proc: threads("proc"),
        hashing: threads("hashing"),
        files: threads("build-files"),
        logs: threads("logs"),
        log_readers: threads("log-readers"),
        names: HostNames::on(threads("names")),
    }
}
