//! A request's way through the front, stage by stage: count, judge, host, path, routes, destination, answer.

use std::sync::Arc;

use http::{Response, StatusCode, request::Parts};

use crate::{
    answer::Reason,
    answer_body::AnswerBody,
    at_work::AtWork,
    check,
    context::ConnectionContext,
    exchange::Exchange,
    files::{self, FileAccess, Found},
    forward, local_host,
    outgoing::Outgoing,
    path::Path,
    request_body::RequestBody,
    routing_table::{RouteEnd, SiteRoutes},
    upstream_answer::{self, WantedUpgrade},
    upstream_group::UpstreamGroup,
};

/// What is said of a path that the routes and a program behind may not agree on.
const TWO_READINGS: Reason = Reason::Malformed("the path of the request can be read in two ways");

/// Answers a request.
pub(crate) async fn respond(
    caller: &ConnectionContext,
    head: Parts,
    mut body: Option<RequestBody>,
    at_work: &AtWork,
) -> Response<AnswerBody> {
    let exchange = Exchange::new(caller, at_work, head);
    let answered = stages(&exchange, &mut body).await;
    exchange.end(answered, body)
}

/// The stages of a request, in their order: each goes on to the next, has the answer, or a reason for none. What
/// nobody wants of the body stays in `body`.
async fn stages(
    exchange: &Exchange<'_>,
    body: &mut Option<RequestBody>,
) -> Result<Response<AnswerBody>, Reason> {
    exchange.count()?;
    check::check(&exchange.head)?;
    let host = check::host_of(&exchange.head)?;
    if let Some(local) = local_host::handler(exchange, &host) {
        return local_host::hand_over(local, exchange, body.take()).await;
    }
    if exchange.is_for_the_server() {
        return Ok(exchange.asked().text(StatusCode::NO_CONTENT, ""));
    }
    let path = Path::read(exchange.head.uri.path()).map_err(|_| TWO_READINGS)?;
    let there = OnSite::find(exchange, &host, path)?;
    routes(exchange, &there, body).await
}

/// Where a request goes, as the routes see it.
struct OnSite<'a> {
    site: Arc<SiteRoutes>,
    /// The host as the site's patterns see it.
    host: String,
    path: Path<'a>,
}

impl<'a> OnSite<'a> {
    fn find(exchange: &Exchange<'_>, host: &str, path: Path<'a>) -> Result<Self, Reason> {
        let routing = exchange.caller.thread.tables.routing();
        let (site, host) = routing.site(host).ok_or(Reason::UnknownHost)?;
        Ok(Self { site: site.clone(), host: host.into_owned(), path })
    }
}

/// Goes along the routes that match until one has an answer.
async fn routes(
    exchange: &Exchange<'_>,
    there: &OnSite<'_>,
    body: &mut Option<RequestBody>,
) -> Result<Response<AnswerBody>, Reason> {
    let mut refused_method = false;
    for end in there.site.ends(&there.host, &there.path.seen) {
        match destination(exchange, there, end, body).await? {
            Found::Answer(answer) => return Ok(answer),
            Found::Nothing => {}
            Found::OtherMethod => refused_method = true,
        }
    }
    Err(if refused_method { Reason::MethodNotAllowed("GET, HEAD") } else { Reason::NoRoute })
}

/// What the end of a route has for a request.
async fn destination(
    exchange: &Exchange<'_>,
    there: &OnSite<'_>,
    end: &RouteEnd,
    body: &mut Option<RequestBody>,
) -> Result<Found, Reason> {
    match end {
        RouteEnd::Upstreams(upstreams) => {
            to_upstreams(exchange, there, upstreams, body).await.map(Found::Answer)
        }
        RouteEnd::Files(spec) => {
            let (head, thread) = (&exchange.head, &exchange.caller.thread);
            let access = FileAccess { relief: &thread.relief, threads: &thread.files };
            let (method, headers, query) = (&head.method, &head.headers, head.uri.query());
            files::find(spec, access, method, headers, &there.path, query, exchange.asked()).await
        }
        RouteEnd::Nowhere => Err(Reason::Stopped),
        RouteEnd::Return { status, text } => Ok(Found::Answer(exchange.asked().text(*status, text))),
        RouteEnd::Status(status) => Err(Reason::Status(*status)),
        RouteEnd::Redirect(to) => exchange.asked().redirect(StatusCode::FOUND, to).map(Found::Answer),
    }
}

/// Has a request answered by an upstream.
async fn to_upstreams(
    exchange: &Exchange<'_>,
    there: &OnSite<'_>,
    upstreams: &Arc<UpstreamGroup>,
    body: &mut Option<RequestBody>,
) -> Result<Response<AnswerBody>, Reason> {
    if !there.site.leads_there_alone(&there.host, &there.path, upstreams) {
        return Err(TWO_READINGS);
    }
    let upgrade = WantedUpgrade::of(exchange, body.is_some());
    let outgoing = Outgoing::of(exchange, body.as_ref(), upgrade.as_ref().map(|upgrade| &upgrade.protocol));
    let connections = exchange.caller.connections();
    let (head, mut lease) = forward::forward(&connections, upstreams, outgoing, body).await?;
    *body = lease.connection.take_abandoned();
    upstream_answer::begun(head, lease, upgrade)
}
