//! The order of a rollout: what builds, starts, switches and goes back when. A plain type: it emits every
//! act, takes how each of them ended, and says what there is to tell. Who carries the acts out decides
//! nothing.
//!
//! Builds come first, at most one per core at a time. Then the services whose old instances serve
//! until the new ones are ready start, side by side, within [`RolloutLimits::starts`]; when all of them are
//! ready, those follow that have to stop their old instances first. Who starts after others starts when they are
//! ready, and they do not wait for it. Nothing is switched before everything is ready, so that a service that fails costs nobody more than the new instances. What goes
//! back goes the same way in reverse: the new instances end, then the link leads to the old build again. A service
//! that goes back alone is built again where its folder does not hold that build any more; where all go back, that is
//! the caller's, who puts back the files first.

mod going_back;
mod limits;
mod order;
mod releasing;
mod stage;

use std::collections::{BTreeMap, VecDeque};

pub use self::limits::RolloutLimits;
use self::stage::Stage;
use crate::{StepName, StepState, precedence::Precedence};

/// Whether services succeed and fail on their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unity {
    /// All of them switch, or none does: update and reload.
    Together,
    /// Each switches when it is ready, and goes back alone: restart.
    Each,
    /// Each switches whether it is ready or not, and goes on trying: the server's start.
    Regardless,
}

/// A service that is to be rolled over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four facts of a service that have nothing to do with each other"
)]
pub struct Item {
    /// Whether it has a build.
    pub builds: bool,
    /// Whether commands run before its first new instance.
    pub releases: bool,
    /// Whether it need not wait for the others before it starts, as its old instances serve until the
    /// new ones are ready. True also where there is nothing to stop.
    pub overlaps: bool,
    /// Whether it is out of the count of starts as soon as it is spawned.
    pub background: bool,
    /// Whether its failure is one of the rollout: it had a ready instance before, or is new.
    pub vital: bool,
    /// The places of those that must be ready before it starts. One that does not serve waits for them beyond the rollout.
    pub after: Vec<usize>,
}

/// How a service looks to who carries the acts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Look {
    /// Whether it was stopped on request since the rollout began: its part of it is over.
    pub has_left: bool,
    /// Whether an instance of it is ready.
    pub serves: bool,
    /// Whether all its new instances are ready.
    pub next_is_ready: bool,
}

/// What is done to a service, by its place in the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RolloutAct {
    /// Build it, or find its build.
    Build(usize),
    /// End its build or its release commands, which are under way.
    EndBuild(usize),
    /// Run its release commands, unless they have run for this build.
    Release(usize),
    /// Lead its link to the new build.
    Link(usize),
    /// Spawn its new instances; the old ones end first where the two may not overlap.
    Start(usize),
    /// Wait until all its new instances are ready.
    AwaitReady(usize),
    /// Look once more at every new instance: before it takes over, and again while the old ones can still be
    /// taken back.
    LookAgain(usize),
    /// The new instances take the traffic from the old ones, which go on running: undone by
    /// [`GoBack`](Self::GoBack).
    Switch(usize),
    /// Let what is under way to the old instances end. From here on nothing of the service goes back.
    Drain(usize),
    /// Wait until the old instances have ended.
    Stop(usize),
    /// Remove builds that nothing needs any more.
    Prune(usize),
    /// It has no build, or starts after others that are not ready, and that is no reason to go back: it is built and started
    /// later.
    StayUnbuilt(usize),
    /// The new instances end: undoes [`Start`](Self::Start).
    GoBack(usize),
    /// Lead its link to the old build again: undoes [`Link`](Self::Link).
    Unlink(usize),
    /// See whether the folder still holds what the old instances were built from; a failure says that it does not, and is
    /// to be made again now.
    LookAtProduct(usize),
    /// Build again what the old instances were built from.
    Remake(usize),
    /// Start the old instances again if they had to make room.
    Revive(usize),
}

