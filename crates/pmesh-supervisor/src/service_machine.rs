//! A service: the run that it is, the one that is to be it, those that end. A plain type: it takes
//! events and the time, and answers with what to do.
//!
//! It knows processes by number only. Its driver holds what cannot be written down, and so a driver,
//! or a whole server, can be replaced by another one that goes on from the same machine.

mod before;
mod broken;
mod building;
mod candidate;
mod ending;
mod jobs;
mod last_look;
mod leaving;
mod outliving;
mod product;
mod replacing;
mod room;
mod shown;
mod switch;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

pub(crate) use self::shown::Traffic;
use self::{
    before::{Before, Predecessor},
    candidate::Candidate,
    last_look::LastLook,
    leaving::Leaving,
    room::Room,
};
use crate::{
    JobRun, Plan, Prepared, Remade, RunEnd, ServiceId, ServiceKind, ServiceName, Signal, StopEnd, Survivor,
    Wish,
    ending::OUTPUT_GRACE,
    machine_step::{MachineStep, Numbers},
    notice::Notice,
    run::{Run, RunHold},
    saved::saved,
    service_action::{ServiceAction, ServiceAnswer},
    service_event::{ServiceEvent, Ticket},
    slot::ProcessEvent,
    unbuilt::{RetryEvent, Unbuilt},
};

/// A service, all of it that can be written down.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is told by events of its own")]
pub(crate) struct ServiceMachine {
    name: ServiceName,
    /// The id of the run that is shown, or was last.
    id: ServiceId,
    numbers: Numbers,
    /// The run that is the service.
    current: Option<Run>,
    /// The run that is to become it.
    candidate: Option<Candidate>,
    /// What had to make room for the candidate.
    before: Before,
    /// What the service was, while the run that has taken over may still be taken back.
    kept: Option<Predecessor>,
    /// Who waits for a last look at the new run.
    look: Option<LastLook>,
    /// The run that is the service as soon as it is built.
    unbuilt: Option<Unbuilt>,
    /// Who waits until the build of the run is made again.
    remakers: Vec<Ticket>,
    /// Tries to build that are under way, also such that are wanted no more: their numbers, and what
    /// is wished of them.
    attempts: Vec<(u64, Wish)>,
    /// Runs that end.
    leaving: Vec<Leaving>,
    /// The processes that were left when it broke down, and have not ended yet; with what SIGKILL has not ended of
    /// them, once that is known.
    remnants: BTreeMap<u64, Vec<Survivor>>,
    standing: Standing,
    /// Whether no run was ever in force, and it was never stopped.
    is_new: bool,
    /// How often it was stopped.
    stops: u64,
    /// How often it was killed.
    kills: u64,
    /// Who waits for the stop, and whether the service was up before.
    stop_waiters: Vec<(Ticket, bool)>,
    /// What is to be told them of runs that have ended meanwhile.
    stop_notes: Vec<String>,
    /// The last runs of a job that have ended, oldest first.
    job_runs: Vec<JobRun>,
    /// Whether nothing may be started from the files in the work tree.
    held: bool,
    hold_waiters: Vec<Ticket>,
    /// Whether the server is about to end, and nothing is started any more.
    is_ending: bool,
    /// Whether nobody can ask for anything any more.
    orphaned: bool,
    /// The processes whose output is on its way into the log.
    outputs: BTreeSet<u64>,
    /// While everything has ended but the way of the output into the log: how long that is waited for.
    output_until: Option<Instant>,
}

saved!(struct ServiceMachine {
    name, id, numbers, current, candidate, before, kept, look, unbuilt, remakers, attempts, leaving, remnants, standing, is_new,
    stops, kills, stop_waiters, stop_notes, job_runs, held, hold_waiters, is_ending, orphaned, outputs, output_until,
});

/// Whether the service is to run.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    /// Yes.
    Wanted,
    /// No: it was stopped on request.
    Stopped,
    /// Not before its next start: it cannot be looked after, for this reason. It was a run of this plan.
    Broken { reason: String, plan: Option<Arc<Plan>> },
}

