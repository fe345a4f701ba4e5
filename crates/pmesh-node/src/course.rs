//! The course of an operation: which act is next, whatever has come of those before. A plain type, for start,
//! reload, restart, update and stop alike; who carries the acts out decides nothing.
//!
//! It wraps the [`Rollout`] of its services with what is the node's: fetch, check, hold, check out, put in
//! force, forget, release. What an act did and another one undoes is undone in reverse when an operation
//! fails; what was stopped to make room is started last, from the files that it was started from, and built from them again
//! where that was in place.

mod aim;
mod operation_end;
mod situation;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use pmesh_manifest::Manifest;
use pmesh_supervisor::{
    ServiceName, StepName, StepState,
    rollout::{ActEnd, Instruction, Rollout, RolloutAct, Unity},
};
use pmesh_vcs::{CommitId, Revision};

use self::operation_end::OperationEnd;
use self::remaking::Remaking;
pub(crate) use self::{aim::Aim, situation::Situation};
use crate::{
    Failure, Outcome, Rebuild, RolloutFailure, Scope, Update,
    comparison::{Comparison, Way},
    in_one_line,
    served_place::ServedPlace,
    stop_report::StopReport,
    unfinished::Trial,
};

/// What is done for an operation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// Ask the remote, and refuse a work tree that cannot be moved.
    Fetch,
    /// Read the manifest of a commit.
    CheckCommit(CommitId),
    /// Read the manifest on the disk, where it is served from.
    CheckFile,
    /// Read it where the path leads that was given, and take the work tree there.
    Locate,
    /// Serve from here from now on.
    ServeFrom(Arc<ServedPlace>),
    /// Wait until nobody else fetches.
    TakeTurn,
    /// Nothing is started from the files in the work tree any more.
    Hold,
    /// Move the work tree.
    CheckOut(CommitId),
    /// Find out what is checked out, and how each service is that is to be rolled over.
    Survey(Survey),
    /// An act of the rollout of the services.
    Service(RolloutAct),
    /// The front and the handle follow this manifest from now on.
    PutInForce(Arc<Manifest>),
    /// Stop and forget the services that this manifest lacks.
    Forget(Arc<Manifest>),
    /// Move the work tree back, but for the edited files that were kept: undoes [`CheckOut`](Self::CheckOut).
    GoBack { tried: CommitId, to: CommitId, kept: Vec<PathBuf> },
    /// Move the work tree, which somebody else has moved, back to what the services run: nothing of it is lost.
    Return(CommitId),
    /// Find the services whose folders do not hold any more what their builds had made there in place.
    FindLacking,
    /// Build a service in place again, side by side with others.
    Remake(ServiceName),
    /// What is in the work tree may be started again: undoes [`Hold`](Self::Hold).
    Release,
    /// Start what was stopped for runs that were abandoned.
    Revive,
    /// Tell the front again where this manifest leads: a file service may have been stopped or started.
    Route(Arc<Manifest>),
    /// Publish that the services run this revision.
    Deployed(Revision),
    /// Remember what has come of a rollout of every service to this commit.
    Remember { commit: Option<CommitId>, trial: Trial },
    /// Begin to tidy up the repository in the background: nobody waits for its end.
    TidyUp,
    /// Stop services.
    Stop(Scope),
    /// End every run that is prepared.
    Abandon,
}

impl Act {
    /// The step that it is told as, if it is told.
    fn step(&self) -> Option<StepName> {
        match self {
            Self::Fetch => Some(StepName::Fetch),
            Self::CheckCommit(_) | Self::CheckFile | Self::Locate => Some(StepName::Check),
            Self::CheckOut(_) => Some(StepName::CheckOut),
            Self::GoBack { .. } | Self::Return(_) => Some(StepName::RollBack),
            Self::Stop(_) => Some(StepName::Stop),
            // The rollout tells its own, and the builds tell theirs.
            Self::Service(_) | Self::FindLacking | Self::Remake(_) => None,
            Self::TakeTurn | Self::Hold | Self::Survey(_) | Self::PutInForce(_) | Self::Forget(_) => None,
            Self::Release | Self::Revive | Self::Route(_) | Self::Remember { .. } | Self::Abandon => None,
            Self::Deployed(_) | Self::TidyUp | Self::ServeFrom(_) => None,
        }
    }
}

