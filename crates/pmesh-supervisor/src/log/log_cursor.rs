//! How far somebody has read logs, as a text that can be given back.

use std::{collections::BTreeMap, fmt, str::FromStr, time::SystemTime};

use crate::ServiceName;

/// How far a log has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogPosition {
    /// Not at all: there was no file.
    Start,
    /// To a place in a file.
    In {
        /// What the file is known by, whatever its name.
        file: u32,
        /// Twice the bytes before it; one more: also the line is told that ends where a chunk begins there.
        half: u64,
    },
}

/// How far each of some logs has been read, and since when. As a text (`@1767225600,jobs:-,web:5f3a9c01.4711`) it outlives the
/// server, and the files' rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCursor {
    /// Seconds since the epoch of Unix.
    pub(super) since: u64,
    pub(super) positions: BTreeMap<ServiceName, LogPosition>,
}

/// A text that is no [`LogCursor`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} says of no log how far it was read; give back what stood behind `id: ` as it was")]
#[non_exhaustive]
pub struct BadLogCursor(pub String);

impl LogCursor {
    pub(super) fn new(now: SystemTime) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { since, positions: BTreeMap::new() }
    }
}

impl fmt::Display for LogCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.since)?;
        self.positions.iter().try_for_each(|(service, position)| match position {
            LogPosition::Start => write!(f, ",{service}:-"),
            LogPosition::In { file, half } => write!(f, ",{service}:{file:08x}.{half}"),
        })
    }
}

impl FromStr for LogCursor {
    type Err = BadLogCursor;

    fn from_str(text: &str) -> Result<Self, BadLogCursor> {
        read(text).ok_or_else(|| BadLogCursor(text.chars().take(100).collect()))
    }
}

fn read(text: &str) -> Option<LogCursor> {
    let mut parts = text.split(',');
    let since = parts.next()?.strip_prefix('@')?.parse().ok()?;
    let mut positions = BTreeMap::new();
    for part in parts {
        let (service, position) = part.split_once(':')?;
        let position = match position.split_once('.') {
            Some((file, half)) => {
                LogPosition::In { file: u32::from_str_radix(file, 16).ok()?, half: half.parse().ok()? }
            }
            None if position == "-" => LogPosition::Start,
            None => return None,
        };
        positions.insert(service.parse().ok()?, position);
    }
    Some(LogCursor { since, positions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let mut cursor = LogCursor::new(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7));
        assert_eq!(cursor.to_string(), "@7");
        let web = LogPosition::In { file: 0x5f3a, half: u64::MAX };
        cursor.positions.insert("web".parse().unwrap(), web);
        cursor.positions.insert("a.b-c".parse().unwrap(), LogPosition::Start);
        assert_eq!(cursor.to_string(), format!("@7,a.b-c:-,web:00005f3a.{}", u64::MAX));
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "7", "@", "@7,", "@7,web", "@7,web:", "@7,web:x.1", "@7,web:1.x", "@7,a/b:-", "@-1"] {
            assert!(bad.parse::<LogCursor>().is_err(), "{bad}");
        }
    }
}
