//! What is left of a request's body.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};

use crate::at_work::AtWork;

/// What is left of a request's body. The client's connection is at work as long as somebody has it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Incoming,
    _at_work: AtWork,
}

impl RequestBody {
    /// The body of a request, if it has one.
    pub(crate) fn new(incoming: Incoming, at_work: AtWork) -> Option<Self> {
        (!incoming.is_end_stream()).then_some(Self { incoming, _at_work: at_work })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// How many bytes are left, if that was said.
    pub(crate) fn exact_size(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// The next piece; trailer fields are dropped.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
        loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                    Ok(_) | Err(_) => {}
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}
