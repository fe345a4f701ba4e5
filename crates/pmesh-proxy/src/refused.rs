//! Requests that get no answer of an upstream.

use crate::{answer::Reason, read_ahead::NotRead, request_body::RequestBody};

/// Why there is no answer of an upstream, and what is left of the request's body.
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) left: Option<RequestBody>,
}

impl Refused {
    /// Nothing is left of the body: the client broke off, or what it sent is none.
    pub(crate) fn broken_body() -> Self {
        Self { reason: Reason::Malformed("the body of the request is broken or incomplete"), left: None }
    }

    /// The client sent nothing of its body for too long, and is waited for no longer.
    pub(crate) fn body_rests() -> Self {
        Self { reason: Reason::BodyRests, left: None }
    }
}

impl From<NotRead> for Refused {
    fn from(error: NotRead) -> Self {
        match error {
            NotRead::Broken => Self::broken_body(),
            NotRead::Rests => Self::body_rests(),
        }
    }
}
