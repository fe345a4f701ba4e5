//! A run that ends.

use crate::{
    RunEnd, lifecycle, machine_step::MachineStep, run::Run, saved::saved, service_action::ServiceAnswer,
    service_event::Ticket,
};

/// A run that ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leaving {
    pub(super) run: Run,
    /// Whether its shutdown commands have run, and its instances have been told to stop.
    pub(super) told: bool,
    /// Whether runs of a job that are under way may go on to their end: another plan takes their place, and nobody waits
    /// for them.
    pub(super) lingers: bool,
    /// Who waits until nothing is under way to it.
    pub(super) drained: Vec<Ticket>,
    /// Who waits until no process of it lives, or what lives has outlived SIGKILL.
    pub(super) stopped: Vec<Ticket>,
}

saved!(struct Leaving { run, told, lingers, drained, stopped });

impl Leaving {
    /// A run that ends, and nobody waits for it.
    pub(super) fn of(run: Run) -> Self {
        Self { run, told: false, lingers: false, drained: Vec::new(), stopped: Vec::new() }
    }

    /// Tells its instances to stop, unless its shutdown commands are under way.
    pub(super) fn go_on(&mut self, step: &mut MachineStep) {
        if !self.told && !self.run.is_shutting_down() {
            self.told = true;
            if !self.lingers {
                self.run.tell_all(lifecycle::Event::Stop, step);
            }
        }
    }

    /// Runs of a job go on no longer.
    pub(super) fn linger_no_more(&mut self, step: &mut MachineStep) {
        if std::mem::replace(&mut self.lingers, false) && self.told {
            self.run.tell_all(lifecycle::Event::Stop, step);
        }
    }

    /// Answers who waits for what has come about; whether it is over.
    pub(super) fn settle(&mut self, step: &mut MachineStep) -> bool {
        if self.told && (self.lingers || self.run.has_drained()) {
            for waiter in self.drained.drain(..) {
                step.answer(waiter, ServiceAnswer::Done);
            }
        }
        if self.told && (self.lingers || self.run.has_ended()) {
            for waiter in self.stopped.drain(..) {
                step.answer(waiter, ServiceAnswer::Ended(self.run.end()));
            }
        }
        self.told && self.run.has_stopped()
    }

    /// Nobody looks after it in its own way any longer; who waits for it is told now.
    pub(super) fn give_up(self, step: &mut MachineStep) {
        for waiter in self.drained {
            step.answer(waiter, ServiceAnswer::Done);
        }
        for waiter in self.stopped {
            step.answer(waiter, ServiceAnswer::Ended(RunEnd::default()));
        }
    }
}
