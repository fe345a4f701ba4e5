//! One run of a service: its instances (or external addresses), from the same plan.

use std::{sync::Arc, time::Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    AddressView, AppSpec, ExternalAddress, Failure, InstanceView, ListenAddress, Liveness, Monitor, Plan,
    ServiceLog, ServiceName, ServiceUpstream, StartOrder, Wish,
    context::Context,
    lifecycle::{self, Phase},
    pending::{Happening, Pending, now},
    probe::{ProbeFailure, Target},
    shutdown,
    slot::{Run, Slot},
    spec::ServiceKind,
};

/// Tries of an instance that may end before it was ready, until its run counts as failed. More than
/// one, because a port can be lost to somebody else between its choice and its use.
const START_TRIES: u32 = 3;

/// An address of somebody else's.
struct External {
    upstream: u64,
    address: ExternalAddress,
    liveness: Liveness,
    probing: bool,
    failure: Option<ProbeFailure>,
}

/// A run.
pub(crate) struct Generation {
    pub(crate) plan: Plan,
    key: u64,
    log: Option<ServiceLog>,
    slots: Vec<Slot>,
    externals: Vec<External>,
    /// When its first instance was told to start: a run may have to wait for the end of another.
    began: Option<Instant>,
    /// While the commands before the stop are under way: what cuts them short.
    shutting_down: Option<watch::Sender<Wish>>,
}

impl Generation {
    /// A run of which nothing is started yet.
    pub(crate) fn new(plan: Plan, name: &ServiceName, context: &Context) -> Self {
        let now = now();
        let (mut slots, mut externals, mut log) = (Vec::new(), Vec::new(), None);
        match &plan.spec.kind {
            ServiceKind::App(spec) if spec.run.is_some() => {
                log = Some(context.surroundings.logs.log(&spec.log));
                slots.extend((1..=spec.instances).map(|number| Slot::new(number, name.clone(), spec)));
            }
            ServiceKind::App(_) | ServiceKind::Files => {}
            ServiceKind::External(spec) => {
                externals.extend(spec.addresses.iter().map(|address| External {
                    upstream: context.new_upstream(),
                    address: address.clone(),
                    liveness: Liveness::unknown(now),
                    probing: false,
                    failure: None,
                }));
            }
        }
        Self { plan, key: context.new_upstream(), log, slots, externals, began: None, shutting_down: None }
    }

    fn app(&self) -> Option<&AppSpec> {
        match &self.plan.spec.kind {
            ServiceKind::App(spec) => Some(spec),
            ServiceKind::External(_) | ServiceKind::Files => None,
        }
    }

    fn external_monitor(&self) -> Option<&Monitor> {
        match &self.plan.spec.kind {
            ServiceKind::External(spec) => Some(&spec.monitor),
            ServiceKind::App(_) | ServiceKind::Files => None,
        }
    }

    pub(crate) fn owns(&self, upstream: u64) -> bool {
        self.key == upstream
            || self.slots.iter().any(|slot| slot.upstream() == upstream)
            || self.externals.iter().any(|external| external.upstream == upstream)
    }

    /// Starts the instances whose turn it is.
    pub(crate) fn start_next(&mut self, context: &Arc<Context>, pending: &mut Pending) {
        self.began.get_or_insert_with(now);
        let one_by_one = self.app().is_some_and(|spec| spec.start == StartOrder::OneByOne);
        for index in 0..self.slots.len() {
            if one_by_one && index > 0 && !self.slots[index - 1].has_been_ready() {
                break;
            }
            if !self.slots[index].has_been_started() {
                self.tell(index, lifecycle::Event::Start, context, pending);
            }
        }
    }

    /// Whether every instance has been spawned once.
    pub(crate) fn all_spawned(&self) -> bool {
        self.slots.iter().all(Slot::has_been_spawned)
    }

    /// Whether every instance is ready, and of external addresses one is or each has had its first
    /// probe. What others keep running is not ours to wait for any longer.
    pub(crate) fn all_ready(&self) -> bool {
        let externals_are_known = self.externals.iter().any(|external| external.liveness.has_been_healthy())
            || self.externals.iter().all(|external| external.failure.is_some());
        externals_are_known && self.slots.iter().all(Slot::is_ready)
    }

