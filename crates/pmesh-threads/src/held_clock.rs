//! A paused clock that stands still during a job.

use std::sync::mpsc;

use tokio::runtime::Handle;

/// A paused clock stands still as long as this is there: what tokio's own pool works on holds it.
pub(crate) struct HeldClock {
    _held: Option<mpsc::Sender<()>>,
}

impl HeldClock {
    #[expect(clippy::disallowed_methods, reason = "only what tokio's own pool works on holds a paused clock")]
    pub(crate) fn hold() -> Self {
        let held = Handle::try_current().ok().map(|runtime| {
            let (held, until) = mpsc::channel::<()>();
            // It ends when the sender is dropped.
            drop(runtime.spawn_blocking(move || until.recv().is_err()));
            held
        });
        Self { _held: held }
    }
}
