//! Doing what a machine asks for.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, TryFutureExt};
use tokio::sync::{oneshot, watch};
use tracing::{Instrument, Span, error, info, warn};

use super::ServiceDriver;
use crate::{
    AppSpec, Basis, Build, BuildError, Exit, ExternalAddress, FirstAnswer, LogSource, LogStream, Plan, Port,
    ProbeFailure, ProbeTarget, Rebuild, ServiceFailure, ServiceKind, ServiceLog, SpawnError, Tail, Wish,
    causes::with_causes,
    command,
    context::Context,
    ending::{self, KillOnDrop},
    environment::instance_environment,
    lack::{is_lack, remedy},
    link::Link,
    pending::{HeldProcess, now, words_of},
    pump_outputs,
    service_action::ServiceAction,
    service_event::{NoBuild, ServiceEvent},
    shutdown,
    spans::instance_span,
    unbuilt::Missing,
};

impl ServiceDriver {
    /// Does what the machine has asked for. What panics has been in vain, and the rest is done.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.pending.actions.pop_front() {
            let vain = in_vain(&action);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.perform(action))) {
                error!(panic = words_of(&*panic), "what is to be done for the service panicked");
                if let Some(ServiceEvent::SpawnFailed { upstream, .. }) = vain {
                    // What was started all the same is killed by this.
                    self.pending.processes.remove(&upstream);
                }
                self.pending.events.extend(vain);
            }
        }
    }

    fn perform(&mut self, action: ServiceAction) {
        match action {
            ServiceAction::Spawn { upstream, is_repeated: true, .. }
                if !self.context.restarts.lock().take(now()) =>
            {
                self.pending.events.push_back(ServiceEvent::SpawnPutOff { upstream, reason: None });
            }
            ServiceAction::Spawn { upstream, number, plan, .. } => {
                let event = match self.spawn(upstream, number, &plan) {
                    Ok(event) => event,
                    Err(NoSpawn::Failed(reason)) => ServiceEvent::SpawnFailed { upstream, reason },
                    Err(NoSpawn::PutOff(reason)) => {
                        self.context.lack.say("a process cannot be started", &reason);
                        ServiceEvent::SpawnPutOff { upstream, reason: Some(reason) }
                    }
                };
                self.pending.events.push_back(event);
            }
            ServiceAction::Signal { upstream, signal } => {
                if let Some(process) = self.pending.processes.get(&upstream) {
                    process.span.in_scope(|| process.tree.0.signal(signal));
                }
            }
            ServiceAction::Drain { upstream } => {
                let drained = self.context.balancer.withdraw(self.machine.name(), &[upstream]);
                self.pending.wait_for(ServiceEvent::Drained { upstream }, async move {
                    drained.await;
                    ServiceEvent::Drained { upstream }
                });
            }
            ServiceAction::AwaitAnswer { upstream } => self.await_answer(upstream),
            ServiceAction::LookAtSurvivors { upstream } => {
                let process = self.pending.processes.get(&upstream);
                let survivors = process.map(|process| process.tree.0.survivors()).unwrap_or_default();
                self.pending.events.push_back(ServiceEvent::LookedAt { upstream, survivors });
            }
            ServiceAction::ReadLastLines { upstream } => {
                if let Some(process) = self.pending.processes.get(&upstream) {
                    let last_lines = process.tail.lines();
                    self.pending.events.push_back(ServiceEvent::LastLines { upstream, last_lines });
                }
            }
            ServiceAction::Probe { upstream, address, prove_owner, seek, ask, plan } => {
                let (service, tree) = (self.machine.name().clone(), self.pending.tree(upstream));
                let target = ProbeTarget { service, address, tree, prove_owner, seek };
                self.probe(upstream, &target, ask, &plan);
            }
            ServiceAction::EndRemnant { upstream, plan } => self.end_remnant(upstream, plan.as_deref()),
            ServiceAction::RunShutdownCommands { run, plan } => self.run_shutdown_commands(run, &plan),
            ServiceAction::KillShutdownCommands { run } => {
                if let Some(wishes) = self.pending.shutdowns.get(&run) {
                    wishes.send_replace(Wish::Kill);
                }
            }
            ServiceAction::Build { attempt, plan } => self.build(attempt, plan),
            ServiceAction::EndBuild { attempt, wish } => {
                if let Some(wishes) = self.pending.builds.get(&attempt) {
                    wishes.send_replace(wish);
                }
            }
            ServiceAction::CheckDescriptorLimit { wanted } => {
                let limit = self.context.spawner.nofile_limit();
                if self.nofile.is_due(wanted, limit) {
                    warn!(
                        wanted,
                        limit,
                        "nofile is cut to the hard limit; raise that (`LimitNOFILE` of a systemd unit, `ulimit -Hn` of a shell)"
                    );
                }
            }
            ServiceAction::Answer(ticket, answer) => self.pending.answer(ticket, answer),
            ServiceAction::Note(notice) => notice.log(),
        }
    }

    fn log(&mut self, spec: &AppSpec) -> ServiceLog {
        match &self.pending.log {
            Some((name, log)) if *name == spec.log => log.clone(),
            _ => {
                let log = self.context.surroundings.logs.log(&spec.log);
                self.pending.log = Some((spec.log.clone(), log.clone()));
                log
            }
        }
    }

    fn spawn(&mut self, upstream: u64, number: u32, plan: &Plan) -> Result<ServiceEvent, NoSpawn> {
        let failed = |reason: &str| NoSpawn::Failed(reason.to_owned());
        let ServiceKind::App(spec) = &plan.spec.kind else { return Err(failed("it is no app")) };
        let Some(command) = &spec.run else { return Err(failed("there is nothing to run")) };
        let surroundings = &self.context.surroundings;
        let port = if spec.background {
            None
        } else {
            Some(surroundings.ports.allocate().map_err(|error| failed(&error.to_string()))?)
        };
        let port_number = port.as_ref().map(Port::number);
        let env = instance_environment(&surroundings.env, spec, &plan.facts(), number, port_number);
        let launch =
            command::launch(command, spec, plan.account(), |word| plan.resolve(word), env, spec.stdin);
        let spawned = self.context.spawner.spawn(&launch).map_err(|error| NoSpawn::of(&error))?;
        let tree = KillOnDrop(spawned.tree.into());
        let leader = tree.0.leader();
        let span = instance_span(number);
        span.in_scope(|| info!(pid = leader, "it starts"));
        let tail = Tail::new();
        let (ended, output_ended) = oneshot::channel();
        let process = HeldProcess {
            tree,
            port,
            span: span.clone(),
            tail: tail.clone(),
            output_ended: Some(output_ended),
            awaits_answer: false,
        };
        self.pending.processes.insert(upstream, process);
        let exit = spawned.exit;
        let exited = async move { ServiceEvent::Exited { upstream, exit: exit.await } };
        let unknown = ServiceEvent::Exited { upstream, exit: Exit::Unknown };
        self.pending.wait_for(unknown, exited.instrument(span.clone()));
        let source = LogSource { instance: Some(number), stream: LogStream::Stdout };
        let pump = pump_outputs(&self.log(spec), source, spawned.output, spawned.errors, &tail);
        let output_ends = async move {
            pump.await;
            // Nobody waits for it before the leader has ended.
            drop(ended);
            ServiceEvent::OutputEnded { upstream }
        };
        self.pending.wait_for(ServiceEvent::OutputEnded { upstream }, output_ends.instrument(span));
        Ok(ServiceEvent::Spawned { upstream, leader, port: port_number })
    }

    fn probe(&mut self, upstream: u64, target: &ProbeTarget, ask: Option<Duration>, plan: &Plan) {
        let monitor = match &plan.spec.kind {
            ServiceKind::App(spec) => &spec.monitor,
            ServiceKind::External(spec) => &spec.monitor,
            ServiceKind::Files => return,
        };
        let prober = &self.context.prober;
        let probe = match ask {
            Some(limit) => prober.ask(target, monitor, limit),
            None => prober.probe(target, monitor).map_ok(|()| FirstAnswer::default()).boxed(),
        };
        let vain = ServiceEvent::Probed { upstream, result: Err(unmade(&target.address)) };
        let context = Arc::clone(&self.context);
        let probed = async move {
            let result = probe.await;
            if let Err(ProbeFailure::Unmade { address, reason }) = &result {
                context.lack.say(&format!("{address} cannot be probed"), reason);
            }
            ServiceEvent::Probed { upstream, result }
        };
        let span = self.pending.processes.get(&upstream).map_or_else(Span::current, |held| held.span.clone());
        self.pending.wait_for(vain, probed.instrument(span));
    }

    /// Waits until a process answers a request, or is gone.
    fn await_answer(&mut self, upstream: u64) {
        let answered = self.context.balancer.answered(self.machine.name(), upstream);
        let Some(process) = self.pending.processes.get_mut(&upstream) else { return };
        // One wait is enough: it goes on until there is an answer.
        if std::mem::replace(&mut process.awaits_answer, true) {
            return;
        }
        let tree = Arc::clone(&process.tree.0);
        self.pending.wait_for(ServiceEvent::Tick, async move {
            tokio::select! {
                () = answered => ServiceEvent::Answered { upstream },
                () = tree.ended() => ServiceEvent::Tick,
            }
        });
    }

    fn end_remnant(&mut self, upstream: u64, plan: Option<&Plan>) {
        let Some(tree) = self.pending.tree(upstream) else { return };
        let (drain, stop) = match plan.map(|plan| &plan.spec.kind) {
            Some(ServiceKind::App(spec)) => (spec.drain_timeout, spec.stop_timeout),
            _ => (Duration::ZERO, Duration::ZERO),
        };
        let drained = self.context.balancer.withdraw(self.machine.name(), &[upstream]);
        self.pending.wait_for(ServiceEvent::Tick, async move {
            // Over time what is under way is the process's to end.
            drop(tokio::time::timeout(drain, drained).await);
            let survivors = ending::end_tree(&*tree, tokio::time::sleep(stop)).await;
            ServiceEvent::LookedAt { upstream, survivors }
        });
    }

    fn run_shutdown_commands(&mut self, run: u64, plan: &Plan) {
        let ServiceKind::App(spec) = &plan.spec.kind else { return };
        let log = self.log(spec);
        let (wishes, wished) = watch::channel(Wish::GoOn);
        let commands = shutdown::run(spec, plan, log, Arc::clone(&self.context), wished);
        self.pending.shutdowns.insert(run, wishes);
        self.pending.wait_for(ServiceEvent::ShutdownCommandsEnded { run }, async move {
            commands.await;
            ServiceEvent::ShutdownCommandsEnded { run }
        });
    }

    fn build(&mut self, attempt: u64, plan: Arc<Plan>) {
        let (wishes, wished) = watch::channel(Wish::GoOn);
        self.pending.builds.insert(attempt, wishes);
        let in_use = self.machine.builds();
        let build = build(Arc::clone(&self.context), plan, in_use, wished);
        let vain = ServiceEvent::Built { attempt, built: Err(unbuilt()) };
        self.pending.wait_for(vain, async move { ServiceEvent::Built { attempt, built: build.await } });
    }
}

