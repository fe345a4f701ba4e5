//! The server is about to end: what runs goes on until it is stopped, and nothing is started any more.

use super::{Prepared, Remade, RetryEvent, RunHold, ServiceAnswer, ServiceEvent, ServiceMachine};
use crate::machine_step::MachineStep;

impl ServiceMachine {
    /// Nothing is started or built from now on: it would be ended at once, and requests would be given to it meanwhile.
    pub(super) fn begin_end(&mut self, step: &mut MachineStep) {
        self.is_ending = true;
        for run in self.runs_mut() {
            run.hold(RunHold::End, step);
        }
        self.tell_unbuilt(RetryEvent::Hold, step);
    }

    /// Whether the event asks for a start, which has been answered then as one that a stop has overtaken.
    pub(super) fn refuses_at_end(event: &ServiceEvent, step: &mut MachineStep) -> bool {
        match *event {
            ServiceEvent::Prepare { spawned, ended, .. } => {
                step.answer(spawned, ServiceAnswer::Done);
                step.answer(ended, ServiceAnswer::Prepared(Prepared::Left));
                true
            }
            ServiceEvent::Revive { ended } => {
                step.answer(ended, ServiceAnswer::Prepared(Prepared::Left));
                true
            }
            ServiceEvent::Remake { ended, .. } => {
                step.answer(ended, ServiceAnswer::Remade(Remade::Left));
                true
            }
            _ => false,
        }
    }
}
