//! The front's bounds, and the stages of its life.

use std::{thread, time::Duration};

use tokio::{sync::watch, time::Instant};

/// Bounds of a [`Front`](crate::Front).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrontLimits {
    /// Threads; one per core by default.
    pub threads: usize,
    /// From a connection's begin, or the first byte of a later request, to the end of the request's head.
    pub header_timeout: Duration,
    /// How long a connection may be silent between two requests.
    pub idle_timeout: Duration,
    /// How long a client may send nothing of a body that is waited for; then 408, or where the answer has begun,
    /// the end of the connection.
    pub body_rest: Duration,
    /// How long a client may leave bytes of an answer unread. Answers and tunnels that bring nothing are not
    /// limited.
    pub write_stall: Duration,
    /// How long a connection to an upstream is kept idle. Node closes its side after 5 s.
    pub pool_idle: Duration,
    /// Idle connections that are kept per upstream and thread.
    pub pool_connections: usize,
    /// How long a connection is idle before it may be closed because descriptors run short.
    pub spared: Duration,
}

impl FrontLimits {
    /// The same with something changed: `limits.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for FrontLimits {
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().map_or(1, std::num::NonZero::get),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_rest: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            pool_idle: Duration::from_secs(4),
            pool_connections: 512,
            spared: Duration::from_secs(1),
        }
    }
}

/// What a front's connections do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FrontStage {
    Serving,
    /// No new connections; those that are there end after the request under way, at last then.
    Draining {
        until: Instant,
    },
}

impl FrontStage {
    /// Resolves when the front has begun to end. Cancel-safe.
    pub(crate) async fn draining(stage: &watch::Receiver<Self>) {
        let mut stage = stage.clone();
        // Without its owner it has ended as well.
        drop(stage.wait_for(|stage| matches!(stage, Self::Draining { .. })).await);
    }
}
