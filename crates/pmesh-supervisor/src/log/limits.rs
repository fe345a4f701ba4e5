//! The bounds of a log.

/// The bounds of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLimits {
    /// The size of one file, in bytes. A file ends with a whole line, so it can be longer by the length of a
    /// line.
    pub bytes: u64,
    /// How many files are kept: `x.log` and the older `x.log.1`, `x.log.2`…; at least 1.
    pub files: u32,
    /// The longest line in bytes; a longer one is split, and each piece but the last ends with
    /// ` [pmesh] line goes on`.
    pub line: usize,
}

impl LogLimits {
    /// The same with something changed: `limits.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { bytes: 16_000_000, files: 5, line: 64 * 1024 }
    }
}
