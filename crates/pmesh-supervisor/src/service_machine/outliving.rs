//! What SIGKILL has not ended of the runs before, and whether it is in the way of another.

use super::{ServiceMachine, before::Before, room::Room};
use crate::{Plan, RunEnd, ServiceFailure, Survivor, run::Run};

impl ServiceMachine {
    /// Whether a run of this plan may start that had to wait for those before it. One that may run beside others may
    /// run beside what has outlived SIGKILL, too: it has another port.
    pub(super) fn room_for(&self, plan: &Plan) -> Room {
        let ends = self.leaving.iter().all(|leaving| leaving.told && leaving.run.has_ended());
        let remnants_end = self.remnants.values().all(|survivors| !survivors.is_empty());
        if !ends || !remnants_end {
            return Room::NotYet;
        }
        match self.outlives() {
            Some(outlives) if !plan.overlaps() => {
                // Who fails goes back to what was, and of that nothing is started later.
                let then = match self.before {
                    Before::Stopped => "; it stays stopped, restart it when that is gone",
                    Before::Nothing | Before::Run(_) | Before::Unbuilt(_) => "",
                };
                Room::Blocked(format!("it may not run beside the run before it; {outlives}{then}"))
            }
            _ => Room::Free,
        }
    }

    /// What of the runs before, and of what broke down, SIGKILL has not ended.
    pub(super) fn survivors(&self) -> Vec<Survivor> {
        let runs = self.leaving.iter().flat_map(|leaving| leaving.run.survivors());
        runs.chain(self.remnants.values().flatten()).cloned().collect()
    }

    fn outlives(&self) -> Option<String> {
        RunEnd { survivors: self.survivors(), ..RunEnd::default() }.outlives()
    }

    /// What is wrong with a run that has not begun because of what is in its way.
    pub(super) fn failure_of_waiting(&self, run: &Run) -> Option<ServiceFailure> {
        if run.has_begun() {
            return None;
        }
        match self.room_for(run.plan()) {
            Room::Blocked(what) => Some(ServiceFailure { what, retry_at: None, last_lines: Vec::new() }),
            Room::Free | Room::NotYet => None,
        }
    }

    /// What is wrong with a service that was stopped: that not all of it has ended.
    pub(super) fn failure_of_stopping(&self) -> Option<ServiceFailure> {
        let what = self.outlives()?;
        Some(ServiceFailure { what, retry_at: None, last_lines: Vec::new() })
    }
}
