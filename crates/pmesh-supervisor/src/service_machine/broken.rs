//! A service that cannot be looked after any longer in the way it was.

use std::{sync::Arc, time::Instant};

use super::{ServiceMachine, Standing, before::Before};
use crate::{machine_step::MachineStep, service_action::ServiceAction};

impl ServiceMachine {
    /// It cannot be looked after any longer in the way it was: what runs of it ends, and it is down
    /// for this reason until it is started or stopped. `held` are all processes that its driver has.
    pub(crate) fn break_down(
        &mut self,
        reason: String,
        held: impl IntoIterator<Item = u64>,
        now: Instant,
    ) -> Vec<ServiceAction> {
        let mut step = MachineStep { now, numbers: self.numbers, actions: Vec::new() };
        let plan = match (self.shown(), &self.standing) {
            (Some(run), _) => Some(Arc::clone(run.plan())),
            (None, Standing::Broken { plan, .. }) => plan.clone(),
            (None, Standing::Wanted | Standing::Stopped) => None,
        };
        for run in self.runs() {
            run.kill_shutdown_commands(&mut step);
        }
        self.take_unbuilt(&mut step);
        if let Some(candidate) = self.candidate.take() {
            candidate.into_run(&mut step);
        }
        (self.current, self.kept) = (None, None);
        for leaving in std::mem::take(&mut self.leaving) {
            leaving.give_up(&mut step);
        }
        self.before = Before::Nothing;
        for upstream in held {
            if self.remnants.insert(upstream, Vec::new()).is_none() {
                step.ask(ServiceAction::EndRemnant { upstream, plan: plan.clone() });
            }
        }
        if !self.is_stopped() {
            self.standing = Standing::Broken { reason, plan };
        }
        self.numbers = step.numbers;
        step.actions
    }

    /// Another driver looks after it, because the one before has died. Who waits for a stop, or `is_to_stop`, is told.
    pub(crate) fn take_over(&mut self, is_to_stop: bool) {
        if is_to_stop || !self.stop_waiters.is_empty() {
            self.stop_notes
                .push("pmesh had failed in looking after it, and began anew to stop it".to_owned());
        }
    }

    /// Whether it has broken down, and was neither started nor stopped since.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.standing, Standing::Broken { .. })
    }
}
