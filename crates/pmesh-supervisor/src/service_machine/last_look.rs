//! A last look at a new run.

use std::collections::BTreeSet;

use crate::{FirstAnswer, ProbeFailure, saved::saved, service_event::Ticket};

/// A last look at every instance of a new run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LastLook {
    pub(super) ended: Ticket,
    /// Whose probes are waited for.
    pub(super) probes: BTreeSet<u64>,
    /// Whether an instance has failed.
    pub(super) has_failed: bool,
    pub(super) failure: Option<ProbeFailure>,
}

saved!(struct LastLook { ended, probes, has_failed, failure });

impl LastLook {
    /// Takes the result of a probe, also of one that was under way when the look began.
    pub(super) fn on_probed(&mut self, upstream: u64, result: &Result<FirstAnswer, ProbeFailure>) {
        if self.probes.remove(&upstream)
            && let Err(failure) = result
            // That no probe could be made says nothing of who was to be probed.
            && !failure.is_unmade()
        {
            self.has_failed = true;
            self.failure = Some(failure.clone());
        }
    }
}
