//! What answers a call: one function a route, which asks the node and presents what it says.

pub(crate) mod log_events;
pub(crate) mod logs;
pub(crate) mod operation;
pub(crate) mod repo;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod session;

use std::io::{self, Write};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pmesh_node::{Operation, OperationId, Rebuild, Request};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    body::ApiBody,
    error::{ApiError, Code},
    escaped::Escaped,
    near_miss::quoted,
    parameters::{Parameters, Wait},
    seat::{Away, Seat},
    sources::Sources,
    wire,
};

/// A request that passed all checks that do not need the node.
#[derive(Debug)]
pub(crate) struct Call {
    /// What stands where the pattern of the route is open.
    pub(crate) open: Option<String>,
    pub(crate) parameters: Parameters,
    /// `Prefer: respond-async` (RFC 7240, 4.1).
    pub(crate) prefers_async: bool,
    pub(crate) style: JsonStyle,
    /// `Accept: text/event-stream`.
    pub(crate) accepts_events: bool,
    /// `Last-Event-ID`: how far the caller was told already (HTML standard, 9.2.4).
    pub(crate) last_event_id: Option<String>,
    /// The caller's place, if it has one.
    pub(crate) seat: Option<Seat>,
}

/// How JSON is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonStyle {
    Compact,
    /// Indented by two spaces.
    Pretty,
}

impl JsonStyle {
    pub(crate) fn of(pretty: bool) -> Self {
        if pretty { Self::Pretty } else { Self::Compact }
    }

    /// Writes the text of a body as [`write`](Self::write) gives it.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    fn write_to(self, mut writer: impl Write, body: &impl Serialize) -> io::Result<()> {
        match self {
            Self::Compact => serde_json::to_writer(Escaped(&mut writer), body),
            Self::Pretty => serde_json::to_writer_pretty(Escaped(&mut writer), body),
        }?;
        writer.write_all(b"\n")
    }

    /// The text of a body; a newline ends it, so that a terminal's prompt begins a line of its own.
    pub(crate) fn write(self, body: &impl Serialize) -> Bytes {
        let mut text = Vec::with_capacity(256);
        self.write_to(&mut text, body).expect("the types of `wire` are JSON, and a vector takes all");
        text.into()
    }
}

/// An answer that is no error.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: ApiBody,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    fn ok(body: ApiBody) -> Self {
        Self { status: StatusCode::OK, body, headers: Vec::new() }
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// The header that names the operation an action was.
pub(crate) const OPERATION_ID: HeaderName = HeaderName::from_static("operation-id");

/// An id in a header.
fn id_header(id: OperationId) -> HeaderValue {
    id.0.into()
}

impl Call {
    /// 200 with this body.
    fn reply(&self, body: &impl Serialize) -> Reply {
        Reply::ok(ApiBody::whole(self.style.write(body)))
    }

    /// 202: the operation goes on.
    fn accepted(&self, id: OperationId) -> Reply {
        let location =
            HeaderValue::try_from(format!("/operation/{id}")).expect("digits are good in a header");
        let body = wire::Accepted { operation: id.to_string() };
        Reply { status: StatusCode::ACCEPTED, ..self.reply(&body) }
            .with_header(header::LOCATION, location)
            .with_header(OPERATION_ID, id_header(id))
    }

    /// With this value it waits for an operation, which costs it no place.
    fn step_away(&self) -> Option<Away> {
        self.seat.as_ref().and_then(Seat::step_away)
    }

    /// How long an action's answer may take: `wait` wins over `Prefer`.
    fn wait(&self) -> Wait {
        let default = if self.prefers_async { Wait::NotAtAll } else { Wait::ToTheEnd };
        self.parameters.wait.unwrap_or(default)
    }
}

/// What `invalidate` means to the node.
fn rebuild(call: &Call) -> Rebuild {
    if call.parameters.invalidate == Some(true) { Rebuild::Everything } else { Rebuild::Changed }
}

/// Asks the node for a change and answers with its outcome, or with 202 if that takes too long.
///
/// Dropped, it leaves the operation running: it is the node's, not the request's.
async fn act(sources: &Sources, call: &Call, request: Request) -> Result<Reply, ApiError> {
    let id = sources.node.submit(request)?;
    let wait = call.wait();
    if wait == Wait::NotAtAll {
        return Ok(call.accepted(id));
    }
    let Some(operation) = ended(sources, call, id, wait).await? else { return Ok(call.accepted(id)) };
    let error = match &operation.outcome {
        Some(Ok(outcome)) => {
            let result = wire::result(outcome, operation.warnings());
            return Ok(call.reply(&result).with_header(OPERATION_ID, id_header(id)));
        }
        Some(Err(failure)) => ApiError::from(&**failure),
        None => ApiError::new(Code::Cancelled, "the operation was cancelled"),
    };
    Err(error.with_header(OPERATION_ID, id_header(id)).of_operation(id))
}

/// The operation when it has ended; none if it has not within `wait`.
async fn ended(
    sources: &Sources,
    call: &Call,
    id: OperationId,
    wait: Wait,
) -> Result<Option<Operation>, ApiError> {
    let _away = call.step_away();
    let end = sources.node.operation_ended(id);
    let operation = match wait {
        Wait::ToTheEnd => end.await,
        Wait::NotAtAll => return Ok(None),
        Wait::For(limit) => match timeout(limit, end).await {
            Ok(operation) => operation,
            Err(_) => return Ok(None),
        },
    };
    operation.map(Some).ok_or_else(|| no_operation(&id.to_string()))
}

/// The answer where no operation of this id is kept, or the text is no id.
fn no_operation(id: &str) -> ApiError {
    let message = format!("no operation {}; the last 100 are kept, /operation lists them", quoted(id));
    ApiError::new(Code::OperationNotFound, message)
}
