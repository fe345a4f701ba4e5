//! Jobs: what is started at set times, or on request, and ends by itself.

use super::ServiceMachine;
use crate::{
    JobRun, RestartPolicy, RunBegun, Schedule, machine_step::MachineStep, notice::Notice, run::Run,
    service_action::ServiceAnswer, service_event::Ticket,
};

/// How many of the last runs are told.
const RUNS: usize = 10;

impl ServiceMachine {
    /// The times at which something of it is to be started.
    pub(crate) fn schedule(&self) -> Option<&Schedule> {
        self.current.as_ref().filter(|_| !self.is_stopped())?.plan().schedule()
    }

    /// Its time has come.
    pub(super) fn on_due(&mut self, step: &mut MachineStep) {
        if self.schedule().is_some() && self.begin_runs(step) == RunBegun::RunsAlready {
            step.note(Notice::RunIsSkipped);
        }
    }

    /// Somebody wants a run now.
    pub(super) fn run_now(&mut self, begun: Ticket, step: &mut MachineStep) {
        let answer = self.begin_runs(step);
        step.answer(begun, ServiceAnswer::RunBegun(answer));
    }

    fn begin_runs(&mut self, step: &mut MachineStep) -> RunBegun {
        let may_begin = self.candidate.is_none() && self.unbuilt.is_none() && !self.is_ending;
        let Some(current) = self.current.as_mut().filter(|_| may_begin) else {
            return RunBegun::Nothing;
        };
        if current.plan().restart() == RestartPolicy::Always {
            return RunBegun::NoJob;
        }
        let is_busy = current.is_busy() || self.leaving.iter().any(|leaving| leaving.run.is_busy());
        if is_busy || !current.begin_runs(step) { RunBegun::RunsAlready } else { RunBegun::Begun }
    }

    /// Takes note of runs that have ended.
    pub(super) fn settle_jobs(&mut self) {
        let runs = self.current.iter_mut().chain(self.leaving.iter_mut().map(|leaving| &mut leaving.run));
        for run in runs {
            self.job_runs.extend(run.take_ended_runs());
        }
        let more = self.job_runs.len().saturating_sub(RUNS);
        self.job_runs.drain(..more);
    }

    /// The last runs of a job, oldest first, and those under way.
    pub(super) fn shown_runs(&self) -> Vec<JobRun> {
        let is_job = self.schedule().is_some();
        let under_way = self.current.iter().chain(self.leaving.iter().map(|leaving| &leaving.run));
        let under_way = under_way.flat_map(Run::runs_under_way).filter(|_| is_job);
        self.job_runs.iter().cloned().chain(under_way).collect()
    }
}
