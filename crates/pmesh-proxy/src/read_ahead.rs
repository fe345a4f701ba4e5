//! How much of a request's body comes before an upstream is taken for it.
//!
//! A client that announces a body and sends none costs the front a little memory, and an app that serves
//! one request per worker that worker.

use std::{future::poll_fn, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    held::HeldBytes,
    request_body::{BrokenBody, RequestBody},
};

/// After its first byte a body is waited for no longer than this, so that streams of small pieces go on.
const AFTER_FIRST_BYTE: Duration = Duration::from_secs(1);

/// What is read ahead, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of this body; what comes in one piece may be more.
    pub(crate) body: u64,
    /// Bytes of all bodies of the destination.
    pub(crate) all: u64,
    /// How long a client may send nothing.
    pub(crate) rest: Duration,
}

/// Why a body was not read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRead {
    /// The client broke off, or what it sent is no body.
    Broken,
    /// It sent nothing for too long.
    Rests,
}

/// Reads of a body what is to come before an upstream is taken: `bounds.body` bytes, or all of it, or what
/// came within a second after its first byte. Where other bodies leave no room for more, that is enough.
///
/// Cancel-safe: what was read stays in the body.
pub(crate) async fn read_ahead(
    body: &mut RequestBody,
    bounds: Bounds,
    held: &HeldBytes,
) -> Result<(), NotRead> {
    let mut ahead = Ahead::begun(bounds.body, Instant::now() + bounds.rest);
    while let Some(deadline) = ahead.deadline() {
        if body.is_over() {
            return Ok(());
        }
        match timeout_at(deadline, poll_fn(|cx| body.poll_ahead(cx, held))).await {
            Ok(Ok(Some(bytes))) if held.now() <= bounds.all => ahead.on_piece(bytes, Instant::now),
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(BrokenBody)) => return Err(NotRead::Broken),
            Err(_) => return ahead.on_deadline(),
        }
    }
    Ok(())
}

/// What has come of a body, as a value.
#[derive(Debug)]
struct Ahead {
    wanted: u64,
    came: u64,
    until: Instant,
}

impl Ahead {
    fn begun(wanted: u64, until: Instant) -> Self {
        Self { wanted, came: 0, until }
    }

    /// Until when more is waited for; `None` if enough came.
    fn deadline(&self) -> Option<Instant> {
        (self.came < self.wanted).then_some(self.until)
    }

    fn on_piece(&mut self, bytes: u64, now: impl FnOnce() -> Instant) {
        if self.came == 0 && bytes < self.wanted {
            self.until = now() + AFTER_FIRST_BYTE;
        }
        self.came = self.came.saturating_add(bytes);
    }

    fn on_deadline(&self) -> Result<(), NotRead> {
        if self.came == 0 { Err(NotRead::Rests) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_waited_for_until_enough_of_it_came_or_a_second_after_its_first_byte() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ahead = Ahead::begun(10, at(30));
        assert_eq!((ahead.deadline(), ahead.on_deadline()), (Some(at(30)), Err(NotRead::Rests)));
        ahead.on_piece(4, || at(7));
        assert_eq!((ahead.deadline(), ahead.on_deadline()), (Some(at(8)), Ok(())));
        ahead.on_piece(5, || at(8));
        assert_eq!(ahead.deadline(), Some(at(8)), "it is the first byte that counts");
        ahead.on_piece(1, || at(8));
        assert_eq!(ahead.deadline(), None);
    }

    #[test]
    fn whoever_wants_nothing_ahead_waits_for_nothing() {
        assert_eq!(Ahead::begun(0, Instant::now()).deadline(), None);
    }
}
