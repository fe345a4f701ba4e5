//! One run of a service: its instances (or external addresses), from the same plan. A plain type.

mod replacing;

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc, time::Instant};

use crate::{
    AddressView, AppSpec, Build, JobRun, ListenAddress, Plan, RunEnd, ServiceFailure, ServiceUpstream,
    StartOrder, Survivor,
    external::External,
    lifecycle::{Event, Phase},
    machine_step::MachineStep,
    saved::saved,
    service_action::ServiceAction,
    slot::{ProcessEvent, Slot, SlotView},
    spec::ServiceKind,
};

/// Tries of an instance that may end before it was ready, until its run counts as failed. More than
/// one, because a port can be lost to somebody else between its choice and its use.
const START_TRIES: u32 = 3;

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    plan: Arc<Plan>,
    number: u64,
    slots: Vec<Slot>,
    /// An instance that is to take the place of the one with its number.
    successor: Option<Slot>,
    /// Instances whose place another one has taken, until they have ended.
    retired: Vec<Slot>,
    externals: Vec<External>,
    /// Whether the commands before its stop are under way.
    shutting_down: bool,
    /// Why none of its instances may be started.
    holds: BTreeSet<RunHold>,
}

/// Why no instance of a run may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RunHold {
    /// The files in the work tree are about to be another revision's.
    Files,
    /// What its build has made in place is about to be another one's, or is to be made again.
    Product,
    /// The server ends.
    End,
}

saved!(enum RunHold { 0 Files, 1 Product, 2 End });

saved!(struct Run { plan, number, slots, successor, retired, externals, shutting_down, holds });

