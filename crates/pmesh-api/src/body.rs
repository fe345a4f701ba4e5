//! The body of an answer: whole, or in pieces while somebody reads them.

use std::{
    fmt,
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{BoxStream, Stream},
};
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use pmesh_threads::{Threads, Unanswered};
use tokio::sync::mpsc;

use crate::seat::{Resting, Seat};

/// The size of a piece, in bytes.
const PIECE: usize = 64 * 1024;

/// How many pieces are there before they are asked for.
const AHEAD: usize = 1;

/// The body of an answer of an [`Api`](crate::Api).
///
/// A large one is written while it is read: no more than some 200 KiB of its text are in memory. Its length is not
/// known before its end, and it fails if what writes it does.
#[derive(Debug)]
pub struct ApiBody {
    kind: Kind,
    /// Tells when the answer is written.
    resting: Option<Resting>,
}

enum Kind {
    Whole(Option<Bytes>),
    Pieces(mpsc::Receiver<Piece>),
    /// What comes as long as somebody reads it.
    Stream(Mutex<BoxStream<'static, Bytes>>),
    /// Of the answer to HEAD whose length is not known.
    Unwritten,
    Ended,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Pieces(_) => "Pieces",
            Self::Stream(_) => "Stream",
            Self::Unwritten => "Unwritten",
            Self::Ended => "Ended",
        })
    }
}

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    /// The end of the text. A body that ends without this was not written to its end, because its writer has failed.
    End,
}

impl ApiBody {
    fn of(kind: Kind) -> Self {
        Self { kind, resting: None }
    }

    /// A body that is there.
    pub(crate) fn whole(text: Bytes) -> Self {
        Self::of(Kind::Whole(Some(text)))
    }

    /// A body that `write` writes on one of the threads, as fast as it is read. When the body is dropped, the next
    /// write of it fails.
    ///
    /// # Errors
    ///
    /// There is no thread for it.
    pub(crate) fn written(
        threads: &Threads,
        write: impl FnOnce(&mut PieceWriter) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Unanswered> {
        let (sender, pieces) = mpsc::channel(AHEAD);
        // However long its reader takes.
        let writing = threads.begin(Duration::MAX, move |_| {
            let mut writer = PieceWriter { text: Vec::with_capacity(PIECE), pieces: sender };
            let written = write(&mut writer).and_then(|()| writer.end());
            if let Err(error) = written {
                tracing::debug!(%error, "an answer was not written to its end");
            }
        })?;
        // When it returns, the body ends. When the body is dropped, it fails at the next piece.
        writing.detach();
        Ok(Self::of(Kind::Pieces(pieces)))
    }

    /// A body of what `stream` gives, which is asked for no more than is read.
    pub(crate) fn streamed(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::of(Kind::Stream(Mutex::new(stream.boxed())))
    }

    /// Its length in bytes, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    /// What HEAD gets in its place.
    pub(crate) fn without_content(self) -> Self {
        Self::of(match self.kind {
            Kind::Whole(_) | Kind::Ended => Kind::Ended,
            Kind::Pieces(_) | Kind::Stream(_) | Kind::Unwritten => Kind::Unwritten,
        })
    }

    /// Until the body is written or dropped, its seat counts as at work.
    pub(crate) fn rest_behind(&mut self, seat: &Seat) {
        self.resting = Some(seat.rest_behind());
    }
}

/// Puts what is written into pieces. Blocks while the reader has enough of them.
#[derive(Debug)]
pub(crate) struct PieceWriter {
    text: Vec<u8>,
    pieces: mpsc::Sender<Piece>,
}

impl PieceWriter {
    fn give(&mut self, piece: Piece) -> io::Result<()> {
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        self.give(Piece::End)
    }
}

impl Write for PieceWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let taken = &text[..text.len().min(PIECE - self.text.len())];
        self.text.extend_from_slice(taken);
        if self.text.len() == PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.text, Vec::with_capacity(PIECE));
        self.give(Piece::Data(piece.into()))
    }
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let pieces = match &mut self.kind {
            Kind::Whole(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Unwritten | Kind::Ended => return Poll::Ready(None),
            Kind::Pieces(pieces) => pieces,
            Kind::Stream(stream) => {
                let piece = ready!(stream.get_mut().poll_next_unpin(cx));
                return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
            }
        };
        let piece = ready!(pieces.poll_recv(cx));
        let frame = match piece {
            Some(Piece::Data(text)) => return Poll::Ready(Some(Ok(Frame::data(text)))),
            Some(Piece::End) => None,
            None => Some(Err(io::Error::other("the answer could not be written to its end"))),
        };
        self.kind = Kind::Ended;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.kind, Kind::Whole(None) | Kind::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Kind::Ended => SizeHint::with_exact(0),
            Kind::Pieces(_) | Kind::Stream(_) | Kind::Unwritten => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use http_body_util::BodyExt as _;

    use super::*;

    /// The body, and the threads that it is written on.
    fn body(write: impl FnOnce(&mut PieceWriter) -> io::Result<()> + Send + 'static) -> (ApiBody, Threads) {
        let threads = pmesh_threads::testing::threads("answers");
        (ApiBody::written(&threads, write).unwrap(), threads)
    }

    #[tokio::test]
    async fn a_written_body_has_all_bytes_in_order() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let wanted = text.clone();
        let (body, _threads) =
            body(move |writer| text.chunks(1000).try_for_each(|part| writer.write_all(part)));
        assert_eq!((body.length(), body.is_end_stream()), (None, false));
        assert_eq!(body.collect().await.unwrap().to_bytes(), wanted);
    }

    #[tokio::test]
    async fn no_more_is_written_than_is_read() {
        let written = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&written);
        let (mut body, _threads) = body(move |writer| {
            for _ in 0..100 {
                writer.write_all(&b"x".repeat(PIECE))?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        for read in 1..=100 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), PIECE);
            assert!(written.load(Ordering::Relaxed) <= read + AHEAD);
        }
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn whoever_writes_ends_when_nobody_reads_any_more() {
        let (ended, end) = tokio::sync::oneshot::channel();
        let (mut body, _threads) = body(move |writer| {
            let written = (0..).try_for_each(|_| writer.write_all(b"on and on"));
            ended.send(written.as_ref().err().map(io::Error::kind)).unwrap();
            written
        });
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(end.await.unwrap(), Some(io::ErrorKind::BrokenPipe));
    }

    #[tokio::test]
    async fn a_body_whose_writer_fails_is_not_taken_for_a_whole_one() {
        let bodies = [
            body(|writer| {
                writer.write_all(b"half")?;
                Err(io::ErrorKind::Other.into())
            }),
            body(|_| panic!("a writer that panics")),
        ];
        for (body, _threads) in bodies {
            assert!(body.collect().await.is_err());
        }
    }

    #[test]
    fn head_gets_the_length_where_it_is_known_and_no_content() {
        let whole = ApiBody::whole(Bytes::from_static(b"text"));
        assert_eq!(whole.length(), Some(4));
        assert!(whole.without_content().is_end_stream());
    }
}
