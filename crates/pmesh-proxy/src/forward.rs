//! Handing a request to an upstream, and to another one where that is safe.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use hyper::ext::ReasonPhrase;
use tokio::time::Instant;

use crate::{
    answer::Reason,
    answer_body::{AnswerBody, UpstreamBody},
    answer_head::AnswerHead,
    bad_answer::BadAnswer,
    destination::{NoUpstream, Picked, UpstreamsNow},
    dial::{self, DialError},
    exchange::Failure,
    header, login_scheme,
    logins::{Kept, Logins},
    patience::Limits,
    phase::Event,
    pool::{Lease, Owned, Pool},
    read_ahead::{Bounds, read_ahead},
    refused::Refused,
    relief::Relief,
    request_body::RequestBody,
    spec::WhenEmpty,
    tries::Tries,
    tunnel::{self, ClientSide, UpstreamEnd},
    upload::Upload,
    upstream::InFlight,
};

/// A request as the upstream gets it.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) head: Bytes,
    pub(crate) body: Option<RequestBody>,
    /// The body comes in chunks; its length is not in the head.
    pub(crate) is_chunked: bool,
    /// The head asks whether the body is wanted.
    pub(crate) asks_first: bool,
    /// How long the client may send nothing of it.
    pub(crate) body_rest: Duration,
    pub(crate) upgrade: Option<WantedUpgrade>,
    pub(crate) client: IpAddr,
    /// It logs in the connection that it is sent over.
    pub(crate) logs_in: bool,
}

/// An upgrade that the client asks for.
pub(crate) struct WantedUpgrade {
    pub(crate) protocol: HeaderValue,
    pub(crate) client: ClientSide,
}

/// Where connections to upstreams come from.
pub(crate) struct Connections<'a> {
    pub(crate) pool: &'a Pool,
    /// What a new one needs.
    pub(crate) relief: &'a Relief,
    /// Those that the client has to itself.
    pub(crate) logins: &'a Logins,
}

/// What a try needs to know about its request.
#[derive(Clone, Copy)]
struct Ask {
    to_head: bool,
    /// Sent twice, it does no harm.
    may_repeat: bool,
    connect_timeout: Duration,
    limits: Limits,
}

/// Forwards a request and returns the upstream's answer, with what is left of the request's body and goes
/// nowhere.
///
/// What was never sent is tried on another upstream, whatever its method. What was sent is tried again
/// only if it is GET, HEAD or OPTIONS without a body and no byte of an answer came: nobody can know
/// whether it was executed; and that once, because it may be what ended the upstream. Dropped, the request
/// is given up and its connection closed.
///
/// A connection over which a login is spoken is from then on for this client's connection alone.
pub(crate) async fn forward(
    from: &Connections<'_>,
    to: &Arc<UpstreamsNow>,
    outgoing: Outgoing,
) -> Result<(Response<AnswerBody>, Option<RequestBody>), Refused> {
    let Outgoing { method, head, mut body, is_chunked, asks_first, body_rest, upgrade, client, logs_in } =
        outgoing;
    let balancing = to.balancing.load_full();
    let ask = Ask {
        to_head: method == Method::HEAD,
        may_repeat: upgrade.is_none()
            && body.is_none()
            && matches!(method, Method::GET | Method::HEAD | Method::OPTIONS),
        connect_timeout: balancing.connect_timeout,
        limits: Limits { upstream: balancing.response_timeout, client: body_rest },
    };
    if let Some(body) = body.as_mut().filter(|_| !asks_first && !to.refuses()) {
        let bounds = Bounds { body: balancing.buffer, all: balancing.queue.bytes, rest: body_rest };
        read_ahead(body, bounds, &to.held).await?;
    }
    let mut upload = Upload::new(head.clone(), body, is_chunked, asks_first);
    let mut tries = Tries::new(&balancing.retry, ask.may_repeat);
    let mut kept = from.logins.take(client, to);
    loop {
        let (in_flight, owned) = match std::mem::replace(&mut kept, Kept::Nothing) {
            Kept::Connection(in_flight, owned) => (in_flight, Some(owned)),
            Kept::Nothing | Kept::Left => match next_upstream(to, &mut tries, head.len() as u64).await {
                Ok(in_flight) => (in_flight, None),
                Err(reason) => return Err(Refused { reason, left: upload.into_body() }),
            },
        };
        let had_login = owned.is_some();
        let live = in_flight.live().clone();
        let begun = tries.begin(Instant::now);
        let source = Source { from, owned, begun, anew: tries.is_anew() };
        let tried = attempt(source, in_flight, upload, ask).await;
        if had_login && !tried.as_ref().is_ok_and(|(_, lease)| lease.owner.is_some()) {
            from.logins.lose(client, to);
        }
        let failure = match tried {
            Ok((answer, mut lease)) => {
                live.count_answer(answer.status);
                if logs_in || lease.owner.is_some() || login_scheme::in_answer(answer.status, &answer.headers)
                {
                    from.logins.keep(client, to, &mut lease);
                }
                let left = lease.connection.take_abandoned();
                return answer_of(answer, lease, upgrade).map(|answer| (answer, left));
            }
            Err(failure) => failure,
        };
        let bad_answer = failure.bad_answer();
        let failed = tries.on_failure(failure, || Upload::new(head.clone(), None, false, false));
        match bad_answer {
            Some(why) if failed.is_error => live.count_bad_answer(why, Instant::now()),
            None if failed.is_error => live.count_error(),
            Some(_) | None => {}
        }
        upload = failed.next?;
        if failed.is_upstreams_fault && !tries.turn_to_others(to, live).await {
            return Err(Refused { reason: Reason::BadUpstream, left: upload.into_body() });
        }
        if tries.is_over() {
            return Err(Refused { reason: Reason::BadUpstream, left: upload.into_body() });
        }
    }
}

