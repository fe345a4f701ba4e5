//! A machine and a world that does what it is told, or what it likes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    AppSpec, Basis, Build, Command, Exit, ExternalAddress, FirstAnswer, MachineFacts, Plan, ProbeFailure,
    RevisionFacts, SecretEnv, ServiceFailure, ServiceId, ServiceKind, ServiceName, ServiceSpec, Signal,
    Status, Survivor, Wish,
    machine_step::Numbers,
    notice::Notice,
    saved,
    service_action::{ServiceAction, ServiceAnswer},
    service_event::{NoBuild, ServiceEvent, Ticket},
    service_machine::ServiceMachine,
};

pub(super) const SEC: Duration = Duration::from_secs(1);

/// A process in the world.
#[derive(Debug, Default)]
pub(super) struct InstanceProcess {
    pub(super) exited: bool,
    pub(super) asked: Option<Signal>,
}

/// What surrounds a machine: processes, probes, builds and callers.
pub(super) struct World {
    pub(super) machine: ServiceMachine,
    pub(super) now: Instant,
    pub(super) tickets: u64,
    /// Who waits for an answer.
    pub(super) waiting: BTreeSet<Ticket>,
    pub(super) answers: Vec<(Ticket, ServiceAnswer)>,
    pub(super) spawning: BTreeSet<u64>,
    pub(super) processes: BTreeMap<u64, InstanceProcess>,
    pub(super) ever: BTreeSet<u64>,
    pub(super) outputs: BTreeSet<u64>,
    pub(super) probes: BTreeSet<u64>,
    /// How long the last probes wait for an answer to a request; none where they send none.
    pub(super) limits: BTreeMap<u64, Option<Duration>>,
    /// Whether the last probes had to see whose the listening socket is.
    pub(super) proofs: BTreeMap<u64, bool>,
    /// Who is looked at, because SIGKILL should have ended it.
    pub(super) looks: BTreeSet<u64>,
    /// Whether nothing ends that is told to, not even by SIGKILL.
    pub(super) outlives: bool,
    /// How many probes were to look where an instance listens.
    pub(super) seeks: usize,
    pub(super) drains: BTreeSet<u64>,
    pub(super) shutdowns: BTreeSet<u64>,
    pub(super) builds: BTreeMap<u64, Wish>,
    pub(super) notes: Vec<Notice>,
    /// Whether no two processes may be there at a time.
    pub(super) exclusive: bool,
}

pub(super) fn name() -> ServiceName {
    "web".parse().expect("it is a name")
}

pub(super) fn app() -> AppSpec {
    let run = Some(Command { program: "web".to_owned(), ..Command::default() });
    AppSpec { run, ..AppSpec::new(&name(), PathBuf::from("/web")) }
}

pub(super) fn plan(id: u64, kind: ServiceKind) -> Arc<Plan> {
    let spec = ServiceSpec { name: name(), kind };
    let secret = SecretEnv::new([("TOKEN".to_owned(), "hunter2".to_owned())].into());
    let machine = Some(MachineFacts::new(secret));
    Arc::new(Plan { id: ServiceId(id), spec, build: None, machine, revision: RevisionFacts::default() })
}

pub(super) fn app_plan(id: u64, app: AppSpec) -> Arc<Plan> {
    plan(id, ServiceKind::App(Box::new(app)))
}

/// A run that was built in place.
pub(super) fn in_place(id: u64, app: AppSpec) -> Arc<Plan> {
    Arc::new(Plan { build: Some(Build::in_place("a")), ..Plan::clone(&app_plan(id, app)) })
}

pub(super) fn failure() -> ServiceFailure {
    ServiceFailure { what: "no build".to_owned(), retry_at: None, last_lines: vec!["a line".to_owned()] }
}

impl World {
    pub(super) fn new(exclusive: bool) -> Self {
        Self {
            machine: ServiceMachine::new(name(), ServiceId(0), Numbers::of_block(1)),
            now: Instant::now(),
            tickets: 0,
            waiting: BTreeSet::new(),
            answers: Vec::new(),
            spawning: BTreeSet::new(),
            processes: BTreeMap::new(),
            ever: BTreeSet::new(),
            outputs: BTreeSet::new(),
            probes: BTreeSet::new(),
            limits: BTreeMap::new(),
            proofs: BTreeMap::new(),
            looks: BTreeSet::new(),
            outlives: false,
            seeks: 0,
            drains: BTreeSet::new(),
            shutdowns: BTreeSet::new(),
            builds: BTreeMap::new(),
            notes: Vec::new(),
            exclusive,
        }
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        self.waiting.insert(Ticket(self.tickets));
        Ticket(self.tickets)
    }

    pub(super) fn stops(&self) -> u64 {
        self.machine.state(|_| None).stops
    }

    /// The machine takes an event, and the world does what it asks for.
    pub(super) fn tell(&mut self, event: ServiceEvent) {
        let actions = self.machine.on_event(event, self.now);
        self.take(actions);
    }

