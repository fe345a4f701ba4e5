//! Handing a request to an upstream, and to another one where that is safe.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use tokio::time::Instant;

use crate::{
    answer::{Asked, Reason},
    answer_body::{AnswerBody, UpstreamBody},
    answer_head::AnswerHead,
    destination::{Picked, UpstreamsNow},
    dial,
    exchange::{Failure, Upload},
    phase::Event,
    pool::{Lease, Pool},
    request_body::RequestBody,
    spec::{LoadBalancing, WhenEmpty},
    tunnel::{self, ClientSide, UpstreamEnd},
    upstream::{InFlight, Live},
};

/// A request as the upstream gets it.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) head: Bytes,
    pub(crate) body: Option<RequestBody>,
    /// The body comes in chunks; its length is not in the head.
    pub(crate) is_chunked: bool,
    pub(crate) upgrade: Option<WantedUpgrade>,
}

/// An upgrade that the client asks for.
pub(crate) struct WantedUpgrade {
    pub(crate) protocol: HeaderValue,
    pub(crate) client: ClientSide,
}

/// How often an upstream may have executed a request before it is given up.
const MAX_EXECUTIONS: u32 = 2;

/// What a try that failed leaves.
enum Again {
    /// This can be sent.
    With(Box<Upload>),
    /// Nothing can; here is what is left of the body.
    Never(Option<RequestBody>),
}

/// What a try needs to know about its request.
#[derive(Clone, Copy)]
struct Ask {
    to_head: bool,
    /// Sent twice, it does no harm.
    may_repeat: bool,
    connect_timeout: Duration,
    response_timeout: Duration,
}

/// Forwards a request and returns the upstream's answer or one of the front's own.
///
/// What was never sent is tried on another upstream, whatever its method. What was sent is tried again
/// only if it is GET, HEAD or OPTIONS without a body and no byte of an answer came: nobody can know
/// whether it was executed; and that once, because it may be what ended the upstream. Dropped, the request
/// is given up and its connection closed. With the answer comes what is left of the request's body and goes
/// nowhere.
pub(crate) async fn forward(
    pool: &Pool,
    to: &Arc<UpstreamsNow>,
    outgoing: Outgoing,
    asked: Asked,
) -> (Response<AnswerBody>, Option<RequestBody>) {
    let Outgoing { method, head, body, is_chunked, upgrade } = outgoing;
    let balancing = to.balancing.load_full();
    let LoadBalancing { retry, connect_timeout, response_timeout, .. } = &*balancing;
    let ask = Ask {
        to_head: method == Method::HEAD,
        may_repeat: upgrade.is_none()
            && body.is_none()
            && matches!(method, Method::GET | Method::HEAD | Method::OPTIONS),
        connect_timeout: *connect_timeout,
        response_timeout: *response_timeout,
    };
    let mut upload = Upload::new(head.clone(), body, is_chunked);

    // The time in the queue is none of the tries'.
    let mut begun = None;
    let mut waits_since = None;
    let mut tried: Vec<Arc<Live>> = Vec::new();
    let mut pause = retry.backoff;
    let (mut attempts, mut executions) = (0, 0);
    loop {
        let in_flight = match to.pick(&tried) {
            Picked::Upstream(in_flight) => in_flight,
            Picked::Empty(WhenEmpty::Refuse) => {
                return (asked.answer(Reason::Stopped), upload.into_body());
            }
            Picked::Empty(WhenEmpty::Wait) => {
                let since = *waits_since.get_or_insert_with(Instant::now);
                match to.wait_for_one(head.len() as u64, since).await {
                    Ok(()) => continue,
                    Err(_) => return (asked.answer(Reason::NoUpstream), upload.into_body()),
                }
            }
        };
        let live = in_flight.live().clone();
        let begun = *begun.get_or_insert_with(Instant::now);
        attempts += 1;
        let (is_upstreams_fault, back) =
            match attempt(pool, in_flight, upload, ask, begun, executions > 0).await {
                Ok((answer, mut lease)) => {
                    live.count_answer(answer.status);
                    let left = lease.connection.take_abandoned();
                    return (answer_of(answer, lease, upgrade, asked), left);
                }
                Err(Failure::Client) => {
                    let reason = Reason::Malformed("the body of the request is broken or incomplete");
                    return (asked.answer(reason), None);
                }
                Err(Failure::TooSlow { left }) => {
                    live.count_error();
                    return (asked.answer(Reason::UpstreamTooSlow), left);
                }
                Err(Failure::Unsent(upload)) => (true, Again::With(upload)),
                Err(Failure::Sent { is_stale, has_begun, left }) => {
                    // An app may close an idle connection whenever it likes; a new one it will not.
                    let is_upstreams_fault = !is_stale || has_begun;
                    executions += 1;
                    let again = ask.may_repeat && !has_begun && executions < MAX_EXECUTIONS;
                    let upload = again.then(|| Box::new(Upload::new(head.clone(), None, false)));
                    (is_upstreams_fault, upload.map_or(Again::Never(left), Again::With))
                }
            };
        if is_upstreams_fault {
            live.count_error();
        }
        upload = match back {
            Again::With(upload) if attempts < retry.attempts => *upload,
            Again::With(upload) => return (asked.answer(Reason::BadUpstream), upload.into_body()),
            Again::Never(left) => {
                // What may happen to an idle connection is no error, unless a request is lost over it.
                if !is_upstreams_fault {
                    live.count_error();
                }
                return (asked.answer(Reason::BadUpstream), left);
            }
        };
        if is_upstreams_fault {
            tried.push(live);
            if !to.has_other_than(&tried) {
                tried.clear();
                if begun.elapsed() + pause > retry.timeout {
                    return (asked.answer(Reason::BadUpstream), upload.into_body());
                }
                to.changed_within(pause).await;
                pause = pause.saturating_mul(2);
            }
        }
        if begun.elapsed() > retry.timeout {
            return (asked.answer(Reason::BadUpstream), upload.into_body());
        }
    }
}

