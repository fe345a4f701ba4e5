//! Where the bytes of a log come from.

use super::LogSource;

/// An output of a process, or the supervisor's own lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogOutput {
    /// Each has its own, because at times there are two processes of one source.
    pub(super) number: u64,
    pub(super) source: LogSource,
}

impl LogOutput {
    /// The supervisor's own lines.
    pub(super) const NOTE: Self = Self { number: 0, source: LogSource::NOTE };

    /// Whether they are the supervisor's own lines.
    pub(super) fn is_note(self) -> bool {
        self.number == Self::NOTE.number
    }
}