impl RolloutAct {
    /// The place of its service.
    pub fn service(self) -> usize {
        match self {
            Self::Build(index)
            | Self::EndBuild(index)
            | Self::Release(index)
            | Self::Link(index)
            | Self::Start(index)
            | Self::AwaitReady(index)
            | Self::LookAgain(index)
            | Self::Switch(index)
            | Self::Drain(index)
            | Self::Stop(index)
            | Self::Prune(index)
            | Self::StayUnbuilt(index)
            | Self::GoBack(index)
            | Self::Unlink(index)
            | Self::LookAtProduct(index)
            | Self::Remake(index)
            | Self::Revive(index) => index,
        }
    }
}

/// How an act ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActEnd {
    /// Well, with what a person may want to know of it.
    Done(Option<String>),
    /// It failed, and why.
    Failed(String),
    /// It was cut off: its service was stopped, or went back.
    CutOff,
}

/// What whoever carries out the acts `A` is to do next, in a rollout or around one; steps are of an `S`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction<A, S> {
    /// Carry this out, beside what is under way, and tell how it ended, once.
    Do(A),
    /// A step of this one begins or has ended, for who follows.
    Tell(S, StepName, StepState),
    /// Nothing, before an act that is under way has ended.
    Wait,
}

/// How far the build of a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BuildStand {
    NotBegun,
    UnderWay,
    /// Well or not: somebody has built in its folder, or tried to.
    Ended,
}

#[derive(Clone, Debug)]
struct Member {
    item: Item,
    /// Whether it starts while no old instance has ended.
    is_early: bool,
    stage: Stage,
    look: Look,
    /// How far its build is.
    build: BuildStand,
    /// Whether its link leads to the new build.
    linked: bool,
    /// Whether it takes over though it is not ready.
    tolerated: bool,
    /// Why it failed.
    failure: Option<String>,
}

impl Member {
    /// Looks again before its failure is one of the rollout or is not: it may have been restarting when the
    /// rollout began.
    fn look_again(&mut self) {
        self.item.vital |= self.look.serves;
    }

    fn why_cut_off(&self) -> String {
        let why = if self.look.has_left { "it was stopped" } else { "the rollout was given up" };
        why.to_owned()
    }
}

/// A rollout under way.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before somebody carries its acts out"]
pub struct Rollout {
    members: Vec<Member>,
    precedence: Precedence,
    limits: RolloutLimits,
    unity: Unity,
    /// Whether all of it goes back.
    given_up: bool,
    /// What is decided and was not asked for yet.
    decided: VecDeque<Instruction<RolloutAct, usize>>,
    /// How many acts have not ended.
    under_way: usize,
}

impl Rollout {
    /// A rollout of these services. Nothing happens before [`advance`](Self::advance).
    pub fn new(items: &[Item], unity: Unity, limits: RolloutLimits) -> Self {
        let member = |item: &Item| Member {
            item: item.clone(),
            is_early: false,
            stage: Stage::Waiting,
            look: Look { has_left: false, serves: false, next_is_ready: true },
            build: BuildStand::NotBegun,
            linked: false,
            tolerated: false,
            failure: None,
        };
        let mut rollout = Self {
            members: items.iter().map(member).collect(),
            precedence: Precedence::new(items.iter().map(|item| item.after.clone()).collect()),
            limits,
            unity,
            given_up: false,
            decided: VecDeque::new(),
            under_way: 0,
        };
        rollout.note_early();
        rollout
    }

    /// Whether all of it was given up: what is not switched goes back.
    pub fn went_back(&self) -> bool {
        self.given_up
    }

    /// The services whose new run is in force, but for those that wait for their build.
    pub fn switched(&self) -> impl Iterator<Item = usize> {
        let switched = |&(_, member): &(usize, &Member)| member.stage == Stage::Settled { built: true };
        self.members.iter().enumerate().filter(switched).map(|(index, _)| index)
    }

