//! The rest of a request that was answered without it.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::CONNECTION};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

/// What is read of a body, in bytes, so that the connection can go on.
const WORTH_A_CONNECTION: u64 = 1 << 20;
/// How long a client may take to send that.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client that sends more, or does not say how much, is read from, so that it finds the answer.
const LINGER: Duration = Duration::from_secs(5);

/// Reads and forgets what is left of a request's body, and says in the answer's fields whether the
/// connection closes behind it.
///
/// A client that is still sending and finds its connection closed may never see the answer: the system
/// throws away what was not read together with what was not sent (RFC 9112, section 9.6).
pub(crate) fn discard(body: Option<Incoming>, is_asked_for: bool, answer: &mut HeaderMap) {
    let Some(body) = body.filter(|body| !body.is_end_stream()) else { return };
    let size = body.size_hint().exact();
    let keeps = size.is_some_and(|size| size <= WORTH_A_CONNECTION) && !is_asked_for;
    if !keeps {
        answer.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if is_asked_for {
        // The client waits for 100 and gets this answer instead (RFC 9110, section 10.1.1).
        return;
    }
    read_away(body, if keeps { PATIENCE } else { LINGER });
}

/// The same, where the head of the answer is with the client already.
pub(crate) fn discard_late(body: Incoming) {
    read_away(body, LINGER);
}

fn read_away(body: Incoming, patience: Duration) {
    tokio::spawn(async move {
        if timeout(patience, to_the_end(body)).await.is_err() {
            tracing::debug!("a client went on sending what nobody reads; its connection closes");
        }
    });
}

async fn to_the_end(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}