    /// Why not every instance has become ready in its time, once that is so.
    pub(crate) fn failure_of_start(&self) -> Option<String> {
        let spec = self.app()?;
        let now = now();
        let late = now >= self.began? + spec.ready_timeout;
        self.slots.iter().filter(|slot| !slot.is_ready() && slot.failed_starts() > 0).find_map(|slot| {
            let clearing = matches!(slot.phase(), Phase::Stopping { .. } | Phase::Killing { .. });
            if clearing || !(late || slot.failed_starts() >= START_TRIES) {
                return None;
            }
            let failure = slot.failure(spec)?;
            Some(Failure { retry_at: None, ..failure }.sentence(now))
        })
    }

    /// Tells every instance.
    pub(crate) fn tell_all(
        &mut self,
        event: lifecycle::Event,
        context: &Arc<Context>,
        pending: &mut Pending,
    ) {
        for index in 0..self.slots.len() {
            self.tell(index, event, context, pending);
        }
    }

    fn tell(&mut self, index: usize, event: lifecycle::Event, context: &Arc<Context>, pending: &mut Pending) {
        let Self { plan, log, slots, .. } = self;
        let (ServiceKind::App(spec), Some(log)) = (&plan.spec.kind, log) else { return };
        slots[index].tell(event, &Run { plan, spec, log, context }, pending);
    }

    /// Runs the commands before the stop of a run that has served; answers whether there are any.
    pub(crate) fn run_shutdown_commands(
        &mut self,
        name: &ServiceName,
        context: &Arc<Context>,
        pending: &mut Pending,
    ) -> bool {
        let has_commands = self.app().is_some_and(|spec| !spec.shutdown.is_empty());
        if !has_commands || !self.slots.iter().any(Slot::has_been_ready) {
            return false;
        }
        // Often it is the commands that end the instances: such an end is no crash.
        self.tell_all(lifecycle::Event::Hold, context, pending);
        let (Some(spec), Some(log)) = (self.app(), &self.log) else { return false };
        let (wishes, wished) = watch::channel(Wish::GoOn);
        let commands = shutdown::run(name, spec, &self.plan, log.clone(), Arc::clone(context), wished);
        let key = self.key;
        pending.push(Box::pin(async move {
            commands.await;
            (key, Happening::ShutdownCommandsEnded)
        }));
        self.shutting_down = Some(wishes);
        true
    }

