//! What an instance is started from, while that changes.

use std::sync::Arc;

use super::Slot;
use crate::{
    Build, Plan, RestartPolicy,
    lifecycle::{Event, Phase},
    machine_step::MachineStep,
    notice::InstanceNotice,
};

impl Slot {
    /// The build that its process runs from.
    pub(crate) fn build(&self) -> Option<&Build> {
        self.process.as_ref()?.build.as_ref()
    }

    /// The files that it is started from are about to change: it is not started before
    /// [`let_go`](Self::let_go).
    pub(crate) fn hold(&mut self, plan: &Arc<Plan>, step: &mut MachineStep) {
        // Who ends by itself has begun what must not be done twice.
        if let (Phase::Starting { .. }, Some(process), RestartPolicy::Always) =
            (self.lifecycle.phase(), &mut self.process, plan.restart())
        {
            process.is_unclear = true;
        }
        self.tell(Event::Hold, plan, step);
    }

    /// They are what they were. An instance that was starting when they changed is replaced: it may have read others.
    pub(crate) fn let_go(&mut self, plan: &Arc<Plan>, step: &mut MachineStep) {
        self.tell(Event::Release, plan, step);
        if let Some(process) = self.process.as_mut().filter(|process| process.is_unclear) {
            process.is_unclear = false;
            if self.is_probed() {
                self.note(InstanceNotice::IsReplaced, step);
            }
            self.tell(Event::Replace, plan, step);
        }
    }
}
