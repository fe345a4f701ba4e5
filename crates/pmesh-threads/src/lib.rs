//! Threads for what may block: reads of a disk, of `/proc`, the resolver.
//!
//! [`Threads`] is a few named threads that stay, and a queue before them. The first one is started with their owner, so
//! that there is one also in a moment in which the system gives none (`EAGAIN`: `pids.max`, `ulimit -u`); the others come
//! when there is work for them. Everything is bounded, and whatever cannot be done is an error to act on ([`Unanswered`]):
//! nothing here panics for want of a thread, and a job that panics is an error of whoever waits for it.
//!
//! A thread that stands still, such as one that waits for a network disk, cannot be ended. It is replaced by another one
//! a few times ([`PoolLimits::replacements`]), and after that its pool answers at once that it is stuck. So there is one
//! pool for each kind of thing that can hang.
//!
//! ```
//! use std::time::Duration;
//! use pmesh_threads::{PoolLimits, Threads};
//!
//! let files = Threads::start("files", PoolLimits::new(4, 64))?;
//! let read = files.begin(Duration::from_secs(10), |_| std::fs::read("/proc/self/comm"))?;
//! assert!(read.wait()?.is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer_slot;
mod crew;
#[cfg(feature = "testing")]
mod held_clock;
mod host_names;
mod stop;
#[cfg(feature = "testing")]
pub mod testing;
mod thread_pool;
mod threads;
mod unanswered;
mod waiting;

pub use crew::AtStart;
pub use host_names::HostNames;
pub use stop::Stop;
pub use thread_pool::PoolLimits;
pub use threads::Threads;
pub use unanswered::{NoThread, Unanswered, is_refusal};
pub use waiting::{Canceller, Waiting};
