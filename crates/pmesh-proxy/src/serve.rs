//! A request's way through the front: client session, host, routes, answer.

use std::{sync::Arc, time::Instant};

use futures_util::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{HOST, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use hyper::body::Incoming;
use pmesh_sessions::{ClientKey, Verdict};
use tokio::{runtime::Handle, sync::watch};

use crate::{
    answer::{Asked, Reason},
    body::{AnswerBody, LocalBody, RequestBody},
    connection::{ConnectionInfo, Occupied},
    files::{self, Found},
    forward::{self, Outgoing, WantedUpgrade},
    front::{FrontLimits, Stage},
    header::{self, Sender, X_FORWARDED_FOR, X_REQUEST_ID},
    host,
    path::Path,
    pool::Pool,
    request_id::RequestIds,
    routing::End,
    tables::Tables,
};

/// The host that is handed to the [`LocalHandler`].
const LOCAL_HOST: &str = "pm3";
/// The longest target of a request, in bytes; beyond it 414.
const MAX_TARGET: usize = 16 << 10;

/// Answers the requests for the host `pm3`.
pub trait LocalHandler: Send + Sync + 'static {
    /// Answers one request, as it came: who may do what is for the handler to decide.
    ///
    /// Runs on the runtime that was given to [`Front::serve`](crate::Front::serve), never on a front
    /// thread, and runs to its end though the client may go away; a panic is answered 500.
    fn handle(
        &self,
        request: Request<Incoming>,
        connection: ConnectionInfo,
    ) -> BoxFuture<'static, Response<LocalBody>>;
}

/// What a front thread's requests share.
pub(crate) struct ThreadContext {
    pub(crate) tables: Tables,
    pub(crate) limits: Arc<FrontLimits>,
    pub(crate) local: Option<(Arc<dyn LocalHandler>, Handle)>,
    pub(crate) pool: Pool,
    pub(crate) request_ids: RequestIds,
    pub(crate) stage: watch::Receiver<Stage>,
}

/// Answers a request.
pub(crate) async fn respond(
    thread: Arc<ThreadContext>,
    connection: ConnectionInfo,
    request: Request<Incoming>,
    occupied: Occupied,
) -> Response<AnswerBody> {
    let peer = connection.peer.ip();
    let tables = &thread.tables;
    let is_trusted = tables.trusted().contains(peer);
    let chain = request.headers().get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let client = tables.trusted().client_of(peer, chain);
    let sender = Sender { peer, is_trusted, client };
    let verdict = tables.sessions().record(ClientKey::from(client), Instant::now());

    let id = header::kept_request_id(request.headers()).cloned().unwrap_or_else(|| thread.request_ids.next());
    let asked = Asked::by(request.method(), request.headers());
    let mut answer = match verdict {
        Verdict::Blocked { until: _ } => asked.answer(Reason::Blocked),
        Verdict::Allow => match check(&request) {
            Ok(name) => route(&thread, connection, request, &name, sender, &id, asked, occupied).await,
            Err(reason) => asked.answer(reason),
        },
    };
    answer.headers_mut().insert(X_REQUEST_ID, id);
    answer
}