/// Which services are to be rolled over, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Survey {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) scope: Scope,
    pub(crate) unity: Unity,
    pub(crate) rebuild: Rebuild,
}

/// What has come of an act.
#[derive(Debug)]
pub(crate) enum ActResult {
    Done,
    Fetched(Comparison),
    /// The work tree has moved, but for these tracked files, which have local changes.
    CheckedOut(Vec<PathBuf>),
    Checked(Arc<Manifest>),
    /// The manifest, and where it is served from if that is another place than before.
    Located(Arc<Manifest>, Option<Arc<ServedPlace>>),
    /// Where it was served from before.
    Left(Arc<ServedPlace>),
    Surveyed {
        /// What is checked out; none where that is not known.
        head: Option<Revision>,
        rollout: Rollout,
        /// The services of the rollout, in its order.
        services: Vec<ServiceName>,
    },
    /// These services have to be built in place again.
    Lacking(Vec<ServiceName>),
    /// Services were stopped, and this is how they ended.
    Stopped(StopReport),
    Failed(Failure),
}

/// What comes next in a course. The end of an act is told to [`Course::on_end`], that of an [`Act::Service`] to
/// [`Course::on_service_end`].
pub(crate) type CourseInstruction = Instruction<Act, Option<ServiceName>>;

/// An operation under way.
#[derive(Debug)]
#[must_use = "nothing happens before somebody carries its acts out"]
pub(crate) struct Course {
    aim: Aim,
    situation: Situation,
    /// What is to be done, in order.
    todo: VecDeque<Act>,
    /// What undoes what was done, the last first.
    undo: Vec<Act>,
    /// The act of the node's that has not ended.
    under_way: Option<Act>,
    decided: VecDeque<CourseInstruction>,
    /// The services, from the survey on.
    services: Option<Services>,
    fetched: Option<Comparison>,
    /// Whether the operation is to go back.
    is_cancelled: bool,
    verdict: Option<OperationEnd>,
    /// Why the work tree could not go back.
    stuck: Option<String>,
    remaking: Remaking,
}

/// The services of a course that are rolled over.
#[derive(Debug)]
struct Services {
    rollout: Rollout,
    names: Vec<ServiceName>,
    manifest: Arc<Manifest>,
    head: Option<Revision>,
    /// Whether their rollout has ended.
    have_ended: bool,
    is_in_force: bool,
    /// The first switch that the rollout has asked for. It is held back until the manifest is in force.
    waiting: Option<RolloutAct>,
}

impl Course {
    /// The course of an operation. Nothing happens before [`advance`](Self::advance).
    pub(crate) fn new(aim: Aim, situation: Situation) -> Self {
        let mut course = Self {
            todo: VecDeque::new(),
            undo: Vec::new(),
            under_way: None,
            decided: VecDeque::new(),
            services: None,
            fetched: None,
            is_cancelled: false,
            verdict: None,
            stuck: None,
            remaking: Remaking::default(),
            aim,
            situation,
        };
        match course.first_acts() {
            Ok(acts) => course.todo.extend(acts),
            Err(failure) => course.verdict = Some(OperationEnd::Bad(failure)),
        }
        course
    }