impl Run {
    /// A run of which nothing is started yet.
    pub(crate) fn new(plan: Arc<Plan>, step: &mut MachineStep) -> Self {
        let (mut slots, mut externals) = (Vec::new(), Vec::new());
        match &plan.spec.kind {
            ServiceKind::App(spec) if spec.run.is_some() => {
                let name = &plan.spec.name;
                slots.extend((1..=spec.instances).map(|number| Slot::new(number, name, spec)));
            }
            ServiceKind::App(_) | ServiceKind::Files => {}
            ServiceKind::External(spec) => {
                externals.extend(spec.addresses.iter().map(|address| External::new(address.clone(), step)));
            }
        }
        Self {
            plan,
            number: step.numbers.next(),
            slots,
            successor: None,
            retired: Vec::new(),
            externals,
            shutting_down: false,
            holds: BTreeSet::new(),
        }
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The builds that its instances run from, or would.
    pub(crate) fn builds(&self) -> impl Iterator<Item = &Build> {
        self.plan.build.iter().chain(self.all_slots().filter_map(Slot::build))
    }

    /// Its instances are started from this plan from now on: the same, but for the build.
    pub(crate) fn rebuilt(&mut self, plan: &Arc<Plan>) {
        self.plan = Arc::clone(plan);
    }

    /// None of its instances is started before [`let_go`](Self::let_go) for the same reason, unless they do not need what
    /// it is about.
    pub(crate) fn hold(&mut self, why: RunHold, step: &mut MachineStep) {
        let concerns = match why {
            RunHold::Files => !self.plan.is_self_contained(),
            RunHold::Product => self.plan.needs_product(),
            RunHold::End => true,
        };
        if concerns {
            self.holds.insert(why);
            let plan = Arc::clone(&self.plan);
            for slot in self.all_slots_mut() {
                slot.hold(&plan, step);
            }
        }
    }

    /// Whether none of its instances is started, for this reason.
    pub(crate) fn is_held(&self, why: RunHold) -> bool {
        self.holds.contains(&why)
    }

    /// Undoes [`hold`](Self::hold).
    pub(crate) fn let_go(&mut self, why: RunHold, step: &mut MachineStep) {
        if self.holds.remove(&why) && self.holds.is_empty() {
            let plan = Arc::clone(&self.plan);
            for slot in self.all_slots_mut() {
                slot.let_go(&plan, step);
            }
        }
    }

    fn app(&self) -> Option<&AppSpec> {
        match &self.plan.spec.kind {
            ServiceKind::App(spec) => Some(spec),
            ServiceKind::External(_) | ServiceKind::Files => None,
        }
    }

    /// The numbers of the processes that run for it, or are being spawned.
    pub(crate) fn processes(&self) -> impl Iterator<Item = u64> {
        self.all_slots().filter_map(Slot::upstream)
    }

    /// Whether this is the number of a process or an address of the run.
    pub(crate) fn owns(&self, upstream: u64) -> bool {
        self.processes().any(|process| process == upstream)
            || self.externals.iter().any(|external| external.upstream() == upstream)
    }

    /// Starts the instances whose turn it is.
    pub(crate) fn start_next(&mut self, step: &mut MachineStep) {
        if self.plan.schedule().is_some() {
            return;
        }
        let one_by_one = self.app().is_some_and(|spec| spec.start == StartOrder::OneByOne);
        let mut before_is_ready = true;
        for slot in &mut self.slots {
            if one_by_one && !before_is_ready {
                break;
            }
            if slot.began().is_none() {
                slot.tell(Event::Start, &self.plan, step);
            }
            before_is_ready = slot.has_been_ready() || slot.is_done();
        }
    }

    /// Whether every instance has been spawned once.
    pub(crate) fn all_spawned(&self) -> bool {
        self.plan.schedule().is_some() || self.slots.iter().all(Slot::has_been_spawned)
    }

    /// Whether every instance is ready or done, and of external addresses one is or each has had its first
    /// probe. What others keep running is not ours to wait for any longer.
    pub(crate) fn all_ready(&self) -> bool {
        let externals_are_known = self.externals.iter().any(External::has_been_healthy)
            || self.externals.iter().all(External::has_failed);
        let is_ready = |slot: &Slot| slot.is_ready() || slot.is_done();
        externals_are_known && (self.plan.schedule().is_some() || self.slots.iter().all(is_ready))
    }

    /// After how many requests in a row without an answer an instance is asked whether it is ready.
    pub(crate) fn timeouts(&self) -> Option<u32> {
        let spec = self.app()?;
        (!spec.background).then_some(spec.monitor.unhealthy_threshold)
    }

    /// What is to be told of instances that are ready.
    pub(crate) fn remark(&self) -> Option<String> {
        self.slots.iter().find_map(Slot::remark)
    }

    /// Why not every instance has become ready in its time, once that is so. The time of each counts
    /// from its own first start: with `slow_start` that comes after the others'.
    pub(crate) fn failure_of_start(&self, now: Instant) -> Option<String> {
        let spec = self.app()?;
        let fails = |&(slot, until): &(&Slot, Instant)| until <= now || slot.failed_starts() >= START_TRIES;
        let ended = self.slots.iter().find(|slot| slot.has_failed_for_good());
        let slot = ended.or_else(|| Some(self.failing_starts(spec).find(fails)?.0))?;
        let failure = slot.failure(spec).unwrap_or_else(|| slot.lateness(spec));
        Some(ServiceFailure { retry_at: None, ..failure }.sentence(now))
    }

    /// Has every instance probed at once, and answers whose probes are under way then.
    pub(crate) fn probe_now(&mut self, step: &mut MachineStep) -> BTreeSet<u64> {
        self.slots.iter_mut().filter_map(|slot| slot.probe_now(&self.plan, step)).collect()
    }

    /// Whether what an instance has left behind is being ended.
    pub(crate) fn is_clearing(&self) -> bool {
        self.slots.iter().any(Slot::is_clearing)
    }

    /// When a start that has failed once has failed for good, if nothing else happens first.
    pub(crate) fn start_deadline(&self) -> Option<Instant> {
        self.failing_starts(self.app()?).map(|(_, until)| until).min()
    }

    /// The instances that have ended before they were ready, or got no process, and when their time is over. What is still to
    /// end is not judged yet: its last lines are to come.
    fn failing_starts(&self, spec: &AppSpec) -> impl Iterator<Item = (&Slot, Instant)> {
        let limit = spec.ready_timeout;
        self.slots.iter().filter_map(move |slot| {
            let has_failed = slot.failed_starts() > 0 || slot.is_put_off();
            let fails = !slot.is_ready() && has_failed && !slot.is_clearing();
            Some((slot, slot.began().filter(|_| fails)? + limit))
        })
    }

    /// Tells every instance.
    pub(crate) fn tell_all(&mut self, event: Event, step: &mut MachineStep) {
        let plan = Arc::clone(&self.plan);
        for slot in self.all_slots_mut() {
            slot.tell(event, &plan, step);
        }
    }

    /// Has the commands run before the stop of a run that has served; answers whether there are any.
    pub(crate) fn begin_shutdown(&mut self, step: &mut MachineStep) -> bool {
        let has_commands = self.app().is_some_and(|spec| !spec.shutdown.is_empty());
        if !has_commands || !self.slots.iter().any(Slot::has_been_ready) {
            return false;
        }
        // Often it is the commands that end the instances: such an end is no crash.
        self.tell_all(Event::Hold, step);
        self.shutting_down = true;
        step.ask(ServiceAction::RunShutdownCommands { run: self.number, plan: Arc::clone(&self.plan) });
        true
    }

    /// Takes the end of the commands before a stop; answers whether they were this run's.
    pub(crate) fn on_shutdown_commands_ended(&mut self, run: u64) -> bool {
        let are_its_own = run == self.number;
        self.shutting_down &= !are_its_own;
        are_its_own
    }

    /// Whether the commands before the stop are under way.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// Ends everything of the run at once: the commands before its stop, and every instance.
    pub(crate) fn kill(&mut self, step: &mut MachineStep) {
        self.kill_shutdown_commands(step);
        self.tell_all(Event::Kill, step);
    }

    pub(crate) fn kill_shutdown_commands(&self, step: &mut MachineStep) {
        if self.shutting_down {
            step.ask(ServiceAction::KillShutdownCommands { run: self.number });
        }
    }

    /// Whether nothing is under way to any instance.
    pub(crate) fn has_drained(&self) -> bool {
        !self.all_slots().any(|slot| matches!(slot.phase(), Phase::Ready { .. } | Phase::Draining { .. }))
    }

    /// Whether no process lives and none will be started.
    pub(crate) fn has_stopped(&self) -> bool {
        !self.is_shutting_down() && self.all_slots().all(Slot::is_stopped)
    }

    /// Whether that is so, or what lives has outlived SIGKILL.
    pub(crate) fn has_ended(&self) -> bool {
        let has_ended = |slot: &Slot| slot.is_stopped() || !slot.survivors().is_empty();
        !self.is_shutting_down() && self.all_slots().all(has_ended)
    }

    /// What of it SIGKILL has not ended.
    pub(crate) fn survivors(&self) -> impl Iterator<Item = &Survivor> {
        self.all_slots().flat_map(Slot::survivors)
    }

    /// How it has ended.
    pub(crate) fn end(&self) -> RunEnd {
        RunEnd {
            notes: self.all_slots().filter_map(Slot::overdue_note).collect(),
            survivors: self.survivors().cloned().collect(),
        }
    }

    /// Whether anything of it was ever to start.
    pub(crate) fn has_begun(&self) -> bool {
        let is_scheduled = self.plan.schedule().is_some();
        is_scheduled || self.slots.is_empty() || self.slots.iter().any(|slot| slot.began().is_some())
    }

    /// Takes what happens to a process or an address that it [`owns`](Self::owns).
    pub(crate) fn on_process(&mut self, upstream: u64, event: ProcessEvent, step: &mut MachineStep) {
        let plan = Arc::clone(&self.plan);
        match &plan.spec.kind {
            ServiceKind::App(spec) => {
                if let Some(slot) = self.all_slots_mut().find(|slot| slot.upstream() == Some(upstream)) {
                    slot.on_process(event, spec, &plan, step);
                }
            }
            ServiceKind::External(spec) => {
                let external = self.externals.iter_mut().find(|external| external.upstream() == upstream);
                if let (Some(external), ProcessEvent::Probed(result)) = (external, event) {
                    external.on_probed(result, &spec.monitor, step);
                }
            }
            ServiceKind::Files => {}
        }
    }

    /// Lets time do its work: deadlines, probes that are due.
    pub(crate) fn tick(&mut self, step: &mut MachineStep) {
        self.tell_all(Event::Tick, step);
        for external in &mut self.externals {
            external.tick(&self.plan, step);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let probes = self.externals.iter().filter_map(External::deadline);
        self.all_slots().filter_map(Slot::deadline).chain(probes).min()
    }

    /// How many instances or addresses are wanted: those that are done are not any more.
    pub(crate) fn wanted(&self) -> u32 {
        let is_wanted = |slot: &&Slot| match self.plan.schedule() {
            Some(_) => !slot.is_stopped(),
            None => !slot.is_done(),
        };
        count(self.slots.iter().filter(is_wanted).count() + self.externals.len())
    }

    /// Starts the instances of a job that do not run; whether there is one.
    pub(crate) fn begin_runs(&mut self, step: &mut MachineStep) -> bool {
        let plan = Arc::clone(&self.plan);
        self.slots.iter_mut().filter_map(|slot| slot.begin_run(&plan, step).then_some(())).count() > 0
    }

    /// Whether anything of it runs, or is about to.
    pub(crate) fn is_busy(&self) -> bool {
        !self.all_slots().all(Slot::is_stopped)
    }

    /// The runs of a job that have ended since this was asked for.
    pub(crate) fn take_ended_runs(&mut self) -> impl Iterator<Item = JobRun> {
        self.slots.iter_mut().filter_map(Slot::take_ended_run)
    }

    /// The runs of a job that are under way.
    pub(crate) fn runs_under_way(&self) -> impl Iterator<Item = JobRun> {
        self.slots.iter().filter_map(Slot::run_under_way)
    }

    /// Whether all of its instances are done.
    pub(crate) fn is_done(&self) -> bool {
        self.plan.schedule().is_none() && !self.slots.is_empty() && self.slots.iter().all(Slot::is_done)
    }

    /// How many may take traffic: of external addresses those that have been healthy.
    pub(crate) fn ready(&self) -> u32 {
        let slots = self.slots.iter().filter(|slot| slot.is_ready()).count();
        let externals = self.externals.iter().filter(|external| external.has_been_healthy()).count();
        count(slots + externals)
    }

    /// How many are healthy.
    pub(crate) fn healthy(&self) -> u32 {
        let slots = self.slots.iter().filter(|slot| slot.is_healthy()).count();
        let externals = self.externals.iter().filter(|external| external.is_healthy()).count();
        count(slots + externals)
    }

    /// The newest failure of an instance or external address that is not healthy; of two since the same moment that of
    /// the first.
    pub(crate) fn failure(&self) -> Option<ServiceFailure> {
        let failures: Vec<(Option<Instant>, ServiceFailure)> = if let Some(spec) = self.app() {
            let unhealthy = self.slots.iter().filter(|slot| !slot.is_healthy());
            unhealthy.filter_map(|slot| Some((slot.troubled_since(), slot.failure(spec)?))).collect()
        } else {
            let failing = self.externals.iter().filter(|external| !external.is_healthy());
            failing.filter_map(|external| Some((external.failing_since(), external.failure()?))).collect()
        };
        let (_, newest) = failures.into_iter().min_by_key(|&(since, _)| Reverse(since))?;
        Some(newest)
    }

    /// What takes traffic: what is healthy and answers, else what is healthy, else what is ready or has been healthy.
    /// The last one is never taken out by probes or timeouts alone: a service that answers something is better than
    /// one that answers nothing.
    pub(crate) fn upstreams(&self) -> Vec<ServiceUpstream> {
        let ready = self.slots.iter().filter(|slot| slot.is_ready()).filter_map(|slot| {
            let address = ListenAddress::Instance(slot.address()?);
            let trust = match (slot.is_healthy(), slot.is_silent()) {
                (true, false) => Trust::Full,
                (true, true) => Trust::InDoubt,
                (false, _) => Trust::None,
            };
            Some((trust, ServiceUpstream { id: slot.upstream()?, address }))
        });
        let answered = self.externals.iter().filter(|external| external.has_been_healthy());
        let answered = answered.map(|external| {
            let address = ListenAddress::External(external.address().clone());
            let trust = if external.is_healthy() { Trust::Full } else { Trust::None };
            (trust, ServiceUpstream { id: external.upstream(), address })
        });
        let all: Vec<_> = ready.chain(answered).collect();
        let best = all.iter().map(|&(trust, _)| trust).max();
        all.into_iter().filter(|&(trust, _)| Some(trust) == best).map(|(_, upstream)| upstream).collect()
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = SlotView> {
        self.slots.iter().filter_map(Slot::view)
    }

    pub(crate) fn addresses(&self) -> Vec<AddressView> {
        self.externals.iter().map(External::view).collect()
    }
}

/// How sure it is that something answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// Its probes fail.
    None,
    /// They pass, and requests have had no answer.
    InDoubt,
    Full,
}

fn count(things: usize) -> u32 {
    u32::try_from(things).unwrap_or(u32::MAX)
}
