//! What a driver waits for: everything that its service has under way.

use std::time::Instant;

use futures_util::{future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::oneshot;
use tracing::trace;

use crate::{Build, BuildError, Exit, probe::ProbeFailure};

/// What happens to a process, an address or a run.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The leader has ended.
    Exited(Exit),
    /// No process of the tree lives.
    TreeEnded,
    /// A probe has a result.
    Probed(Result<(), ProbeFailure>),
    /// An instance without probe has lived long enough to count as ready.
    Lived,
    /// Nothing is under way to it any more.
    Drained,
    /// The commands before the stop of the run have ended.
    ShutdownCommandsEnded,
    /// A try to build a run that waits for its build has ended.
    Built(Result<Option<Build>, BuildError>),
}

/// Something that happened to the process or address that balancers know by the first number.
pub(crate) type Event = (u64, Happening);

/// What a driver waits for.
#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) events: FuturesUnordered<BoxFuture<'static, Event>>,
    /// The outputs of its processes, on their way into the log.
    pub(crate) outputs: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Pending {
    pub(crate) fn push(&mut self, event: BoxFuture<'static, Event>) {
        self.events.push(event);
    }

    pub(crate) fn push_output(&mut self, output: BoxFuture<'static, ()>) {
        self.outputs.push(output);
    }
}

/// The present, on tokio's clock, which tests pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Answers a caller. One that has gone away meanwhile does not want to know: what it asked for goes
/// on without it.
pub(crate) fn answer<T>(caller: oneshot::Sender<T>, value: T) {
    if caller.send(value).is_err() {
        trace!("nobody waits for this answer any more");
    }
}
