//! A client's stream, which tells the phases of its connection what happens on it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::{
    io::Errno,
    net::{Shutdown, shutdown},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::{at_work::PhaseCell, phase::ConnectionEvent};

/// A client's stream, as whoever speaks HTTP on it reads and writes it.
pub(crate) struct ClientIo {
    reading: OwnedReadHalf,
    writing: Arc<OwnedWriteHalf>,
    phases: Arc<PhaseCell>,
}

/// The same stream, as whoever waits for its end sees it.
pub(crate) struct ClientEnd(Arc<OwnedWriteHalf>);

fn of(half: &OwnedWriteHalf) -> &TcpStream {
    half.as_ref()
}

impl ClientIo {
    pub(crate) fn new(stream: TcpStream, phases: Arc<PhaseCell>) -> (Self, ClientEnd) {
        let (reading, writing) = stream.into_split();
        let writing = Arc::new(writing);
        (Self { reading, writing: writing.clone(), phases }, ClientEnd(writing))
    }

    /// Notes what came of writing.
    fn noted<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.phases.on(if written.is_ready() { ConnectionEvent::Written } else { ConnectionEvent::Blocked });
        written
    }

    fn poll_write_with<T>(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let stream = of(&self.writing);
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match write(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl ClientEnd {
    /// Tells the end of what the client sends, and that it has broken off; never returns before the latter.
    ///
    /// Neither needs a system call nor takes anything from the stream, and both are seen while nobody reads:
    /// of what epoll(7) tells, tokio gives `EPOLLRDHUP` to those who wait for urgent data, which nobody here
    /// has asked the system for.
    pub(crate) async fn tell(&self, phases: &PhaseCell) {
        let stream = of(&self.0);
        if let Ok(ready) = stream.ready(Interest::PRIORITY | Interest::ERROR).await
            && !ready.is_error()
        {
            phases.on(ConnectionEvent::Finished);
            // An error means the same: the client has broken off.
            drop(stream.ready(Interest::ERROR).await);
        }
        phases.on(ConnectionEvent::Reset);
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.reading).poll_read(cx, buffer));
        match (&read, buffer.filled().get(before..)) {
            (Err(_), _) => self.phases.on(ConnectionEvent::Reset),
            (Ok(()), None | Some([])) => self.phases.on(ConnectionEvent::ReadEnd),
            (Ok(()), Some(bytes)) => self.phases.on_bytes(bytes),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.noted(self.poll_write_with(cx, |stream| stream.try_write(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.noted(self.poll_write_with(cx, |stream| stream.try_write_vectored(slices)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match shutdown(of(&self.writing), Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}
