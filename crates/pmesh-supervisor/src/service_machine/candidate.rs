//! A run that is to become the service.

use std::time::Instant;

use super::room::Room;
use crate::{
    Prepared, machine_step::MachineStep, notice::Notice, run::Run, saved::saved,
    service_action::ServiceAnswer, service_event::Ticket,
};

/// How far the start of a candidate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CandidateStage {
    /// It waits for the end of the run before it.
    Waits,
    /// It starts.
    Starts,
    /// It has become ready or failed to, and was told so.
    Ended,
}

saved!(enum CandidateStage { 0 Waits, 1 Starts, 2 Ended });

/// A run that is to become the service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) run: Run,
    stage: CandidateStage,
    /// Whether nothing serves beside it, so that its instances take traffic as they become ready.
    pub(super) alone: bool,
    /// Whether it is the service when its start has ended, without a commit.
    pub(super) revived: bool,
    /// Who waits until all of it is spawned.
    spawned: Option<Ticket>,
    /// Who waits for the end of its start.
    ended: Option<Ticket>,
}

saved!(struct Candidate { run, stage, alone, revived, spawned, ended });

impl Candidate {
    /// A run that waits for a commit when it has started.
    pub(super) fn prepared(run: Run, alone: bool, spawned: Ticket, ended: Ticket) -> Self {
        let (spawned, ended) = (Some(spawned), Some(ended));
        Self { run, stage: CandidateStage::Waits, alone, revived: false, spawned, ended }
    }

    /// A run that is the service when it has started.
    pub(super) fn revived(run: Run, ended: Option<Ticket>) -> Self {
        Self { run, stage: CandidateStage::Waits, alone: true, revived: true, spawned: None, ended }
    }

    /// Somebody waits for the end of its start once more.
    pub(super) fn await_ready(&mut self, ended: Ticket, step: &mut MachineStep) {
        if let Some(before) = self.ended.replace(ended) {
            step.answer(before, ServiceAnswer::Prepared(Prepared::Left));
        }
        if self.stage == CandidateStage::Ended {
            self.stage = CandidateStage::Starts;
        }
    }

    /// Starts what may start; answers whether the start has ended, well or not. What may not run beside
    /// anything waits for its `room`; where nobody knows when there is any, it has failed to start in time, and still
    /// starts when there is.
    pub(super) fn go_on(&mut self, room: Room, step: &mut MachineStep) -> bool {
        if self.stage == CandidateStage::Waits {
            match room {
                _ if !self.alone => {}
                Room::Free => {}
                Room::NotYet => return false,
                Room::Blocked(reason) => return self.end(Prepared::Failed(reason), step),
            }
            self.stage = CandidateStage::Starts;
        }
        self.run.start_next(step);
        if self.run.all_spawned()
            && let Some(spawned) = self.spawned.take()
        {
            step.answer(spawned, ServiceAnswer::Done);
        }
        let end = if self.run.all_ready() {
            Prepared::Ready
        } else if let Some(reason) = self.run.failure_of_start(step.now) {
            Prepared::Failed(reason)
        } else {
            return false;
        };
        if self.stage == CandidateStage::Ended {
            return false;
        }
        self.stage = CandidateStage::Ended;
        self.end(end, step)
    }

    /// Tells who waits for it how its start has ended; answers whether that is news.
    fn end(&mut self, end: Prepared, step: &mut MachineStep) -> bool {
        if self.stage == CandidateStage::Waits && self.ended.is_none() {
            return self.revived;
        }
        if let Prepared::Failed(reason) = &end {
            step.note(Notice::RunFails { reason: reason.clone() });
        }
        if let Some(spawned) = self.spawned.take() {
            step.answer(spawned, ServiceAnswer::Done);
        }
        if let Some(ended) = self.ended.take() {
            step.answer(ended, ServiceAnswer::Prepared(end));
        }
        true
    }

    /// When its start has failed, if nothing else happens first.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.run.start_deadline().filter(|_| self.stage == CandidateStage::Starts)
    }

    /// It is no candidate any more; who waits for it learns so.
    pub(super) fn into_run(self, step: &mut MachineStep) -> Run {
        if let Some(spawned) = self.spawned {
            step.answer(spawned, ServiceAnswer::Done);
        }
        if let Some(ended) = self.ended {
            step.answer(ended, ServiceAnswer::Prepared(Prepared::Left));
        }
        self.run
    }
}