    fn first_acts(&self) -> Result<Vec<Act>, Failure> {
        let Situation { manifest, services, has_repository, .. } = &self.situation;
        let survey = |scope: &Scope, unity, rebuild| {
            let (manifest, scope) = (Arc::clone(manifest), scope.clone());
            vec![Act::Survey(Survey { manifest, scope, unity, rebuild })]
        };
        let unknown = |name: &ServiceName| Err(Failure::UnknownService(name.clone()));
        Ok(match &self.aim {
            Aim::Start => survey(&Scope::All, Unity::Regardless, Rebuild::Changed),
            Aim::Reload(_) => vec![Act::Locate],
            Aim::Restart(Scope::One(name), _)
                if !manifest.services.iter().any(|service| service.spec.name == *name) =>
            {
                return unknown(name);
            }
            Aim::Restart(scope, rebuild) => survey(scope, Unity::Each, *rebuild),
            Aim::Update(_) if *has_repository && !manifest.repo.update => {
                return Err(Failure::UpdateDisabled);
            }
            Aim::Update(_) => vec![Act::Fetch],
            Aim::Stop(Scope::One(name)) if !services.contains(name) => return unknown(name),
            Aim::Stop(scope) => vec![Act::Stop(scope.clone())],
            Aim::Mend => {
                vec![
                    Act::Abandon,
                    Act::FindLacking,
                    Act::Release,
                    Act::Revive,
                    Act::Forget(Arc::clone(manifest)),
                ]
            }
        })
    }

