//! One instance: its lifecycle, and the process, port and probes that its lifecycle asks for.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::{
    AppSpec, Exit, ExternalAddress, Failure, InstanceView, Liveness, Plan, Port, ServiceLog, ServiceName,
    Signal, Tail, backoff,
    causes::with_causes,
    command,
    context::Context,
    ending::KillOnDrop,
    environment::instance_environment,
    lifecycle::{Action, Event, Grace, Lifecycle, Phase},
    pending::{Happening, Pending, answer, now},
    probe::{ProbeFailure, Target},
};

/// How long the last lines of an ended tree may take to be read, so that they are in the reason.
const LAST_LINES: Duration = Duration::from_millis(200);

/// An instance without a probe is ready when it has lived so long.
const READY_AFTER: Duration = Duration::from_secs(1);

/// What a slot needs to know of its run.
pub(crate) struct Run<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) spec: &'a AppSpec,
    pub(crate) log: &'a ServiceLog,
    pub(crate) context: &'a Arc<Context>,
}

/// An instance through all its restarts in one run.
pub(crate) struct Slot {
    number: u32,
    service: ServiceName,
    lifecycle: Lifecycle,
    been: Been,
    process: Option<Process>,
    /// What went wrong last, and has not healed.
    trouble: Option<Trouble>,
}

/// How far an instance has come at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Been {
    Nowhere,
    Started,
    Spawned,
    Ready,
}

/// The process of an instance, from spawn until its tree is gone.
struct Process {
    upstream: u64,
    tree: KillOnDrop,
    spawned: Instant,
    port: Option<Port>,
    probes: Option<Probes>,
    tail: Tail,
    output_ended: Option<oneshot::Receiver<()>>,
}

struct Probes {
    liveness: Liveness,
    under_way: bool,
    /// Whether the listening socket was seen to belong to the tree.
    proven: bool,
}

enum Trouble {
    Spawn(String),
    Exit { exit: Exit, lived: Duration, last_lines: Vec<String> },
    Late { check: Option<ProbeFailure>, last_lines: Vec<String> },
    Probe(ProbeFailure),
}

impl Slot {
    pub(crate) fn new(number: u32, service: ServiceName, spec: &AppSpec) -> Self {
        let seed = backoff::seed(&format!("{service}/{number}"));
        Self {
            number,
            service,
            lifecycle: Lifecycle::new(Grace::from(spec), seed),
            been: Been::Nowhere,
            process: None,
            trouble: None,
        }
    }

    /// The id of its process; 0 without one.
    pub(crate) fn upstream(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.upstream)
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.process.as_ref()?.address()
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

    pub(crate) fn is_stopped(&self) -> bool {
        self.lifecycle.is_stopped()
    }

    pub(crate) fn has_been_started(&self) -> bool {
        self.been >= Been::Started
    }

    pub(crate) fn has_been_spawned(&self) -> bool {
        self.been >= Been::Spawned
    }

    pub(crate) fn has_been_ready(&self) -> bool {
        self.been >= Been::Ready
    }

    pub(crate) fn failed_starts(&self) -> u32 {
        self.lifecycle.failed_starts()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let probe = self.process.as_ref().and_then(Process::next_probe).filter(|_| self.is_probed());
        self.lifecycle.deadline().into_iter().chain(probe).min()
    }

    fn is_probed(&self) -> bool {
        matches!(self.phase(), Phase::Starting { .. } | Phase::Ready { .. })
    }

    pub(crate) fn view(&self) -> Option<InstanceView> {
        let process = self.process.as_ref()?;
        Some(InstanceView {
            number: self.number,
            upstream: process.upstream,
            address: process.address(),
            healthy: self.is_healthy(),
            tree: Arc::clone(&process.tree.0),
        })
    }

    /// What went wrong last, in words.
    pub(crate) fn failure(&self, spec: &AppSpec) -> Option<Failure> {
        let (what, last_lines) = match self.trouble.as_ref()? {
            // Nobody answers yet: that is how every start begins.
            Trouble::Probe(_) if matches!(self.phase(), Phase::Starting { .. }) => return None,
            Trouble::Spawn(reason) => (reason.clone(), Vec::new()),
            Trouble::Exit { exit, lived, last_lines } => {
                (format!("it ended with {exit} after {:.1} s", lived.as_secs_f64()), last_lines.clone())
            }
            Trouble::Late { check, last_lines } => {
                let check = check.as_ref().map(|check| format!(": {check}")).unwrap_or_default();
                (format!("it was not ready within {:?}{check}", spec.ready_timeout), last_lines.clone())
            }
            Trouble::Probe(failure) => (failure.to_string(), Vec::new()),
        };
        let retry_at = match self.phase() {
            Phase::BackingOff { until } => Some(until),
            _ => None,
        };
        Some(Failure { what: format!("instance {}: {what}", self.number), retry_at, last_lines })
    }

