//! How an operation ends.

use std::collections::BTreeMap;

use pmesh_supervisor::ServiceName;

use crate::{Failure, Outcome};

/// How an operation ends.
#[derive(Debug)]
pub(super) enum OperationEnd {
    Good(Outcome),
    Bad(Failure),
    /// Services failed, and everything goes back.
    WentBack {
        failed: BTreeMap<ServiceName, String>,
        was_cancelled: bool,
    },
}
