//! Scripted processes and probes, for tests of whatever stands on this crate.

mod prober;
mod spawner;

pub use prober::FakeProber;
pub use spawner::FakeSpawner;