    pub(super) fn take(&mut self, actions: Vec<ServiceAction>) {
        let traffic: Vec<u64> = self.machine.traffic().upstreams.iter().map(|upstream| upstream.id).collect();
        for action in actions {
            match action {
                ServiceAction::Spawn { upstream, .. } => {
                    assert!(self.ever.insert(upstream), "a number is used twice");
                    self.spawning.insert(upstream);
                }
                ServiceAction::Signal { upstream, signal } => {
                    assert!(!traffic.contains(&upstream), "signalled while it takes traffic");
                    let process = self.processes.get_mut(&upstream).expect("a signal to nobody");
                    process.asked = Some(signal);
                }
                ServiceAction::EndRemnant { upstream, .. } => {
                    let process = self.processes.get_mut(&upstream).expect("it was said to be there");
                    process.asked = Some(Signal::Kill);
                    if self.outlives {
                        self.looks.insert(upstream);
                    }
                }
                ServiceAction::LookAtSurvivors { upstream } => {
                    self.looks.insert(upstream);
                }
                ServiceAction::Drain { upstream } => {
                    assert!(!traffic.contains(&upstream), "waited for while it takes traffic");
                    self.drains.insert(upstream);
                }
                ServiceAction::Probe { upstream, seek, ask, prove_owner, .. } => {
                    self.limits.insert(upstream, ask);
                    self.proofs.insert(upstream, prove_owner);
                    self.seeks += usize::from(seek);
                    assert!(self.probes.insert(upstream), "probed twice at a time");
                }
                ServiceAction::RunShutdownCommands { run, .. } => {
                    assert!(self.shutdowns.insert(run), "its commands run twice");
                }
                ServiceAction::Build { attempt, .. } => {
                    self.builds.insert(attempt, Wish::GoOn);
                }
                ServiceAction::EndBuild { attempt, wish } => {
                    if let Some(wished) = self.builds.get_mut(&attempt) {
                        assert!(*wished <= wish, "a wish becomes less urgent");
                        *wished = wish;
                    }
                }
                ServiceAction::Answer(ticket, answer) => {
                    assert!(self.waiting.remove(&ticket), "{ticket:?} is answered twice: {answer:?}");
                    self.answers.push((ticket, answer));
                }
                ServiceAction::ReadLastLines { .. }
                | ServiceAction::KillShutdownCommands { .. }
                | ServiceAction::AwaitAnswer { .. }
                | ServiceAction::CheckDescriptorLimit { .. } => {}
                ServiceAction::Note(notice) => self.notes.push(notice),
            }
        }
        self.check(&traffic);
    }

    /// What is always so.
    pub(super) fn check(&self, traffic: &[u64]) {
        let state = self.machine.state(|_| None);
        assert!(state.healthy <= state.wanted && state.ready <= state.wanted, "{state:?}");
        assert!(state.healthy <= state.ready, "{state:?}");
        for upstream in traffic.iter().filter(|upstream| self.ever.contains(upstream)) {
            let process = self.processes.get(upstream).expect("what takes traffic was started");
            assert!(!process.exited && process.asked.is_none(), "what ends takes traffic");
        }
        if self.exclusive {
            assert!(self.spawning.len() + self.processes.len() <= 1, "two processes at a time");
        }
    }

    pub(super) fn check_written(&self) {
        let read = saved::read::<ServiceMachine>(&saved::write(&self.machine, self.now), self.now);
        assert_eq!(read.as_ref(), Ok(&self.machine), "what is written is what is read");
    }

    pub(super) fn prepare(&mut self, plan: Arc<Plan>) -> Ticket {
        let (stops, spawned, ended) = (self.stops(), self.ticket(), self.ticket());
        self.tell(ServiceEvent::Prepare { plan, stops, spawned, ended });
        ended
    }

    pub(super) fn commit(&mut self) {
        let (switched, drained, stopped) = (self.ticket(), self.ticket(), self.ticket());
        self.tell(ServiceEvent::Commit { switched, drained, stopped });
    }

    pub(super) fn stop(&mut self) -> Ticket {
        let done = self.ticket();
        self.tell(ServiceEvent::Stop { done });
        done
    }

    pub(super) fn spawned(&mut self, upstream: u64) {
        self.spawning.remove(&upstream);
        self.processes.insert(upstream, InstanceProcess::default());
        self.outputs.insert(upstream);
        let port = u16::try_from(upstream & 0xffff).ok();
        self.tell(ServiceEvent::Spawned { upstream, leader: 7, port });
    }

    pub(super) fn exit(&mut self, upstream: u64) {
        if let Some(process) = self.processes.get_mut(&upstream)
            && !std::mem::replace(&mut process.exited, true)
        {
            self.tell(ServiceEvent::Exited { upstream, exit: Exit::Code(1) });
        }
    }

    pub(super) fn end_tree(&mut self, upstream: u64) {
        self.end_tree_that_wanted(None, upstream);
    }

