//! An instance through all its restarts in one run. A plain type.

mod hold;
mod job;
mod probes;
mod probing;
mod reasons;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use self::probes::Probes;
use crate::{
    AppSpec, Build, Exit, FirstAnswer, JobRun, Plan, ProbeFailure, RestartPolicy, ServiceName, Signal,
    Survivor, backoff,
    lifecycle::{Action, Event, Grace, Lifecycle, Phase},
    machine_step::MachineStep,
    notice::{InstanceNotice, Notice},
    saved::saved,
    service_action::ServiceAction,
    survivor,
};

/// An instance without a probe is ready when it has lived so long.
const READY_AFTER: Duration = Duration::from_secs(1);

/// An instance through all its restarts in one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slot {
    number: u32,
    lifecycle: Lifecycle,
    progress: Furthest,
    /// When it was started for the first time.
    began: Option<Instant>,
    /// How many processes it has had.
    spawns: u32,
    process: Option<InstanceProcess>,
    /// What went wrong last, and has not healed.
    trouble: Option<Trouble>,
    /// Since when.
    troubled_since: Option<Instant>,
    /// The status of the first answer of its last process that was ready.
    first_status: Option<u16>,
    /// Whether its last process was killed because its grace was over.
    overdue: bool,
    /// How it has ended for good by itself.
    finished: Option<Exit>,
    /// When its process, which may take so long, is ended.
    run_until: Option<(Instant, Duration)>,
    /// The run of a job that has ended and was not told yet.
    ended_run: Option<JobRun>,
}

saved!(struct Slot {
    number, lifecycle, progress, began, spawns, process, trouble, troubled_since, first_status, overdue,
    finished, run_until, ended_run,
});

/// How far an instance has come at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Furthest {
    Nothing,
    Spawned,
    Ready,
}

saved!(enum Furthest { 0 Nothing, 1 Spawned, 2 Ready });

/// The process of an instance, from the wish to have it until its tree is gone.
#[derive(Clone, Debug, PartialEq)]
struct InstanceProcess {
    upstream: u64,
    /// None while it is being spawned.
    spawned: Option<SpawnedProcess>,
    /// Whether the leader is known to have ended.
    exited: bool,
    probes: Option<Probes>,
    /// What of its tree SIGKILL has not ended, once it was looked at.
    survivors: Vec<Survivor>,
    /// The build that it runs from.
    build: Option<Build>,
    /// Whether files have changed under its start, so that nobody knows which ones it has read.
    is_unclear: bool,
}

saved!(struct InstanceProcess { upstream, spawned, exited, probes, survivors, build, is_unclear });

#[derive(Clone, Copy, Debug, PartialEq)]
struct SpawnedProcess {
    leader: u32,
    port: Option<u16>,
    at: Instant,
}

saved!(struct SpawnedProcess { leader, port, at });

#[derive(Clone, Debug, PartialEq)]
enum Trouble {
    Spawn(String),
    /// `check`: what of its port speaks for why, if anything does.
    Exit {
        exit: Exit,
        lived: Duration,
        check: Option<ProbeFailure>,
        last_lines: Vec<String>,
    },
    Late {
        check: Option<ProbeFailure>,
        last_lines: Vec<String>,
    },
    /// A run of a job took longer than it may.
    Overrun {
        limit: Duration,
        last_lines: Vec<String>,
    },
    Probe(ProbeFailure),
    /// There is no process for want of what belongs to the server itself, and it is asked for again.
    PutOff(String),
}

saved!(enum Trouble {
    0 Spawn(value),
    1 Exit { exit, lived, check, last_lines },
    2 Late { check, last_lines },
    3 Probe(value),
    4 PutOff(value),
    5 Overrun { limit, last_lines },
});

/// An instance as its run shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotView {
    pub(crate) number: u32,
    pub(crate) upstream: u64,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) healthy: bool,
    pub(crate) restarts: u32,
}

/// What happens to the process of an instance.
#[derive(Clone, Debug)]
pub(crate) enum ProcessEvent {
    Spawned {
        leader: u32,
        port: Option<u16>,
    },
    SpawnFailed(String),
    /// None: it waits for its turn.
    SpawnPutOff(Option<String>),
    Exited(Exit),
    TreeEnded {
        exit: Exit,
        last_lines: Vec<String>,
        taken: Option<ProbeFailure>,
    },
    LastLines(Vec<String>),
    LookedAt(Vec<Survivor>),
    Probed(Result<FirstAnswer, ProbeFailure>),
    TimedOut,
    Answered,
    Drained,
}