    /// The services that did not become ready, and why.
    pub fn failures(&self) -> BTreeMap<usize, &str> {
        let members = self.members.iter().enumerate();
        members.filter_map(|(index, member)| Some((index, member.failure.as_deref()?))).collect()
    }

    /// Gives the rollout up: everything that is not switched goes back. Too late where all is decided.
    pub fn cancel(&mut self) {
        self.given_up |= self.members.iter().any(|member| !member.stage.is_decided());
    }

    /// How a service looks. To be told of all of them before the first act and before the end of each: a
    /// service can have died since it was ready, and is looked at as late as possible.
    pub fn look(&mut self, index: usize, look: Look) {
        self.members[index].look = look;
    }

    /// What comes next; none when all has ended.
    pub fn advance(&mut self) -> Option<Instruction<RolloutAct, usize>> {
        let mut stages = Vec::new();
        // One that has left without an act may have been the last that others waited for.
        while self.decided.is_empty() && stages != self.stages() {
            stages = self.stages();
            self.decide();
        }
        self.decided.pop_front().or((self.under_way > 0).then_some(Instruction::Wait))
    }

    fn stages(&self) -> Vec<Stage> {
        self.members.iter().map(|member| member.stage).collect()
    }

    fn act(&mut self, act: RolloutAct) {
        self.under_way += 1;
        self.decided.push_back(Instruction::Do(act));
    }

    fn tell(&mut self, index: usize, step: StepName, state: StepState) {
        self.decided.push_back(Instruction::Tell(index, step, state));
    }

    fn begin(&mut self, index: usize, step: StepName, act: RolloutAct) {
        self.tell(index, step, StepState::Running);
        self.act(act);
    }

    /// Tells how the act of a step ended.
    fn tell_end(&mut self, index: usize, step: StepName, end: &ActEnd) {
        let state = match end {
            ActEnd::Done(detail) => StepState::Done(detail.clone()),
            ActEnd::Failed(reason) => StepState::Failed(reason.clone()),
            ActEnd::CutOff => StepState::Failed(self.members[index].why_cut_off()),
        };
        self.tell(index, step, state);
    }

    /// Takes how an act ended that [`advance`](Self::advance) asked for.
    pub fn on_end(&mut self, act: RolloutAct, end: ActEnd) {
        self.under_way -= 1;
        match act {
            RolloutAct::Build(index) => self.on_built(index, end),
            RolloutAct::EndBuild(_) => {}
            RolloutAct::Release(index) => self.on_released(index, end),
            RolloutAct::Link(index) => {
                let member = &mut self.members[index];
                member.linked = matches!(end, ActEnd::Done(_));
                member.stage = Stage::Linked;
            }
            RolloutAct::Start(index) => {
                self.tell_end(index, StepName::Start, &end);
                self.await_ready(index);
            }
            RolloutAct::AwaitReady(index) => self.on_ready(index, end),
            RolloutAct::LookAgain(index) => self.on_looked(index, end),
            RolloutAct::Switch(index) => {
                self.tell_end(index, StepName::Switch, &end);
                match end {
                    ActEnd::Done(_) => self.members[index].stage = Stage::Switched,
                    ActEnd::Failed(reason) => {
                        // Whoever looks after it has failed, and it is as before: what was prepared ends.
                        self.members[index].failure = Some(reason);
                        self.go_back(index, true);
                    }
                    ActEnd::CutOff => self.leave(index, true),
                }
            }
            RolloutAct::Drain(index) => {
                self.tell_end(index, StepName::Drain, &end);
                self.begin(index, StepName::Stop, RolloutAct::Stop(index));
            }
            RolloutAct::Stop(index) => {
                self.tell_end(index, StepName::Stop, &end);
                self.prune(index);
            }
            RolloutAct::Prune(index) => self.settle(index),
            RolloutAct::StayUnbuilt(index) => self.stay_unbuilt(index, end),
            RolloutAct::GoBack(_)
            | RolloutAct::Unlink(_)
            | RolloutAct::LookAtProduct(_)
            | RolloutAct::Remake(_)
            | RolloutAct::Revive(_) => self.on_gone_back(act, &end),
        }
    }

