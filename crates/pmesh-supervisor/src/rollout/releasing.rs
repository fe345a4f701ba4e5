//! The commands before the first new instance.

use super::{ActEnd, Rollout, RolloutAct, stage::Stage};
use crate::StepName;

impl Rollout {
    /// Begins the release of a service whose turn it is, at most as many at a time as builds.
    pub(super) fn begin_release(&mut self, index: usize) {
        if self.count(|member| member.stage == Stage::Releasing) < self.limits.builds {
            self.members[index].stage = Stage::Releasing;
            self.begin(index, StepName::Release, RolloutAct::Release(index));
        }
    }

    /// Takes how a release ended.
    pub(super) fn on_released(&mut self, index: usize, end: ActEnd) {
        self.tell_end(index, StepName::Release, &end);
        let member = &mut self.members[index];
        if member.stage != Stage::Releasing {
            // It goes back, and a release that was ended for that is no reason of its own.
            return;
        }
        let reason = match end {
            ActEnd::Done(_) => {
                member.stage = Stage::Released;
                return;
            }
            ActEnd::Failed(_) | ActEnd::CutOff if member.look.has_left => return self.leave(index, false),
            ActEnd::Failed(reason) => reason,
            ActEnd::CutOff => member.why_cut_off(),
        };
        member.look_again();
        member.failure = Some(reason);
        self.on_failure(index, Stage::Unbuilt);
    }
}