/// The upstream for the next try; waits for one where one is expected.
async fn next_upstream(to: &UpstreamsNow, tries: &mut Tries<'_>, bytes: u64) -> Result<InFlight, Reason> {
    loop {
        match to.pick(tries.tried()) {
            Picked::Upstream(in_flight) => return Ok(in_flight),
            Picked::Empty(WhenEmpty::Refuse) => return Err(Reason::Stopped),
            Picked::Empty(WhenEmpty::Wait) => {
                let since = tries.waits_since(Instant::now);
                to.wait_for_one(bytes, since).await.map_err(|NoUpstream| Reason::NoUpstream)?;
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
) -> Result<(AnswerHead, Lease), Failure> {
    let Source { from: &Connections { pool, relief, .. }, begun, anew, .. } = source;
    loop {
        let (mut connection, owner) = if let Some(Owned { connection, owner }) = source.owned.take() {
            (connection, Some(owner))
        } else if !anew && let Some(idle) = pool.take(in_flight.live(), !ask.may_repeat, begun) {
            (idle, None)
        } else {
            match dial::connect(&in_flight, relief, ask.connect_timeout).await {
                Ok(connection) => (connection, None),
                Err(DialError::NoDescriptor) => return Err(Failure::NoDescriptor(Box::new(upload))),
                Err(DialError::Upstream(error)) => {
                    tracing::debug!(%error, upstream = %in_flight.live().upstream.address, "cannot connect");
                    return Err(Failure::Unsent(Box::new(upload)));
                }
            }
        };
        match connection.ask(upload, ask.to_head, ask.limits).await {
            Ok(answer) => return Ok((answer, Lease { connection, pool: pool.clone(), in_flight, owner })),
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
) -> Result<Response<AnswerBody>, Refused> {
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        // Where nobody asked for it, what follows is no HTTP, and the connection closes here.
        let Some(upgrade) = upgrade else {
            lease.in_flight.live().count_bad_answer(BadAnswer::UnaskedSwitch, Instant::now());
            return Err(Refused { reason: Reason::BadUpstream, left: None });
        };
        return Ok(switched(answer, lease, upgrade));
    }
    let AnswerHead { status, reason, headers, protocol, .. } = answer;
    let is_early = lease.connection.is_answered_early();
    let body = if lease.connection.is_answered() {
        lease.give_back();
        AnswerBody::Empty
    } else if let Some(whole) = lease.connection.take_whole_body() {
        lease.give_back();
        AnswerBody::bytes(whole)
    } else {
        AnswerBody::Upstream(UpstreamBody::new(lease))
    };
    let mut response = begun(body, status, reason, headers);
    let fields = response.headers_mut();
    // RFC 9110, section 15.5.22: without it the client cannot know to what.
    if let Some(protocol) = protocol.filter(|_| status == StatusCode::UPGRADE_REQUIRED) {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, protocol);
    }
    if is_early {
        header::close_behind(fields);
    }
    Ok(response)
}

fn begun(
    body: AnswerBody,
    status: StatusCode,
    reason: Option<ReasonPhrase>,
    headers: HeaderMap,
) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    response
}

/// The upstream has agreed to the upgrade: from here on, bytes.
fn switched(answer: AnswerHead, lease: Lease, upgrade: WantedUpgrade) -> Response<AnswerBody> {
    let AnswerHead { status, reason, headers, protocol, .. } = answer;
    let mut response = begun(AnswerBody::Empty, status, reason, headers);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, protocol.unwrap_or(upgrade.protocol));
    let Lease { connection, in_flight, pool: _, owner: _ } = lease;
    let (stream, sent, open) = connection.into_tunnel();
    let upstream = UpstreamEnd { stream, sent, open };
    upgrade.client.at_work.phases().on(Event::Switched);
    tokio::spawn(tunnel::run(upgrade.client, upstream, in_flight));
    response
}