    fn on_built(&mut self, index: usize, end: ActEnd) {
        self.tell_end(index, StepName::Build, &end);
        let member = &mut self.members[index];
        member.build = BuildStand::Ended;
        if member.stage != Stage::Building {
            // It goes back, and a build that was ended for that is no reason of its own.
            return;
        }
        let reason = match end {
            ActEnd::Done(_) => {
                member.stage = Stage::Built;
                return;
            }
            ActEnd::Failed(_) | ActEnd::CutOff if member.look.has_left => return self.leave(index, false),
            ActEnd::Failed(reason) => reason,
            ActEnd::CutOff => member.why_cut_off(),
        };
        member.look_again();
        member.failure = Some(reason);
        self.on_failure(index, Stage::Unbuilt);
    }

    fn on_ready(&mut self, index: usize, end: ActEnd) {
        self.tell_end(index, StepName::Ready, &end);
        let member = &mut self.members[index];
        let is_awaited = member.stage == Stage::Spawned;
        match end {
            ActEnd::Done(_) if is_awaited => member.stage = Stage::Ready,
            ActEnd::Done(_) => {}
            ActEnd::Failed(reason) => {
                member.failure = Some(reason);
                if is_awaited {
                    self.on_failure(index, Stage::Tolerated);
                }
            }
            ActEnd::CutOff if is_awaited => self.leave(index, false),
            ActEnd::CutOff => {}
        }
    }

    fn on_looked(&mut self, index: usize, end: ActEnd) {
        let member = &mut self.members[index];
        let has_taken_over = match member.stage {
            Stage::Looking => false,
            Stage::LookingAgain => true,
            // It goes back already.
            _ => return,
        };
        match end {
            ActEnd::Done(_) => member.stage = if has_taken_over { Stage::Proven } else { Stage::Looked },
            ActEnd::Failed(reason) => {
                member.failure = Some(reason);
                self.on_failure(index, if has_taken_over { Stage::Proven } else { Stage::Tolerated });
            }
            ActEnd::CutOff => self.leave(index, has_taken_over),
        }
    }

    fn on_failure(&mut self, index: usize, if_it_is_no_reason: Stage) {
        let member = &mut self.members[index];
        match self.unity {
            Unity::Together if member.item.vital => self.given_up = true,
            Unity::Together | Unity::Regardless => member.stage = if_it_is_no_reason,
            Unity::Each => member.stage = Stage::Failed,
        }
    }

    fn await_ready(&mut self, index: usize) {
        let member = &mut self.members[index];
        if matches!(member.stage, Stage::Starting | Stage::Ready) {
            member.stage = Stage::Spawned;
        }
        self.begin(index, StepName::Ready, RolloutAct::AwaitReady(index));
    }

    /// Decides what is to be done now.
    fn decide(&mut self) {
        if self.given_up {
            for index in 0..self.members.len() {
                let stage = self.members[index].stage;
                // A link is on its way for a moment only, and so is a switch.
                if !stage.is_decided() && !matches!(stage, Stage::Linking | Stage::Switching) {
                    self.go_back(index, false);
                }
            }
            return;
        }
        // They were ready, and are not any more: they get another chance.
        for index in 0..self.members.len() {
            if self.members[index].stage == Stage::Ready && !self.members[index].look.next_is_ready {
                self.await_ready(index);
            }
        }
        self.decide_builds();
        self.decide_starts();
        self.decide_switches();
    }

