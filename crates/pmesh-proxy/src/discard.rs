//! The rest of a request that was answered without it.

use std::{future::poll_fn, time::Duration};

use http::{HeaderMap, HeaderValue, header::CONNECTION};
use tokio::{sync::watch, time::timeout};

use crate::{limits::Stage, request_body::RequestBody};

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
/// throws away what was not read together with what was not sent (RFC 9112, section 9.6). `may_not_come`: the
/// client asked whether to send it (`Expect`), and may take this answer for a no.
pub(crate) fn discard(
    body: Option<RequestBody>,
    may_not_come: bool,
    answer: &mut HeaderMap,
    stage: &watch::Receiver<Stage>,
) {
    let Some(body) = body.filter(|body| !body.is_over()) else { return };
    let keeps = !may_not_come && body.exact_size().is_some_and(|size| size <= WORTH_A_CONNECTION);
    if !keeps {
        answer.insert(CONNECTION, HeaderValue::from_static("close"));
        return discard_late(body);
    }
    let mut stage = stage.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = read_away(body, PATIENCE) => {}
            // The server's end waits for nobody who sends what nobody reads.
            _ = stage.wait_for(|stage| matches!(stage, Stage::Draining { .. })) => {}
        }
    });
}

/// The same, where the head of the answer is with the client already.
pub(crate) fn discard_late(body: RequestBody) {
    tokio::spawn(read_away(body, LINGER));
}

async fn read_away(mut body: RequestBody, patience: Duration) {
    let to_the_end = async { while let Some(Ok(_)) = poll_fn(|cx| body.poll_piece(cx)).await {} };
    if timeout(patience, to_the_end).await.is_err() {
        tracing::debug!("a client went on sending what nobody reads; its connection closes");
    }
}
