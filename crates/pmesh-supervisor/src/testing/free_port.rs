//! Ports for tests.

use std::fmt;

use crate::{Port, Ports};

/// A port on which nothing listens, of those that instances get; another one each time.
///
/// Nothing keeps others from taking it: it is of a range from which only instances and tests take.
#[derive(Debug)]
pub struct FreePort(Port);

impl FreePort {
    /// One.
    ///
    /// # Panics
    ///
    /// If none is free.
    #[expect(clippy::new_without_default, reason = "another one each time")]
    pub fn new() -> Self {
        Self(Ports::new().allocate().expect("a port is free"))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.0.number()
    }
}

impl fmt::Display for FreePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}
