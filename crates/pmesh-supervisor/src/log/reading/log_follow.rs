//! Logs are followed: what was written last, and then what comes.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    time::{Duration, SystemTime},
};

use futures_util::future::select_all;
use pmesh_threads::Waiting;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    LIMIT, LogQuery, LogReadError,
    last_lines::Wanted,
    log_scan::{self, LogScan, OVERHEAD, Scanned, before_last_lines},
    newest_lines::log_line,
    segment::micros,
};
use crate::{
    LogCursor, LogFolder, LogLine, ServiceName,
    log::{ServiceLog, log_cursor::LogPosition},
};

/// How much is told at once, in bytes, and read ahead of all logs together.
const PAGE: usize = 256 * 1024;

/// The least that is read ahead of a log, in bytes.
const LEAST_PAGE: usize = 4 * 1024;

/// How long something that comes right after something else is waited with, so that both are read at once.
const PAUSE: Duration = Duration::from_millis(20);

/// From where on logs are followed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FollowStart {
    /// With these lines, and then what comes.
    Last(LogQuery),
    /// With all that was written then or later.
    Since(SystemTime),
    /// With what comes behind what was told already.
    Behind(LogCursor),
}

/// What somebody who follows logs is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogEvent {
    /// Of which service.
    pub service: ServiceName,
    /// A line. None: here lines are missing, because the file that they were in is not there any more.
    pub line: Option<LogLine>,
    /// How far its log has been read with it.
    position: Option<LogPosition>,
}

impl LogCursor {
    /// Its event was told, too.
    pub fn pass(&mut self, event: &LogEvent) {
        if let Some(position) = event.position {
            self.positions.insert(event.service.clone(), position);
        }
    }

    /// Forgets all services but these.
    pub fn retain(&mut self, services: &[(ServiceName, String)]) {
        self.positions.retain(|service, _| services.iter().any(|(kept, _)| kept == service));
    }
}

/// Follows some logs, until it is dropped. Between two calls of [`next`](Self::next) it does nothing and holds no file; what is in
/// memory is [bounded](Self::next).
pub struct LogFollow {
    folder: LogFolder,
    instance: Option<u32>,
    logs: Vec<FollowedLog>,
    /// Since when, in microseconds since the epoch of Unix.
    since: u64,
    /// What is to be followed from the next look on.
    changed: Option<Vec<(ServiceName, String)>>,
    /// The look under way, with the logs.
    pub(super) looking: Option<Waiting<LookEnd>>,
    /// When to look again at the earliest.
    not_before: Instant,
}

pub(super) type LookEnd = (Vec<FollowedLog>, Result<Vec<LogEvent>, LogReadError>);

pub(super) struct FollowedLog {
    service: ServiceName,
    name: String,
    /// Keeps what tells of its growth.
    _log: ServiceLog,
    grown: watch::Receiver<()>,
    scan: LogScan,
    /// Lines that wait for those of other logs, with what they are sorted by.
    ahead: VecDeque<(u64, Scanned)>,
    newest: u64,
    has_more: bool,
}

impl LogFolder {
    /// Follows the logs of these services, by the names of their files; and from where on. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`LogReadError`].
    pub async fn follow(
        &self,
        logs: Vec<(ServiceName, String)>,
        start: FollowStart,
        instance: Option<u32>,
    ) -> Result<(LogFollow, LogCursor), LogReadError> {
        let folder = self.clone();
        let mut cursor = match &start {
            FollowStart::Behind(cursor) => cursor.clone(),
            FollowStart::Last(_) | FollowStart::Since(_) => LogCursor::new(SystemTime::now()),
        };
        let begun = cursor.since;
        let places = move |stop: &pmesh_threads::Stop| {
            let mut before: Vec<(u64, usize, LogPosition)> = Vec::new();
            let mut positions = Vec::new();
            for (number, (service, name)) in logs.iter().enumerate() {
                let placed = folder.segments(name, None).and_then(|mut segments| {
                    let known = match &start {
                        FollowStart::Behind(cursor) => cursor.positions.get(service).copied(),
                        FollowStart::Last(_) | FollowStart::Since(_) => None,
                    };
                    Ok(match (known, &start) {
                        (Some(position), _) => position,
                        // It was no service when that was told.
                        (None, FollowStart::Behind(_)) => log_scan::since(&segments, begun * 1_000_000)?,
                        (None, FollowStart::Since(time)) => log_scan::since(&segments, micros(*time))?,
                        (None, FollowStart::Last(query)) => {
                            let wanted = Wanted { instance, ..query.wanted() };
                            let lines = before_last_lines(&mut segments, wanted, stop.until())?;
                            before.extend(lines.into_iter().map(|(time, position)| (time, number, position)));
                            before.sort_by_key(|(time, ..)| *time);
                            before.drain(..before.len().saturating_sub(query.lines));
                            log_scan::end(&segments)
                        }
                    })
                });
                positions.push(
                    placed.map_err(|source| LogReadError::Io { path: folder.folder.join(name), source })?,
                );
            }
            for (_, number, position) in before.into_iter().rev() {
                positions[number] = position;
            }
            Ok::<_, LogReadError>((logs, positions))
        };
        let (logs, positions) = self.readers.run(LIMIT, places).await??;
        cursor.positions = logs.iter().map(|(service, _)| service.clone()).zip(positions).collect();
        let followed = |(service, name): (ServiceName, String)| {
            let position = cursor.positions[&service];
            FollowedLog::new(self, service, name, LogScan::behind(position))
        };
        let follow = LogFollow {
            folder: self.clone(),
            instance,
            logs: logs.into_iter().map(followed).collect(),
            since: begun * 1_000_000,
            changed: None,
            looking: None,
            not_before: Instant::now(),
        };
        Ok((follow, cursor))
    }
}