saved!(enum Standing { 0 Wanted, 1 Stopped, 2 Broken { reason, plan } });

impl ServiceMachine {
    /// A service whose first run, with this id, is still to come.
    pub(crate) fn new(name: ServiceName, id: ServiceId, numbers: Numbers) -> Self {
        Self {
            name,
            id,
            numbers,
            current: None,
            candidate: None,
            before: Before::Nothing,
            kept: None,
            look: None,
            unbuilt: None,
            remakers: Vec::new(),
            attempts: Vec::new(),
            leaving: Vec::new(),
            remnants: BTreeMap::new(),
            standing: Standing::Wanted,
            is_new: true,
            stops: 0,
            kills: 0,
            stop_waiters: Vec::new(),
            stop_notes: Vec::new(),
            job_runs: Vec::new(),
            held: false,
            hold_waiters: Vec::new(),
            is_ending: false,
            orphaned: false,
            outputs: BTreeSet::new(),
            output_until: None,
        }
    }

    pub(crate) fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Takes an event; answers with what to do, in this order. Before any of it balancers are told
    /// who takes [`traffic`](Self::traffic) now, and readers the new [`state`](Self::state).
    pub(crate) fn on_event(&mut self, event: ServiceEvent, now: Instant) -> Vec<ServiceAction> {
        let mut step = MachineStep { now, numbers: self.numbers, actions: Vec::new() };
        self.take(event, &mut step);
        self.settle(&mut step);
        self.numbers = step.numbers;
        step.actions
    }

    fn take(&mut self, event: ServiceEvent, step: &mut MachineStep) {
        match event {
            event if self.is_ending && Self::refuses_at_end(&event, step) => {}
            ServiceEvent::Prepare { stops, spawned, ended, .. } if stops != self.stops => {
                step.answer(spawned, ServiceAnswer::Done);
                step.answer(ended, ServiceAnswer::Prepared(Prepared::Left));
            }
            ServiceEvent::Prepare { plan, spawned, ended, .. } => self.prepare(plan, spawned, ended, step),
            ServiceEvent::StayUnbuilt { plan, stops, missing, failure, done } => {
                if stops == self.stops {
                    self.stay_unbuilt(plan, missing, failure, step);
                }
                step.answer(done, ServiceAnswer::Done);
            }
            ServiceEvent::AwaitReady { ended } => match &mut self.candidate {
                // Answered, as the first time, when what has changed is settled.
                Some(candidate) if !candidate.revived => candidate.await_ready(ended, step),
                _ => step.answer(ended, ServiceAnswer::Prepared(Prepared::Left)),
            },
            ServiceEvent::LookAgain { ended } => self.look_again(ended, step),
            ServiceEvent::Switch { switched } => _ = self.switch(switched, step),
            ServiceEvent::Commit { switched, drained, stopped } => {
                self.commit(switched, drained, stopped, step);
            }
            ServiceEvent::Abandon { done } => self.abandon(done, step),
            ServiceEvent::Revive { ended } => self.revive(ended, step),
            ServiceEvent::Stop { done } => {
                self.stop_waiters.push((done, !self.is_stopped()));
                self.stop(step);
            }
            ServiceEvent::Kill => self.kill(step),
            ServiceEvent::Hold { done } => {
                self.held = true;
                self.hold_waiters.push(done);
                for run in self.own_runs_mut() {
                    run.hold(RunHold::Files, step);
                }
                self.tell_unbuilt(RetryEvent::Hold, step);
            }
            ServiceEvent::Release => {
                self.held = false;
                for run in self.own_runs_mut() {
                    run.let_go(RunHold::Files, step);
                }
                if !self.is_ending {
                    self.tell_unbuilt(RetryEvent::Release, step);
                }
            }
            ServiceEvent::HoldProduct { done } => {
                self.hold_product(step);
                self.hold_waiters.push(done);
            }
            ServiceEvent::ProductIsWhole => self.product_is_whole(step),
            ServiceEvent::Remake { failure, ended } => self.remake(failure, ended, step),
            ServiceEvent::JobIsDue => self.on_due(step),
            ServiceEvent::RunNow { begun } => self.run_now(begun, step),
            ServiceEvent::EndBegins => self.begin_end(step),
            ServiceEvent::Orphaned => {
                self.orphaned = true;
                self.stop(step);
            }
            ServiceEvent::Tick => {
                self.tell_unbuilt(RetryEvent::Tick, step);
                for run in self.runs_mut() {
                    run.tick(step);
                }
            }
            ServiceEvent::ShutdownCommandsEnded { run } => {
                self.runs_mut().any(|candidate| candidate.on_shutdown_commands_ended(run));
            }
            ServiceEvent::Built { attempt, built } => self.on_built(attempt, built, step),
            event => self.take_of_process(event, step),
        }
    }

