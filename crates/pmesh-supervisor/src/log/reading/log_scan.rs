//! A log is read on and on, from wherever somebody has come to.

use std::{io, time::Instant};

use super::{
    block::Block,
    last_lines::{Wanted, in_time, last_lines},
    line_assembler::{FoundLine, LineAssembler, LogChunk},
    segment::Segment,
};
use crate::log::log_cursor::LogPosition;

/// How far before a place the beginnings of lines are sought that end behind it, in bytes.
const LOOK_BACK: u64 = 2 * 64 * 1024;

/// What a line counts for beside its text, in bytes.
pub(super) const OVERHEAD: usize = 64;

/// How far a log was read, and the lines that are open there.
#[derive(Debug)]
pub(super) struct LogScan {
    at: At,
    /// Where `at` is still to be found: since when, in microseconds since the epoch of Unix.
    since: Option<u64>,
    assembler: LineAssembler,
    /// Whether the next chunk is the first.
    is_new: bool,
    /// Lines that are complete up to here were told before.
    told: Option<(u32, u64)>,
}

/// Where a scan reads on.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Behind what somebody else has told: the beginnings of open lines are still to be found.
    Behind(LogPosition),
    /// At this byte of a file.
    Byte { file: u32, offset: u64 },
}

/// What is found while a log is read on.
#[derive(Debug)]
pub(super) enum Scanned {
    /// A line, and where it is complete.
    Line(FoundLine, LogPosition),
    /// What was to be read on from is not there any more.
    Gap,
}

impl LogScan {
    /// Goes on behind this position.
    pub(super) fn behind(at: LogPosition) -> Self {
        Self {
            at: At::Behind(at),
            since: None,
            is_new: true,
            assembler: LineAssembler::default(),
            told: None,
        }
    }

    /// Goes on with what was written then or later, in microseconds since the epoch of Unix.
    pub(super) fn since(time: u64) -> Self {
        Self { since: Some(time), ..Self::behind(LogPosition::Start) }
    }

    /// The file that it is in, unless it still has to look for the beginnings of lines.
    pub(super) fn file(&self) -> Option<u32> {
        match self.at {
            At::Byte { file, .. } => Some(file),
            At::Behind(_) => None,
        }
    }

    /// Reads on in the files of its log, the newest first, of which those before [`file`](Self::file) may be absent. Answers
    /// whether there is more, where that would be more than `room` bytes at a time.
    pub(super) fn read(
        &mut self,
        segments: &mut [Segment],
        instance: Option<u32>,
        room: usize,
        until: Instant,
        found: &mut impl FnMut(Scanned),
    ) -> io::Result<bool> {
        let Some((first, mut offset)) = self.place(segments, found)? else { return Ok(false) };
        let mut used = 0;
        let mut block = Block::default();
        for number in (0..=first).rev() {
            let segment = &mut segments[number];
            let file = segment.id;
            let (told, assembler) = (self.told, &mut self.assembler);
            let mut tell = |line: FoundLine| {
                let is_told = told.is_some_and(|(last, up_to)| last != file || line.after <= up_to);
                if !is_told {
                    used += line.text.len() + OVERHEAD;
                    let after = LogPosition::In { file, half: line.after };
                    found(Scanned::Line(line, after));
                }
                used
            };
            let mut chunks = segment.chunks_from(offset)?;
            while let Some(next) = segment.next_chunk(&mut chunks, offset)? {
                in_time(until)?;
                let is_wanted = instance.is_none_or(|instance| {
                    next.chunk.source.is_some_and(|source| source.instance == Some(instance))
                });
                if self.is_new || next.begins {
                    self.is_new = false;
                    if is_wanted {
                        let goes_on = next.chunk.goes_on || !next.begins;
                        assembler.begin(LogChunk { goes_on, ..next.chunk }, offset, &mut |line| {
                            tell(line);
                        });
                    }
                }
                while offset < next.end {
                    in_time(until)?;
                    // Where somebody else has stopped is a border.
                    let end = match told {
                        Some((last, up_to)) if last == file && offset < up_to / 2 => next.end.min(up_to / 2),
                        _ => next.end,
                    };
                    let mut full = false;
                    if is_wanted {
                        let bytes = block.read(number, segment, offset, end)?;
                        if bytes.is_empty() {
                            // The file was cut short meanwhile.
                            return Ok(false);
                        }
                        assembler.bytes(bytes, offset, &mut |line| full = tell(line) >= room);
                        offset += bytes.len() as u64;
                    } else {
                        offset = end;
                    }
                    if told == Some((file, 2 * offset)) && is_wanted {
                        assembler.drop_headless();
                    }
                    self.at = At::Byte { file, offset };
                    if full && (offset < segment.len || number > 0) {
                        return Ok(true);
                    }
                }
            }
            self.at = At::Byte { file, offset };
            if told.is_some_and(|(last, _)| last == file) {
                self.told = None;
            }
            offset = 0;
        }
        Ok(false)
    }

    /// Which file is to be read on, and from where.
    fn place(
        &mut self,
        segments: &[Segment],
        found: &mut impl FnMut(Scanned),
    ) -> io::Result<Option<(usize, u64)>> {
        let Some(oldest) = segments.len().checked_sub(1) else { return Ok(None) };
        if let Some(time) = self.since.take() {
            self.at = At::Behind(since(segments, time)?);
        }
        let (file, offset) = match self.at {
            At::Behind(LogPosition::Start) => return Ok(Some((oldest, 0))),
            At::Behind(LogPosition::In { file, half }) => {
                self.told = Some((file, half));
                (file, half / 2)
            }
            At::Byte { file, offset } => (file, offset),
        };
        let here = segments.iter().position(|segment| segment.id == file);
        let Some(here) = here.filter(|here| segments[*here].len >= offset) else {
            // It was rotated away, or somebody has cut it short.
            found(Scanned::Gap);
            *self = Self::behind(LogPosition::Start);
            return Ok(Some((here.unwrap_or(oldest), 0)));
        };
        if let At::Byte { .. } = self.at {
            return Ok(Some((here, offset)));
        }
        let (mut first, mut from, mut back) = (here, offset, LOOK_BACK);
        while back > from && first < oldest {
            back -= from;
            first += 1;
            from = segments[first].len;
        }
        Ok(Some((first, from.saturating_sub(back))))
    }
}

/// Where a log ends, whose files these are, the newest first.
pub(super) fn end(segments: &[Segment]) -> LogPosition {
    segments
        .first()
        .map_or(LogPosition::Start, |newest| LogPosition::In { file: newest.id, half: 2 * newest.len })
}

/// Behind which position all is that was written then or later.
pub(super) fn since(segments: &[Segment], since: u64) -> io::Result<LogPosition> {
    for segment in segments.iter().rev() {
        if let Some(offset) = segment.since(since)? {
            return Ok(LogPosition::In { file: segment.id, half: 2 * offset + 1 });
        }
    }
    Ok(end(segments))
}

/// Behind which positions the last lines are, each with the time of the line that follows.
pub(super) fn before_last_lines(
    segments: &mut [Segment],
    wanted: Wanted,
    until: Instant,
) -> io::Result<Vec<(u64, LogPosition)>> {
    let lines = last_lines(segments, Wanted { open: false, ..wanted }, until)?;
    let before = |last: super::last_lines::LastLine| {
        let file = segments[last.segment].id;
        // Each line is complete at another byte.
        (last.key, LogPosition::In { file, half: last.line.after.saturating_sub(1) })
    };
    Ok(lines.into_iter().map(before).collect())
}
