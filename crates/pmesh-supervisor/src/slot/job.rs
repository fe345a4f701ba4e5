//! An instance that is started at set times, and ends by itself.

use std::sync::Arc;

use super::{Slot, SpawnedProcess, Trouble};
use crate::{Exit, JobRun, Plan, lifecycle::Event, machine_step::MachineStep, notice::InstanceNotice};

impl Slot {
    /// Starts it if nothing of it runs; whether that is so.
    pub(crate) fn begin_run(&mut self, plan: &Arc<Plan>, step: &mut MachineStep) -> bool {
        if !self.is_stopped() {
            return false;
        }
        (self.finished, self.trouble) = (None, None);
        self.tell(Event::Start, plan, step);
        true
    }

    /// The run that has ended since this was asked for.
    pub(crate) fn take_ended_run(&mut self) -> Option<JobRun> {
        self.ended_run.take()
    }

    /// The run under way.
    pub(crate) fn run_under_way(&self) -> Option<JobRun> {
        let process = self.process.as_ref().filter(|process| !process.exited)?;
        Some(JobRun { instance: self.number, started: process.spawned?.at, ended: None, exit: None })
    }

    /// Its process has ended, which may have been a run of a job.
    pub(super) fn note_run(
        &mut self,
        exit: Exit,
        spawned: Option<SpawnedProcess>,
        plan: &Plan,
        step: &MachineStep,
    ) {
        if let (Some(_), Some(spawned)) = (plan.schedule(), spawned) {
            let (started, ended) = (spawned.at, Some(step.now));
            self.ended_run = Some(JobRun { instance: self.number, started, ended, exit: Some(exit) });
        }
    }

    /// Ends a run that takes too long.
    pub(super) fn end_if_overrun(&mut self, plan: &Arc<Plan>, step: &mut MachineStep) {
        let Some((until, limit)) = self.run_until.filter(|_| self.is_probed()) else { return };
        if until <= step.now {
            self.note(InstanceNotice::Overruns { limit }, step);
            self.goes_wrong(Trouble::Overrun { limit, last_lines: Vec::new() }, step);
            self.tell(Event::Stop, plan, step);
        }
    }
}
