//! Builds in place that are made again on the way back. A plain type.

use std::collections::{BTreeMap, BTreeSet};

use pmesh_supervisor::{Remade, ServiceName, StepState};

/// Builds that are made again in place before anything is started from them.
#[derive(Debug, Default)]
pub(super) struct Remaking {
    under_way: BTreeSet<ServiceName>,
    /// The services that could not be built again, and why.
    pub(super) failed: BTreeMap<ServiceName, String>,
}

impl Remaking {
    /// One is made.
    pub(super) fn begin(&mut self, name: ServiceName) {
        self.under_way.insert(name);
    }

    /// Takes what has come of one; answers with the state of its step.
    pub(super) fn on_end(&mut self, name: &ServiceName, remade: Remade) -> StepState {
        self.under_way.remove(name);
        match remade {
            Remade::Made(build) => StepState::Done(build.map(|build| build.to_string())),
            Remade::Failed(reason) => {
                self.failed.insert(name.clone(), reason.clone());
                StepState::Failed(reason)
            }
            Remade::Left => StepState::Failed("it was stopped".to_owned()),
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }
}