/// Refuses what hyper lets through and no program should see, and finds the host that a request is for.
fn check(request: &Request<Incoming>) -> Result<String, Reason> {
    match *request.method() {
        Method::CONNECT | Method::TRACE => {
            return Err(Reason::MethodNotAllowed("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        _ => {}
    }
    let target = request.uri();
    if target.path_and_query().map_or(0, |target| target.as_str().len()) > MAX_TARGET {
        return Err(Reason::TargetTooLong);
    }
    // hyper takes the last of several codings; whoever is behind us may take another one.
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Reason::Malformed("chunked, once, is the only transfer coding here"));
    }
    host_of(request.uri(), request.headers(), request.version())
}

/// RFC 9112, section 3.2: exactly one `Host`, and the target's authority before it.
fn host_of(target: &Uri, headers: &HeaderMap, version: Version) -> Result<String, Reason> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Reason::Malformed("the request names two hosts"));
    }
    let in_field = match host {
        None if version < Version::HTTP_11 => Some(String::new()),
        None => None,
        Some(value) => value.to_str().ok().and_then(host::name_in).map(String::from),
    };
    let in_field =
        in_field.ok_or(Reason::Malformed("the request names no host, or what it names is none"))?;
    match target.authority() {
        None => Ok(in_field),
        Some(_) if !matches!(target.scheme_str(), Some("http" | "https")) => {
            Err(Reason::Malformed("the target of the request is no http address"))
        }
        Some(authority) => host::name_in(authority.as_str())
            .map(String::from)
            .ok_or(Reason::Malformed("the target of the request names no host")),
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of one request; a struct would only rename them")]
async fn route(
    thread: &Arc<ThreadContext>,
    connection: ConnectionInfo,
    mut request: Request<Incoming>,
    name: &str,
    sender: Sender,
    id: &HeaderValue,
    asked: Asked,
    occupied: Occupied,
) -> Response<AnswerBody> {
    if name == LOCAL_HOST
        && let Some((handler, control)) = &thread.local
    {
        return handed_over(handler, control, request, connection, asked).await;
    }
    if request.method() == Method::OPTIONS && request.uri().path() == "*" {
        return asked.text(StatusCode::NO_CONTENT, "");
    }
    let raw_path = request.uri().path().to_owned();
    let Ok(path) = Path::read(&raw_path) else {
        return asked.answer(Reason::Malformed("the path of the request can be read in two ways"));
    };
    let routing = thread.tables.routing();
    let Some((site, seen)) = routing.site(name) else {
        return asked.answer(Reason::UnknownHost);
    };
    let site = site.clone();
    drop(routing);

    let mut refused_method = false;
    for end in site.ends(&seen, &path.compared) {
        match end {
            End::Upstreams(upstreams) => {
                let outgoing = outgoing(&mut request, &path, sender, id, occupied);
                let body = RequestBody::new(request.into_body());
                return forward::forward(&thread.pool, upstreams, outgoing(body), asked).await;
            }
            End::Files(files) => {
                match files::find(
                    files,
                    request.method(),
                    request.headers(),
                    &path,
                    request.uri().query(),
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

/// The request as the upstream gets it; its body is put in last.
fn outgoing(
    request: &mut Request<Incoming>,
    path: &Path<'_>,
    sender: Sender,
    id: &HeaderValue,
    occupied: Occupied,
) -> impl FnOnce(RequestBody) -> Outgoing + use<> {
    // An upgrade with a body is passed on without the upgrade: where it ends would be a matter of taste.
    let is_plain = hyper::body::Body::is_end_stream(request.body());
    let protocol = header::wanted_upgrade(request.headers()).filter(|_| is_plain);
    let upgrade = protocol.map(|protocol| WantedUpgrade {
        protocol,
        client: hyper::upgrade::on(&mut *request),
        occupied,
    });
    let uri = origin_form(request.uri(), path);
    let method = request.method().clone();
    let authority =
        request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let mut headers = std::mem::take(request.headers_mut());
    if let Some(authority) = authority {
        headers.insert(HOST, authority);
    }
    headers.entry(HOST).or_insert(HeaderValue::from_static(""));
    header::toward_upstream(&mut headers, sender, id);
    move |body| Outgoing { method, uri, headers, body, upgrade }
}

/// The target as it is sent to a server (RFC 9112, section 3.2.1), with the path that was routed.
fn origin_form(target: &Uri, path: &Path<'_>) -> Uri {
    if target.authority().is_none() && target.path() == path.forwarded {
        return target.clone();
    }
    let text = match target.query() {
        Some(query) => format!("{}?{query}", path.forwarded),
        None => path.forwarded.clone().into_owned(),
    };
    PathAndQuery::try_from(text).map_or_else(|_| Uri::default(), Uri::from)
}

async fn handed_over(
    handler: &Arc<dyn LocalHandler>,
    control: &Handle,
    request: Request<Incoming>,
    connection: ConnectionInfo,
    asked: Asked,
) -> Response<AnswerBody> {
    let handler = handler.clone();
    let answered = control.spawn(async move { handler.handle(request, connection).await });
    match answered.await {
        Ok(answer) => answer.map(AnswerBody::Local),
        Err(error) => {
            tracing::error!(%error, "the handler of the pm3 host failed");
            asked.answer(Reason::Broken)
        }
    }
}
