//! Chunks of many outputs become lines.

use std::collections::HashMap;

use crate::log::{
    LogSource, LogStream,
    log_line::{LineEnd, LogLine},
};

/// What is known of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogChunk {
    /// None where nobody has written down whose it is.
    pub(super) source: Option<LogSource>,
    /// When it was written, in microseconds since the epoch of Unix.
    pub(super) time: Option<u64>,
    /// Whether it begins, or may begin, in the middle of a line.
    pub(super) goes_on: bool,
}

/// A line, or a piece of one that is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundLine {
    pub(super) source: Option<LogSource>,
    /// When the last byte of it was written.
    pub(super) time: Option<u64>,
    pub(super) text: Vec<u8>,
    pub(super) end: LineEnd,
    /// Whether it is there from its first byte on.
    pub(super) has_head: bool,
    /// How far its file had been read when it was complete: twice the bytes, and one more where the beginning of another chunk
    /// has ended it. Of the lines of a file it is another one for each, and rises.
    pub(super) after: u64,
}

/// Puts the lines of each source together: chunks of others may stand between the parts of one. Plain values; what is in
/// memory is one piece for each source that has left a line open.
#[derive(Debug, Default)]
pub(super) struct LineAssembler {
    lines: HashMap<Option<LogSource>, OpenLine>,
    now: Option<LogChunk>,
    turn: u64,
}

/// The line that a source is in.
#[derive(Debug, Default)]
struct OpenLine {
    text: Vec<u8>,
    time: Option<u64>,
    lacks_head: bool,
    /// In which order lines that are left open were written.
    turn: u64,
}

impl OpenLine {
    fn take(&mut self, source: Option<LogSource>, end: LineEnd, after: u64) -> FoundLine {
        let text = std::mem::take(&mut self.text);
        FoundLine { source, time: self.time, text, end, has_head: !self.lacks_head, after }
    }
}

impl LineAssembler {
    /// A chunk begins at `at` of its file, which is not empty.
    pub(super) fn begin(&mut self, chunk: LogChunk, at: u64, found: &mut impl FnMut(FoundLine)) {
        self.now = Some(chunk);
        match self.lines.get_mut(&chunk.source) {
            None => {
                let line = OpenLine { lacks_head: chunk.goes_on, ..OpenLine::default() };
                self.lines.insert(chunk.source, line);
            }
            Some(line) if !chunk.goes_on => {
                if !line.text.is_empty() {
                    found(line.take(chunk.source, LineEnd::Open, 2 * at + 1));
                }
                line.lacks_head = false;
            }
            Some(_) => {}
        }
    }

    /// The next bytes of the chunk that has begun last; they begin at `at` of its file.
    pub(super) fn bytes(&mut self, bytes: &[u8], mut at: u64, found: &mut impl FnMut(FoundLine)) {
        let Some(LogChunk { source, time, .. }) = self.now else { return };
        self.turn += 1;
        let line = self.lines.entry(source).or_default();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            // A note in the middle of an open line of another output begins with an end of a line.
            if part == b"\n" && line.text.is_empty() && source.is_some_and(|it| it.stream == LogStream::Note)
            {
                at += 1;
                continue;
            }
            (line.time, line.turn) = (time, self.turn);
            let (mut text, is_ended) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            while line.text.len() + text.len() > LogLine::MAX_LEN {
                let (piece, rest) = text.split_at(LogLine::MAX_LEN - line.text.len());
                line.text.extend_from_slice(piece);
                at += piece.len() as u64;
                found(line.take(source, LineEnd::Cut, 2 * at));
                text = rest;
            }
            line.text.extend_from_slice(text);
            at += text.len() as u64 + u64::from(is_ended);
            if is_ended {
                found(line.take(source, LineEnd::Newline, 2 * at));
                line.lacks_head = false;
            }
        }
    }

    /// Forgets what is there of the line that the last chunk is in, if its beginning was not seen: up to here it was taken for a
    /// piece.
    pub(super) fn drop_headless(&mut self) {
        let Some(line) = self.now.and_then(|chunk| self.lines.get_mut(&chunk.source)) else { return };
        if line.lacks_head {
            line.text.clear();
        }
    }

    /// The lines that are open now, in the order in which they were written to last.
    pub(super) fn open_lines(mut self, after: u64) -> Vec<FoundLine> {
        let mut open: Vec<_> = self.lines.drain().filter(|(_, line)| !line.text.is_empty()).collect();
        open.sort_by_key(|(_, line)| line.turn);
        open.into_iter().map(|(source, mut line)| line.take(source, LineEnd::Open, after)).collect()
    }
}
