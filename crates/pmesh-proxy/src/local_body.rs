//! Bodies that are made outside the front.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer of a [`LocalHandler`](crate::LocalHandler).
pub type LocalBody = UnsyncBoxBody<Bytes, BoxError>;
