//! What is to be told of a job.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use crate::{Exit, saved::saved};

/// Tells the time of day.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A run of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobRun {
    /// The number of its instance.
    pub instance: u32,
    /// When its process was started.
    pub started: Instant,
    /// When it had ended; none while it goes on.
    pub ended: Option<Instant>,
    /// How.
    pub exit: Option<Exit>,
}

saved!(struct JobRun { instance, started, ended, exit });

/// What has come of starting a run that is not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunBegun {
    /// It is started.
    Begun,
    /// One is under way already.
    RunsAlready,
    /// There is nothing that could be: the service is stopped, is not built, waits for others, or its driver failed.
    Nothing,
    /// It is no job: it runs all the time.
    NoJob,
}