    fn take_of_process(&mut self, event: ServiceEvent, step: &mut MachineStep) {
        let (upstream, event) = match event {
            ServiceEvent::Spawned { upstream, leader, port } => {
                self.outputs.insert(upstream);
                (upstream, ProcessEvent::Spawned { leader, port })
            }
            ServiceEvent::SpawnFailed { upstream, reason } => {
                self.remnants.remove(&upstream);
                (upstream, ProcessEvent::SpawnFailed(reason))
            }
            ServiceEvent::SpawnPutOff { upstream, reason } => {
                self.remnants.remove(&upstream);
                (upstream, ProcessEvent::SpawnPutOff(reason))
            }
            ServiceEvent::Exited { upstream, exit } => (upstream, ProcessEvent::Exited(exit)),
            ServiceEvent::TreeEnded { upstream, exit, last_lines, taken } => {
                self.remnants.remove(&upstream);
                (upstream, ProcessEvent::TreeEnded { exit, last_lines, taken })
            }
            ServiceEvent::LookedAt { upstream, survivors } => {
                if let Some(remnant) = self.remnants.get_mut(&upstream) {
                    remnant.clone_from(&survivors);
                }
                (upstream, ProcessEvent::LookedAt(survivors))
            }
            ServiceEvent::LastLines { upstream, last_lines } => {
                (upstream, ProcessEvent::LastLines(last_lines))
            }
            ServiceEvent::Probed { upstream, result } => {
                if let Some(look) = &mut self.look {
                    look.on_probed(upstream, &result);
                }
                (upstream, ProcessEvent::Probed(result))
            }
            ServiceEvent::TimedOut { upstream } => (upstream, ProcessEvent::TimedOut),
            ServiceEvent::Answered { upstream } => (upstream, ProcessEvent::Answered),
            ServiceEvent::Drained { upstream } => (upstream, ProcessEvent::Drained),
            ServiceEvent::OutputEnded { upstream } => {
                self.outputs.remove(&upstream);
                return;
            }
            _ => return,
        };
        if let Some(run) = self.runs_mut().find(|run| run.owns(upstream)) {
            run.on_process(upstream, event, step);
        }
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.current
            .iter()
            .chain(self.candidate.iter().map(|candidate| &candidate.run))
            .chain(self.kept.iter().filter_map(|kept| kept.run.as_ref()))
            .chain(self.leaving.iter().map(|leaving| &leaving.run))
    }

    fn runs_mut(&mut self) -> impl Iterator<Item = &mut Run> {
        self.current
            .iter_mut()
            .chain(self.candidate.iter_mut().map(|candidate| &mut candidate.run))
            .chain(self.kept.iter_mut().filter_map(|kept| kept.run.as_mut()))
            .chain(self.leaving.iter_mut().map(|leaving| &mut leaving.run))
    }

