//! How what was done for a service is undone, and how it leaves.

use super::{ActEnd, BuildStand, Rollout, RolloutAct, stage::Stage};
use crate::{StepName, StepState};

impl Rollout {
    /// Takes how an act of the way back ended.
    pub(super) fn on_gone_back(&mut self, act: RolloutAct, end: &ActEnd) {
        let index = act.service();
        match (act, end) {
            (RolloutAct::Unlink(_), _) => {
                self.members[index].linked = false;
                self.unlink(index);
            }
            (RolloutAct::LookAtProduct(_), ActEnd::Failed(_)) => {
                self.begin(index, StepName::Build, RolloutAct::Remake(index));
            }
            (RolloutAct::Remake(_), _) => {
                self.tell_end(index, StepName::Build, end);
                self.act(RolloutAct::Revive(index));
            }
            (RolloutAct::LookAtProduct(_), _) => self.act(RolloutAct::Revive(index)),
            (RolloutAct::Revive(_), _) => self.end_going_back(index),
            _ => self.unlink(index),
        }
    }

    /// It was stopped: nothing of it is left but a link.
    pub(super) fn leave(&mut self, index: usize, prunes: bool) {
        self.members[index].stage = Stage::Leaving { prunes };
        self.unlink(index);
    }

    pub(super) fn prune(&mut self, index: usize) {
        if self.members[index].item.builds { self.act(RolloutAct::Prune(index)) } else { self.settle(index) }
    }

    /// Nothing of it is to be done any more.
    pub(super) fn settle(&mut self, index: usize) {
        let stage = &mut self.members[index].stage;
        *stage = if *stage == Stage::Ending { Stage::Settled { built: true } } else { Stage::Left };
    }

    pub(super) fn go_back(&mut self, index: usize, alone: bool) {
        let is_releasing = self.members[index].stage == Stage::Releasing;
        self.members[index].stage = Stage::GoingBack { alone };
        if is_releasing || self.members[index].build == BuildStand::UnderWay {
            self.act(RolloutAct::EndBuild(index));
        }
        self.begin(index, StepName::RollBack, RolloutAct::GoBack(index));
    }

    /// The link of a service goes back if it was moved, and then what else there is of its way out.
    pub(super) fn unlink(&mut self, index: usize) {
        let member = &mut self.members[index];
        match member.stage {
            _ if member.linked => self.act(RolloutAct::Unlink(index)),
            Stage::GoingBack { alone: true } if member.build != BuildStand::NotBegun => {
                self.act(RolloutAct::LookAtProduct(index));
            }
            Stage::GoingBack { alone: true } => self.act(RolloutAct::Revive(index)),
            Stage::GoingBack { alone: false } => self.end_going_back(index),
            Stage::Leaving { prunes: true } => self.prune(index),
            _ => self.settle(index),
        }
    }

    pub(super) fn end_going_back(&mut self, index: usize) {
        self.tell(index, StepName::RollBack, StepState::Done(None));
        self.members[index].stage = Stage::WentBack;
    }
}
