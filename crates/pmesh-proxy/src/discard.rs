//! The rest of a request that was answered without it.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderMap;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{header, limits::FrontStage, request_body::RequestBody};

/// What is read of a body, in bytes, so that the connection can go on.
const WORTH_A_CONNECTION: u64 = 1 << 20;
/// How long a client is read from, so that it finds the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may send nothing meanwhile, if it sends more than that, or does not say how much.
const LINGER: Duration = Duration::from_secs(5);

/// Whether the rest of a body is, or may be, too long to be read just to keep the connection.
pub(crate) fn is_too_much(body: &RequestBody) -> bool {
    body.exact_size().is_none_or(|size| size > WORTH_A_CONNECTION)
}

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
    stage: &watch::Receiver<FrontStage>,
) {
    let Some(body) = body.filter(|body| !body.is_over()) else { return };
    if may_not_come || is_too_much(&body) {
        header::close_behind(answer);
        return discard_late(body);
    }
    let stage = stage.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = read_away(body, PATIENCE, PATIENCE) => {}
            // The server's end does not wait for bytes that are thrown away.
            () = FrontStage::draining(&stage) => {}
        }
    });
}

/// The same, where the head of the answer is with the client already.
pub(crate) fn discard_late(body: RequestBody) {
    tokio::spawn(read_away(body, LINGER, PATIENCE));
}

async fn read_away(mut body: RequestBody, rest: Duration, all: Duration) {
    let came = |cx: &mut Context<'_>| body.poll_piece(cx).map(|piece| matches!(piece, Some(Ok(_))));
    if !is_ended(came, rest, all).await {
        tracing::debug!("a client went on sending what nobody reads; its connection closes");
    }
}

/// Whether what comes in pieces ends, before it rests for too long or takes too long in all.
async fn is_ended(
    mut came: impl FnMut(&mut Context<'_>) -> Poll<bool>,
    rest: Duration,
    all: Duration,
) -> bool {
    let end = Instant::now() + all;
    loop {
        match timeout_at(end.min(Instant::now() + rest), poll_fn(&mut came)).await {
            Ok(true) => {}
            Ok(false) => return true,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::Pin, task::ready};

    use bytes::Bytes;
    use hyper::body::{Body, Frame, SizeHint};
    use tokio::{sync::oneshot, time::interval_at};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_on_sending_is_read_from_for_longer_than_one_that_rests() {
        for (pause, pieces, takes, expected) in
            [(1, 3, 4, true), (4, 5, 24, true), (4, 90, 30, false), (6, 1, 5, false)]
        {
            let (start, mut left) = (Instant::now(), pieces);
            let pause = Duration::from_secs(pause);
            let mut times = interval_at(start + pause, pause);
            let came = |cx: &mut Context<'_>| {
                ready!(times.poll_tick(cx));
                left -= 1;
                Poll::Ready(left >= 0)
            };
            assert_eq!(is_ended(came, LINGER, PATIENCE).await, expected, "{pieces} pieces, {pause:?} apart");
            assert_eq!(start.elapsed().as_secs(), takes, "{pieces} pieces, {pause:?} apart");
        }
    }

    /// A body of a few bytes that never come; dropped, it says so.
    struct Awaited {
        _dropped: oneshot::Sender<Infallible>,
    }

    impl Body for Awaited {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(9)
        }
    }

    /// How long a body is read that does not come, on a front that ends or does not.
    async fn reading(ends: bool) -> Duration {
        let (stage, now) = watch::channel(FrontStage::Serving);
        let (dropped, is_dropped) = oneshot::channel();
        let begun = Instant::now();
        let mut fields = HeaderMap::new();
        discard(Some(RequestBody::new(Awaited { _dropped: dropped })), false, &mut fields, &now);
        assert!(fields.is_empty(), "the connection is worth that much");
        if ends {
            stage.send_replace(FrontStage::Draining { until: begun + 2 * PATIENCE });
        }
        is_dropped.await.unwrap_err();
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wants_is_read_for_a_while_and_no_longer_than_the_front_serves() {
        assert_eq!(reading(false).await, PATIENCE);
        assert_eq!(reading(true).await, Duration::ZERO);
    }
}