    fn prepare(&mut self, plan: Arc<Plan>, spawned: Ticket, ended: Ticket, step: &mut MachineStep) {
        if let Some(candidate) = self.candidate.as_ref().filter(|candidate| candidate.revived) {
            self.before = Before::Run(Arc::clone(candidate.run.plan()));
        }
        self.drop_kept(step);
        self.drop_candidate(step);
        let serves = self.current.as_ref().is_some_and(|current| {
            current.ready() > 0 || current.plan().schedule().is_some() && plan.schedule().is_some()
        });
        let overlaps = serves && plan.overlaps();
        step.note(Notice::RunStarts { id: plan.id, overlaps });
        let standing = std::mem::replace(&mut self.standing, Standing::Wanted);
        if !overlaps {
            for leaving in &mut self.leaving {
                leaving.linger_no_more(step);
            }
            if let Some(old) = self.current.take() {
                self.before = Before::Run(Arc::clone(old.plan()));
                self.leave(Leaving::of(old), step);
            } else if let Some(unbuilt) = self.take_unbuilt(step) {
                self.before = Before::Unbuilt(unbuilt);
            } else if standing == Standing::Stopped {
                self.before = Before::Stopped;
            } else if let Standing::Broken { plan: Some(plan), .. } = standing {
                self.before = Before::Run(plan);
            }
        }
        if let ServiceKind::App(app) = &plan.spec.kind {
            step.ask(ServiceAction::CheckDescriptorLimit { wanted: app.nofile });
        }
        let run = Run::new(plan, step);
        self.candidate = Some(Candidate::prepared(run, !overlaps, spawned, ended));
    }

    fn revive(&mut self, ended: Ticket, step: &mut MachineStep) {
        match std::mem::replace(&mut self.before, Before::Nothing) {
            // It starts when its build is made again.
            Before::Run(_) if self.unbuilt.is_some() => {
                let failure = self.unbuilt.as_ref().map(|unbuilt| unbuilt.failure().sentence(step.now));
                step.answer(ended, ServiceAnswer::Prepared(Prepared::Failed(failure.unwrap_or_default())));
            }
            Before::Run(plan) => self.start_alone(plan, Some(ended), step),
            Before::Unbuilt(Unbuilt { plan, failure, missing, .. }) => {
                step.answer(ended, ServiceAnswer::Prepared(Prepared::Failed(failure.sentence(step.now))));
                self.drop_candidate(step);
                self.wait_for(missing, plan, failure, step);
            }
            Before::Nothing | Before::Stopped => step.answer(ended, ServiceAnswer::Prepared(Prepared::Ready)),
        }
    }

    /// Starts a run that is the service at once: nothing is to be switched later.
    fn start_alone(&mut self, plan: Arc<Plan>, ended: Option<Ticket>, step: &mut MachineStep) {
        self.drop_candidate(step);
        let run = Run::new(plan, step);
        self.candidate = Some(Candidate::revived(run, ended));
    }

    fn stop(&mut self, step: &mut MachineStep) {
        self.standing = Standing::Stopped;
        self.stops += 1;
        self.is_new = false;
        self.before = Before::Nothing;
        self.take_unbuilt(step);
        self.drop_kept(step);
        self.drop_candidate(step);
        for leaving in &mut self.leaving {
            leaving.linger_no_more(step);
        }
        if let Some(current) = self.current.take() {
            step.note(Notice::Stops);
            self.leave(Leaving::of(current), step);
        }
    }

    fn kill(&mut self, step: &mut MachineStep) {
        self.kills += 1;
        self.stop(step);
        for leaving in &mut self.leaving {
            leaving.told = true;
        }
        for (attempt, wish) in &mut self.attempts {
            *wish = Wish::Kill;
            step.ask(ServiceAction::EndBuild { attempt: *attempt, wish: Wish::Kill });
        }
        for run in self.runs_mut() {
            run.kill(step);
        }
        for &upstream in self.remnants.keys() {
            step.ask(ServiceAction::Signal { upstream, signal: Signal::Kill });
        }
    }

    /// A candidate that nobody will commit ends: its rollout was dropped on its way and has abandoned
    /// nothing, or the service stops.
    fn drop_candidate(&mut self, step: &mut MachineStep) {
        if let Some(candidate) = self.candidate.take() {
            let run = candidate.into_run(step);
            self.leave(Leaving::of(run), step);
        }
    }

    /// A run ends: its shutdown commands first, then its instances.
    fn leave(&mut self, mut leaving: Leaving, step: &mut MachineStep) {
        leaving.run.begin_shutdown(step);
        leaving.go_on(step);
        self.leaving.push(leaving);
    }

