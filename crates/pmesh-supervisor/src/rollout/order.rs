//! Whose turn it is to start.

use super::{ActEnd, Member, Rollout, Unity, stage::Stage};
use crate::{StepName, StepState};

impl Rollout {
    /// Whether a service need wait for no other one any more: neither for those that it starts after, nor, where it has to
    /// stop its old instances first, for those that serve meanwhile.
    pub(super) fn is_its_turn(&self, index: usize) -> bool {
        let is_open = |place: &usize| !self.members[*place].stage.is_settled();
        if self.precedence.before(index).iter().any(&is_open) {
            return false;
        }
        let others_first = self.unity == Unity::Together && !self.members[index].item.overlaps;
        !others_first || !(0..self.members.len()).any(|other| self.members[other].is_early && is_open(&other))
    }

    /// Notes which services start while no old instance has ended: they overlap, and so does all that they start after.
    pub(super) fn note_early(&mut self) {
        for index in 0..self.members.len() {
            let mut both = self.precedence.all_before(index);
            both.push(index);
            self.members[index].is_early = both.iter().all(|&place| self.members[place].item.overlaps);
        }
    }

    /// Whether a service whose turn it is waits beyond the rollout: it does not serve, and of those that it starts after one is
    /// not ready.
    pub(super) fn waits_beyond(&self, index: usize) -> bool {
        !self.members[index].look.serves
            && self.precedence.before(index).iter().any(|&other| !self.members[other].is_there())
    }

    /// It stays without instances; where `end` says why, it is because it waits for others.
    pub(super) fn stay_unbuilt(&mut self, index: usize, end: ActEnd) {
        self.members[index].stage = Stage::Settled { built: false };
        if let ActEnd::Failed(reason) = end {
            self.tell(index, StepName::Start, StepState::Running);
            self.tell(index, StepName::Start, StepState::Failed(reason.clone()));
            self.members[index].failure = Some(reason);
        }
    }
}

impl Member {
    /// Whether others may start that start after it.
    fn is_there(&self) -> bool {
        let has_become_ready = self.failure.is_none()
            && match self.stage {
                Stage::Ready | Stage::Looking | Stage::Looked | Stage::Switching | Stage::Switched => true,
                Stage::LookingAgain | Stage::Proven | Stage::Ending => true,
                Stage::Settled { built } => built,
                _ => false,
            };
        has_become_ready || self.look.serves
    }
}
