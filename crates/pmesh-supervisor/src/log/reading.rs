//! Logs are read: the last lines of one or many of them.

mod block;
mod last_lines;
mod line_assembler;
mod log_follow;
mod log_scan;
mod newest_lines;
mod segment;

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use pmesh_threads::Unanswered;

pub use self::log_follow::{FollowStart, LogEvent, LogFollow};
use self::{
    last_lines::{LAST_WINDOW, Wanted, last_lines},
    newest_lines::NewestLines,
    segment::{Segment, micros},
};
use super::{LogFolder, LogLine, file::LogFile};
use crate::ServiceName;

/// How long it may take to read logs.
const LIMIT: Duration = Duration::from_secs(10);

/// How long the writer may hold a log back from somebody who wants to open it. It holds it while a disk takes what it writes.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which lines are wanted.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LogQuery {
    /// How many at most, the newest ones.
    pub lines: usize,
    /// Those that were ended then or later.
    pub since: Option<SystemTime>,
    /// Those of one instance.
    pub instance: Option<u32>,
}

impl LogQuery {
    /// The last lines.
    pub fn last(lines: usize) -> Self {
        Self { lines, since: None, instance: None }
    }

    fn wanted(&self) -> Wanted {
        Wanted { lines: self.lines, since: self.since.map(micros), instance: self.instance, open: true }
    }

    /// The same with something changed: `query.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Why logs cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogReadError {
    /// The disk, or what stands in the place of a log.
    #[error("cannot read the log {}", .path.display())]
    Io {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was not tried, or not to its end.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

impl LogFolder {
    /// The most text that is answered with, in bytes: of more lines the oldest are left out.
    pub const MAX_READ_LEN: u64 = LAST_WINDOW;

    /// The folder, absolute and without links.
    pub fn path(&self) -> &std::path::Path {
        &self.folder
    }

    /// The last lines of the logs of these services, by the names of their files: the oldest first, by time. A log without a
    /// file has no lines. No more is read than the lines need, and no more than 8 MiB are in memory.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`LogReadError`].
    pub async fn read(
        &self,
        logs: Vec<(ServiceName, String)>,
        query: LogQuery,
    ) -> Result<Vec<LogLine>, LogReadError> {
        let folder = self.clone();
        self.readers
            .run(LIMIT, move |stop| {
                let mut newest = NewestLines::new(query.lines, LAST_WINDOW);
                for (service, log) in logs {
                    if stop.is_cancelled() {
                        break;
                    }
                    let read = folder.read_one(&service, &log, query, &mut newest, stop.until());
                    read.map_err(|source| LogReadError::Io { path: folder.folder.join(&log), source })?;
                }
                Ok(newest.into_lines())
            })
            .await?
    }

    /// Whether there is anything of a log, by the name of its file. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`LogReadError`].
    pub async fn has(&self, name: String) -> Result<bool, LogReadError> {
        let folder = self.clone();
        let look = move |_: &pmesh_threads::Stop| {
            let segments = folder.segments(&name, None);
            let source = |source| LogReadError::Io { path: folder.folder.join(&name), source };
            segments.map(|segments| !segments.is_empty()).map_err(source)
        };
        self.readers.run(LIMIT, look).await?
    }

    fn read_one(
        &self,
        service: &ServiceName,
        log: &str,
        query: LogQuery,
        newest: &mut NewestLines,
        until: Instant,
    ) -> io::Result<()> {
        let mut segments = self.segments(log, None)?;
        if segments.iter().all(|segment| newest.has_newer(segment.modified)) {
            return Ok(());
        }
        let wanted = query.wanted();
        newest.add(service, last_lines(&mut segments, wanted, until)?);
        Ok(())
    }

    /// Opens the files of a log, the newest first; none that is older than the one with this id.
    fn segments(&self, name: &str, oldest: Option<u32>) -> io::Result<Vec<Segment>> {
        let log = self.log(name);
        // While they are opened nothing is rotated: each gets its own index, and none is missed or there twice.
        let _still: parking_lot::MutexGuard<'_, LogFile> = held(&log.shared.file)?;
        let folder = match super::log_files::open_folder(&self.folder) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut segments: Vec<Segment> = Vec::new();
        for number in 0..self.limits.files.max(1) {
            let file = if number == 0 { name.to_owned() } else { format!("{name}.{number}") };
            if let Some(segment) = Segment::open(&folder, &self.folder, &file)?
                && segments.iter().all(|other| other.identity != segment.identity)
            {
                segments.push(segment);
            }
            if oldest.is_some() && segments.last().map(|last| last.id) == oldest {
                break;
            }
        }
        Ok(segments)
    }
}

fn held(file: &Mutex<LogFile>) -> io::Result<parking_lot::MutexGuard<'_, LogFile>> {
    file.try_lock_for(PATIENCE).ok_or_else(|| {
        io::Error::new(io::ErrorKind::TimedOut, "its disk has taken nothing of what is written for 3 s")
    })
}

#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod tests;
