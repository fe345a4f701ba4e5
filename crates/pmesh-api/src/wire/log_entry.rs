//! A line of a log.

use pmesh_supervisor::{LineEnd, LogLine};
use serde::{Deserialize, Serialize};

use super::timestamp;

/// An entry of `/logs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogEntry {
    /// When it was written; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The service.
    pub service: String,
    /// The number of the instance; absent where no instance has written it, or that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<u32>,
    /// `stdout`, `stderr`, `build`, `shutdown`, `release` or `pmesh`; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The line, without its end. What is no UTF-8 is replaced.
    pub text: String,
    /// Whether the line goes on in the next entry of the same output.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl From<&LogLine> for LogEntry {
    fn from(line: &LogLine) -> Self {
        Self {
            time: line.time.map(|time| timestamp(Some(time))),
            service: line.service.to_string(),
            instance: line.instance,
            stream: line.stream.map(|stream| stream.as_str().to_owned()),
            text: String::from_utf8_lossy(&line.text).into_owned(),
            cut: line.end == LineEnd::Cut,
        }
    }
}
