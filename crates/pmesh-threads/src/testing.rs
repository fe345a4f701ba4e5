//! Threads for tests with a paused clock.

use crate::{PoolLimits, Threads};

/// Threads as a server's, and while they work a paused clock of the runtime that asks them (`tokio::time::pause`)
/// stands still, as it does for the work of tokio's own pool. Without that no test could say what time has passed.
///
/// # Panics
///
/// If no thread can be started.
pub fn threads(name: &str) -> Threads {
    let limits = PoolLimits { threads: 4, queue: 4096, replacements: 4 };
    Threads::holding_the_clock(name.to_owned(), limits).expect("a test has threads")
}
