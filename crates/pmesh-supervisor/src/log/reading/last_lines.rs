//! The last lines of a log, without reading more of it than they need.

use std::{collections::VecDeque, io, time::Instant};

use super::{
    block::Block,
    line_assembler::{FoundLine, LineAssembler, LogChunk},
    segment::Segment,
};

/// How much of the end of a log is looked at first, in bytes.
const FIRST_WINDOW: u64 = 64 * 1024;

/// How much of it is looked at at most. It bounds the answer, too.
pub(super) const LAST_WINDOW: u64 = 8 << 20;

/// What a chunk counts for at least: it costs memory, however short it is.
const LEAST: u64 = 64;

/// How far before a time the beginning of a line is sought that ends after it, in bytes.
const LOOK_BACK: u64 = 64 * 1024;

/// Which lines of a log are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// How many at most, the last ones.
    pub(super) lines: usize,
    /// Those that were ended then or later, in microseconds since the epoch of Unix.
    pub(super) since: Option<u64>,
    /// Those of one instance.
    pub(super) instance: Option<u32>,
    /// Also those that are not ended.
    pub(super) open: bool,
}

/// A line, and where it was found.
#[derive(Debug)]
pub(super) struct LastLine {
    pub(super) line: FoundLine,
    /// The time that it is sorted by: that of a line before it if it has none, or of its file.
    pub(super) key: u64,
    /// Which file it was complete in.
    pub(super) segment: usize,
}

/// A part of a chunk.
#[derive(Debug)]
struct ChunkPart {
    segment: usize,
    chunk: LogChunk,
    from: u64,
    to: u64,
}

/// The end of a log.
struct Window {
    /// From the newest to the oldest.
    spans: Vec<ChunkPart>,
    /// What is still free.
    room: u64,
    /// How much is in it from before the time that is asked for.
    older: u64,
    /// Whether nothing before it is of interest.
    is_whole: bool,
    /// Whether it reaches back to the oldest byte.
    has_oldest: bool,
}

/// The lines of `segments`, the newest first, that are wanted; the oldest line first.
pub(super) fn last_lines(
    segments: &mut [Segment],
    wanted: Wanted,
    until: Instant,
) -> io::Result<Vec<LastLine>> {
    let mut size = FIRST_WINDOW;
    loop {
        let window = Window::of(segments, wanted, size, until)?;
        let is_last = window.is_whole || size >= LAST_WINDOW;
        let mut lines = window.lines(segments, wanted, until)?;
        if is_last || lines.iter().filter(|last| last.line.has_head).count() >= wanted.lines {
            // A line whose beginning is further back would be taken for a whole one; but it is better than nothing.
            if !window.has_oldest && lines.iter().any(|last| last.line.has_head) {
                lines.retain(|last| last.line.has_head);
            }
            let excess = lines.len().saturating_sub(wanted.lines);
            lines.drain(..excess);
            return Ok(lines.into());
        }
        size = (4 * size).min(LAST_WINDOW);
    }
}

impl Window {
    fn of(segments: &mut [Segment], wanted: Wanted, size: u64, until: Instant) -> io::Result<Self> {
        let mut window = Self { spans: Vec::new(), room: size, older: 0, is_whole: false, has_oldest: false };
        for (at, segment) in segments.iter_mut().enumerate() {
            let mut end = segment.len;
            for number in (0..segment.records).rev() {
                if number % 512 == 0 {
                    in_time(until)?;
                }
                let Some(record) = segment.record(number)? else { continue };
                let (from, to) = (record.offset, end);
                if from >= to {
                    continue;
                }
                end = from;
                if wanted.instance.is_some_and(|instance| record.source.instance != Some(instance)) {
                    continue;
                }
                let chunk = LogChunk {
                    source: Some(record.source),
                    time: Some(record.time),
                    goes_on: record.goes_on,
                };
                if !window.take(ChunkPart { segment: at, chunk, from, to }, wanted.since) {
                    return Ok(window);
                }
            }
            // What was written without an index: by whom and when is not known.
            let is_old = wanted.since.is_some_and(|since| segment.records > 0 || segment.modified < since);
            if end > 0 && wanted.instance.is_none() && !is_old {
                let chunk = LogChunk { source: None, time: None, goes_on: false };
                if !window.take(ChunkPart { segment: at, chunk, from: 0, to: end }, None) {
                    return Ok(window);
                }
            }
        }
        (window.is_whole, window.has_oldest) = (true, true);
        Ok(window)
    }

    /// Takes one more into the window; false if it has all now that it may have.
    fn take(&mut self, mut span: ChunkPart, since: Option<u64>) -> bool {
        let len = span.to - span.from;
        if since.zip(span.chunk.time).is_some_and(|(since, time)| time < since) {
            self.older += len;
        }
        if len.max(LEAST) > self.room {
            if self.room >= LEAST {
                span.from = span.to - self.room;
                span.chunk.goes_on = true;
                self.spans.push(span);
            }
            return false;
        }
        self.room -= len.max(LEAST);
        self.spans.push(span);
        self.is_whole = self.older > LOOK_BACK;
        !self.is_whole
    }

    /// Its lines, but not more than the last that are wanted and what lacks its head.
    fn lines(&self, segments: &[Segment], wanted: Wanted, until: Instant) -> io::Result<VecDeque<LastLine>> {
        let mut lines = VecDeque::new();
        let mut newest = 0;
        let mut keep = |line: FoundLine, segment: usize| {
            newest = line.time.unwrap_or(segments[segment].untimed()).max(newest);
            let is_old = wanted.since.zip(line.time).is_some_and(|(since, time)| time < since);
            if !is_old {
                lines.push_back(LastLine { line, key: newest, segment });
            }
            if lines.len() > wanted.lines {
                lines.pop_front();
            }
        };
        let mut assembler = LineAssembler::default();
        let mut block = Block::default();
        for span in self.spans.iter().rev() {
            let segment = &segments[span.segment];
            assembler.begin(span.chunk, span.from, &mut |line| keep(line, span.segment));
            let mut at = span.from;
            while at < span.to {
                in_time(until)?;
                let bytes = block.read(span.segment, segment, at, span.to)?;
                if bytes.is_empty() {
                    // The file was cut short meanwhile.
                    break;
                }
                assembler.bytes(bytes, at, &mut |line| keep(line, span.segment));
                at += bytes.len() as u64;
            }
        }
        if let (true, Some(newest)) = (wanted.open, segments.first()) {
            for line in assembler.open_lines(2 * newest.len) {
                keep(line, 0);
            }
        }
        Ok(lines)
    }
}

/// Fails where the time is over.
pub(super) fn in_time(until: Instant) -> io::Result<()> {
    if Instant::now() < until { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
}
