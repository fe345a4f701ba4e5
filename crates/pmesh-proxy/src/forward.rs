//! Handing a request to an upstream, and to another one where that is safe.

use std::{sync::Arc, time::Duration};

use http::Method;
use tokio::{sync::watch, time::Instant};

use crate::{
    answer::Reason,
    answer_head::AnswerHead,
    connections::Connections,
    dial::{self, DialError},
    header::BodySize,
    held::HeldBytes,
    limits::FrontStage,
    live_upstream::InFlight,
    login_scheme,
    logins::KeptLogin,
    outgoing::Outgoing,
    patience::TurnLimits,
    pool::{Lease, Owned},
    read_ahead::{Bounds, NotRead, read_ahead},
    request_body::RequestBody,
    spec::WhenEmpty,
    tries::{NextTry, Tries},
    upload::Upload,
    upstream_connection::{AskError, AskFailure},
    upstream_group::{NoUpstream, Picked, UpstreamGroup},
};

/// What a try needs to know about its request.
#[derive(Clone, Copy)]
struct Ask {
    to_head: bool,
    /// Sent twice, it does no harm.
    may_repeat: bool,
    connect_timeout: Duration,
    limits: TurnLimits,
}

/// Forwards a request and returns the head of the upstream's answer, with the connection that brings the rest.
/// `body` is the request's; in it stays what nobody takes of it. Where the upstream answers without having taken it,
/// the connection has what is left.
///
/// What was never sent is tried on another upstream, whatever its method. What was sent is tried again
/// only if it is GET, HEAD or OPTIONS without a body and no byte of an answer came: nobody can know
/// whether it was executed; and that once, because it may be what ended the upstream. Dropped, the request
/// is given up and its connection closed.
///
/// A connection over which a login is spoken is from then on for this client's connection alone.
pub(crate) async fn forward(
    from: &Connections<'_>,
    to: &Arc<UpstreamGroup>,
    outgoing: Outgoing,
    body: &mut Option<RequestBody>,
) -> Result<(AnswerHead, Lease), Reason> {
    let Outgoing { head, method, may_repeat, size, asks_first, body_rest, client, logs_in } = outgoing;
    let balancing = to.balancing.load_full();
    let ask = Ask {
        to_head: method == Method::HEAD,
        may_repeat,
        connect_timeout: balancing.connect_timeout,
        limits: TurnLimits { upstream: balancing.response_timeout, client: body_rest },
    };
    if !asks_first && body.is_some() && !to.refuses() {
        let bounds = Bounds { body: balancing.buffer, all: balancing.queue.bytes, rest: body_rest };
        await_begin(body, bounds, &to.held).await?;
    }
    let mut upload = Upload::new(head.clone(), body.take(), size == BodySize::Unknown, asks_first);
    let mut tries = Tries::new(&balancing.retry, may_repeat);
    let mut kept = from.logins.take(client, to);
    loop {
        let (in_flight, owned) = match std::mem::replace(&mut kept, KeptLogin::Nothing) {
            KeptLogin::Connection(in_flight, owned) => (in_flight, Some(owned)),
            KeptLogin::Nothing | KeptLogin::Left => {
                match next_upstream(to, &mut tries, head.len() as u64, from.stage).await {
                    Ok(in_flight) => (in_flight, None),
                    Err(reason) => {
                        *body = upload.into_body();
                        return Err(reason);
                    }
                }
            }
        };
        let had_login = owned.is_some();
        let upstream = in_flight.upstream().clone();
        let begun = tries.begin(Instant::now);
        let source = Source { from, owned, begun, anew: tries.is_anew() };
        let tried = attempt(source, in_flight, upload, ask).await;
        if had_login && !tried.as_ref().is_ok_and(|(_, lease)| lease.owner.is_some()) {
            from.logins.lose(client, to);
        }
        let AskError { why, left } = match tried {
            Ok((answer, mut lease)) => {
                upstream.count_answer(answer.status);
                if logs_in || lease.owner.is_some() || login_scheme::in_answer(answer.status, &answer.headers)
                {
                    from.logins.keep(client, to, &mut lease);
                }
                return Ok((answer, lease));
            }
            Err(error) => error,
        };
        if matches!(why, AskFailure::TooSlow) {
            to.on_timeout(&upstream);
        }
        let failed = tries.on_failure(why);
        match why.bad_answer() {
            Some(why) if failed.is_error => upstream.count_bad_answer(why, Instant::now()),
            None if failed.is_error => upstream.count_error(),
            Some(_) | None => {}
        }
        upload = match failed.next {
            NextTry::Rest => *left,
            NextTry::Anew => Upload::new(head.clone(), None, false, false),
            NextTry::None(reason) => {
                *body = left.into_body();
                return Err(reason);
            }
        };
        let turned = if failed.is_upstreams_fault {
            tries.turn_to_others(to, upstream, from.stage).await
        } else {
            Ok(())
        };
        if let Err(reason) = turned.and_then(|()| tries.go_on()) {
            *body = upload.into_body();
            return Err(reason);
        }
    }
}