    fn decide_builds(&mut self) {
        let mut building = self.count(|member| member.stage == Stage::Building);
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if member.stage != Stage::Waiting {
                continue;
            }
            if !member.item.builds {
                member.stage = Stage::Built;
            } else if building < self.limits.builds {
                building += 1;
                (member.stage, member.build) = (Stage::Building, BuildStand::UnderWay);
                self.begin(index, StepName::Build, RolloutAct::Build(index));
            }
        }
    }

    fn decide_starts(&mut self) {
        let together = self.unity == Unity::Together;
        let all_built =
            !together || self.count(|member| matches!(member.stage, Stage::Waiting | Stage::Building)) == 0;
        let mut starting = self.count(|member| match member.stage {
            Stage::Linking | Stage::Linked | Stage::Starting => true,
            Stage::Spawned => !member.item.background,
            _ => false,
        });
        for index in 0..self.members.len() {
            let member = &self.members[index];
            let is_linked = member.stage == Stage::Linked;
            let is_built = matches!(member.stage, Stage::Built | Stage::Released);
            if !(is_linked || is_built && all_built && self.is_its_turn(index)) {
                continue;
            }
            if member.look.has_left {
                self.leave(index, false);
                continue;
            }
            if !is_linked && self.waits_beyond(index) {
                self.members[index].stage = Stage::Unbuilt;
                continue;
            }
            if self.members[index].stage == Stage::Built && self.members[index].item.releases {
                self.begin_release(index);
                continue;
            }
            let member = &mut self.members[index];
            if !is_linked {
                if starting >= self.limits.starts {
                    continue;
                }
                starting += 1;
                if member.item.builds {
                    member.stage = Stage::Linking;
                    self.act(RolloutAct::Link(index));
                    continue;
                }
            }
            member.look_again();
            member.stage = Stage::Starting;
            self.begin(index, StepName::Start, RolloutAct::Start(index));
        }
    }

    fn decide_switches(&mut self) {
        let together = self.unity == Unity::Together;
        let looks = self.unity != Unity::Regardless;
        let may_look = !together || self.count(|member| !member.stage.is_settled()) == 0;
        for index in 0..self.members.len() {
            match self.members[index].stage {
                Stage::Failed => self.go_back(index, true),
                Stage::Ready if may_look && looks => {
                    self.members[index].stage = Stage::Looking;
                    self.act(RolloutAct::LookAgain(index));
                }
                Stage::Ready if !looks => self.members[index].stage = Stage::Looked,
                _ => {}
            }
        }
        let may_switch = may_look
            && (!together || self.count(|member| matches!(member.stage, Stage::Ready | Stage::Looking)) == 0);
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if may_switch && matches!(member.stage, Stage::Looked | Stage::Tolerated) {
                member.tolerated = member.stage == Stage::Tolerated || !looks;
                member.stage = Stage::Switching;
                self.begin(index, StepName::Switch, RolloutAct::Switch(index));
            }
        }
        self.decide_ends(may_switch);
    }

    /// What may not be taken back any more: old runs end only when all new ones have been looked at in force.
    fn decide_ends(&mut self, may_switch: bool) {
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if member.stage == Stage::Switched && member.tolerated {
                member.stage = Stage::Proven;
            } else if member.stage == Stage::Switched {
                member.stage = Stage::LookingAgain;
                self.act(RolloutAct::LookAgain(index));
            }
        }
        let is_open = |member: &Member| {
            matches!(member.stage, Stage::Switching | Stage::Switched | Stage::LookingAgain)
        };
        let may_end = may_switch && (self.unity != Unity::Together || self.count(is_open) == 0);
        for index in 0..self.members.len() {
            match self.members[index].stage {
                Stage::Proven if may_end => {
                    self.members[index].stage = Stage::Ending;
                    self.begin(index, StepName::Drain, RolloutAct::Drain(index));
                }
                Stage::Unbuilt if may_end => {
                    self.members[index].stage = Stage::Staying;
                    self.act(RolloutAct::StayUnbuilt(index));
                }
                _ => {}
            }
        }
    }

    fn count(&self, which: impl Fn(&Member) -> bool) -> usize {
        self.members.iter().filter(|member| which(member)).count()
    }
}

#[cfg(test)]
mod tests;
