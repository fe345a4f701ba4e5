//! Scripted processes and probes, for tests of whatever stands on this crate.

mod fault;
mod free_port;
mod prober;
mod spawner;
mod threads;

pub use fault::Fault;
pub(crate) use fault::Faults;
pub use free_port::FreePort;
pub use prober::FakeProber;
pub use spawner::FakeSpawner;
pub use threads::work_threads;