/// Why there is no process.
enum NoSpawn {
    Failed(String),
    /// For want of what belongs to the server itself.
    PutOff(String),
}

impl NoSpawn {
    fn of(error: &SpawnError) -> Self {
        let reason = with_causes(error);
        if is_lack(&error.source) {
            Self::PutOff(reason + remedy(&error.source))
        } else {
            Self::Failed(reason)
        }
    }
}

/// A try to build a run that waits for its build, and before it for those that it starts after.
async fn build(
    context: Arc<Context>,
    plan: Arc<Plan>,
    in_use: Vec<Build>,
    wished: watch::Receiver<Wish>,
) -> Result<Basis, NoBuild> {
    if !context.unready(plan.spec.after()).is_empty() {
        tokio::select! {
            () = Wish::becomes(wished.clone(), Wish::End) => return Err(NoBuild::Cancelled),
            () = context.ready(plan.spec.after()) => {}
        }
    }
    let known = plan.machine.clone();
    match context.build(&plan.spec, &plan.revision, known, Rebuild::Changed, wished.clone()).await {
        Ok(Basis { build, machine }) => {
            if let (Some(build), ServiceKind::App(app)) = (&build, &plan.spec.kind) {
                // It stays where it is led: there is no run to go back to.
                drop(Link::move_to(build, &plan.spec, &context.threads.files).await);
                context.builder.prune(&plan.spec.name, &app.folder, &in_use).await;
            }
            let built = Plan { build, machine, ..Plan::clone(&plan) };
            match context.release(&built, &wished).await {
                Ok(_) => Ok(Basis { build: built.build, machine: built.machine }),
                Err(error) => Err(no_build(Missing::Release, error)),
            }
        }
        Err(error) => Err(no_build(Missing::Build, error)),
    }
}