    /// Draws the conclusions from what has changed.
    fn settle(&mut self, step: &mut MachineStep) {
        self.settle_jobs();
        let is_stopping = !self.stop_waiters.is_empty();
        self.leaving.retain_mut(|leaving| {
            leaving.go_on(step);
            let is_over = leaving.settle(step);
            if is_over && is_stopping {
                self.stop_notes.extend(leaving.run.end().notes);
            }
            !is_over
        });
        self.settle_candidate(step);
        self.settle_look(step);
        let has_room = self
            .current
            .as_ref()
            .is_some_and(|current| current.plan().overlaps() || self.room_for(current.plan()) == Room::Free);
        if let Some(current) = self.current.as_mut().filter(|_| has_room) {
            // A commit may have come before its turn.
            current.start_next(step);
        }
        self.settle_replacements(step);
        if self.attempts.iter().all(|&(_, wish)| wish == Wish::GoOn) {
            for waiter in self.hold_waiters.drain(..) {
                step.answer(waiter, ServiceAnswer::Done);
            }
        }
        self.settle_stop(step);
        if !self.is_stopped() {
            let unbuilt = self.unbuilt.as_ref().map(|unbuilt| unbuilt.plan.id);
            self.id = self.shown().map(|run| run.plan().id).or(unbuilt).unwrap_or(self.id);
        }
    }

    fn settle_candidate(&mut self, step: &mut MachineStep) {
        let Some(candidate) = &self.candidate else { return };
        let room = self.room_for(candidate.run.plan());
        let Some(candidate) = &mut self.candidate else { return };
        let has_ended = candidate.go_on(room, step);
        if has_ended && let Some(back) = self.candidate.take_if(|candidate| candidate.revived) {
            self.current = Some(back.into_run(step));
        }
    }

    fn settle_stop(&mut self, step: &mut MachineStep) {
        let is_waited_for = self.orphaned || !self.stop_waiters.is_empty();
        if !is_waited_for || !self.has_ended() {
            self.output_until = None;
            return;
        }
        let until = *self.output_until.get_or_insert(step.now + OUTPUT_GRACE);
        if self.outputs.is_empty() || until <= step.now {
            let notes = std::mem::take(&mut self.stop_notes);
            let living = self.leaving.iter().flat_map(|leaving| leaving.run.end().notes);
            let end =
                RunEnd { notes: notes.into_iter().chain(living).collect(), survivors: self.survivors() };
            for (waiter, was_up) in self.stop_waiters.drain(..) {
                step.answer(waiter, ServiceAnswer::Stopped(StopEnd { was_up, end: end.clone() }));
            }
            if !self.orphaned {
                self.output_until = None;
            }
        }
    }

    /// Whether all that was to end has ended, or outlived SIGKILL.
    fn has_ended(&self) -> bool {
        let wanted = self.unbuilt.as_ref().and_then(|unbuilt| unbuilt.trying);
        self.leaving.iter().all(|leaving| leaving.told && leaving.run.has_ended())
            && self.remnants.values().all(|survivors| !survivors.is_empty())
            && self.attempts.iter().all(|&(attempt, _)| wanted == Some(attempt))
    }

    /// Whether nobody can ask for anything any more, nothing of the service runs that SIGKILL ends, and the output of what
    /// ran is in the log or has taken too long.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let has_written = self.outputs.is_empty() || self.output_until.is_some_and(|until| until <= now);
        self.orphaned && self.current.is_none() && self.candidate.is_none() && self.has_ended() && has_written
    }

    /// When [`ServiceEvent::Tick`] is due if nothing else happens first. An early tick does nothing.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let retry = self.unbuilt.iter().filter_map(|unbuilt| unbuilt.retry.deadline());
        let output = self.output_until.filter(|_| !self.outputs.is_empty());
        let start = self.candidate.as_ref().and_then(Candidate::deadline);
        let replacement = self.replacement_deadline();
        self.runs().filter_map(Run::deadline).chain(retry).chain(output).chain(start).chain(replacement).min()
    }

    fn is_stopped(&self) -> bool {
        self.standing == Standing::Stopped
    }
}
