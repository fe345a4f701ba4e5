//! Whom a line of the log is about that is said while a client's connection is served.
//!
//! A span that is entered and left at each poll costs each request some hundred nanoseconds, for lines that are hardly ever said:
//! so the client is only noted, and its span made around a line.

use std::{cell::Cell, future::poll_fn, net::SocketAddr, pin::pin};

use tracing::{Instrument as _, Level, Span, error_span};

thread_local! {
    /// The client whose connection this thread is at.
    static CLIENT: Cell<Option<SocketAddr>> = const { Cell::new(None) };
}

/// Puts it back also where a poll panics.
struct ClientBefore(Option<SocketAddr>);

impl Drop for ClientBefore {
    fn drop(&mut self) {
        CLIENT.set(self.0);
    }
}

fn span(peer: SocketAddr) -> Span {
    error_span!("client", %peer)
}

/// Serves a connection; what is said meanwhile by [`in_client_span`] is said in the client's span, and at the level `DEBUG` all
/// is.
pub(crate) async fn of_client<T>(peer: SocketAddr, serving: impl Future<Output = T>) -> T {
    if tracing::enabled!(Level::DEBUG) {
        return serving.instrument(span(peer)).await;
    }
    let mut serving = pin!(serving);
    poll_fn(|context| {
        let _before = ClientBefore(CLIENT.replace(Some(peer)));
        serving.as_mut().poll(context)
    })
    .await
}

/// Says a line in the span of the client whose connection is served here, if one is.
pub(crate) fn in_client_span(say: impl FnOnce()) {
    match CLIENT.get() {
        Some(peer) => span(peer).in_scope(say),
        None => say(),
    }
}
