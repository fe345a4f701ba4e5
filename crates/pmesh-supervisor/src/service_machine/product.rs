//! What the build of a run has made in place, while it is not what the folder holds: instances that end are not
//! started again, and it is built again.

use std::sync::Arc;

use super::{ServiceMachine, before::Before};
use crate::{
    Basis, Plan, Remade, ServiceFailure, backoff,
    machine_step::MachineStep,
    notice::Notice,
    run::{Run, RunHold},
    service_action::ServiceAnswer,
    service_event::Ticket,
    unbuilt::{BuildRetry, Missing, RetryEvent, Unbuilt},
};

impl ServiceMachine {
    /// The runs that are the service, or come back to be it.
    pub(super) fn own_runs_mut(&mut self) -> impl Iterator<Item = &mut Run> {
        let back = self.candidate.as_mut().filter(|candidate| candidate.revived);
        let kept = self.kept.iter_mut().filter_map(|kept| kept.run.as_mut());
        self.current.iter_mut().chain(kept).chain(back.map(|candidate| &mut candidate.run))
    }

    /// The plan of the run that it is, or goes back to, if that needs what its build has made in the folder.
    pub(super) fn relies_on(&self) -> Option<&Arc<Plan>> {
        let back = self.candidate.as_ref().filter(|candidate| candidate.revived);
        let run = self.current.as_ref().or(back.map(|candidate| &candidate.run));
        let before = match &self.before {
            Before::Run(plan) => Some(plan),
            Before::Nothing | Before::Stopped | Before::Unbuilt(_) => None,
        };
        run.map(Run::plan).or(before).filter(|plan| plan.needs_product())
    }

    /// Somebody is about to build, and maybe in place.
    pub(super) fn hold_product(&mut self, step: &mut MachineStep) {
        if self.relies_on().is_some() {
            self.tell_unbuilt(RetryEvent::Hold, step);
        }
        for run in self.own_runs_mut() {
            run.hold(RunHold::Product, step);
        }
    }

    /// The folder holds what the run needs.
    pub(super) fn product_is_whole(&mut self, step: &mut MachineStep) {
        if self.relies_on().is_some() {
            self.take_unbuilt(step);
        }
        for run in self.own_runs_mut() {
            run.let_go(RunHold::Product, step);
        }
    }

    /// The folder does not hold what the run needs: it is built again, now or, after this failure, in a while.
    pub(super) fn remake(&mut self, failure: Option<ServiceFailure>, ended: Ticket, step: &mut MachineStep) {
        let Some(plan) = self.relies_on().cloned() else {
            return step.answer(ended, ServiceAnswer::Remade(Remade::Left));
        };
        for run in self.own_runs_mut() {
            run.hold(RunHold::Product, step);
        }
        self.take_unbuilt(step);
        if let Some(failure) = failure {
            step.answer(ended, ServiceAnswer::Remade(Remade::Failed(failure.sentence(step.now))));
            return self.wait_for(Missing::Build, plan, failure, step);
        }
        let failure = ServiceFailure {
            what: "it is being built again in its folder".to_owned(),
            retry_at: None,
            last_lines: Vec::new(),
        };
        let retry = BuildRetry::trying(backoff::seed(self.name.as_str()), self.held);
        let mut unbuilt = Unbuilt { plan, failure, retry, trying: None, missing: Missing::Build };
        self.begin_try(&mut unbuilt, step);
        self.unbuilt = Some(unbuilt);
        self.remakers.push(ended);
    }

    /// The run waits for its product after all, if it was told that somebody builds and nobody has said that it is whole.
    pub(super) fn await_product(&mut self, failure: ServiceFailure, step: &mut MachineStep) {
        let Some(current) = self.current.as_ref().filter(|run| run.is_held(RunHold::Product)) else { return };
        let plan = Arc::clone(current.plan());
        self.take_unbuilt(step);
        self.wait_for(Missing::Build, plan, failure, step);
    }

    /// Takes what was built for a run that waited for it: one that is there goes on from it, another one starts.
    pub(super) fn take_basis(&mut self, plan: &Plan, basis: Basis, step: &mut MachineStep) {
        let Basis { build, machine } = basis;
        self.answer_remakers(&Remade::Made(build.as_ref().map(|build| build.id().clone())), step);
        let is_there = self.relies_on().is_some();
        let built = Arc::new(Plan { build, machine, ..plan.clone() });
        if !is_there {
            step.note(Notice::BuiltRunStarts { id: plan.id });
            return self.start_alone(built, None, step);
        }
        step.note(Notice::BuiltAgain { id: plan.id });
        for run in self.own_runs_mut().filter(|run| run.plan().id == plan.id) {
            run.rebuilt(&built);
            run.let_go(RunHold::Product, step);
        }
        if let Before::Run(before) = &mut self.before {
            *before = built;
        }
    }

    pub(super) fn answer_remakers(&mut self, remade: &Remade, step: &mut MachineStep) {
        for waiter in self.remakers.drain(..) {
            step.answer(waiter, ServiceAnswer::Remade(remade.clone()));
        }
    }
}
