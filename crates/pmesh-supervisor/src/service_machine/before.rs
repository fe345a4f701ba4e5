//! What a service was before the run that is new.

use std::sync::Arc;

use crate::{Plan, run::Run, saved::saved, unbuilt::Unbuilt};

/// What a service was, for the case that its candidate fails.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Before {
    /// It never ran, or runs beside its candidate.
    Nothing,
    /// It was stopped on request.
    Stopped,
    /// It was a run of this plan.
    Run(Arc<Plan>),
    /// It waited for its build.
    Unbuilt(Unbuilt),
}

saved!(enum Before { 0 Nothing, 1 Stopped, 2 Run(value), 3 Unbuilt(value) });

/// What the service was before the run that has taken over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Predecessor {
    /// It goes on running, and takes no new requests.
    pub(super) run: Option<Run>,
    pub(super) before: Before,
    pub(super) was_new: bool,
}

saved!(struct Predecessor { run, before, was_new });
