//! A request as its upstream gets it.

use std::{borrow::Cow, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Uri,
    header::{CONTENT_LENGTH, HOST},
};

use crate::{
    exchange::Exchange,
    header::{self, About, BodySize},
    login_scheme,
    request_body::RequestBody,
};

/// What an upstream gets of a request but its body, and how it is sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) head: Bytes,
    pub(crate) method: Method,
    /// Sent twice, it does no harm.
    pub(crate) may_repeat: bool,
    /// What the head says about the size of the body.
    pub(crate) size: BodySize,
    /// The head asks whether the body is wanted.
    pub(crate) asks_first: bool,
    /// How long the client may send nothing of its body.
    pub(crate) body_rest: Duration,
    pub(crate) client: IpAddr,
    /// It logs in the connection that it is sent over.
    pub(crate) logs_in: bool,
}

impl Outgoing {
    /// `upgrade`: the protocol that the upstream is asked for.
    pub(crate) fn of(
        exchange: &Exchange<'_>,
        body: Option<&RequestBody>,
        upgrade: Option<&HeaderValue>,
    ) -> Self {
        let (request, headers) = (&exchange.head, &exchange.head.headers);
        let size = match body.map(RequestBody::exact_size) {
            Some(Some(length)) => BodySize::Length(length),
            Some(None) => BodySize::Unknown,
            None if headers.contains_key(CONTENT_LENGTH) => BodySize::Length(0),
            None => BodySize::Unsaid,
        };
        let asks_first = body.is_some() && header::asks_first(request.version, headers);
        let about = About {
            peer: &exchange.caller.peer,
            client: exchange.client,
            request_id: &exchange.id,
            upgrade,
            asks_first,
            body: size,
        };
        let host = match request.uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes),
        };
        Self {
            head: header::toward_upstream(&request.method, &target(&request.uri), host, headers, &about),
            method: request.method.clone(),
            may_repeat: upgrade.is_none()
                && body.is_none()
                && matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS),
            size,
            asks_first,
            body_rest: exchange.caller.thread.limits.body_rest,
            client: exchange.client,
            logs_in: login_scheme::in_request(headers),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_sent_in_origin_form_as_it_was_spelled() {
        for (asked, expected) in [
            ("/a//b?c", "/a//b?c"),
            ("http://site.test/a?b", "/a?b"),
            ("http://site.test?b", "/?b"),
            ("http://site.test", "/"),
        ] {
            assert_eq!(target(&asked.parse().unwrap()), expected, "{asked}");
        }
    }
}
