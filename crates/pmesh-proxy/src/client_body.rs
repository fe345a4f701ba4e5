//! An answer's body on its client's connection.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::{answer_body::AnswerBody, at_work::AtWork, local_body::BoxError, phase::ConnectionEvent};

/// An answer's body; the connection is at work until it is written or dropped.
pub(crate) struct ClientBody {
    body: AnswerBody,
    _at_work: AtWork,
}

impl ClientBody {
    /// The head before it goes out now.
    pub(crate) fn behind_head(body: AnswerBody, at_work: AtWork) -> Self {
        at_work.phases().on(ConnectionEvent::Answered);
        Self { body, _at_work: at_work }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
