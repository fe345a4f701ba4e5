//! A request on its way to an upstream.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::{io::AsyncWrite as _, net::TcpStream};

use crate::{
    chunked,
    patience::NextTurn,
    request_body::{BrokenBody, RequestBody},
};

/// A request on its way to an upstream.
#[derive(Debug)]
pub(crate) struct Upload {
    /// What is to be written next, the head first; a piece that is empty has been written.
    pieces: [Bytes; 4],
    /// What has yet to come from the client.
    body: Option<RequestBody>,
    is_chunked: bool,
    /// Whether the upstream is asked before it gets the body.
    asks_first: bool,
    /// How often the system took some of it.
    writes: u64,
}

/// What stopped an upload.
pub(crate) enum UploadError {
    /// The client broke off, or what it sent is no body.
    Client,
    Upstream(io::Error),
}

impl Upload {
    /// A request with this head and body; in chunks where its length is not in the head. `asks_first`: the head
    /// says that the body follows where it is wanted (`Expect: 100-continue`).
    pub(crate) fn new(head: Bytes, body: Option<RequestBody>, is_chunked: bool, asks_first: bool) -> Self {
        let asks_first = asks_first && body.is_some();
        Self {
            pieces: [head, Bytes::new(), Bytes::new(), Bytes::new()],
            body,
            is_chunked,
            asks_first,
            writes: 0,
        }
    }

    /// Nothing.
    pub(crate) fn none() -> Self {
        Self::rest_of(None)
    }

    /// Nothing but what is left of its body.
    pub(crate) fn rest_of(body: Option<RequestBody>) -> Self {
        Self::new(Bytes::new(), body, false, false)
    }

    /// What is left of its body.
    pub(crate) fn into_body(self) -> Option<RequestBody> {
        self.body
    }

    /// What has yet to come from the client.
    pub(crate) fn body(&self) -> Option<&RequestBody> {
        self.body.as_ref()
    }

    /// The same, which nobody sends any more.
    pub(crate) fn take_body(&mut self) -> Option<RequestBody> {
        self.body.take()
    }

    /// Whether the upstream is asked before it gets the body.
    pub(crate) fn asks_first(&self) -> bool {
        self.asks_first
    }

    /// It gets the body without having said that it wants it.
    pub(crate) fn ask_no_longer(&mut self) {
        self.asks_first = false;
    }

    /// How often the system took some of it.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    /// Whether all of it is with the system.
    pub(crate) fn is_over(&self) -> bool {
        self.body.is_none() && self.is_written()
    }

    fn is_written(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    /// Whose turn it is.
    pub(crate) fn turn(&self) -> NextTurn {
        match &self.body {
            Some(_) if !self.is_written() => NextTurn::Upstream,
            Some(_) if self.asks_first => NextTurn::Expected,
            Some(_) => NextTurn::Client,
            None => NextTurn::Upstream,
        }
    }

    /// Sends what there is; ready when all of it is with the system.
    pub(crate) fn poll(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            // The first piece of the body leaves together with the head.
            let waits_for_client = self.pieces[1..].iter().all(Bytes::is_empty)
                && !self.take_piece(cx).map_err(|BrokenBody| UploadError::Client)?;
            if self.is_written() {
                return if waits_for_client && self.body.is_some() {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok(()))
                };
            }
            ready!(self.poll_write(stream, cx)).map_err(UploadError::Upstream)?;
        }
    }

    /// Takes the next piece of the body from the client, if one is there.
    fn take_piece(&mut self, cx: &mut Context<'_>) -> Result<bool, BrokenBody> {
        let Some(body) = self.body.as_mut().filter(|_| !self.asks_first) else { return Ok(false) };
        match body.poll_piece(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Some(Err(BrokenBody))) => Err(BrokenBody),
            Poll::Ready(Some(Ok(data))) if self.is_chunked => {
                let [_, begin, content, end] = &mut self.pieces;
                *begin = chunked::chunk_begin(data.len());
                (*content, *end) = (data, chunked::CHUNK_END);
                Ok(true)
            }
            Poll::Ready(Some(Ok(data))) => {
                self.pieces[1] = data;
                if body.is_over() {
                    self.body = None;
                }
                Ok(true)
            }
            // It is whole: hyper makes an error of one that is too short.
            Poll::Ready(None) => {
                self.body = None;
                if self.is_chunked {
                    self.pieces[1] = chunked::LAST_CHUNK;
                }
                Ok(self.is_chunked)
            }
        }
    }

    fn poll_write(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let slices = self.pieces.each_ref().map(|piece| IoSlice::new(piece));
        let mut written = ready!(Pin::new(stream).poll_write_vectored(cx, &slices))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.writes += 1;
        for piece in &mut self.pieces {
            let of_this = written.min(piece.len());
            piece.advance(of_this);
            written -= of_this;
        }
        Poll::Ready(Ok(()))
    }
}
