//! The task that owns a service: it waits for one thing, lets the lifecycles decide, and acts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, trace, warn};

use crate::{
    Balancer, Expected, Failure, Prober, ServiceId, ServiceName, Spawner,
    generation::{Generation, Happening, Surroundings},
    lifecycle,
    service::{Plan, Prepared, Request, Service, ServiceState},
};

/// What all drivers of a supervisor share.
pub(crate) struct Context {
    pub(crate) spawner: Arc<dyn Spawner>,
    pub(crate) prober: Arc<dyn Prober>,
    pub(crate) balancer: Arc<dyn Balancer>,
    pub(crate) surroundings: Surroundings,
    pub(crate) last_upstream: AtomicU64,
}

impl Context {
    pub(crate) fn new_upstream(&self) -> u64 {
        self.last_upstream.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Something that happened to the process or address that balancers know by the first number.
pub(crate) type Event = (u64, Happening);
/// What a driver waits for.
pub(crate) type Pending = FuturesUnordered<BoxFuture<'static, Event>>;

/// Requests that may wait for a driver. Each of its callers waits for its answer before it asks
/// again, so that more than a few never do.
const INBOX: usize = 16;

/// Returns the handle and the task that owns the service. The caller spawns the task.
pub(crate) fn service(
    name: ServiceName,
    id: ServiceId,
    context: Arc<Context>,
) -> (Service, impl Future<Output = ()> + Send) {
    let (requests, inbox) = mpsc::channel(INBOX);
    let (publisher, state) = watch::channel(ServiceState::new(id));
    let driver = Driver {
        name: name.clone(),
        context,
        current: None,
        candidate: None,
        set_aside: None,
        not_built: None,
        leaving: Vec::new(),
        stopped: false,
        is_new: true,
        stops: 0,
        stop_waiters: Vec::new(),
        pending: FuturesUnordered::new(),
        publisher,
        told: None,
    };
    (Service { name, requests, state }, driver.run(inbox))
}

struct Driver {
    name: ServiceName,
    context: Arc<Context>,
    /// The run that is the service.
    current: Option<Generation>,
    /// The run that is to become it.
    candidate: Option<Candidate>,
    /// The plan of a run that was stopped to make room for the candidate.
    set_aside: Option<Plan>,
    /// Why there is no run, where there would be one but for its build.
    not_built: Option<String>,
    /// Runs that end.
    leaving: Vec<Leaving>,
    stopped: bool,
    is_new: bool,
    /// How often it was stopped.
    stops: u64,
    stop_waiters: Vec<(oneshot::Sender<bool>, bool)>,
    pending: Pending,
    publisher: watch::Sender<ServiceState>,
    /// What the balancer was told last.
    told: Option<(Vec<u64>, Expected)>,
}

struct Candidate {
    generation: Generation,
    /// Whether it waits for the end of the run before it.
    waits: bool,
    /// Whether nothing serves beside it, so that its instances take traffic as they become ready.
    alone: bool,
    /// Whether it is the service when its start has ended, without a commit.
    revived: bool,
    spawned: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Sender<Prepared>>,
}

struct Leaving {
    generation: Generation,
    /// Whether its shutdown commands have run, and its instances have been told to stop.
    told: bool,
    drained: Vec<oneshot::Sender<()>>,
    stopped: Vec<oneshot::Sender<()>>,
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut orphaned = false;
        loop {
            if orphaned && self.is_quiet() {
                return;
            }
            let due: OptionFuture<_> =
                self.deadline().map(|at| tokio::time::sleep_until(tokio::time::Instant::from_std(at))).into();
            tokio::select! {
                request = inbox.recv(), if !orphaned => match request {
                    Some(request) => self.on_request(request),
                    None => {
                        orphaned = true;
                        self.stop();
                    }
                },
                Some((upstream, happening)) = self.pending.next(), if !self.pending.is_empty() => {
                    self.on_happening(upstream, happening);
                }
                Some(()) = due => self.tick(),
            }
            self.settle();
        }
    }

    /// Whether nothing of the service runs.
    fn is_quiet(&self) -> bool {
        self.current.is_none() && self.candidate.is_none() && self.leaving.is_empty()
    }

    fn deadline(&self) -> Option<Instant> {
        self.generations().filter_map(Generation::deadline).min()
    }

    fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.current
            .iter()
            .chain(self.candidate.iter().map(|candidate| &candidate.generation))
            .chain(self.leaving.iter().map(|leaving| &leaving.generation))
    }