    pub(crate) fn tell(&mut self, event: Event, run: &Run<'_>, pending: &mut Pending) {
        let now = now();
        if event == Event::Start {
            self.been = self.been.max(Been::Started);
        }
        if event == Event::Tick {
            if let Phase::Starting { ready_by } = self.phase()
                && ready_by <= now
            {
                let check = match self.trouble.take() {
                    Some(Trouble::Probe(failure)) => Some(failure),
                    _ => None,
                };
                let last_lines =
                    self.process.as_ref().map(|process| process.tail.lines()).unwrap_or_default();
                self.trouble = Some(Trouble::Late { check, last_lines });
            }
            self.probe(run, now, pending);
        }
        let mut actions = self.lifecycle.on_event(event, now);
        while !actions.is_empty() {
            let mut further = Vec::new();
            for action in actions {
                further.extend(self.act(action, event, run, pending));
            }
            actions = further;
        }
        if self.is_ready() {
            self.been = Been::Ready;
        }
    }

    /// Does what the lifecycle asks for because of an event; answers with what it asks for next.
    fn act(&mut self, action: Action, event: Event, run: &Run<'_>, pending: &mut Pending) -> Vec<Action> {
        match action {
            Action::Spawn => {
                if let Err(reason) = self.spawn(run, pending) {
                    warn!(service = %self.service, instance = self.number, reason, "it cannot be started");
                    self.trouble = Some(Trouble::Spawn(reason));
                    return self.lifecycle.on_event(Event::SpawnFailed, now());
                }
                self.been = self.been.max(Been::Spawned);
            }
            Action::Join => {
                self.trouble = None;
                let pid = self.process.as_ref().map_or(0, |process| process.tree.0.leader());
                info!(service = %self.service, instance = self.number, pid, "it is ready");
            }
            Action::Leave => {
                let upstream = self.upstream();
                let drained = run.context.balancer.withdraw(&self.service, &[upstream]);
                pending.push(Box::pin(async move {
                    drained.await;
                    (upstream, Happening::Drained)
                }));
            }
            Action::Terminate => self.signal(Signal::Terminate),
            Action::Kill => {
                if event == Event::Tick {
                    warn!(service = %self.service, instance = self.number, "its grace is over: SIGKILL");
                } else {
                    info!(service = %self.service, instance = self.number, "no grace is left to it: SIGKILL");
                }
                self.signal(Signal::Kill);
            }
        }
        Vec::new()
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.tree.0.signal(signal);
        }
    }

    fn spawn(&mut self, run: &Run<'_>, pending: &mut Pending) -> Result<(), String> {
        let Run { plan, spec, log, context } = run;
        let Some(command) = &spec.run else { return Err("there is nothing to run".to_owned()) };
        let port = if spec.background {
            None
        } else {
            Some(context.surroundings.ports.allocate().map_err(|error| error.to_string())?)
        };
        let surroundings = &context.surroundings;
        let env = instance_environment(
            &surroundings.env,
            spec,
            &plan.facts(),
            self.number,
            port.as_ref().map(Port::number),
        );
        let launch = command::launch(command, spec, |word| plan.resolve(word), env, spec.stdin);
        let spawned = context.spawner.spawn(&launch).map_err(|error| with_causes(&error))?;
        let upstream = context.new_upstream();
        let tree = KillOnDrop(spawned.tree.into());
        let tail = Tail::new();
        let (ended, output_ended) = oneshot::channel();
        let pump = log.pump(spawned.output, tail.clone());
        pending.push_output(Box::pin(async move {
            pump.await;
            answer(ended, ());
        }));
        let exit = spawned.exit;
        pending.push(Box::pin(async move { (upstream, Happening::Exited(exit.await)) }));
        let probes = if spec.background {
            pending.push(Box::pin(async move {
                tokio::time::sleep(READY_AFTER).await;
                (upstream, Happening::Lived)
            }));
            None
        } else {
            Some(Probes { liveness: Liveness::starting(now()), under_way: false, proven: false })
        };
        info!(service = %self.service, instance = self.number, pid = tree.0.leader(), "it starts");
        self.process = Some(Process {
            upstream,
            tree,
            spawned: now(),
            port,
            probes,
            tail,
            output_ended: Some(output_ended),
        });
        Ok(())
    }

    fn probe(&mut self, run: &Run<'_>, now: Instant, pending: &mut Pending) {
        if !self.is_probed() {
            return;
        }
        let Some(process) = &mut self.process else { return };
        let (Some(address), Some(probes)) = (process.address(), &mut process.probes) else { return };
        if probes.under_way || probes.liveness.next_probe() > now {
            return;
        }
        probes.under_way = true;
        let target = Target {
            service: self.service.clone(),
            address: ExternalAddress { host: address.ip().to_string(), port: address.port() },
            tree: Some(Arc::clone(&process.tree.0)),
            prove_owner: !probes.proven,
        };
        let probe = run.context.prober.probe(&target, &run.spec.monitor);
        let upstream = process.upstream;
        pending.push(Box::pin(async move { (upstream, Happening::Probed(probe.await)) }));
    }

    pub(crate) fn on_happening(&mut self, happening: Happening, run: &Run<'_>, pending: &mut Pending) {
        match happening {
            Happening::Exited(exit) => self.on_exit(exit, run, pending),
            Happening::TreeEnded => {
                if let Some(process) = self.process.take()
                    && let Some(Trouble::Exit { last_lines, .. } | Trouble::Late { last_lines, .. }) =
                        &mut self.trouble
                {
                    *last_lines = process.tail.lines();
                }
                self.tell(Event::TreeEnded, run, pending);
            }
            Happening::Probed(result) => self.on_probed(result, run, pending),
            Happening::Lived => self.tell(Event::Ready, run, pending),
            Happening::Drained => self.tell(Event::Drained, run, pending),
            Happening::ShutdownCommandsEnded | Happening::Built(_) => {}
        }
    }

    fn on_exit(&mut self, exit: Exit, run: &Run<'_>, pending: &mut Pending) {
        let Some(process) = &mut self.process else { return };
        let lived = now().saturating_duration_since(process.spawned);
        let (tree, upstream) = (Arc::clone(&process.tree.0), process.upstream);
        let output_ended = process.output_ended.take();
        let by_itself = matches!(self.phase(), Phase::Starting { .. } | Phase::Ready { .. });
        if by_itself {
            warn!(service = %self.service, instance = self.number, %exit, "it ended by itself");
            self.trouble = Some(Trouble::Exit { exit, lived, last_lines: Vec::new() });
        } else {
            info!(service = %self.service, instance = self.number, %exit, "it has ended");
        }
        self.tell(Event::Exited, run, pending);
        pending.push(Box::pin(async move {
            tree.ended().await;
            if let Some(ended) = output_ended {
                // Time over, or the pump gone: the reason goes without the last lines then.
                drop(tokio::time::timeout(LAST_LINES, ended).await);
            }
            (upstream, Happening::TreeEnded)
        }));
    }

    fn on_probed(&mut self, result: Result<(), ProbeFailure>, run: &Run<'_>, pending: &mut Pending) {
        let is_ready = self.is_ready();
        let Some(probes) = self.process.as_mut().and_then(|process| process.probes.as_mut()) else { return };
        probes.under_way = false;
        probes.proven |= result.is_ok();
        let changed = probes.liveness.on_result(result.is_ok(), &run.spec.monitor, now());
        match result {
            Ok(()) if changed && is_ready => {
                info!(service = %self.service, instance = self.number, "it is healthy again");
                self.trouble = None;
            }
            Ok(()) if !is_ready => self.tell(Event::Ready, run, pending),
            Ok(()) => {}
            Err(failure) => {
                if changed {
                    warn!(service = %self.service, instance = self.number, %failure, "it is unhealthy");
                }
                // Before the first pass an exit says more than the probes that met nobody.
                let keeps =
                    !is_ready && matches!(self.trouble, Some(Trouble::Exit { .. } | Trouble::Late { .. }));
                if !keeps {
                    self.trouble = Some(Trouble::Probe(failure));
                }
            }
        }
    }
}

impl Process {
    fn address(&self) -> Option<SocketAddr> {
        let port = self.port.as_ref()?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.number())))
    }

    fn next_probe(&self) -> Option<Instant> {
        let probes = self.probes.as_ref()?;
        (!probes.under_way).then(|| probes.liveness.next_probe())
    }
}