    /// Asks the operation to go back at its next act. That has no effect where everything is decided already, and none on a
    /// stop.
    pub(crate) fn cancel(&mut self) {
        self.is_cancelled = true;
        if let Some(services) = self.rolling() {
            services.rollout.cancel();
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }

    /// The rollout of the services, to be shown how they look before each end of an act of theirs.
    pub(crate) fn rollout(&mut self) -> Option<&mut Rollout> {
        self.services.as_mut().map(|services| &mut services.rollout)
    }

    fn rolling(&mut self) -> Option<&mut Services> {
        self.services.as_mut().filter(|services| !services.have_ended)
    }

    /// What comes next; none when all has ended.
    pub(crate) fn advance(&mut self) -> Option<CourseInstruction> {
        loop {
            if let Some(next) = self.decided.pop_front() {
                return Some(next);
            }
            if self.under_way.is_some() || self.remaking.is_under_way() {
                return Some(Instruction::Wait);
            }
            if self.rolling().is_some() {
                match self.advance_services() {
                    Some(next) => return Some(next),
                    None => self.on_rolled_out(),
                }
            } else if self.is_cancelled && self.verdict.is_none() && !self.ends_services() {
                self.fail(Failure::ShuttingDown);
            } else {
                let act = self.todo.pop_front()?;
                if !(act == Act::Revive && self.is_cancelled) {
                    self.begin(act);
                }
            }
        }
    }

    /// Whether it ends services itself, so that the server's end does not cut it off.
    fn ends_services(&self) -> bool {
        matches!(self.aim, Aim::Stop(_) | Aim::Mend)
    }

    fn begin(&mut self, act: Act) {
        if let Some(step) = act.step() {
            self.decided.push_back(Instruction::Tell(None, step, StepState::Running));
        }
        self.under_way = Some(act.clone());
        self.decided.push_back(Instruction::Do(act));
    }

    /// What comes next of the services; none when their rollout has ended.
    fn advance_services(&mut self) -> Option<CourseInstruction> {
        let replaces_the_manifest = matches!(self.aim, Aim::Reload(_) | Aim::Update(_));
        let services = self.services.as_mut()?;
        if let Some(act) = services.waiting.take() {
            return Some(Instruction::Do(Act::Service(act)));
        }
        Some(match services.rollout.advance()? {
            Instruction::Do(act @ (RolloutAct::Switch(_) | RolloutAct::StayUnbuilt(_)))
                if replaces_the_manifest && !services.is_in_force =>
            {
                services.is_in_force = true;
                services.waiting = Some(act);
                let act = Act::PutInForce(Arc::clone(&services.manifest));
                self.under_way = Some(act.clone());
                Instruction::Do(act)
            }
            Instruction::Do(act) => Instruction::Do(Act::Service(act)),
            Instruction::Tell(index, step, state) => {
                Instruction::Tell(Some(services.names[index].clone()), step, state)
            }
            Instruction::Wait => Instruction::Wait,
        })
    }

    /// Takes how an act of the rollout ended.
    pub(crate) fn on_service_end(&mut self, act: RolloutAct, end: ActEnd) {
        if let Some(rollout) = self.rollout() {
            rollout.on_end(act, end);
        }
    }

    /// Takes how the act of the node's ended that was under way.
    pub(crate) fn on_end(&mut self, end: ActResult) {
        let Some(act) = self.under_way.take() else { return };
        if let Some(step) = act.step() {
            let state = match &end {
                ActResult::Failed(failure) => StepState::Failed(in_one_line(failure)),
                ActResult::Stopped(report) => report.step_state(),
                _ => StepState::Done(None),
            };
            self.decided.push_back(Instruction::Tell(None, step, state));
        }
        match (act, end) {
            (Act::GoBack { .. } | Act::Return(_), ActResult::Failed(failure)) => {
                self.stuck = Some(in_one_line(&failure));
                self.todo.retain(|act| !matches!(act, Act::Return(_)));
                self.todo.push_front(self.remember(Trial::Failed));
            }
            (_, ActResult::Failed(failure)) => self.fail(failure),
            (Act::Hold, _) => self.undo.push(Act::Release),
            // The services may still go back after their first switch.
            (Act::PutInForce(_), _) => {
                self.undo.push(Act::PutInForce(Arc::clone(&self.situation.manifest)));
            }
            (Act::CheckOut(tried), ActResult::CheckedOut(kept)) => {
                let to = self.fetched.as_ref().and_then(|fetched| fetched.head.commit.clone());
                self.undo.extend(to.map(|to| Act::GoBack { tried, to, kept }));
            }
            (_, ActResult::Fetched(fetched)) => self.on_fetched(fetched),
            (_, ActResult::Checked(manifest)) => self.replace(manifest),
            (_, ActResult::Located(manifest, place)) => {
                self.todo.extend(place.map(Act::ServeFrom));
                self.replace(manifest);
            }
            (_, ActResult::Left(before)) => self.undo.push(Act::ServeFrom(before)),
            (Act::Survey(survey), ActResult::Surveyed { head, rollout, services: names }) => {
                let manifest = survey.manifest;
                self.services = Some(Services {
                    rollout,
                    names,
                    manifest,
                    head,
                    have_ended: false,
                    is_in_force: false,
                    waiting: None,
                });
                if self.is_cancelled {
                    self.cancel();
                }
            }
            (_, ActResult::Lacking(names)) => self.remake(names),
            (Act::Forget(_), ActResult::Stopped(report)) => {
                let tell = |(name, state)| Instruction::Tell(Some(name), StepName::Stop, state);
                self.decided.extend(report.steps().map(tell));
            }
            (_, ActResult::Stopped(report)) => {
                self.verdict = Some(report.outcome().map_or_else(OperationEnd::Bad, OperationEnd::Good));
                // Files are served by the front itself: it learns here that it must not.
                self.todo.push_back(Act::Route(Arc::clone(&self.situation.manifest)));
            }
            (_, ActResult::Done | ActResult::CheckedOut(_) | ActResult::Surveyed { .. }) => {}
        }
    }

    /// What was done so far is undone by the acts that are queued now; nothing else was touched. Where it is decided how
    /// all ends, what is queued is done.
    fn fail(&mut self, failure: Failure) {
        match self.verdict {
            None => {
                self.verdict = Some(OperationEnd::Bad(failure));
                self.todo = self.undo.drain(..).rev().collect();
            }
            Some(OperationEnd::Good(_)) => self.verdict = Some(OperationEnd::Bad(failure)),
            Some(OperationEnd::WentBack { .. }) => {
                self.stuck.get_or_insert_with(|| in_one_line(&failure));
            }
            Some(OperationEnd::Bad(_)) => {}
        }
    }

    /// The revision that is to be checked out in the end; and how many commits only this machine has, where the work tree
    /// stays at them.
    fn to(&self) -> Option<(Revision, Option<usize>)> {
        let found = self.fetched.as_ref()?;
        let (head, remote) = (found.head.clone(), found.remote.clone());
        Some(match found.way() {
            Way::StayAhead(by) => (head, Some(by)),
            Way::Stay | Way::ToRemote | Way::Nowhere => (remote, None),
        })
    }

    fn on_fetched(&mut self, fetched: Comparison) {
        if fetched.way() == Way::Nowhere {
            return self.fail(fetched.refusal().into());
        }
        self.fetched = Some(fetched);
        let commit = self.to().and_then(|(to, _)| to.commit);
        let is_unfinished = self.situation.unfinished.is(commit.as_ref());
        let is_edited = self.fetched.as_ref().is_some_and(|found| found.has_edited_manifest);
        let is_wanted =
            self.aim == Aim::Update(Rebuild::Everything) || is_unfinished || !self.runs(commit.as_ref());
        // The manifest belongs to the files: one that was edited stays as it is in the work tree.
        match self.target() {
            Some(commit) if !is_edited => self.todo.push_back(Act::CheckCommit(commit)),
            None if !is_wanted => {
                self.todo.push_back(Act::TidyUp);
                self.verdict = Some(OperationEnd::Good(self.updated(BTreeMap::new())));
            }
            _ => self.todo.push_back(Act::CheckFile),
        }
    }

    /// Whether the services run this commit.
    fn runs(&self, commit: Option<&CommitId>) -> bool {
        let deployed = self.situation.deployed.as_ref().and_then(|deployed| deployed.commit.as_ref());
        deployed.is_some() && deployed == commit
    }

    /// What the services ran before.
    fn from(&self) -> Option<Revision> {
        let head = self.fetched.as_ref().map(|found| found.head.clone());
        self.situation.deployed.clone().or(head)
    }

    /// The commit to move the work tree to; none where it stays.
    fn target(&self) -> Option<CommitId> {
        let fetched = self.fetched.as_ref()?;
        (fetched.way() == Way::ToRemote).then(|| fetched.remote.commit.clone())?
    }

    /// Rolls all services over to a manifest, and the work tree to the commit that it is of.
    fn replace(&mut self, manifest: Arc<Manifest>) {
        if let Some(commit) = self.target() {
            self.todo.extend([Act::TakeTurn, Act::Hold, Act::CheckOut(commit)]);
        }
        let (Aim::Reload(rebuild) | Aim::Update(rebuild)) = self.aim else { return };
        let (scope, unity) = (Scope::All, Unity::Together);
        self.todo.push_back(Act::Survey(Survey { manifest, scope, unity, rebuild }));
    }

    fn on_rolled_out(&mut self) {
        let Some(services) = &mut self.services else { return };
        services.have_ended = true;
        let failures = services.rollout.failures().into_iter();
        let failed: BTreeMap<ServiceName, String> =
            failures.map(|(index, reason)| (services.names[index].clone(), reason.to_owned())).collect();
        let count = services.rollout.switched().count();
        let gave_up = services.rollout.went_back();
        if let Aim::Restart(..) = self.aim {
            // A file service that was stopped is served again.
            self.todo.push_back(Act::Route(Arc::clone(&self.situation.manifest)));
        }
        let verdict = match &self.aim {
            Aim::Start | Aim::Restart(..) if gave_up => OperationEnd::Bad(Failure::ShuttingDown),
            Aim::Start => {
                self.todo.extend(services.head.clone().map(Act::Deployed));
                self.todo.push_back(self.remember(Trial::of(&failed)));
                OperationEnd::Good(Outcome::Started { failed })
            }
            Aim::Restart(..) if failed.is_empty() => OperationEnd::Good(Outcome::Restarted { count }),
            Aim::Restart(_, rebuild) => OperationEnd::Bad(Failure::Rollout(Box::new(RolloutFailure {
                reused: self.situation.reused(*rebuild, failed.keys()),
                services: failed,
                restarted: Some(count),
                revisions: None,
                rolled_back: false,
                stuck: BTreeMap::new(),
                work_tree: None,
            }))),
            _ if gave_up => {
                self.go_back();
                OperationEnd::WentBack { failed, was_cancelled: self.is_cancelled }
            }
            _ => {
                self.go_on(Trial::of(&failed));
                match self.aim {
                    Aim::Update(_) => OperationEnd::Good(self.updated(failed)),
                    _ => OperationEnd::Good(Outcome::Reloaded { failed }),
                }
            }
        };
        self.verdict = Some(verdict);
    }

    /// The new manifest is in force, and its services run.
    fn go_on(&mut self, trial: Trial) {
        let Some(services) = &self.services else { return };
        let (manifest, head) = (Arc::clone(&services.manifest), services.head.clone());
        if !services.is_in_force {
            self.todo.push_back(Act::PutInForce(Arc::clone(&manifest)));
        }
        self.todo.push_back(Act::Forget(manifest));
        // What was held for the rollout is released however it ends.
        self.todo.extend(self.undo.drain(..).rev().filter(|act| *act == Act::Release));
        self.todo.extend(head.map(Act::Deployed));
        self.todo.push_back(self.remember(trial));
        if let Aim::Update(_) = self.aim {
            self.todo.push_back(Act::TidyUp);
        }
    }

    /// What has come of a rollout of every service to what is checked out now.
    fn remember(&self, trial: Trial) -> Act {
        let commit = match self.to() {
            Some((to, _)) => to.commit,
            None => self.services.as_ref().and_then(|services| services.head.clone()?.commit),
        };
        Act::Remember { commit, trial }
    }

    fn updated(&self, failed: BTreeMap<ServiceName, String>) -> Outcome {
        let (found, (to, ahead)) =
            self.fetched.clone().zip(self.to()).expect("nothing is rolled out before the fetch");
        let Comparison { head, moved_to, .. } = found;
        let from = self.from().unwrap_or(head);
        let invalidated = self.aim == Aim::Update(Rebuild::Everything);
        let is_again = !invalidated && from.commit == to.commit && self.services.is_some();
        let retried = is_again && self.situation.unfinished.has_failed(to.commit.as_ref());
        let repeated = is_again && !retried;
        Outcome::Updated(Update { from, to, ahead, invalidated, retried, repeated, failed, moved_to })
    }

    /// How it ended.
    ///
    /// # Errors
    ///
    /// [`Failure`]; everything is as it was before then, unless it says otherwise.
    pub(crate) fn end(self) -> Result<Outcome, Failure> {
        let revisions = self.from().zip(self.to().map(|(to, _)| to));
        match self.verdict {
            Some(OperationEnd::Good(outcome)) => Ok(outcome),
            Some(OperationEnd::Bad(failure)) => Err(failure),
            Some(OperationEnd::WentBack { was_cancelled: true, .. }) if self.stuck.is_none() => {
                Err(Failure::ShuttingDown)
            }
            Some(OperationEnd::WentBack { failed, .. }) => Err(Failure::Rollout(Box::new(RolloutFailure {
                services: failed,
                restarted: None,
                reused: Vec::new(),
                revisions,
                rolled_back: self.stuck.is_none() && self.remaking.failed.is_empty(),
                stuck: self.remaking.failed,
                work_tree: self.stuck,
            }))),
            None => Err(Failure::Internal("the operation ended without a word".to_owned())),
        }
    }
}

mod going_back;
mod remaking;

#[cfg(test)]
mod tests;
