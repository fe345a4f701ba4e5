//! What is left of a request's body.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};

use crate::{
    at_work::AtWork,
    held::{Held, HeldBytes},
};

/// What is left of a request's body. The client's connection is at work as long as somebody has it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// What was read ahead.
    ahead: Bytes,
    held: Option<Held>,
    incoming: Incoming,
    _at_work: AtWork,
}

/// The client broke off, or what it sent is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl RequestBody {
    /// The body of a request, if it has one.
    pub(crate) fn new(incoming: Incoming, at_work: AtWork) -> Option<Self> {
        let body = Self { ahead: Bytes::new(), held: None, incoming, _at_work: at_work };
        (!body.is_over()).then_some(body)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.incoming.is_end_stream()
    }

    /// How many bytes are left, if that was said.
    pub(crate) fn exact_size(&self) -> Option<u64> {
        self.incoming.size_hint().exact().map(|size| size + self.ahead.len() as u64)
    }

    /// The next piece; trailer fields are dropped.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if !self.ahead.is_empty() {
            self.held = None;
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.ahead))));
        }
        self.poll_incoming(cx)
    }

    /// Reads a piece and keeps it, and returns its length; `None` if the client has sent all of it.
    pub(crate) fn poll_ahead(
        &mut self,
        cx: &mut Context<'_>,
        all: &HeldBytes,
    ) -> Poll<Result<Option<u64>, Broken>> {
        let Some(piece) = ready!(self.poll_incoming(cx)?) else { return Poll::Ready(Ok(None)) };
        let bytes = piece.len() as u64;
        self.held.get_or_insert_with(|| all.hold(0)).add(bytes);
        self.keep(piece);
        Poll::Ready(Ok(Some(bytes)))
    }

    /// Copied from the second piece on: a piece keeps a whole read buffer, however short it is.
    fn keep(&mut self, piece: Bytes) {
        if self.ahead.is_empty() {
            self.ahead = piece;
            return;
        }
        let mut joined = std::mem::take(&mut self.ahead).try_into_mut().unwrap_or_else(|shared| {
            let mut copy = BytesMut::with_capacity(2 * (shared.len() + piece.len()));
            copy.extend_from_slice(&shared);
            copy
        });
        joined.extend_from_slice(&piece);
        self.ahead = joined.freeze();
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                    Ok(_) | Err(_) => {}
                },
                Some(Err(error)) => {
                    tracing::debug!(%error, "the body of a request ended early");
                    return Poll::Ready(Some(Err(Broken)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}