    fn generations_mut(&mut self) -> impl Iterator<Item = &mut Generation> {
        self.current
            .iter_mut()
            .chain(self.candidate.iter_mut().map(|candidate| &mut candidate.generation))
            .chain(self.leaving.iter_mut().map(|leaving| &mut leaving.generation))
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Prepare { stops: Some(stops), ended, .. } if stops != self.stops => {
                answer(ended, Prepared::Left);
            }
            Request::Prepare { plan, spawned, ended, .. } => self.prepare(*plan, spawned, ended),
            Request::Commit { switched, drained, stopped } => self.commit(switched, drained, stopped),
            Request::Abandon { done } => self.abandon(done),
            Request::Revive { ended } => self.revive(ended),
            Request::NotBuilt { reason } => {
                self.is_new = false;
                self.not_built = Some(reason);
            }
            Request::Stop { done } => {
                let was_up = !self.stopped;
                self.stop();
                self.stop_waiters.push((done, was_up));
            }
            Request::Kill => {
                self.stop();
                let context = Arc::clone(&self.context);
                let mut pending = std::mem::take(&mut self.pending);
                for leaving in &mut self.leaving {
                    leaving.told = true;
                }
                for generation in self.generations_mut() {
                    generation.kill(&context, &mut pending);
                }
                self.pending = pending;
            }
            Request::Hold { done } => {
                self.tell_hold(lifecycle::Event::Hold);
                answer(done, ());
            }
            Request::Release => self.tell_hold(lifecycle::Event::Release),
        }
    }

    fn tell_hold(&mut self, event: lifecycle::Event) {
        if let Some(current) = &mut self.current
            && current.plan.build.is_none()
        {
            current.tell_all(event, &self.context, &mut self.pending);
        }
    }

    fn prepare(&mut self, plan: Plan, spawned: oneshot::Sender<()>, ended: oneshot::Sender<Prepared>) {
        if let Some(candidate) = self.candidate.take() {
            if candidate.revived {
                // It has not come back yet, and is still what to go back to.
                self.set_aside = Some(candidate.generation.plan.clone());
            }
            self.leave(candidate.generation, Vec::new(), Vec::new());
        }
        let serves = self.current.as_ref().is_some_and(|current| current.healthy() > 0);
        let overlaps = serves && plan.overlaps();
        info!(service = %self.name, id = %plan.id, overlaps, "a new run starts");
        if !overlaps && let Some(old) = self.current.take() {
            self.set_aside = Some(old.plan.clone());
            self.leave(old, Vec::new(), Vec::new());
        }
        let generation = Generation::new(plan, &self.name, &self.context);
        self.stopped = false;
        self.is_new = false;
        self.not_built = None;
        self.candidate = Some(Candidate {
            generation,
            waits: true,
            alone: !overlaps,
            revived: false,
            spawned: Some(spawned),
            ended: Some(ended),
        });
    }

    fn commit(
        &mut self,
        switched: oneshot::Sender<()>,
        drained: oneshot::Sender<()>,
        stopped: oneshot::Sender<()>,
    ) {
        let Some(candidate) = self.candidate.take() else {
            // It was stopped meanwhile; what waits for the switch learns so by the channels' end.
            return;
        };
        self.set_aside = None;
        let old = self.current.replace(candidate.generation);
        self.publish();
        answer(switched, ());
        match old {
            Some(old) => self.leave(old, vec![drained], vec![stopped]),
            None => {
                answer(drained, ());
                answer(stopped, ());
            }
        }
    }

    fn abandon(&mut self, done: oneshot::Sender<()>) {
        let Some(candidate) = self.candidate.take() else {
            answer(done, ());
            return;
        };
        if candidate.alone {
            // It may have taken requests, as a run does that is the service.
            self.leave(candidate.generation, Vec::new(), vec![done]);
        } else {
            // The commands before a stop are for runs that served; this one never did.
            let (drained, stopped) = (Vec::new(), vec![done]);
            self.leaving.push(Leaving { generation: candidate.generation, told: false, drained, stopped });
            self.tell_leaving();
        }
        if self.current.is_none() && self.set_aside.is_none() {
            self.stopped = true;
        }
    }

    fn revive(&mut self, ended: oneshot::Sender<Prepared>) {
        match self.set_aside.take() {
            Some(plan) if !self.stopped => {
                // A rollout that was dropped on its way has abandoned nothing.
                if let Some(candidate) = self.candidate.take() {
                    self.leave(candidate.generation, Vec::new(), Vec::new());
                }
                // Nothing is to be switched later: it is the service at once.
                let (spawned, _) = oneshot::channel();
                self.candidate = Some(Candidate {
                    generation: Generation::new(plan, &self.name, &self.context),
                    waits: true,
                    alone: true,
                    revived: true,
                    spawned: Some(spawned),
                    ended: Some(ended),
                });
            }
            _ => answer(ended, Prepared::Ready),
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.stops += 1;
        self.set_aside = None;
        if let Some(candidate) = self.candidate.take() {
            if let Some(ended) = candidate.ended {
                answer(ended, Prepared::Left);
            }
            self.leave(candidate.generation, Vec::new(), Vec::new());
        }
        if let Some(current) = self.current.take() {
            info!(service = %self.name, "it stops on request");
            self.leave(current, Vec::new(), Vec::new());
        }
    }

    /// A run ends: its shutdown commands first, then its instances.
    fn leave(
        &mut self,
        mut generation: Generation,
        drained: Vec<oneshot::Sender<()>>,
        stopped: Vec<oneshot::Sender<()>>,
    ) {
        let told = generation.run_shutdown_commands(&self.name, &self.context, &mut self.pending);
        self.leaving.push(Leaving { generation, told: false, drained, stopped });
        if !told {
            self.tell_leaving();
        }
    }

    /// Tells the instances of runs that end, and have no shutdown command under way, to stop.
    fn tell_leaving(&mut self) {
        for leaving in &mut self.leaving {
            if !leaving.told && !leaving.generation.is_shutting_down() {
                leaving.told = true;
                leaving.generation.tell_all(lifecycle::Event::Stop, &self.context, &mut self.pending);
            }
        }
    }

    fn on_happening(&mut self, upstream: u64, happening: Happening) {
        let context = Arc::clone(&self.context);
        let mut pending = std::mem::take(&mut self.pending);
        for generation in self.generations_mut() {
            if generation.owns(upstream) {
                generation.on_happening(upstream, happening, &context, &mut pending);
                break;
            }
        }
        pending.extend(std::mem::take(&mut self.pending));
        self.pending = pending;
    }

    fn tick(&mut self) {
        let context = Arc::clone(&self.context);
        let mut pending = std::mem::take(&mut self.pending);
        for generation in self.generations_mut() {
            generation.tick(&context, &mut pending);
        }
        pending.extend(std::mem::take(&mut self.pending));
        self.pending = pending;
    }

    /// Draws the conclusions from what has changed, and publishes.
    fn settle(&mut self) {
        self.tell_leaving();
        self.leaving.retain_mut(|leaving| {
            if leaving.told && leaving.generation.has_drained() {
                for waiter in leaving.drained.drain(..) {
                    answer(waiter, ());
                }
            }
            let over = leaving.told && leaving.generation.has_stopped();
            if over {
                for waiter in leaving.stopped.drain(..) {
                    answer(waiter, ());
                }
            }
            !over
        });
        self.settle_candidate();
        if let Some(current) = &mut self.current {
            current.start_next(&self.context, &mut self.pending);
        }
        if self.leaving.is_empty() {
            for (waiter, was_up) in self.stop_waiters.drain(..) {
                answer(waiter, was_up);
            }
        }
        self.publish();
    }

    fn settle_candidate(&mut self) {
        let Some(candidate) = &mut self.candidate else { return };
        if candidate.waits && (!candidate.alone || self.leaving.is_empty()) {
            candidate.waits = false;
        }
        if candidate.waits {
            return;
        }
        candidate.generation.start_next(&self.context, &mut self.pending);
        if candidate.generation.all_spawned()
            && let Some(spawned) = candidate.spawned.take()
        {
            answer(spawned, ());
        }
        let end = if candidate.generation.all_ready() {
            Some(Prepared::Ready)
        } else {
            candidate.generation.failure_of_start().map(Prepared::Failed)
        };
        if let Some(end) = end
            && let Some(ended) = candidate.ended.take()
        {
            if let Prepared::Failed(reason) = &end {
                warn!(service = %self.name, reason, "a new run does not become ready");
            }
            candidate.spawned = None;
            answer(ended, end);
            if candidate.revived
                && let Some(candidate) = self.candidate.take()
            {
                self.current = Some(candidate.generation);
            }
        }
    }

    fn publish(&mut self) {
        let candidate = self.candidate.as_ref().filter(|candidate| candidate.alone);
        let serving = candidate.map(|candidate| &candidate.generation).or(self.current.as_ref());
        let expected = if self.stopped { Expected::Nothing } else { Expected::Back };
        let upstreams = serving.map(Generation::upstreams).unwrap_or_default();
        let ids: Vec<u64> = upstreams.iter().map(|upstream| upstream.id).collect();
        let telling = (ids, expected);
        if self.told.as_ref() != Some(&telling) {
            self.context.balancer.set_upstreams(&self.name, upstreams, expected);
            self.told = Some(telling);
        }
        let shown = serving.or(self.candidate.as_ref().map(|candidate| &candidate.generation));
        let builds = self.generations().filter_map(|generation| generation.plan.build.clone()).collect();
        let empty = ServiceState {
            stopped: self.stopped,
            is_new: self.is_new,
            stops: self.stops,
            wanted: u32::from(!self.stopped),
            failure: self.not_built.as_ref().map(|reason| Failure {
                what: reason.clone(),
                retry_at: None,
                last_lines: Vec::new(),
            }),
            builds,
            ..ServiceState::new(self.publisher.borrow().id)
        };
        let state = match shown {
            Some(generation) if !self.stopped => ServiceState {
                id: generation.plan.id,
                wanted: generation.wanted(),
                healthy: generation.healthy(),
                failure: generation.failure(),
                instances: generation.instances(),
                addresses: generation.addresses(),
                ..empty
            },
            _ => empty,
        };
        self.publisher.send_replace(state);
    }
}

/// Answers a caller. One that has gone away meanwhile does not want to know: what it asked for goes
/// on without it.
pub(crate) fn answer<T>(caller: oneshot::Sender<T>, value: T) {
    if caller.send(value).is_err() {
        trace!("nobody waits for this answer any more");
    }
}
