//! When instances that are unhealthy for too long are replaced.

use std::time::Instant;

use super::{ServiceMachine, Standing};
use crate::{machine_step::MachineStep, run::Run};

impl ServiceMachine {
    /// Not while a rollout replaces all of them, or nothing may be started.
    fn may_replace(&self) -> bool {
        let is_alone = self.candidate.is_none() && self.kept.is_none();
        is_alone && self.standing == Standing::Wanted && !self.held && !self.is_ending
    }

    /// When an instance is to be replaced, if nothing else happens first.
    pub(super) fn replacement_deadline(&self) -> Option<Instant> {
        self.current.as_ref().filter(|_| self.may_replace()).and_then(Run::replacement_deadline)
    }

    /// Replaces what is to be replaced, and lets what has started for that take its place.
    pub(super) fn settle_replacements(&mut self, step: &mut MachineStep) {
        let may_replace = self.may_replace();
        let Some(current) = &mut self.current else { return };
        current.settle_successor(step);
        if may_replace {
            current.replace_unhealthy(step);
        }
    }
}
