//! An answer that nobody reads is closed.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// How long a peer takes nothing of what is written for it. A plain value.
#[derive(Clone, Copy, Debug)]
struct Stall {
    limit: Duration,
    since: Option<Instant>,
}

impl Stall {
    /// The system takes no more bytes: the peer leaves those unread that it has.
    fn on_blocked(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// It has taken some.
    fn on_progress(&mut self) {
        self.since = None;
    }

    /// When the peer is given up.
    fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.limit)
    }
}

/// A stream whose writing fails ([`io::ErrorKind::TimedOut`]) when the peer takes nothing for too long,
/// measured by the bytes that the system takes for it.
#[derive(Debug)]
pub(crate) struct Unstalled<S> {
    stream: S,
    stall: Stall,
    /// Made with the first write that has to wait.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Unstalled<S> {
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, stall: Stall { limit, since: None }, alarm: None }
    }

    /// What becomes of an attempt to write.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall.on_progress();
            return written;
        }
        self.stall.on_blocked(Instant::now());
        let Some(deadline) = self.stall.deadline() else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        alarm.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::{advance, sleep},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const ALMOST: Duration = Duration::from_secs(29);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_given_up_after_the_limit() {
        let (stream, _peer) = tokio::io::duplex(100);
        let mut stream = Unstalled::new(stream, LIMIT);
        stream.write_all(&[0; 100]).await.unwrap();
        sleep(2 * LIMIT).await;
        let begin = Instant::now();
        let error = stream.write_all(&[0]).await.unwrap_err();
        assert_eq!((error.kind(), begin.elapsed().as_secs()), (io::ErrorKind::TimedOut, LIMIT.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_a_little_at_a_time_is_not() {
        let (stream, mut peer) = tokio::io::duplex(100);
        let mut stream = Unstalled::new(stream, LIMIT);
        let writing = tokio::spawn(async move { stream.write_all(&[0; 200]).await });
        for _ in 0..10 {
            sleep(ALMOST).await;
            peer.read_exact(&mut [0; 10]).await.unwrap();
        }
        writing.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_begins_anew_with_each_byte_that_is_taken() {
        let (stream, mut peer) = tokio::io::duplex(10);
        let mut stream = Unstalled::new(stream, LIMIT);
        let writing =
            tokio::spawn(async move { stream.write_all(&[0; 30]).await.map_err(|error| error.kind()) });
        tokio::task::yield_now().await;
        advance(ALMOST).await;
        peer.read_exact(&mut [0; 10]).await.unwrap();
        let begin = Instant::now();
        assert_eq!(writing.await.unwrap(), Err(io::ErrorKind::TimedOut));
        assert_eq!(begin.elapsed().as_secs(), LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_answer_nobody_reads_is_closed_whatever_else_it_waits_for() {
        use http_body_util::StreamBody;
        use hyper::body::Frame;
        let (stream, mut peer) = tokio::io::duplex(1000);
        let service = hyper::service::service_fn(|_| async {
            let piece =
                || Ok::<_, std::convert::Infallible>(Frame::data(bytes::Bytes::from_static(&[b'x'; 500])));
            Ok::<_, std::convert::Infallible>(http::Response::new(StreamBody::new(
                futures_util::stream::repeat_with(piece),
            )))
        });
        let stream = hyper_util::rt::TokioIo::new(Unstalled::new(stream, LIMIT));
        let served =
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
        peer.write_all(b"GET / HTTP/1.1\r\nHost: pm3\r\n\r\n").await.unwrap();
        peer.read_exact(&mut [0; 100]).await.unwrap();
        let begin = Instant::now();
        served.await.unwrap().unwrap_err();
        assert_eq!(begin.elapsed().as_secs(), LIMIT.as_secs());
    }
}