/// Waits for enough of a body; nothing stays of one that does not come.
async fn await_begin(body: &mut Option<RequestBody>, bounds: Bounds, held: &HeldBytes) -> Result<(), Reason> {
    let Some(coming) = body else { return Ok(()) };
    let read = read_ahead(coming, bounds, held).await;
    read.map_err(|error| {
        *body = None;
        match error {
            NotRead::Broken => Reason::BROKEN_BODY,
            NotRead::Rests => Reason::BodyRests,
        }
    })
}

/// The upstream for the next try; waits for one where one is expected, and not beyond the front's end: none will come.
async fn next_upstream(
    to: &UpstreamGroup,
    tries: &mut Tries<'_>,
    bytes: u64,
    stage: &watch::Receiver<FrontStage>,
) -> Result<InFlight, Reason> {
    loop {
        match to.pick(tries.tried()) {
            Picked::Upstream(in_flight) => return Ok(in_flight),
            Picked::Empty(WhenEmpty::Refuse) => return Err(Reason::Stopped),
            Picked::Empty(WhenEmpty::Wait) => {
                let since = tries.waits_since(Instant::now);
                tokio::select! {
                    biased;
                    () = FrontStage::draining(stage) => return Err(Reason::Ending),
                    came = to.wait_for_one(bytes, since) => came.map_err(|NoUpstream| Reason::NoUpstream)?,
                }
            }
        }
    }
}

/// Where the connection of a try comes from.
struct Source<'a> {
    from: &'a Connections<'a>,
    /// The one that the client has to itself.
    owned: Option<Owned>,
    /// When the first try began: what was idle for too long by then is closed, and what was not is young enough.
    begun: Instant,
    /// A new one in any case.
    anew: bool,
}

/// One try: over the client's own connection, or an idle one that takes the request, else over a new one.
async fn attempt(
    mut source: Source<'_>,
    in_flight: InFlight,
    mut upload: Upload,
    ask: Ask,
) -> Result<(AnswerHead, Lease), AskError> {
    let Source { from: &Connections { pool, relief, names, .. }, begun, anew, .. } = source;
    loop {
        let (mut connection, owner) = if let Some(Owned { connection, owner }) = source.owned.take() {
            (connection, Some(owner))
        } else if !anew && let Some(idle) = pool.take(in_flight.upstream(), !ask.may_repeat, begun) {
            (idle, None)
        } else {
            match dial::connect(&in_flight, relief, names, ask.connect_timeout).await {
                Ok(connection) => (connection, None),
                Err(DialError::NoDescriptor) => {
                    return Err(AskError { why: AskFailure::NoDescriptor, left: Box::new(upload) });
                }
                Err(DialError::Upstream(error)) => {
                    tracing::debug!(%error, upstream = %in_flight.upstream().spec.address, "cannot connect");
                    return Err(AskError { why: AskFailure::Unsent, left: Box::new(upload) });
                }
            }
        };
        match connection.ask(upload, ask.to_head, ask.limits).await {
            Ok(answer) => return Ok((answer, Lease { connection, pool: pool.clone(), in_flight, owner })),
            // The app may have closed an idle connection meanwhile: the next one is taken, and a new one after the last.
            Err(AskError { why: AskFailure::Unsent, left }) if connection.is_reused() => upload = *left,
            Err(error) => return Err(error),
        }
    }
}