    /// The same, of one that wanted a port that somebody else has.
    pub(super) fn end_tree_that_wanted(&mut self, taken: Option<ProbeFailure>, upstream: u64) {
        self.exit(upstream);
        if self.processes.remove(&upstream).is_some() {
            let last_lines = vec!["the last".to_owned()];
            self.tell(ServiceEvent::TreeEnded { upstream, exit: Exit::Code(1), last_lines, taken });
        }
    }

    /// A look shows what lives.
    pub(super) fn looked_at(&mut self, upstream: u64) {
        if self.looks.remove(&upstream) {
            let survivors = self.processes.get(&upstream).map(|_| survivor(upstream)).into_iter().collect();
            self.tell(ServiceEvent::LookedAt { upstream, survivors });
        }
    }

    pub(super) fn probed(&mut self, upstream: u64, result: Result<(), ProbeFailure>) {
        if self.probes.remove(&upstream) {
            let result = result.map(|()| FirstAnswer::default());
            self.tell(ServiceEvent::Probed { upstream, result });
        }
    }

    /// Everything that was asked for succeeds, and what is told to end does, until nothing moves.
    pub(super) fn be_kind(&mut self) {
        loop {
            if let Some(&upstream) = self.spawning.first() {
                self.spawned(upstream);
            } else if let Some(&upstream) = self.probes.first() {
                self.probed(upstream, Ok(()));
            } else if let Some(upstream) = self.drains.pop_first() {
                self.tell(ServiceEvent::Drained { upstream });
            } else if let Some(run) = self.shutdowns.pop_first() {
                self.tell(ServiceEvent::ShutdownCommandsEnded { run });
            } else if let Some((attempt, wish)) = self.builds.pop_first() {
                let built =
                    if wish == Wish::GoOn { Ok(Some(Build::in_place("b"))) } else { Err(NoBuild::Cancelled) };
                let built = built.map(|build| Basis { build, machine: None });
                self.tell(ServiceEvent::Built { attempt, built });
            } else if let Some(&upstream) = self.looks.first() {
                self.looked_at(upstream);
            } else if let Some((&upstream, _)) = self
                .processes
                .iter()
                .find(|(_, process)| !self.outlives && (process.exited || process.asked.is_some()))
            {
                self.end_tree(upstream);
            } else if let Some(upstream) =
                self.outputs.iter().copied().find(|upstream| !self.processes.contains_key(upstream))
            {
                self.outputs.remove(&upstream);
                self.tell(ServiceEvent::OutputEnded { upstream });
            } else {
                return;
            }
        }
    }

    /// What is told to end does, and nothing else happens.
    pub(super) fn be_kind_to_the_dying(&mut self) {
        let asked = |(upstream, process): (&u64, &InstanceProcess)| process.asked.map(|_| *upstream);
        for upstream in self.processes.iter().filter_map(asked).collect::<Vec<_>>() {
            self.probes.remove(&upstream);
            self.end_tree(upstream);
        }
    }

    /// Time passes, and what is due is done.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.machine.deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.tell(ServiceEvent::Tick);
            let again = self.machine.deadline();
            assert!(again.is_none_or(|again| again > self.now), "what was due is still due: it would spin");
        }
        self.now = end;
    }

    /// What is there grows ready.
    pub(super) fn grow_ready(&mut self) {
        for _ in 0..20 {
            self.be_kind();
            self.pass(Duration::from_millis(100));
        }
        self.be_kind();
    }

    pub(super) fn answer_to(&self, ticket: Ticket) -> Option<&ServiceAnswer> {
        self.answers.iter().find(|(answered, _)| *answered == ticket).map(|(_, answer)| answer)
    }

    pub(super) fn status(&self) -> Status {
        self.machine.state(|_| None).health(self.now).status
    }
}

/// What is seen of a process that SIGKILL has not ended.
pub(super) fn survivor(upstream: u64) -> Survivor {
    let pid = u32::try_from(upstream & 0xffff).expect("it has 16 bits");
    Survivor { pid, name: "web".to_owned(), state: "D (disk sleep)".to_owned(), ..Survivor::default() }
}

/// A service that serves.
pub(super) fn serving(app: AppSpec) -> World {
    let mut world = World::new(false);
    world.prepare(app_plan(1, app));
    world.grow_ready();
    world.commit();
    assert_eq!(world.status(), Status::Ok);
    world
}

/// What a probe ends with for want of the server's own descriptors.
pub(super) fn unmade() -> ProbeFailure {
    let address = ExternalAddress { host: "127.0.0.1".to_owned(), port: 7 };
    ProbeFailure::Unmade { address, reason: "no descriptors".to_owned() }
}

pub(super) fn refused() -> ProbeFailure {
    ProbeFailure::Connect {
        check: "tcp".to_owned(),
        address: ExternalAddress { host: "127.0.0.1".to_owned(), port: 7 },
        reason: "refused".to_owned(),
    }
}