/// One try: over an idle connection if there is one that takes the request, else over a new one. `anew`: over a
/// new one in any case.
async fn attempt(
    pool: &Pool,
    in_flight: InFlight,
    mut upload: Upload,
    ask: Ask,
    // Of the first try: what was idle for too long by then is closed, and what was not is young enough.
    begun: Instant,
    anew: bool,
) -> Result<(AnswerHead, Lease), Failure> {
    loop {
        let idle = if anew { None } else { pool.take(in_flight.live(), !ask.may_repeat, begun) };
        let mut connection = match idle {
            Some(connection) => connection,
            None => match dial::connect(&in_flight, ask.connect_timeout).await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::debug!(%error, upstream = %in_flight.live().upstream.address, "cannot connect");
                    return Err(Failure::Unsent(Box::new(upload)));
                }
            },
        };
        match connection.ask(upload, ask.to_head, ask.response_timeout).await {
            Ok(answer) => return Ok((answer, Lease { connection, pool: pool.clone(), in_flight })),
            // An idle connection that closes is no news: the next one, at the end a new one.
            Err(Failure::Unsent(unsent)) if connection.is_reused() => upload = *unsent,
            Err(failure) => return Err(failure),
        }
    }
}

fn answer_of(
    answer: AnswerHead,
    mut lease: Lease,
    upgrade: Option<WantedUpgrade>,
    asked: Asked,
) -> Response<AnswerBody> {
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        return match upgrade {
            Some(upgrade) => switched(answer, lease, upgrade),
            // Nobody asked for it: what follows is no HTTP, and the connection closes here.
            None => asked.answer(Reason::BadUpstream),
        };
    }
    let body = if lease.connection.is_answered() {
        lease.give_back();
        AnswerBody::Empty
    } else if let Some(whole) = lease.connection.take_whole_body() {
        lease.give_back();
        AnswerBody::bytes(whole)
    } else {
        AnswerBody::Upstream(UpstreamBody::new(lease))
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// The upstream has agreed to the upgrade: from here on, bytes.
fn switched(answer: AnswerHead, lease: Lease, upgrade: WantedUpgrade) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Empty);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, answer.protocol.unwrap_or(upgrade.protocol));
    let Lease { connection, in_flight, pool: _ } = lease;
    let (stream, sent, open) = connection.into_tunnel();
    let upstream = UpstreamEnd { stream, sent, open };
    upgrade.client.at_work.phases().on(Event::Switched);
    tokio::spawn(tunnel::run(upgrade.client, upstream, in_flight));
    response
}
