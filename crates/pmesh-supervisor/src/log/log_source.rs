//! Who wrote something into a log.

use super::LogStream;

/// Who wrote something into a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LogSource {
    /// The number of the instance, if one did.
    pub(crate) instance: Option<u32>,
    pub(crate) stream: LogStream,
}

impl LogSource {
    /// The supervisor.
    pub(crate) const NOTE: Self = Self { instance: None, stream: LogStream::Note };
}
