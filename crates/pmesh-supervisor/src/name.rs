//! Names and ids of services, made by parsing, once, at the edge.

use std::{fmt, str::FromStr, sync::Arc};

use crate::saved::{BadBytes, Saved, SavedReader, SavedWriter, saved};

/// A service's name: 1 to 63 of `A–Z a–z 0–9 . _ -`, the first a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

/// A text that cannot be the name of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be a service's name; use 1 to 63 of A-Z a-z 0-9 . _ - and begin with a letter or digit"
)]
#[non_exhaustive]
pub struct BadServiceName(pub String);

impl ServiceName {
    /// The longest name, in bytes: that of a DNS label, so that a name can be part of a host's.
    pub const MAX_LEN: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = BadServiceName;

    fn from_str(text: &str) -> Result<Self, BadServiceName> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let good = text.len() <= Self::MAX_LEN
            && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && text.bytes().all(inner);
        if good { Ok(Self(text.into())) } else { Err(BadServiceName(text.to_owned())) }
    }
}

impl Saved for ServiceName {
    fn write(&self, to: &mut SavedWriter) {
        self.as_str().to_owned().write(to);
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        String::read(from)?.parse().map_err(|_| from.bad("no service's name"))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One run of a service, from the operation that (re)started it to the next: a 64-bit number that
/// rises with time. An instance that is replaced after a crash does not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u64);

saved!(newtype ServiceId);

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::ServiceName;

    #[test]
    fn names_are_those_of_the_manifest_format() {
        for good in ["a", "web", "9lives", "my-api.v2_x", &"x".repeat(63)] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "_a", "a b", "a/b", "é", &"x".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }
}
