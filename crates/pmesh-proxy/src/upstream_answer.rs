//! An upstream's answer as its client gets it.

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use hyper::{ext::ReasonPhrase, upgrade::OnUpgrade};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{
    answer::Reason,
    answer_body::{AnswerBody, UpstreamBody},
    answer_head::AnswerHead,
    bad_answer::BadAnswer,
    exchange::Exchange,
    header,
    phase::ConnectionEvent,
    pool::Lease,
    tunnel::{self, ClientSide, UpstreamEnd},
};

/// An upgrade that the client asks for.
pub(crate) struct WantedUpgrade {
    pub(crate) protocol: HeaderValue,
    client: ClientSide,
}

impl WantedUpgrade {
    /// The upgrade that a request asks for, if it is passed on. `has_body`: one with a body is passed on without the
    /// upgrade, because programs disagree where such a body ends.
    pub(crate) fn of(exchange: &Exchange<'_>, has_body: bool) -> Option<Self> {
        let head = &exchange.head;
        let protocol = header::wanted_upgrade(&head.headers).filter(|_| !has_body)?;
        // hyper gives it to what may be upgraded at all: HTTP/1.0 may not.
        let upgrade = head.extensions.get::<OnUpgrade>()?.clone();
        let (at_work, occupied) = (exchange.at_work.clone(), exchange.caller.occupied.clone());
        Some(Self { protocol, client: ClientSide { upgrade, at_work, occupied } })
    }

    /// Whether an answer switches to what was asked for (RFC 9110, section 7.8): to some of it, or it does not say to what.
    fn has(&self, answer: Option<&HeaderValue>) -> bool {
        let text = |value: &'_ HeaderValue| value.to_str().unwrap_or_default().to_lowercase();
        let wanted = text(&self.protocol);
        let is_wanted = |protocol: &str| wanted.split(',').any(|one| one.trim() == protocol.trim());
        answer.map(text).is_none_or(|told| told.split(',').all(is_wanted))
    }
}

/// The answer that an upstream has begun; its body follows from the leased connection.
pub(crate) fn begun(
    head: AnswerHead,
    mut lease: Lease,
    upgrade: Option<WantedUpgrade>,
) -> Result<Response<AnswerBody>, Reason> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // Where nobody asked for it, what follows is no HTTP, and the connection closes here.
        let Some(upgrade) = upgrade.filter(|wanted| wanted.has(head.protocol.as_ref())) else {
            lease.in_flight.upstream().count_bad_answer(BadAnswer::UnaskedSwitch, Instant::now());
            return Err(Reason::BadAnswer(BadAnswer::UnaskedSwitch));
        };
        return Ok(switched(head, lease, upgrade));
    }
    let AnswerHead { status, reason, headers, protocol, .. } = head;
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
    let mut response = with_body(body, status, reason, headers);
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

fn with_body(
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
fn switched(head: AnswerHead, lease: Lease, upgrade: WantedUpgrade) -> Response<AnswerBody> {
    let AnswerHead { status, reason, headers, protocol, .. } = head;
    let mut response = with_body(AnswerBody::Empty, status, reason, headers);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, protocol.unwrap_or(upgrade.protocol));
    let Lease { connection, in_flight, pool: _, owner: _ } = lease;
    let (stream, sent, open) = connection.into_tunnel();
    let upstream = UpstreamEnd { stream, sent, open };
    upgrade.client.at_work.phases().on(ConnectionEvent::Switched);
    tokio::spawn(tunnel::run(upgrade.client, upstream, in_flight).in_current_span());
    response
}
