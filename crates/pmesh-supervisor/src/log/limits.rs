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
        Self { bytes: 16 << 20, files: 5 }
    }
}