impl Slot {
    pub(crate) fn new(number: u32, service: &ServiceName, spec: &AppSpec) -> Self {
        let seed = backoff::seed(&format!("{service}/{number}"));
        Self {
            number,
            lifecycle: Lifecycle::new(Grace::from(spec), seed),
            progress: Furthest::Nothing,
            began: None,
            spawns: 0,
            process: None,
            trouble: None,
            troubled_since: None,
            first_status: None,
            overdue: false,
            finished: None,
            run_until: None,
            ended_run: None,
        }
    }

    /// Another one that is to take its place.
    pub(crate) fn successor(&self, service: &ServiceName, spec: &AppSpec) -> Self {
        Self { spawns: self.spawns, ..Self::new(self.number, service, spec) }
    }

    /// Takes the place of one that has ended by itself: what went wrong with that is told until this one is ready.
    pub(crate) fn take_over_trouble(&mut self, from: &Self) {
        if self.trouble.is_none() {
            (self.trouble, self.troubled_since) = (from.trouble.clone(), from.troubled_since);
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The number of its process; none without one.
    pub(crate) fn upstream(&self) -> Option<u64> {
        Some(self.process.as_ref()?.upstream)
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let port = self.process.as_ref()?.spawned?.port?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lifecycle.phase()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.lifecycle.is_ready()
    }

    /// Whether it is ready and its probes pass.
    pub(crate) fn is_healthy(&self) -> bool {
        self.is_ready()
            && self.process.as_ref().is_some_and(|process| {
                process.probes.as_ref().is_none_or(|probes| probes.liveness.is_healthy())
            })
    }

    /// Whether requests to it have had no answer, and it is being found out whether it gives any.
    pub(crate) fn is_silent(&self) -> bool {
        self.probes().is_some_and(|probes| probes.silent)
    }

    /// Whether what is left of its tree is being ended.
    pub(crate) fn is_clearing(&self) -> bool {
        matches!(self.phase(), Phase::Stopping { .. } | Phase::Killing { .. })
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lifecycle.is_stopped()
    }

    /// When it was started for the first time.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    pub(crate) fn has_been_spawned(&self) -> bool {
        self.progress >= Furthest::Spawned
    }

    pub(crate) fn has_been_ready(&self) -> bool {
        self.progress >= Furthest::Ready
    }

    /// Whether it has done what it was started for, and nothing of it lives.
    pub(crate) fn is_done(&self) -> bool {
        self.finished == Some(Exit::Code(0)) && self.is_stopped()
    }

    /// Whether it has ended for good in another way than it should.
    pub(crate) fn has_failed_for_good(&self) -> bool {
        self.finished.is_some_and(|exit| exit != Exit::Code(0)) && self.is_stopped()
    }

    pub(crate) fn failed_starts(&self) -> u32 {
        self.lifecycle.failed_starts()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let probe = self.process.as_ref().and_then(InstanceProcess::next_probe).filter(|_| self.is_probed());
        let run = self.run_until.filter(|_| self.is_probed()).map(|(until, _)| until);
        self.lifecycle.deadline().into_iter().chain(probe).chain(self.ready_at()).chain(run).min()
    }

    fn is_probed(&self) -> bool {
        matches!(self.phase(), Phase::Starting { .. } | Phase::Ready { .. })
    }

    /// When it is ready if it lives that long; none where probes say so, or that is over.
    fn ready_at(&self) -> Option<Instant> {
        let process = self.process.as_ref()?;
        let waits = process.probes.is_none() && matches!(self.phase(), Phase::Starting { .. });
        Some(process.spawned.filter(|_| waits)?.at + READY_AFTER)
    }

    pub(crate) fn view(&self) -> Option<SlotView> {
        let process = self.process.as_ref()?;
        process.spawned?;
        Some(SlotView {
            number: self.number,
            upstream: process.upstream,
            address: self.address(),
            healthy: self.is_healthy(),
            restarts: self.spawns.saturating_sub(1),
        })
    }

    pub(crate) fn tell(&mut self, event: Event, plan: &Arc<Plan>, step: &mut MachineStep) {
        match event {
            Event::Start => _ = self.began.get_or_insert(step.now),
            Event::Tick => {
                if self.ready_at().is_some_and(|at| at <= step.now) {
                    self.tell(Event::Ready, plan, step);
                }
                self.note_if_late(step);
                self.end_if_overrun(plan, step);
                self.probe(plan, step);
            }
            _ => {}
        }
        let was_ready = self.is_ready();
        for action in self.lifecycle.on_event(event, step.now) {
            self.act(action, event, plan, step);
        }
        if self.is_ready() && !was_ready {
            self.progress = Furthest::Ready;
            self.trouble = None;
            let leader = self.process.as_ref().and_then(|process| Some(process.spawned?.leader));
            self.note(InstanceNotice::IsReady { pid: leader.unwrap_or(0) }, step);
        }
    }

    fn note_if_late(&mut self, step: &mut MachineStep) {
        let Phase::Starting { ready_by } = self.phase() else { return };
        if ready_by > step.now {
            return;
        }
        let failure = self.probes().and_then(|probes| probes.failure().cloned());
        let check = self.unanswered(step.now, failure.is_some()).or(failure);
        self.goes_wrong(Trouble::Late { check, last_lines: Vec::new() }, step);
        if let Some(upstream) = self.upstream() {
            step.ask(ServiceAction::ReadLastLines { upstream });
        }
    }

    fn probes(&self) -> Option<&Probes> {
        self.process.as_ref()?.probes.as_ref()
    }

    /// Does what the lifecycle asks for because of an event.
    fn act(&mut self, action: Action, event: Event, plan: &Arc<Plan>, step: &mut MachineStep) {
        match action {
            Action::Spawn => {
                self.overdue = false;
                self.run_until = plan.run_timeout().map(|limit| (step.now + limit, limit));
                let upstream = step.numbers.next();
                self.process = Some(InstanceProcess {
                    upstream,
                    spawned: None,
                    exited: false,
                    probes: None,
                    survivors: Vec::new(),
                    build: plan.build.clone(),
                    is_unclear: false,
                });
                let is_repeated = self.lifecycle.has_failed_again();
                step.ask(ServiceAction::Spawn {
                    upstream,
                    number: self.number,
                    plan: Arc::clone(plan),
                    is_repeated,
                });
            }
            Action::Drain => {
                if let Some(upstream) = self.upstream() {
                    step.ask(ServiceAction::Drain { upstream });
                }
            }
            Action::Terminate => self.signal(Signal::Terminate, step),
            Action::Kill => {
                let limit = self.lifecycle.grace().stop;
                self.overdue |= event == Event::Tick;
                let what = match event {
                    Event::Tick => InstanceNotice::GraceIsOver { limit },
                    _ => InstanceNotice::NoGrace,
                };
                self.note(what, step);
                self.signal(Signal::Kill, step);
            }
            Action::LookAtSurvivors => {
                if let Some(upstream) = self.upstream() {
                    step.ask(ServiceAction::LookAtSurvivors { upstream });
                }
            }
        }
    }

    fn note(&self, what: InstanceNotice, step: &mut MachineStep) {
        step.note(Notice::Instance { number: self.number, what });
    }

    /// Signals its tree. One that is being spawned is signalled when it is there.
    fn signal(&self, signal: Signal, step: &mut MachineStep) {
        if let Some(InstanceProcess { upstream, spawned: Some(_), .. }) = self.process {
            step.ask(ServiceAction::Signal { upstream, signal });
        }
    }

    /// Takes what happens to its process.
    pub(crate) fn on_process(
        &mut self,
        event: ProcessEvent,
        spec: &AppSpec,
        plan: &Arc<Plan>,
        step: &mut MachineStep,
    ) {
        match event {
            ProcessEvent::Spawned { leader, port } => self.on_spawned(leader, port, spec, step),
            ProcessEvent::SpawnFailed(reason) => {
                self.note(InstanceNotice::CannotStart { reason: reason.clone() }, step);
                self.on_no_spawn(Event::SpawnFailed, Some(Trouble::Spawn(reason)), plan, step);
            }
            ProcessEvent::SpawnPutOff(reason) => {
                self.on_no_spawn(Event::SpawnPutOff, reason.map(Trouble::PutOff), plan, step);
            }
            ProcessEvent::Exited(exit) => {
                if let Some(process) = self.process.as_mut().filter(|process| !process.exited) {
                    process.exited = true;
                    let spawned = process.spawned;
                    self.on_exited(exit, spawned, plan, step);
                }
            }
            ProcessEvent::TreeEnded { exit, last_lines: lines, taken } => {
                let Some(process) = self.process.take() else { return };
                if !process.exited {
                    self.on_exited(exit, process.spawned, plan, step);
                }
                self.take_last_lines(lines);
                if let Some(Trouble::Exit { check: check @ None, .. }) = &mut self.trouble {
                    *check = taken;
                }
                if !process.survivors.is_empty() {
                    self.note(InstanceNotice::GoneAtLast, step);
                }
                self.tell(Event::TreeEnded, plan, step);
                // What is told is how it ended for good.
                self.overdue &= self.is_stopped();
            }
            ProcessEvent::LookedAt(survivors) => self.on_looked_at(survivors, plan, step),
            ProcessEvent::LastLines(lines) => self.take_last_lines(lines),
            ProcessEvent::Probed(result) => self.on_probed(result, spec, plan, step),
            ProcessEvent::TimedOut => self.on_timed_out(spec, plan, step),
            ProcessEvent::Answered => self.on_answered(spec, step),
            ProcessEvent::Drained => self.tell(Event::Drained, plan, step),
        }
    }

    fn on_looked_at(&mut self, survivors: Vec<Survivor>, plan: &Arc<Plan>, step: &mut MachineStep) {
        let Some(outlives) = survivor::sentence(&survivors) else { return };
        let Some(process) = &mut self.process else { return };
        process.survivors = survivors;
        self.note(InstanceNotice::Outlives { outlives }, step);
        self.tell(Event::Outlives, plan, step);
    }

    fn take_last_lines(&mut self, lines: Vec<String>) {
        if let Some(
            Trouble::Exit { last_lines, .. }
            | Trouble::Late { last_lines, .. }
            | Trouble::Overrun { last_lines, .. },
        ) = &mut self.trouble
        {
            *last_lines = lines;
        }
    }

    fn on_spawned(&mut self, leader: u32, port: Option<u16>, spec: &AppSpec, step: &mut MachineStep) {
        let Some(process) = &mut self.process else { return };
        if process.spawned.is_some() {
            return;
        }
        process.spawned = Some(SpawnedProcess { leader, port, at: step.now });
        self.spawns = self.spawns.saturating_add(1);
        self.trouble.take_if(|trouble| matches!(trouble, Trouble::PutOff(_)));
        process.probes = (!spec.background).then(|| Probes::starting(step.now));
        self.progress = self.progress.max(Furthest::Spawned);
        // It may have been told to end meanwhile.
        match self.phase() {
            Phase::Stopping { .. } => self.signal(Signal::Terminate, step),
            Phase::Killing { .. } | Phase::Outliving { .. } => self.signal(Signal::Kill, step),
            _ => {}
        }
    }

    /// `event`: it failed, or was put off.
    fn on_no_spawn(
        &mut self,
        event: Event,
        trouble: Option<Trouble>,
        plan: &Arc<Plan>,
        step: &mut MachineStep,
    ) {
        if self.process.take_if(|process| process.spawned.is_none()).is_none() {
            return;
        }
        if matches!(self.phase(), Phase::Starting { .. }) {
            // Who waits for its turn has failed before, which is what is told.
            if let Some(trouble) = trouble {
                self.goes_wrong(trouble, step);
            }
            self.tell(event, plan, step);
        } else {
            // It was told to end meanwhile, and there is nothing that could.
            self.tell(Event::TreeEnded, plan, step);
        }
    }

    fn on_exited(
        &mut self,
        exit: Exit,
        spawned: Option<SpawnedProcess>,
        plan: &Arc<Plan>,
        step: &mut MachineStep,
    ) {
        let lived = spawned.map(|spawned| step.now.saturating_duration_since(spawned.at));
        self.note_run(exit, spawned, plan, step);
        if self.is_probed() && is_final(exit, plan.restart()) {
            self.finished = Some(exit);
            self.note(InstanceNotice::Finished { exit }, step);
            if exit == Exit::Code(0) {
                self.trouble = None;
            } else {
                let lived = lived.unwrap_or_default();
                self.goes_wrong(Trouble::Exit { exit, lived, check: None, last_lines: Vec::new() }, step);
            }
            return self.tell(Event::Finished, plan, step);
        }
        if self.is_probed() {
            self.note(InstanceNotice::EndedByItself { exit }, step);
            let lived = lived.unwrap_or_default();
            let check = self.probes().filter(|_| !self.is_ready()).and_then(Probes::holder).cloned();
            self.goes_wrong(Trouble::Exit { exit, lived, check, last_lines: Vec::new() }, step);
        } else {
            self.note(InstanceNotice::Ended { exit }, step);
        }
        self.tell(Event::Exited, plan, step);
    }
}

/// Whether an instance that has ended by itself like this stays so.
fn is_final(exit: Exit, policy: RestartPolicy) -> bool {
    match policy {
        RestartPolicy::Always => false,
        RestartPolicy::OnFailure => exit == Exit::Code(0),
        RestartPolicy::Never => true,
    }
}

impl InstanceProcess {
    fn next_probe(&self) -> Option<Instant> {
        let probes = self.probes.as_ref()?;
        probes.under_way.is_none().then(|| probes.liveness.next_probe())
    }
}
