//! A request's way through the front: client session, host, routes, answer.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Instant};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING},
    request::Parts,
};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::OnUpgrade,
};
use pmesh_sessions::{ClientKey, Verdict};
use tokio::{runtime::Handle, task::JoinSet};

use crate::{
    answer::{Asked, Reason},
    answer_body::AnswerBody,
    at_work::AtWork,
    caller::{Caller, ConnectionInfo, LocalHandler},
    discard::discard,
    files::{self, Found},
    forward::{self, Outgoing, WantedUpgrade},
    header::{self, About, BodySize, X_FORWARDED_FOR, X_REQUEST_ID},
    host, login_scheme,
    path::Path,
    phase::Event,
    refused::Refused,
    request_body::RequestBody,
    routing::End,
    tunnel::ClientSide,
};

/// The host that is handed to the [`LocalHandler`].
const LOCAL_HOST: &str = "pm3";
/// The longest target of a request, in bytes; beyond it 414.
const MAX_TARGET: usize = 16 << 10;

/// What is said of a path that the routes and a program behind may not agree on.
const TWO_READINGS: Reason = Reason::Malformed("the path of the request can be read in two ways");

/// The body of a request, as its way through the front goes.
enum Body {
    Unread(Incoming),
    /// What somebody who was given it left.
    Left(Option<RequestBody>),
}

impl Body {
    fn take(&mut self) -> Option<Incoming> {
        match std::mem::replace(self, Self::Left(None)) {
            Self::Unread(incoming) => Some(incoming),
            Self::Left(_) => None,
        }
    }
}

/// Answers a request.
pub(crate) async fn respond(
    caller: Arc<Caller>,
    request: Request<Incoming>,
    at_work: AtWork,
) -> Response<AnswerBody> {
    let (mut head, body) = request.into_parts();
    let mut body = Body::Unread(body);
    let version = head.version;
    let tables = &caller.thread.tables;
    let chain = head.headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let client = tables.trusted().client_of(caller.peer.ip, chain);
    let verdict = tables.sessions().record(ClientKey::from(client), Instant::now());

    let id = header::kept_request_id(&head.headers).cloned();
    let id = id.unwrap_or_else(|| caller.thread.request_ids.next());
    let asked = Asked::by(&head.method, &head.headers);
    let mut answer = match verdict {
        Verdict::Blocked { until: _ } => asked.answer(Reason::Blocked),
        Verdict::Allow => route(&caller, &mut head, &mut body, &at_work, client, &id, asked).await,
    };
    let left = match body {
        Body::Unread(incoming) => Some(RequestBody::sent(incoming, at_work)),
        Body::Left(left) => left,
    };
    let may_not_come = head.headers.contains_key(EXPECT);
    discard(left, may_not_come, answer.headers_mut(), &caller.thread.stage);
    answer.headers_mut().insert(X_REQUEST_ID, id);
    // Whoever speaks 1.0 knows no chunks: what has no length ends with its connection.
    let ends_with_connection = version == Version::HTTP_10 && answer.body().size_hint().exact().is_none();
    let is_closing = caller.logins.is_closing() && answer.status() != StatusCode::SWITCHING_PROTOCOLS;
    if ends_with_connection || is_closing {
        header::close_behind(answer.headers_mut());
    }
    if version == Version::HTTP_10 && header::says_close(answer.headers()) {
        // To an answer of 1.1 hyper adds that the connection is kept.
        *answer.version_mut() = Version::HTTP_10;
    }
    answer
}

/// Refuses what hyper lets through and no program should see, and finds the host that a request is for.
fn check(request: &Parts) -> Result<Cow<'_, str>, Reason> {
    if matches!(request.method, Method::CONNECT | Method::TRACE) {
        return Err(Reason::MethodRefused);
    }
    let target = &request.uri;
    if target.path_and_query().map_or(0, |target| target.as_str().len()) > MAX_TARGET {
        return Err(Reason::TargetTooLong);
    }
    // hyper takes the last of several codings; whoever is behind us may take another one.
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Reason::Malformed("chunked, once, is the only transfer coding here"));
    }
    host_of(&request.uri, &request.headers, request.version)
}

/// RFC 9112, section 3.2: exactly one `Host`, and the target's authority before it.
fn host_of<'a>(target: &'a Uri, headers: &'a HeaderMap, version: Version) -> Result<Cow<'a, str>, Reason> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Reason::Malformed("the request names two hosts"));
    }
    let in_field = match host {
        None if version < Version::HTTP_11 => Some(Cow::Borrowed("")),
        None => None,
        Some(value) => value.to_str().ok().and_then(host::name_in),
    };
    let in_field =
        in_field.ok_or(Reason::Malformed("the request names no host, or what it names is none"))?;
    match target.authority() {
        None => Ok(in_field),
        Some(_) if !matches!(target.scheme_str(), Some("http" | "https")) => {
            Err(Reason::Malformed("the target of the request is no http address"))
        }
        Some(authority) => host::name_in(authority.as_str())
            .ok_or(Reason::Malformed("the target of the request names no host")),
    }
}

