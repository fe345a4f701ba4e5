//! Handing a request to an upstream, and to another one where that is safe.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::time::{Instant, sleep};

use crate::{
    answer::{Asked, Reason},
    body::{AnswerBody, RequestBody, Upload, UpstreamBody},
    connection::Occupied,
    destination::{Picked, UpstreamsNow},
    dial, header,
    pool::{Connection, Lease, Pool},
    spec::LoadBalancing,
    tunnel,
    upstream::{InFlight, Live},
};

/// A request as the upstream gets it, but for hop-by-hop fields of the connection to it.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    /// In origin form.
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: RequestBody,
    pub(crate) upgrade: Option<WantedUpgrade>,
}

/// An upgrade that the client asks for.
pub(crate) struct WantedUpgrade {
    pub(crate) protocol: HeaderValue,
    pub(crate) client: OnUpgrade,
    pub(crate) occupied: Occupied,
}

/// Why a try brought no answer.
enum Failure {
    /// Nothing of the request has left; here it is.
    Unsent(Box<Request<RequestBody>>),
    /// It has left, and the connection ended without an answer.
    Sent {
        is_stale: bool,
        has_received: bool,
    },
    TooSlow,
}

/// Forwards a request and returns the upstream's answer or one of the front's own.
///
/// What was never sent is tried on another upstream, whatever its method. What was sent is tried again
/// only if it is GET, HEAD or OPTIONS without a body and no byte of an answer came: nobody can know
/// whether it was executed. Dropped, the request is given up and its connection closed.
pub(crate) async fn forward(
    pool: &Pool,
    to: &Arc<UpstreamsNow>,
    outgoing: Outgoing,
    asked: Asked,
) -> Response<AnswerBody> {
    let Outgoing { method, uri, mut headers, body, upgrade } = outgoing;
    if let Some(upgrade) = &upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade.protocol.clone());
    }
    let upload = body.upload();
    let may_repeat = upgrade.is_none()
        && body.is_empty()
        && matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);
    let copy = may_repeat.then(|| (method.clone(), uri.clone(), headers.clone()));
    let mut request = request_of(method, uri, headers, body);

    let balancing = to.balancing.load_full();
    let begun = Instant::now();
    let mut waits_since = None;
    let mut tried: Vec<Arc<Live>> = Vec::new();
    let mut pause = balancing.retry.backoff;
    let mut tries = 0;
    loop {
        let in_flight = match to.pick(&tried) {
            Picked::Upstream(in_flight) => in_flight,
            Picked::Empty(crate::WhenEmpty::Refuse) => return asked.answer(Reason::Stopped),
            Picked::Empty(crate::WhenEmpty::Wait) => {
                let since = *waits_since.get_or_insert_with(Instant::now);
                match to.wait_for_one(bytes_of(&request), since).await {
                    Ok(()) => continue,
                    Err(_) => return asked.answer(Reason::NoUpstream),
                }
            }
        };
        let live = in_flight.live().clone();
        tries += 1;
        let (is_upstreams_fault, back) = match attempt(pool, in_flight, request, &balancing, &upload).await {
            Ok((response, lease)) => {
                live.count_answer(response.status());
                return answer_of(response, lease, upgrade, asked);
            }
            Err(_) if upload.client_failed() => {
                return asked.answer(Reason::Malformed("the body of the request is broken or incomplete"));
            }
            Err(Failure::TooSlow) => {
                live.count_error();
                return asked.answer(Reason::UpstreamTooSlow);
            }
            Err(Failure::Unsent(request)) => (true, Some(*request)),
            Err(Failure::Sent { is_stale, has_received }) => {
                let again = copy.as_ref().filter(|_| !has_received);
                let again = again.map(|(method, uri, headers)| {
                    request_of(method.clone(), uri.clone(), headers.clone(), RequestBody::empty())
                });
                // An app may close an idle connection whenever it likes.
                (!is_stale || has_received, again)
            }
        };
        if is_upstreams_fault {
            live.count_error();
        }
        let Some(back) = back.filter(|_| tries < balancing.retry.attempts) else {
            return asked.answer(Reason::BadUpstream);
        };
        request = back;
        if is_upstreams_fault {
            tried.push(live);
            if !to.has_other_than(&tried) {
                tried.clear();
                if begun.elapsed() + pause > balancing.retry.timeout {
                    return asked.answer(Reason::BadUpstream);
                }
                to.changed_within(pause).await;
                pause = pause.saturating_mul(2);
            }
        }
        if begun.elapsed() > balancing.retry.timeout {
            return asked.answer(Reason::BadUpstream);
        }
    }
}

