//! A run that waits for its build, or for other services, before it starts.

use std::sync::Arc;

use super::{ServiceMachine, Standing, before::Before, leaving::Leaving};
use crate::{
    Basis, Plan, Remade, ServiceFailure, Wish, backoff,
    machine_step::MachineStep,
    service_action::ServiceAction,
    service_event::NoBuild,
    unbuilt::{BuildRetry, Missing, RetryAction, RetryEvent, Unbuilt},
};

impl ServiceMachine {
    /// A run that lacks what it needs to start is the service, unless the one before it serves.
    pub(super) fn stay_unbuilt(
        &mut self,
        plan: Arc<Plan>,
        missing: Missing,
        failure: ServiceFailure,
        step: &mut MachineStep,
    ) {
        if !self.has_recovered() {
            self.stay_without_instances(step);
            self.wait_for(missing, plan, failure, step);
        } else if missing == Missing::Build {
            self.await_product(failure, step);
        }
    }

    /// The run of this plan starts when what it lacks is there.
    pub(super) fn wait_for(
        &mut self,
        missing: Missing,
        plan: Arc<Plan>,
        failure: ServiceFailure,
        step: &mut MachineStep,
    ) {
        let (seed, held) = (backoff::seed(self.name.as_str()), self.held || self.is_ending);
        let retry = match missing {
            Missing::Build | Missing::Release => BuildRetry::new(seed, held, step.now),
            Missing::Others => BuildRetry::due(seed, held, step.now),
        };
        self.unbuilt = Some(Unbuilt { plan, failure, retry, trying: None, missing });
        self.tell_unbuilt(RetryEvent::Tick, step);
    }

    /// Whether the run before serves again since it was decided that its failure is none of the rollout's.
    fn has_recovered(&mut self) -> bool {
        self.is_new = false;
        self.current.as_ref().is_some_and(|current| current.ready() > 0)
    }

    fn stay_without_instances(&mut self, step: &mut MachineStep) {
        self.drop_kept(step);
        let candidate = self.candidate.take().map(|candidate| candidate.into_run(step));
        for old in self.current.take().into_iter().chain(candidate) {
            self.leave(Leaving::of(old), step);
        }
        self.take_unbuilt(step);
        self.before = Before::Nothing;
        self.standing = Standing::Wanted;
    }

    /// Nobody waits for the build any more: a try that is under way ends.
    pub(super) fn take_unbuilt(&mut self, step: &mut MachineStep) -> Option<Unbuilt> {
        self.answer_remakers(&Remade::Left, step);
        for (attempt, wish) in &mut self.attempts {
            if *wish < Wish::End {
                *wish = Wish::End;
                step.ask(ServiceAction::EndBuild { attempt: *attempt, wish: Wish::End });
            }
        }
        self.unbuilt.take()
    }

    pub(super) fn tell_unbuilt(&mut self, event: RetryEvent, step: &mut MachineStep) {
        let Some(unbuilt) = &mut self.unbuilt else { return };
        match unbuilt.retry.on_event(event, step.now) {
            Some(RetryAction::Build) => {
                if let Some(mut unbuilt) = self.unbuilt.take() {
                    self.begin_try(&mut unbuilt, step);
                    self.unbuilt = Some(unbuilt);
                }
            }
            Some(RetryAction::End) => {
                for (attempt, wish) in &mut self.attempts {
                    if unbuilt.trying == Some(*attempt) {
                        *wish = Wish::End;
                        step.ask(ServiceAction::EndBuild { attempt: *attempt, wish: Wish::End });
                    }
                }
            }
            None => {}
        }
    }

    pub(super) fn begin_try(&mut self, unbuilt: &mut Unbuilt, step: &mut MachineStep) {
        let attempt = step.numbers.next();
        unbuilt.trying = Some(attempt);
        self.attempts.push((attempt, Wish::GoOn));
        step.ask(ServiceAction::Build { attempt, plan: Arc::clone(&unbuilt.plan) });
    }

    pub(super) fn on_built(&mut self, attempt: u64, built: Result<Basis, NoBuild>, step: &mut MachineStep) {
        self.attempts.retain(|&(other, _)| other != attempt);
        let Some(mut unbuilt) = self.unbuilt.take_if(|unbuilt| unbuilt.trying == Some(attempt)) else {
            return;
        };
        match built {
            Ok(basis) => self.take_basis(&unbuilt.plan, basis, step),
            Err(reason) => {
                unbuilt.trying = None;
                if let NoBuild::Failed(missing, failure) = reason {
                    (unbuilt.failure, unbuilt.missing) = (failure, missing);
                }
                let sentence = unbuilt.failure.sentence(step.now);
                self.answer_remakers(&Remade::Failed(sentence), step);
                self.unbuilt = Some(unbuilt);
                self.tell_unbuilt(RetryEvent::Failed, step);
            }
        }
    }
}
