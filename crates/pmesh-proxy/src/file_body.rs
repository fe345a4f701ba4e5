//! A file on its way to a client.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{budget::Descriptors, local_body::BoxError};

/// What is read at a time, in bytes; a file up to this size is read in one go with its opening.
pub(crate) const CHUNK: u64 = 128 << 10;

/// `len` bytes of a file; an error if it has become shorter.
pub(crate) fn read_at(file: &File, at: u64, len: u64) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, at)?;
    Ok(Bytes::from(buffer))
}

/// A file on its way to the client: one piece in memory at a time.
pub(crate) struct FileBody {
    file: Arc<File>,
    at: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    _descriptors: Descriptors,
}

impl FileBody {
    /// `len` bytes from `at` on, of a file that takes these descriptors.
    pub(crate) fn new(file: File, descriptors: Descriptors, at: u64, len: u64) -> Self {
        Self { file: Arc::new(file), at, left: len, reading: None, _descriptors: descriptors }
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
        let (file, at, len) = (self.file.clone(), self.at, self.left.min(CHUNK));
        let reading = self.reading.get_or_insert_with(|| spawn_blocking(move || read_at(&file, at, len)));
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        self.at += len;
        self.left -= len;
        let bytes = read.map_err(BoxError::from).and_then(|bytes| bytes.map_err(BoxError::from));
        Poll::Ready(Some(bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