/// One try: over an idle connection if there is one that takes the request, else over a new one.
async fn attempt(
    pool: &Pool,
    in_flight: InFlight,
    mut request: Request<RequestBody>,
    balancing: &LoadBalancing,
    upload: &Upload,
) -> Result<(Response<Incoming>, Lease), Failure> {
    loop {
        let mut connection = match pool.take(in_flight.live()) {
            Some(connection) => connection,
            None => match dial::connect(&in_flight, balancing.connect_timeout).await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::debug!(%error, upstream = %in_flight.live().upstream.address, "cannot connect");
                    return Err(Failure::Unsent(Box::new(request)));
                }
            },
        };
        match send(&mut connection, request, upload, balancing.response_timeout).await {
            Ok(response) => return Ok((response, Lease { connection, pool: pool.clone(), in_flight })),
            // An idle connection that closes is no news: the next one, at the end a new one.
            Err(Failure::Unsent(unsent)) if connection.is_reused => request = *unsent,
            Err(failure) => return Err(failure),
        }
    }
}

async fn send(
    connection: &mut Connection,
    request: Request<RequestBody>,
    upload: &Upload,
    response_timeout: Duration,
) -> Result<Response<Incoming>, Failure> {
    connection.listen();
    let sent = connection.sender.try_send_request(request);
    let too_late = async {
        upload.over().await;
        sleep(response_timeout).await;
    };
    let answer = tokio::select! {
        biased;
        answer = sent => answer,
        () = too_late => return Err(Failure::TooSlow),
    };
    answer.map_err(|mut error| match error.take_message() {
        Some(unsent) => Failure::Unsent(Box::new(unsent)),
        None => Failure::Sent { is_stale: connection.is_reused, has_received: connection.has_received() },
    })
}

fn answer_of(
    response: Response<Incoming>,
    lease: Lease,
    upgrade: Option<WantedUpgrade>,
    asked: Asked,
) -> Response<AnswerBody> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match upgrade {
            Some(upgrade) => switched(response, lease, upgrade),
            // Nobody asked for it: what follows is no HTTP, and the connection closes here.
            None => asked.answer(Reason::BadUpstream),
        };
    }
    let (head, incoming) = response.into_parts();
    let mut answer = Response::new(AnswerBody::Upstream(UpstreamBody::new(incoming, lease)));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    header::toward_client(answer.headers_mut());
    answer
}

/// The upstream has agreed to the upgrade: from here on, bytes.
fn switched(response: Response<Incoming>, lease: Lease, upgrade: WantedUpgrade) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::Empty);
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = response.headers().clone();
    let protocol = response.headers().get(UPGRADE).cloned().unwrap_or(upgrade.protocol);
    header::toward_client(answer.headers_mut());
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, protocol);
    let upstream = hyper::upgrade::on(response);
    tokio::spawn(tunnel::run(upgrade.client, upstream, lease.in_flight, upgrade.occupied));
    answer
}

fn request_of(method: Method, uri: Uri, headers: HeaderMap, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    *request.version_mut() = Version::HTTP_11;
    request
}

/// What a request holds while it waits: its head; the body stays with the client.
fn bytes_of(request: &Request<RequestBody>) -> u64 {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    (fields.sum::<usize>() + target) as u64
}
