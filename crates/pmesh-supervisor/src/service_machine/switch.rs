//! How a prepared run takes over, and how it is taken back while the old one is still there.

use super::{
    ServiceMachine, Standing,
    before::{Before, Predecessor},
    last_look::LastLook,
    leaving::Leaving,
};
use crate::{
    Prepared, RunEnd, Switched, machine_step::MachineStep, run::Run, service_action::ServiceAnswer,
    service_event::Ticket,
};

impl ServiceMachine {
    /// The new run takes all new requests. The old one is kept, so that it can be taken back, until the
    /// [`commit`](Self::commit). Whether there was one.
    pub(super) fn switch(&mut self, switched: Ticket, step: &mut MachineStep) -> bool {
        let Some(candidate) = self.candidate.take_if(|candidate| !candidate.revived) else {
            // It was stopped meanwhile.
            step.answer(switched, ServiceAnswer::Switched(Switched::Left));
            return false;
        };
        self.drop_kept(step);
        // Nothing is built for the old one any more; whoever takes it back looks again whether it has to be.
        self.take_unbuilt(step);
        let new = candidate.into_run(step);
        step.answer(switched, ServiceAnswer::Switched(how_ready(&new)));
        self.kept = Some(Predecessor {
            run: self.current.replace(new),
            before: std::mem::replace(&mut self.before, Before::Nothing),
            was_new: std::mem::replace(&mut self.is_new, false),
        });
        true
    }

    /// The new run is the service for good, and the old one ends.
    pub(super) fn commit(
        &mut self,
        switched: Ticket,
        drained: Ticket,
        stopped: Ticket,
        step: &mut MachineStep,
    ) {
        match &self.current {
            Some(new) if self.kept.is_some() => {
                step.answer(switched, ServiceAnswer::Switched(how_ready(new)));
            }
            _ => _ = self.switch(switched, step),
        }
        match self.kept.take().and_then(|kept| kept.run) {
            Some(old) => {
                let lingers = old.plan().schedule().is_some();
                let (drained, stopped) = (vec![drained], vec![stopped]);
                self.leave(Leaving { lingers, drained, stopped, ..Leaving::of(old) }, step);
            }
            None => {
                step.answer(drained, ServiceAnswer::Done);
                step.answer(stopped, ServiceAnswer::Ended(RunEnd::default()));
            }
        }
    }

    /// The new run ends, whether it has taken over already or not.
    pub(super) fn abandon(&mut self, done: Ticket, step: &mut MachineStep) {
        if let Some(candidate) = self.candidate.take_if(|candidate| !candidate.revived) {
            // A run that was alone may have taken requests, as one does that is the service. The commands
            // before a stop are for such runs; another never served.
            let has_served = candidate.alone;
            let leaving = Leaving { stopped: vec![done], ..Leaving::of(candidate.into_run(step)) };
            if has_served {
                self.leave(leaving, step);
            } else {
                self.leaving.push(leaving);
            }
        } else if let Some(kept) = self.kept.take()
            && let Some(new) = std::mem::replace(&mut self.current, kept.run)
        {
            (self.before, self.is_new) = (kept.before, kept.was_new);
            self.leave(Leaving { stopped: vec![done], ..Leaving::of(new) }, step);
        } else {
            step.answer(done, ServiceAnswer::Ended(RunEnd::default()));
            return;
        }
        if self.current.is_none() && matches!(self.before, Before::Nothing | Before::Stopped) {
            self.before = Before::Nothing;
            self.standing = Standing::Stopped;
        }
    }

    /// Nobody will take the run back that has taken over.
    pub(super) fn drop_kept(&mut self, step: &mut MachineStep) {
        if let Some(old) = self.kept.take().and_then(|kept| kept.run) {
            self.leave(Leaving::of(old), step);
        }
    }

    /// Looks once more at every instance of the new run: before it takes over, and before the old one drains.
    pub(super) fn look_again(&mut self, ended: Ticket, step: &mut MachineStep) {
        if let Some(before) = self.look.take() {
            step.answer(before.ended, ServiceAnswer::Prepared(Prepared::Left));
        }
        let probes = self.looked_at_mut().map(|run| run.probe_now(step)).unwrap_or_default();
        self.look = Some(LastLook { ended, probes, has_failed: false, failure: None });
    }

    /// Says how the look has ended, if it has.
    pub(super) fn settle_look(&mut self, step: &mut MachineStep) {
        let Some(mut look) = self.look.take() else { return };
        let end = match self.looked_at_mut() {
            None => Prepared::Left,
            Some(run) => {
                look.has_failed |= !run.all_ready();
                if look.has_failed && run.is_clearing() {
                    // Its last lines are to come.
                    self.look = Some(look);
                    return;
                }
                if look.has_failed {
                    let failure = look.failure.map(|failure| failure.to_string());
                    let failure = failure.or_else(|| Some(run.failure()?.without_retry(step.now)));
                    Prepared::Failed(failure.unwrap_or_else(|| "an instance has ended again".to_owned()))
                } else if look.probes.is_empty() {
                    Prepared::Ready
                } else {
                    self.look = Some(look);
                    return;
                }
            }
        };
        step.answer(look.ended, ServiceAnswer::Prepared(end));
    }

    fn looked_at_mut(&mut self) -> Option<&mut Run> {
        match &mut self.candidate {
            Some(candidate) if !candidate.revived => Some(&mut candidate.run),
            _ => self.current.as_mut().filter(|_| self.kept.is_some()),
        }
    }
}

fn how_ready(run: &Run) -> Switched {
    match (run.ready(), run.wanted()) {
        _ if run.all_ready() => Switched::Ready,
        (ready, wanted) => Switched::Partly { ready, wanted },
    }
}