fn no_build(missing: Missing, error: BuildError) -> NoBuild {
    if matches!(error, BuildError::Cancelled) {
        return NoBuild::Cancelled;
    }
    warn!(reason = with_causes(&error), "there is no {}", missing.as_str());
    NoBuild::Failed(missing, error.into_failure())
}

/// What has come of an action that panicked.
fn in_vain(action: &ServiceAction) -> Option<ServiceEvent> {
    match *action {
        ServiceAction::Spawn { upstream, .. } => {
            let reason = "starting it panicked; the server's log says where".to_owned();
            Some(ServiceEvent::SpawnFailed { upstream, reason })
        }
        ServiceAction::Drain { upstream } => Some(ServiceEvent::Drained { upstream }),
        ServiceAction::LookAtSurvivors { upstream } => {
            Some(ServiceEvent::LookedAt { upstream, survivors: Vec::new() })
        }
        ServiceAction::Probe { upstream, ref address, .. } => {
            Some(ServiceEvent::Probed { upstream, result: Err(unmade(address)) })
        }
        ServiceAction::RunShutdownCommands { run, .. } => Some(ServiceEvent::ShutdownCommandsEnded { run }),
        ServiceAction::Build { attempt, .. } => Some(ServiceEvent::Built { attempt, built: Err(unbuilt()) }),
        ServiceAction::Signal { .. }
        | ServiceAction::AwaitAnswer { .. }
        | ServiceAction::ReadLastLines { .. }
        | ServiceAction::EndRemnant { .. }
        | ServiceAction::KillShutdownCommands { .. }
        | ServiceAction::EndBuild { .. }
        | ServiceAction::CheckDescriptorLimit { .. }
        | ServiceAction::Answer(..)
        | ServiceAction::Note(_) => None,
    }
}

/// The result of a probe that panicked.
fn unmade(address: &ExternalAddress) -> ProbeFailure {
    let reason = "the probe panicked; the server's log says where".to_owned();
    ProbeFailure::Connect { check: "probe".to_owned(), address: address.clone(), reason }
}

/// The result of a build that panicked.
fn unbuilt() -> NoBuild {
    let failure = ServiceFailure {
        what: "the build panicked; the server's log says where".to_owned(),
        retry_at: None,
        last_lines: Vec::new(),
    };
    NoBuild::Failed(Missing::Build, failure)
}
