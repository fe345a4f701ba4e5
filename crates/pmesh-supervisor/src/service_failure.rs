//! Why something is not healthy, in words for people.

use std::time::{Duration, Instant};

use crate::{saved::saved, telling_lines::telling_lines};

/// How many of the last lines are in a sentence.
const LINES_IN_A_SENTENCE: usize = 5;

/// Why something is not healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceFailure {
    /// What happened: an exit, a failed check.
    pub what: String,
    /// When the next try is, if one is planned.
    pub retry_at: Option<Instant>,
    /// The last lines of the instance's output.
    pub last_lines: Vec<String>,
}

saved!(struct ServiceFailure { what, retry_at, last_lines });

impl ServiceFailure {
    /// What happened and the last lines, in words, where there is no next try.
    pub(crate) fn without_retry(self, now: Instant) -> String {
        Self { retry_at: None, ..self }.sentence(now)
    }

    /// All of it in words, for the moment `now`; of the last lines those that tell most.
    pub fn sentence(&self, now: Instant) -> String {
        let mut text = self.what.clone();
        match self.retry_at.map(|at| at.saturating_duration_since(now)) {
            Some(Duration::ZERO) => text.push_str("; the next try is due now"),
            Some(wait) => text.push_str(&format!("; the next try is in {:.1} s", wait.as_secs_f64())),
            None => {}
        }
        if !self.last_lines.is_empty() {
            text.push_str("; its last lines: ");
            let lines = telling_lines(&self.last_lines, LINES_IN_A_SENTENCE);
            text.push_str(&lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" | "));
        }
        text
    }
}