impl FollowedLog {
    fn new(folder: &LogFolder, service: ServiceName, name: String, scan: LogScan) -> Self {
        let log = folder.log(&name);
        let grown = log.shared.grown.subscribe();
        Self { service, name, _log: log, grown, scan, ahead: VecDeque::new(), newest: 0, has_more: true }
    }

    fn has_work(&self) -> bool {
        // An error means that nobody can tell any more, and it holds the log itself.
        self.has_more || !self.ahead.is_empty() || self.grown.has_changed().unwrap_or(false)
    }

    /// Reads ahead, at most so many bytes of lines.
    fn read(
        &mut self,
        folder: &LogFolder,
        instance: Option<u32>,
        room: usize,
        until: std::time::Instant,
    ) -> io::Result<()> {
        // Before the file is looked at: what comes later is told again.
        self.grown.mark_unchanged();
        let mut segments = folder.segments(&self.name, self.scan.file())?;
        let Self { scan, ahead, newest, .. } = self;
        self.has_more = scan.read(&mut segments, instance, room, until, &mut |scanned| {
            if let Scanned::Line(line, _) = &scanned {
                *newest = line.time.unwrap_or_default().max(*newest);
            }
            ahead.push_back((*newest, scanned));
        })?;
        Ok(())
    }
}

/// The next that is to be told of some logs, in the order of the times.
fn look(
    folder: &LogFolder,
    logs: &mut [FollowedLog],
    instance: Option<u32>,
    until: std::time::Instant,
) -> Result<Vec<LogEvent>, LogReadError> {
    let page = (PAGE / logs.len().max(1)).max(LEAST_PAGE);
    let (mut told, mut room) = (Vec::new(), PAGE);
    for log in &mut *logs {
        log.has_more |= log.grown.has_changed().unwrap_or(false);
    }
    while room > 0 {
        for log in logs.iter_mut().filter(|log| log.has_more && log.ahead.is_empty()) {
            log.read(folder, instance, page, until)
                .map_err(|source| LogReadError::Io { path: folder.folder.join(&log.name), source })?;
        }
        let first = logs
            .iter_mut()
            .filter(|log| !log.ahead.is_empty())
            .min_by_key(|log| log.ahead.front().map(|(time, _)| *time));
        let Some(log) = first else { break };
        let service = log.service.clone();
        match log.ahead.pop_front() {
            Some((_, Scanned::Line(line, position))) => {
                room = room.saturating_sub(line.text.len() + OVERHEAD);
                let line = Some(log_line(&service, line));
                told.push(LogEvent { service, line, position: Some(position) });
            }
            Some((_, Scanned::Gap)) => told.push(LogEvent { service, line: None, position: None }),
            None => {}
        }
    }
    Ok(told)
}

impl LogFollow {
    /// Follows these logs from the next call of [`next`](Self::next) on. One that is new is followed from what was written since
    /// the beginning.
    pub fn set_logs(&mut self, logs: Vec<(ServiceName, String)>) {
        self.changed = Some(logs);
    }

    /// What comes next, as soon as something does, in the order of the times as far as it is there: at most 256 KiB of text and a
    /// line. Nothing is read before it is asked for, however much comes, and of each log no more than a line and a part of 256 KiB is in
    /// memory.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`LogReadError`]; nothing comes after that.
    pub async fn next(&mut self) -> Result<Vec<LogEvent>, LogReadError> {
        loop {
            if self.looking.is_none() {
                self.wait().await;
                self.begin_look()?;
            }
            let Some(looking) = &mut self.looking else { continue };
            let looked = looking.await;
            self.looking = None;
            let (logs, told) = looked?;
            self.logs = logs;
            self.not_before = Instant::now() + PAUSE;
            let events = told?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Returns when there is something to look at.
    async fn wait(&mut self) {
        let has_work = self.changed.is_some() || self.logs.iter().any(FollowedLog::has_work);
        if !has_work {
            let grown: Vec<_> = self.logs.iter_mut().map(|log| Box::pin(log.grown.changed())).collect();
            if grown.is_empty() {
                return std::future::pending().await;
            }
            let (_, which, _) = select_all(grown).await;
            self.logs[which].has_more = true;
        }
        if !self.logs.iter().any(|log| !log.ahead.is_empty()) {
            sleep_until(self.not_before).await;
        }
    }

    fn begin_look(&mut self) -> Result<(), LogReadError> {
        if let Some(changed) = self.changed.take() {
            self.follow_others(changed);
        }
        let (folder, instance) = (self.folder.clone(), self.instance);
        let mut logs = std::mem::take(&mut self.logs);
        let looking = self.folder.readers.begin(LIMIT, move |stop| {
            let told = look(&folder, &mut logs, instance, stop.until());
            (logs, told)
        })?;
        self.looking = Some(looking);
        Ok(())
    }

    fn follow_others(&mut self, changed: Vec<(ServiceName, String)>) {
        let mut before: BTreeMap<_, _> =
            self.logs.drain(..).map(|log| ((log.service.clone(), log.name.clone()), log)).collect();
        for (service, name) in changed {
            let key = (service, name);
            let log = before.remove(&key).unwrap_or_else(|| {
                let (service, name) = key;
                FollowedLog::new(&self.folder, service, name, LogScan::since(self.since))
            });
            self.logs.push(log);
        }
    }
}

impl fmt::Debug for LogFollow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFollow").field("since", &self.since).finish_non_exhaustive()
    }
}
