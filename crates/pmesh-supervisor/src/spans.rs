//! The spans that the lines of the log are in, so that none has to say whose it is.
//!
//! They are of the level of errors: a log that leaves out everything else still tells whose its errors are.

use tracing::{Span, error_span};

use crate::ServiceName;

/// Around everything that is done for a service. No field of a span is called `name`: in a log of JSON that is the span's own.
pub(crate) fn service_span(name: &ServiceName) -> Span {
    error_span!("service", service = %name)
}

/// Around everything that is done for an instance, inside its service's.
pub(crate) fn instance_span(number: u32) -> Span {
    error_span!("instance", number)
}
