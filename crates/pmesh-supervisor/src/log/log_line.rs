//! Lines as they are read from a log.

use std::time::SystemTime;

use super::LogStream;
use crate::ServiceName;

/// What is behind the text of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineEnd {
    /// A newline, which is no part of the text.
    Newline,
    /// More of the same line: it is longer than [`LogLine::MAX_LEN`].
    Cut,
    /// Nothing, so far: the line was not ended.
    Open,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// The service that it is of.
    pub service: ServiceName,
    /// When its last byte was written, by the clock of then; none where the log has no index.
    pub time: Option<SystemTime>,
    /// The instance; none of a build, of other commands and of pmesh, and where the log has no index.
    pub instance: Option<u32>,
    /// Where it was written to; none where the log has no index.
    pub stream: Option<LogStream>,
    /// Its bytes as they were written, without the newline.
    pub text: Vec<u8>,
    /// What is behind it.
    pub end: LineEnd,
}

impl LogLine {
    /// A longer line comes in pieces of this length, in bytes.
    pub const MAX_LEN: usize = 64 * 1024;
}
