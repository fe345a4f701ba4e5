//! A file on its way to a client.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use pmesh_threads::{Threads, Waiting};

use crate::{budget::Descriptors, local_body::BoxError};

/// What is read at a time, in bytes; a file up to this size is read in one go with its opening.
pub(crate) const CHUNK: u64 = 128 << 10;

/// How long a file's disk may take for one piece, or for looking for the file.
pub(crate) const DISK_LIMIT: Duration = Duration::from_secs(30);

/// `len` bytes of a file; an error if it has become shorter.
pub(crate) fn read_at(file: &File, at: u64, len: u64) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, at)?;
    Ok(Bytes::from(buffer))
}

/// The same with memory that is there, and what is left of it.
fn read_into(mut buffer: BytesMut, file: &File, at: u64, len: u64) -> io::Result<(Bytes, BytesMut)> {
    buffer.clear();
    buffer.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
    file.read_exact_at(&mut buffer, at)?;
    Ok((buffer.split().freeze(), buffer))
}

/// A file on its way to the client: one piece in memory at a time.
pub(crate) struct FileBody {
    file: Arc<File>,
    at: u64,
    left: u64,
    reading: Option<Waiting<io::Result<(Bytes, BytesMut)>>>,
    /// What the next piece is read into: the memory of the one before, as soon as that has left. Fresh memory for each piece
    /// costs a fifth of the bytes per second in page faults.
    buffer: BytesMut,
    threads: Threads,
    _descriptors: Descriptors,
}

impl FileBody {
    /// `len` bytes from `at` on, of a file that takes these descriptors, read on these threads.
    pub(crate) fn new(file: File, descriptors: Descriptors, at: u64, len: u64, threads: Threads) -> Self {
        Self {
            file: Arc::new(file),
            at,
            left: len,
            reading: None,
            buffer: BytesMut::new(),
            threads,
            _descriptors: descriptors,
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let (at, len) = (this.at, this.left.min(CHUNK));
        let mut reading = match this.reading.take() {
            Some(reading) => reading,
            None => {
                let (file, buffer) = (this.file.clone(), std::mem::take(&mut this.buffer));
                this.threads.begin(DISK_LIMIT, move |_| read_into(buffer, &file, at, len))?
            }
        };
        let Poll::Ready(read) = Pin::new(&mut reading).poll(cx) else {
            this.reading = Some(reading);
            return Poll::Pending;
        };
        self.at += len;
        self.left -= len;
        let (bytes, rest) = read.map_err(BoxError::from).and_then(|read| read.map_err(BoxError::from))?;
        self.buffer = rest;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