    /// Whether the commands before the stop are under way.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutting_down.is_some()
    }

    /// Ends everything of the run at once: the commands before its stop, and every instance.
    pub(crate) fn kill(&mut self, context: &Arc<Context>, pending: &mut Pending) {
        if let Some(wishes) = &self.shutting_down {
            wishes.send_replace(Wish::Kill);
        }
        self.tell_all(lifecycle::Event::Kill, context, pending);
    }

    /// Whether nothing is under way to any instance.
    pub(crate) fn has_drained(&self) -> bool {
        !self.slots.iter().any(|slot| matches!(slot.phase(), Phase::Ready { .. } | Phase::Draining { .. }))
    }

    /// Whether no process lives and none will be started.
    pub(crate) fn has_stopped(&self) -> bool {
        !self.is_shutting_down() && self.slots.iter().all(Slot::is_stopped)
    }

    pub(crate) fn on_happening(
        &mut self,
        upstream: u64,
        happening: Happening,
        context: &Arc<Context>,
        pending: &mut Pending,
    ) {
        if upstream == self.key {
            self.shutting_down = None;
            return;
        }
        if let Some(index) = self.slots.iter().position(|slot| slot.upstream() == upstream) {
            let Self { plan, log, slots, .. } = self;
            if let (ServiceKind::App(spec), Some(log)) = (&plan.spec.kind, log) {
                slots[index].on_happening(happening, &Run { plan, spec, log, context }, pending);
            }
            return;
        }
        if let Happening::Probed(result) = happening {
            self.on_external_probed(upstream, result);
        }
    }

    fn on_external_probed(&mut self, upstream: u64, result: Result<(), ProbeFailure>) {
        let now = now();
        let ServiceKind::External(spec) = &self.plan.spec.kind else { return };
        let Some(external) = self.externals.iter_mut().find(|external| external.upstream == upstream) else {
            return;
        };
        external.probing = false;
        if external.liveness.on_result(result.is_ok(), &spec.monitor, now) {
            let (service, address) = (&self.plan.spec.name, &external.address);
            match &result {
                Ok(()) => info!(%service, %address, "it is healthy"),
                Err(failure) => warn!(%service, %address, %failure, "it is unhealthy"),
            }
        }
        external.failure = result.err();
    }

    /// Lets time do its work: deadlines, probes that are due.
    pub(crate) fn tick(&mut self, context: &Arc<Context>, pending: &mut Pending) {
        self.tell_all(lifecycle::Event::Tick, context, pending);
        let now = now();
        let Some(monitor) = self.external_monitor().cloned() else { return };
        for external in &mut self.externals {
            if !external.probing && external.liveness.next_probe() <= now {
                external.probing = true;
                let upstream = external.upstream;
                let target = Target {
                    service: self.plan.spec.name.clone(),
                    address: external.address.clone(),
                    tree: None,
                    prove_owner: false,
                };
                let probe = context.prober.probe(&target, &monitor);
                pending.push(Box::pin(async move { (upstream, Happening::Probed(probe.await)) }));
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let probes = self
            .externals
            .iter()
            .filter(|external| !external.probing)
            .map(|external| external.liveness.next_probe());
        self.slots.iter().filter_map(Slot::deadline).chain(probes).min()
    }

    /// How many instances or addresses are wanted.
    pub(crate) fn wanted(&self) -> u32 {
        count(self.slots.len() + self.externals.len())
    }

    /// How many may take traffic: of external addresses those that have been healthy.
    pub(crate) fn ready(&self) -> u32 {
        let slots = self.slots.iter().filter(|slot| slot.is_ready()).count();
        let externals = self.externals.iter().filter(|external| external.liveness.has_been_healthy()).count();
        count(slots + externals)
    }

    /// How many are healthy.
    pub(crate) fn healthy(&self) -> u32 {
        let slots = self.slots.iter().filter(|slot| slot.is_healthy()).count();
        let externals = self.externals.iter().filter(|external| external.liveness.is_healthy()).count();
        count(slots + externals)
    }

    /// The latest failure that has not healed.
    pub(crate) fn failure(&self) -> Option<Failure> {
        if let Some(spec) = self.app() {
            return self.slots.iter().filter(|slot| !slot.is_healthy()).find_map(|slot| slot.failure(spec));
        }
        let sick = self.externals.iter().find(|external| external.failure.is_some())?;
        let failure = sick.failure.as_ref()?;
        Some(Failure {
            what: format!("{}: {failure}", sick.address),
            retry_at: (!sick.probing).then(|| sick.liveness.next_probe()),
            last_lines: Vec::new(),
        })
    }

    /// What takes traffic: what is healthy, else what is ready or has been healthy. The last one is
    /// never taken out by probes alone: a service that answers something is better than one that
    /// answers nothing.
    pub(crate) fn upstreams(&self) -> Vec<ServiceUpstream> {
        let ready = self.slots.iter().filter(|slot| slot.is_ready()).filter_map(|slot| {
            let address = ListenAddress::Instance(slot.address()?);
            Some((slot.is_healthy(), ServiceUpstream { id: slot.upstream(), address }))
        });
        let answered = self.externals.iter().filter(|external| external.liveness.has_been_healthy());
        let answered = answered.map(|external| {
            let address = ListenAddress::External(external.address.clone());
            (external.liveness.is_healthy(), ServiceUpstream { id: external.upstream, address })
        });
        let (healthy, others): (Vec<_>, Vec<_>) =
            ready.chain(answered).partition(|(is_healthy, _)| *is_healthy);
        let chosen = if healthy.is_empty() { others } else { healthy };
        chosen.into_iter().map(|(_, upstream)| upstream).collect()
    }

    pub(crate) fn instances(&self) -> Vec<InstanceView> {
        self.slots.iter().filter_map(Slot::view).collect()
    }

    pub(crate) fn addresses(&self) -> Vec<AddressView> {
        let view = |external: &External| AddressView {
            upstream: external.upstream,
            address: external.address.clone(),
            healthy: external.liveness.is_healthy(),
        };
        self.externals.iter().map(view).collect()
    }
}

fn count(things: usize) -> u32 {
    u32::try_from(things).unwrap_or(u32::MAX)
}