async fn route(
    caller: &Caller,
    head: &mut Parts,
    body: &mut Body,
    at_work: &AtWork,
    client: IpAddr,
    id: &HeaderValue,
    asked: Asked,
) -> Response<AnswerBody> {
    let thread = &caller.thread;
    let name = match check(head) {
        Ok(name) => name,
        Err(reason) => return asked.answer(reason),
    };
    if name == LOCAL_HOST
        && let Some((handler, control)) = &thread.local
    {
        drop(name);
        let Some(body) = body.take() else { return asked.answer(Reason::Broken) };
        // As on the API's own port: whoever hangs up there waits for nothing.
        at_work.phases().on(Event::HandedOver);
        let request = as_routed(head, RequestBody::sent(body, at_work.clone()));
        return handed_over(handler, control, request, caller.connection, asked).await;
    }
    if head.method == Method::OPTIONS && head.uri.path() == "*" {
        return asked.text(StatusCode::NO_CONTENT, "");
    }
    let Ok(path) = Path::read(head.uri.path()) else {
        return asked.answer(TWO_READINGS);
    };
    let routing = thread.tables.routing();
    let Some((site, seen)) = routing.site(&name) else {
        return asked.answer(Reason::UnknownHost);
    };
    let (site, seen) = (site.clone(), seen.into_owned());
    drop((routing, name));

    let mut refused_method = false;
    for end in site.ends(&seen, &path.seen) {
        match end {
            End::Upstreams(upstreams) => {
                if !site.leads_there_alone(&seen, &path, upstreams) {
                    return asked.answer(TWO_READINGS);
                }
                let sent = body.take().filter(|incoming| !incoming.is_end_stream());
                let sent = sent.map(|incoming| RequestBody::sent(incoming, at_work.clone()));
                // hyper gives it to what may be upgraded at all: HTTP/1.0 may not.
                let tunnel = head.extensions.remove::<OnUpgrade>();
                let outgoing = outgoing(head, tunnel, sent, caller, at_work, client, id);
                let forwarded = forward::forward(&caller.connections(), upstreams, outgoing).await;
                let (answer, left) = match forwarded {
                    Ok(answered) => answered,
                    Err(Refused { reason, left }) => (asked.answer(reason), left),
                };
                *body = Body::Left(left);
                return answer;
            }
            End::Files(files) => {
                match files::find(
                    files,
                    &thread.relief,
                    &head.method,
                    &head.headers,
                    &path,
                    head.uri.query(),
                    asked,
                )
                .await
                {
                    Found::Answer(answer) => return answer,
                    Found::Nothing => {}
                    Found::OtherMethod => refused_method = true,
                }
            }
            End::Nowhere => return asked.answer(Reason::Stopped),
            End::Return { status, text } => return asked.text(*status, text),
            End::Status(status) => return asked.answer(Reason::Status(*status)),
            End::Redirect(to) => return asked.redirect(StatusCode::FOUND, to),
        }
    }
    asked.answer(if refused_method { Reason::MethodNotAllowed("GET, HEAD") } else { Reason::NoRoute })
}

/// The request as the upstream gets it.
fn outgoing(
    request: &Parts,
    tunnel: Option<OnUpgrade>,
    sent: Option<RequestBody>,
    caller: &Caller,
    at_work: &AtWork,
    client: IpAddr,
    id: &HeaderValue,
) -> Outgoing {
    let headers = &request.headers;
    // An upgrade with a body is passed on without the upgrade: where it ends would be a matter of taste.
    let upgrade = tunnel.filter(|_| sent.is_none()).and_then(|upgrade| {
        let protocol = header::wanted_upgrade(headers)?;
        let (at_work, occupied) = (at_work.clone(), caller.occupied.clone());
        Some(WantedUpgrade { protocol, client: ClientSide { upgrade, at_work, occupied } })
    });
    let body = match sent.as_ref().map(RequestBody::exact_size) {
        Some(Some(length)) => BodySize::Length(length),
        Some(None) => BodySize::Unknown,
        None if headers.contains_key(CONTENT_LENGTH) => BodySize::Length(0),
        None => BodySize::Unsaid,
    };
    let host = match request.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes),
    };
    let asks_first = sent.is_some() && header::asks_first(request.version, headers);
    let about = About {
        peer: &caller.peer,
        client,
        request_id: id,
        upgrade: upgrade.as_ref().map(|upgrade| &upgrade.protocol),
        asks_first,
        body,
    };
    Outgoing {
        head: header::toward_upstream(&request.method, &target(&request.uri), host, headers, &about),
        method: request.method.clone(),
        body: sent,
        is_chunked: body == BodySize::Unknown,
        asks_first,
        body_rest: caller.thread.limits.body_rest,
        upgrade,
        client,
        logs_in: login_scheme::in_request(headers),
    }
}

/// The target as it is sent to a server, in origin form (RFC 9112, section 3.2.1), spelled as the client did.
fn target(uri: &Uri) -> Cow<'_, str> {
    match uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => Cow::Borrowed(target.as_str()),
        // Of `http://site.com?b` it is `?b`.
        Some(query) => Cow::Owned(format!("/{}", query.as_str())),
        None => Cow::Borrowed("/"),
    }
}

/// The request as its handler gets it; the head is used up.
fn as_routed(head: &mut Parts, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::from_parts(std::mem::replace(head, Request::new(()).into_parts().0), body);
    // Whoever judges by `Host` judges by what was routed (RFC 9112, section 3.2.2).
    let named = request.uri().authority().map(|named| HeaderValue::from_str(named.as_str()));
    if let Some(Ok(named)) = named {
        request.headers_mut().insert(HOST, named);
    }
    request
}

async fn handed_over(
    handler: &Arc<dyn LocalHandler>,
    control: &Handle,
    request: Request<RequestBody>,
    connection: ConnectionInfo,
    asked: Asked,
) -> Response<AnswerBody> {
    let handler = handler.clone();
    // Dropped with its caller's connection, the set ends what it has.
    let mut handling = JoinSet::new();
    handling.spawn_on(async move { handler.handle(request, connection).await }, control);
    match handling.join_next().await {
        Some(Ok(answer)) => answer.map(AnswerBody::Local),
        None => asked.answer(Reason::Broken),
        Some(Err(error)) => {
            tracing::error!(%error, "the handler of the pm3 host failed");
            asked.answer(Reason::Broken)
        }
    }
}
