//! A request on its way through the front, from its head to the head of its answer.

use std::{net::IpAddr, time::Instant};

use http::{HeaderValue, Method, Response, StatusCode, Version, header::EXPECT, request::Parts};
use hyper::body::Body as _;
use pmesh_sessions::{ClientKey, Verdict};

use crate::{
    answer::{AnswerForm, Reason},
    answer_body::AnswerBody,
    at_work::AtWork,
    context::ConnectionContext,
    discard::discard,
    header::{self, X_FORWARDED_FOR, X_REQUEST_ID},
    request_body::RequestBody,
};

/// A request, who sent it, and how its answer ends. Its body is not in here: it is given to whoever takes it.
pub(crate) struct Exchange<'a> {
    pub(crate) caller: &'a ConnectionContext,
    pub(crate) at_work: &'a AtWork,
    pub(crate) head: Parts,
    /// The client behind the peer, else the peer.
    pub(crate) client: IpAddr,
    /// The client's own request id, or a new one.
    pub(crate) id: HeaderValue,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(caller: &'a ConnectionContext, at_work: &'a AtWork, head: Parts) -> Self {
        let chain = head.headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
        let client = caller.thread.tables.trusted().client_of(caller.peer.ip, chain);
        let id = header::kept_request_id(&head.headers).cloned();
        let id = id.unwrap_or_else(|| caller.thread.request_ids.next());
        Self { caller, at_work, head, client, id }
    }

    /// Counts the request for its client. Those of blocked ones go no further.
    pub(crate) fn count(&self) -> Result<(), Reason> {
        let sessions = self.caller.thread.tables.sessions();
        match sessions.record(ClientKey::from(self.client), Instant::now()) {
            Verdict::Blocked { until: _ } => Err(Reason::Blocked),
            Verdict::Allow => Ok(()),
        }
    }

    /// Whether it asks what the server as a whole can do (RFC 9110, section 9.3.7).
    pub(crate) fn is_for_the_server(&self) -> bool {
        self.head.method == Method::OPTIONS && self.head.uri.path() == "*"
    }

    /// What an answer of our own depends on.
    pub(crate) fn asked(&self) -> AnswerForm {
        AnswerForm::by(&self.head.method, &self.head.headers)
    }

    /// The answer as it leaves: what is said in each, and what becomes of the rest of the body.
    pub(crate) fn end(
        self,
        answered: Result<Response<AnswerBody>, Reason>,
        left: Option<RequestBody>,
    ) -> Response<AnswerBody> {
        // The one place where pages are made of reasons.
        let mut answer = answered.unwrap_or_else(|reason| self.asked().page(reason));
        let may_not_come = self.head.headers.contains_key(EXPECT);
        discard(left, may_not_come, answer.headers_mut(), &self.caller.thread.stage);
        answer.headers_mut().insert(X_REQUEST_ID, self.id);
        let is_old = self.head.version == Version::HTTP_10;
        // Whoever speaks 1.0 knows no chunks: what has no length ends with its connection.
        let ends_with_connection = is_old && answer.body().size_hint().exact().is_none();
        let is_closing =
            self.caller.logins.is_closing() && answer.status() != StatusCode::SWITCHING_PROTOCOLS;
        if ends_with_connection || is_closing {
            header::close_behind(answer.headers_mut());
        }
        if is_old && header::says_close(answer.headers()) {
            // To an answer of 1.1 hyper adds that the connection is kept.
            *answer.version_mut() = Version::HTTP_10;
        }
        answer
    }
}
