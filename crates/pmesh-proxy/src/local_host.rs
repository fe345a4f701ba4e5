//! The host `pm3`: its requests are for a handler outside the front.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, header::HOST};
use tokio::{runtime::Handle, task::JoinSet};

use crate::{
    answer::Reason, answer_body::AnswerBody, client_span::in_client_span, context::LocalHandler,
    exchange::Exchange, phase::ConnectionEvent, request_body::RequestBody,
};

/// The host that is handed to the [`LocalHandler`].
const LOCAL_HOST: &str = "pm3";

/// A handler and where it runs.
type Local = (Arc<dyn LocalHandler>, Handle);

/// The handler of this host, if it has one.
pub(crate) fn handler<'a>(exchange: &Exchange<'a>, host: &str) -> Option<&'a Local> {
    exchange.caller.thread.local.as_ref().filter(|_| host == LOCAL_HOST)
}

/// Has a request answered by its handler.
pub(crate) async fn hand_over(
    (handler, control): &Local,
    exchange: &Exchange<'_>,
    body: Option<RequestBody>,
) -> Result<Response<AnswerBody>, Reason> {
    // As on the API's own port: whoever hangs up there waits for nothing.
    exchange.at_work.phases().on(ConnectionEvent::HandedOver);
    let request = as_routed(exchange, body.unwrap_or_else(RequestBody::empty));
    let (handler, connection) = (handler.clone(), exchange.caller.connection);
    // Dropped with its caller's connection, the set ends what it has.
    let mut handling = JoinSet::new();
    handling.spawn_on(async move { handler.handle(request, connection).await }, control);
    match handling.join_next().await {
        Some(Ok(answer)) => Ok(answer.map(AnswerBody::Local)),
        None => Err(Reason::Broken),
        Some(Err(error)) => {
            in_client_span(|| tracing::error!(%error, "the handler of the pm3 host failed"));
            Err(Reason::Broken)
        }
    }
}

/// The request as its handler gets it.
fn as_routed(exchange: &Exchange<'_>, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::from_parts(exchange.head.clone(), body);
    // Whoever judges by `Host` judges by what was routed (RFC 9112, section 3.2.2).
    let named = request.uri().authority().map(|named| HeaderValue::from_str(named.as_str()));
    if let Some(Ok(named)) = named {
        request.headers_mut().insert(HOST, named);
    }
    request
}
