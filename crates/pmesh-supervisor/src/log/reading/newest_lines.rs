//! The newest lines of many logs, in the order of their times.

use std::time::{Duration, SystemTime};

use super::{last_lines::LastLine, line_assembler::FoundLine};
use crate::{LogLine, ServiceName};

/// What a line counts for beside its text, in bytes.
const OVERHEAD: u64 = 64;

/// Lines of logs that are added one by one: no more than are wanted are kept, and no more bytes than may be.
pub(super) struct NewestLines {
    wanted: usize,
    room: u64,
    lines: Vec<(u64, LogLine)>,
}

impl NewestLines {
    pub(super) fn new(wanted: usize, room: u64) -> Self {
        Self { wanted, room, lines: Vec::new() }
    }

    /// Whether a log that was written to at `time` for the last time has nothing to add.
    pub(super) fn has_newer(&self, time: u64) -> bool {
        self.wanted == 0
            || (self.lines.len() >= self.wanted
                && self.lines.first().is_some_and(|(oldest, _)| *oldest > time))
    }

    /// Adds the lines of a log, the oldest first.
    pub(super) fn add(&mut self, service: &ServiceName, lines: Vec<LastLine>) {
        self.lines.extend(lines.into_iter().map(|last| (last.key, log_line(service, last.line))));
        // Stable: what one log has of the same time stays in its order.
        self.lines.sort_by_key(|(time, _)| *time);
        let mut room = self.room;
        let fitting = self.lines.iter().rev().take(self.wanted).take_while(|(_, line)| {
            let left = room.checked_sub(line.text.len() as u64 + OVERHEAD);
            room = left.unwrap_or(0);
            left.is_some()
        });
        let excess = self.lines.len() - fitting.count();
        self.lines.drain(..excess);
    }

    pub(super) fn into_lines(self) -> Vec<LogLine> {
        self.lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// A line of a service's log.
pub(super) fn log_line(service: &ServiceName, line: FoundLine) -> LogLine {
    LogLine {
        service: service.clone(),
        time: line.time.map(|micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros)),
        instance: line.source.and_then(|source| source.instance),
        stream: line.source.map(|source| source.stream),
        text: line.text,
        end: line.end,
    }
}
