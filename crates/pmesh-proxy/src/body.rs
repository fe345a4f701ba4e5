//! Bodies: what is sent to an upstream, and what is sent to a client.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;

use crate::{files::FileBody, pool::Lease};

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer of a [`LocalHandler`](crate::LocalHandler).
pub type LocalBody = UnsyncBoxBody<Bytes, BoxError>;

/// What goes to the client. Nothing is collected: each frame is asked for when there is room for it.
pub(crate) enum AnswerBody {
    Empty,
    Bytes(Option<Bytes>),
    Upstream(UpstreamBody),
    File(FileBody),
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
    incoming: Incoming,
    /// The connection it comes from; given back when the answer has ended, dropped when it is cut.
    lease: Option<Lease>,
}

impl UpstreamBody {
    pub(crate) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut body = Self { incoming, lease: Some(lease) };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body
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
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(_)) if !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => self.give_back(),
            Some(Err(_)) => self.lease = None,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A request's body on its way to an upstream.
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    upload: Arc<Upload>,
}

/// How far a request's body has come; outlives the body, which the connection owns.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    is_over: AtomicBool,
    over: Notify,
    client_failed: AtomicBool,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming) -> Self {
        let body =
            Self { incoming: Some(incoming).filter(|body| !body.is_end_stream()), upload: Arc::default() };
        if body.incoming.is_none() {
            body.upload.end();
        }
        body
    }

    /// No body, for a request that is sent again.
    pub(crate) fn empty() -> Self {
        let body = Self { incoming: None, upload: Arc::default() };
        body.upload.end();
        body
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.incoming.is_none()
    }

    pub(crate) fn upload(&self) -> Arc<Upload> {
        self.upload.clone()
    }
}

impl Upload {
    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.over.notify_waiters();
    }

    /// Returns when the whole body has been handed to the connection, or was given up.
    pub(crate) async fn over(&self) {
        let mut over = std::pin::pin!(self.over.notified());
        over.as_mut().enable();
        if !self.is_over.load(Ordering::Acquire) {
            over.await;
        }
    }

    /// Whether it is the client that broke off, or sent what is no body.
    pub(crate) fn client_failed(&self) -> bool {
        self.client_failed.load(Ordering::Acquire)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.upload.client_failed.store(true, Ordering::Release),
            None => self.upload.end(),
        }
        if self.is_end_stream() {
            self.upload.end();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.upload.end();
    }
}
