//! Being built.

mod pattern;
mod spec;

pub use spec::*;
