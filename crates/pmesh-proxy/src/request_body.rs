//! A request's body, as the front and its handlers read it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::{
    at_work::AtWork,
    held::{Held, HeldBytes},
    local_body::BoxError,
};

/// What is left of a request's body. Trailer fields are dropped.
///
/// A client's connection takes no other request as long as somebody has this.
#[derive(Debug)]
pub struct RequestBody {
    /// What was read ahead.
    ahead: Bytes,
    held: Option<Held>,
    source: Source,
    /// The client's connection is at work.
    _at_work: Option<AtWork>,
}

/// Where the pieces come from.
#[derive(Debug)]
enum Source {
    Nothing,
    Http1(Incoming),
    Made(BoxBody<Bytes, BoxError>),
}

/// The client broke off, or what it sent is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of the request is broken or incomplete")]
pub struct BrokenBody;

impl RequestBody {
    /// A body that no client sends: for a test of a [`LocalHandler`](crate::LocalHandler), or for one that is
    /// asked by something else than a front.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Sync + 'static,
    {
        let source = Source::Made(body.map_err(Into::into).boxed());
        Self { ahead: Bytes::new(), held: None, source, _at_work: None }
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self { ahead: Bytes::new(), held: None, source: Source::Nothing, _at_work: None }
    }

    /// The body of a client's request.
    pub(crate) fn sent(incoming: Incoming, at_work: AtWork) -> Self {
        Self { ahead: Bytes::new(), held: None, source: Source::Http1(incoming), _at_work: Some(at_work) }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.source.is_over()
    }

    /// How many bytes are left, if that was said.
    pub(crate) fn exact_size(&self) -> Option<u64> {
        self.source.size_hint().exact().map(|size| size + self.ahead.len() as u64)
    }

    /// The next piece; trailer fields are dropped.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenBody>>> {
        if !self.ahead.is_empty() {
            self.held = None;
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.ahead))));
        }
        self.source.poll_piece(cx)
    }

    /// Reads a piece and keeps it, and returns its length; `None` if the client has sent all of it.
    pub(crate) fn poll_ahead(
        &mut self,
        cx: &mut Context<'_>,
        all: &HeldBytes,
    ) -> Poll<Result<Option<u64>, BrokenBody>> {
        let Some(piece) = ready!(self.source.poll_piece(cx)?) else { return Poll::Ready(Ok(None)) };
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
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        self.poll_piece(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.exact_size().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Nothing => Poll::Ready(None),
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Self::Made(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenBody>>> {
        loop {
            match ready!(self.poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                    Ok(_) | Err(_) => {}
                },
                Some(Err(error)) => {
                    tracing::debug!(%error, "the body of a request ended early");
                    return Poll::Ready(Some(Err(BrokenBody)));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Made(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Made(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn};

    use futures_util::stream;
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn in_pieces(pieces: &[&'static str]) -> RequestBody {
        let frames: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from_static(piece.as_bytes()))))
            .collect();
        RequestBody::new(StreamBody::new(stream::iter(frames)))
    }

    #[tokio::test]
    async fn what_was_read_ahead_comes_first_and_counts() {
        let all = HeldBytes::default();
        let mut body = in_pieces(&["ab", "", "c", "def"]);
        for (read, held) in [(Some(2), 2), (Some(1), 3)] {
            assert_eq!(poll_fn(|cx| body.poll_ahead(cx, &all)).await, Ok(read));
            assert_eq!(all.now(), held);
        }
        assert!(!body.is_over());
        assert_eq!(poll_fn(|cx| body.poll_piece(cx)).await, Some(Ok(Bytes::from_static(b"abc"))));
        assert_eq!(all.now(), 0, "it is held no longer");
        assert_eq!(body.collect().await.unwrap().to_bytes(), "def");
    }

    #[tokio::test]
    async fn its_size_is_what_is_left_of_it() {
        let mut body = RequestBody::new(Full::from("abc"));
        assert_eq!((body.exact_size(), body.is_over()), (Some(3), false));
        assert_eq!(poll_fn(|cx| body.poll_ahead(cx, &HeldBytes::default())).await, Ok(Some(3)));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
        assert_eq!(poll_fn(|cx| body.poll_piece(cx)).await, Some(Ok(Bytes::from_static(b"abc"))));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
    }

    #[tokio::test]
    async fn one_that_breaks_off_is_broken() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"ab"))), Err(std::io::Error::other("gone"))];
        let body = RequestBody::new(StreamBody::new(stream::iter(frames)));
        assert_eq!(body.collect().await.err(), Some(BrokenBody));
    }
}
