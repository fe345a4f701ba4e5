//! The protocol that a client's connection speaks, and who reads and writes it: HTTP/1.1, by hyper.

use std::{
    convert::Infallible,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Request;
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::rt::TokioIo;

use crate::{
    at_work::{AtWork, PhaseCell},
    client_body::ClientBody,
    client_io::ClientIo,
    context::ConnectionContext,
    next_head::BodyLength,
    request_body::RequestBody,
    serve,
};

/// The buffer of a connection, in bytes.
const MAX_BUFFER: usize = 64 << 10;
/// The most that the head of a request may have, in bytes; beyond it 431.
const MAX_HEAD: usize = 32 << 10;

/// What comes in on a client's connection becomes requests, which the front [answers](serve::respond), one after
/// the other.
pub(crate) struct Protocol<S: HttpService<Incoming>>(http1::UpgradeableConnection<TokioIo<ClientIo>, S>);

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct ProtocolError(hyper::Error);

/// HTTP/1.1, and 1.0.
pub(crate) fn http1(
    io: ClientIo,
    caller: Arc<ConnectionContext>,
    phases: Arc<PhaseCell>,
) -> Protocol<impl HttpService<Incoming, ResBody = ClientBody, Error = Infallible, Future: Send> + Send + Unpin>
{
    let service = service_fn(move |request: Request<Incoming>| {
        let at_work = AtWork::begin(&phases, body_length(request.body()));
        let caller = caller.clone();
        async move {
            let (head, incoming) = request.into_parts();
            let body = (!incoming.is_end_stream()).then(|| RequestBody::sent(incoming, at_work.clone()));
            let answer = serve::respond(&caller, head, body, &at_work).await;
            Ok::<_, Infallible>(answer.map(|body| ClientBody::behind_head(body, at_work)))
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        // Whether the end of what a client sends is its own end is for the phases to say.
        .half_close(true)
        .max_buf_size(MAX_BUFFER)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    Protocol(connection)
}

impl<S> Protocol<S>
where
    S: HttpService<Incoming, ResBody = ClientBody, Error = Infallible> + Unpin,
{
    /// Takes no further request: the connection ends after the one under way.
    pub(crate) fn finish(&mut self) {
        Pin::new(&mut self.0).graceful_shutdown();
    }

    /// Goes on; ready at the connection's end.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProtocolError>> {
        Pin::new(&mut self.0).poll(cx).map_err(ProtocolError)
    }
}

impl ProtocolError {
    /// Whether it was a request that could not be read, and that was answered without the front being asked.
    pub(crate) fn is_unreadable_request(&self) -> bool {
        self.0.is_parse()
    }
}

fn body_length(body: &Incoming) -> BodyLength {
    body.size_hint().exact().map_or(BodyLength::Chunks, BodyLength::Exact)
}
