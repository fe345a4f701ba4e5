//! The bodies of answers.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::{
    file_body::FileBody,
    local_body::{BoxError, LocalBody},
    pool::Lease,
    upstream_connection::BodyError,
};

/// What goes to the client. Nothing is collected: each frame is asked for when there is room for it.
pub(crate) enum AnswerBody {
    Empty,
    Bytes(Option<Bytes>),
    Upstream(UpstreamBody),
    File(Box<FileBody>),
    Local(LocalBody),
}

impl AnswerBody {
    pub(crate) fn bytes(bytes: Bytes) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Bytes(_) => "Bytes",
            Self::Upstream(_) => "Upstream",
            Self::File(_) => "File",
            Self::Local(_) => "Local",
        })
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
            Self::File(body) => Pin::new(body).poll_frame(cx),
            Self::Local(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Bytes(bytes) => bytes.is_none(),
            Self::Upstream(body) => body.is_end_stream(),
            Self::File(body) => body.is_end_stream(),
            Self::Local(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Upstream(body) => body.size_hint(),
            Self::File(body) => body.size_hint(),
            Self::Local(body) => body.size_hint(),
        }
    }
}

/// An upstream's answer on its way to the client.
pub(crate) struct UpstreamBody {
    /// The connection it comes from; given back when the answer has ended, dropped when it is cut.
    lease: Option<Lease>,
    failure: Option<BodyError>,
}

impl UpstreamBody {
    /// The body that the connection has yet to bring.
    pub(crate) fn new(lease: Lease) -> Self {
        Self { lease: Some(lease), failure: None }
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Some(Err(error.into())));
        }
        let Some(lease) = &mut self.lease else { return Poll::Ready(None) };
        let piece = ready!(lease.connection.poll_body(cx));
        if lease.connection.is_answered() {
            self.give_back();
        }
        match piece {
            Some(Err(error)) => {
                // An error ends the client's connection at once: what came before it is written first.
                if let (BodyError::Upstream(why), Some(lease)) = (&error, &self.lease) {
                    lease.in_flight.upstream().count_bad_answer(*why, Instant::now());
                }
                self.lease = None;
                self.failure = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Ok(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none() && self.failure.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.lease {
            Some(lease) => lease.connection.body_left(),
            None => self.failure.is_none().then_some(0),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
