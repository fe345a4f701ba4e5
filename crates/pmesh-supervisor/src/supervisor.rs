//! All services of a node: who they are, and their rollouts.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    ffi::OsString,
    fmt,
    future::Future,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU32},
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::{
    Balancer, Build, BuildError, Builder, Failure, LogFolder, Plan, Ports, Prepared, Prober, Rebuild,
    RevisionFacts, Service, ServiceId, ServiceName, ServiceSpec, Spawner, Switched, Wish,
    causes::with_causes,
    context::{Context, Surroundings},
    driver::{self, Driver},
    drivers::run_drivers,
    ending::becomes,
    lack::Lack,
    link::Link,
    rollout::{Action, Event, Item, Limits, Rollout, Unity},
    service::DRIVER_FAILED,
    spec::ServiceKind,
};

/// What a supervisor is made from.
#[derive(Clone)]
pub struct SupervisorSettings {
    /// Where the services' output goes.
    pub logs: LogFolder,
    /// The server's own folder, absolute and without links, if it has one: what is in it is content of
    /// no build.
    pub state: Option<PathBuf>,
    /// The environment that services get a part of: as a rule the server's own.
    pub env: BTreeMap<OsString, OsString>,
    /// How many services build and start at a time.
    pub limits: Limits,
}

/// Owns the services of a node; clones control the same ones.
#[derive(Clone)]
pub struct Supervisor {
    context: Arc<Context>,
    services: Arc<Mutex<BTreeMap<ServiceName, Service>>>,
    drivers: mpsc::UnboundedSender<Driver>,
    limits: Limits,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("services", &self.services.lock().keys()).finish_non_exhaustive()
    }
}

/// A service that is to be rolled over to a new spec.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The id of its new run.
    pub id: ServiceId,
    /// What it is to be.
    pub spec: ServiceSpec,
}

/// What a rollout is to do.
#[derive(Clone, Debug)]
pub struct RolloutPlan {
    /// The services, each of them once.
    pub turns: Vec<Turn>,
    /// Whether they succeed and fail on their own.
    pub unity: Unity,
    /// Whether builds are made again that are there.
    pub rebuild: Rebuild,
    /// What instances are told of the work tree.
    pub revision: RevisionFacts,
}

/// The steps of a rollout, as they are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutStep {
    /// Its build is made, or found.
    Build,
    /// Its instances are spawned.
    Start,
    /// They become ready.
    Ready,
    /// They take over.
    Switch,
    /// What is under way to the old instances ends.
    Drain,
    /// The old instances end.
    Stop,
    /// The new instances end, and the old ones go on.
    GoBack,
}

/// How a step goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepReport {
    /// It begins.
    Begun,
    /// It has ended well, with what a person may want to know of it.
    Done(Option<String>),
    /// It has failed.
    Failed(String),
}

/// Who learns of the steps of a rollout.
pub type Reporter<'a> = &'a (dyn Fn(&ServiceName, RolloutStep, StepReport) + Send + Sync);

/// How a rollout ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutEnd {
    /// The services that did not become ready, and why.
    pub failed: BTreeMap<ServiceName, String>,
    /// The services whose new run is in force.
    pub switched: Vec<ServiceName>,
    /// Whether all of it was given up: the new instances have ended. What was stopped for them is
    /// started again by [`Supervisor::revive`], after the caller has put back its files.
    pub gave_up: bool,
}

impl Supervisor {
    /// Returns the supervisor and the task that owns all its services. The caller spawns the task;
    /// it ends when the last clone of the supervisor has been dropped and every service has ended.
    /// Dropped or aborted before, it kills every process of theirs, without their grace.
    pub fn new(
        settings: SupervisorSettings,
        spawner: Arc<dyn Spawner>,
        prober: Arc<dyn Prober>,
        balancer: Arc<dyn Balancer>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        // Bounded by the number of services: each sends one driver, once.
        let (drivers, inbox) = mpsc::unbounded_channel();
        let builder = Builder::new(settings.limits.builds);
        let context = Context {
            spawner,
            prober,
            balancer,
            builder: match settings.state {
                Some(state) => builder.with_state(state),
                None => builder,
            },
            surroundings: Surroundings { env: settings.env, logs: settings.logs, ports: Ports::new() },
            last_block: AtomicU32::new(0),
            lack: Lack::default(),
        };
        let supervisor =
            Self { context: Arc::new(context), services: Arc::default(), drivers, limits: settings.limits };
        (supervisor, run_drivers(inbox))
    }

    /// The service of this name.
    pub fn service(&self, name: &ServiceName) -> Option<Service> {
        self.services.lock().get(name).cloned()
    }

    /// All services, by name.
    pub fn services(&self) -> Vec<Service> {
        self.services.lock().values().cloned().collect()
    }

    /// The service of this name; if there is none a new one, which counts as starting, with the id that
    /// it has until its first run.
    pub fn add(&self, name: &ServiceName, id: ServiceId) -> Service {
        let mut services = self.services.lock();
        if let Some(service) = services.get(name) {
            return service.clone();
        }
        let (service, driver) = driver::service(name.clone(), id, Arc::clone(&self.context));
        services.insert(name.clone(), service.clone());
        if self.drivers.send(driver).is_err() {
            warn!(service = %name, "the supervisor's task has ended; the service will do nothing");
        }
        service
    }

    /// Stops services and forgets them; returns when no process of them lives.
    pub async fn remove(&self, names: &[ServiceName]) {
        let gone: Vec<Service> = {
            let mut services = self.services.lock();
            names.iter().filter_map(|name| services.remove(name)).collect()
        };
        join_all(gone.iter().map(Service::stop)).await;
    }

    /// Stops services; returns when no process of them lives, and how many were not stopped before.
    pub async fn stop(&self, services: &[Service]) -> usize {
        let ends = join_all(services.iter().map(Service::stop)).await;
        ends.into_iter().filter(|&was_up| was_up).count()
    }

    /// Rolls services over, in the order that [`Rollout`] decides. When `cancelled` becomes true,
    /// everything that is not switched goes back.
    ///
    /// Not cancel-safe: dropped on its way, what is prepared stays beside what runs.
    pub async fn roll_out(
        &self,
        plan: &RolloutPlan,
        mut cancelled: watch::Receiver<bool>,
        report: Reporter<'_>,
    ) -> RolloutEnd {
        let services: Vec<Service> =
            plan.turns.iter().map(|turn| self.add(&turn.spec.name, turn.id)).collect();
        let items: Vec<Item> =
            plan.turns.iter().zip(&services).map(|(turn, service)| item(turn, service)).collect();
        let mut rollout = Rollout::new(&items, plan.unity, self.limits);
        let mut builds: Vec<Option<Build>> = vec![None; items.len()];
        let mut links: Vec<Option<Link>> = vec![None; items.len()];
        let stops: Vec<Stops> = services.iter().map(Stops::of).collect();
        let mut failures: Vec<Option<Failure>> = vec![None; items.len()];
        let mut end = RolloutEnd::default();
        let mut under_way: FuturesUnordered<BoxFuture<'_, (usize, Happened)>> = FuturesUnordered::new();
        let give_up = watch::Sender::new(false);
        loop {
            for (index, service) in services.iter().enumerate() {
                // It can have died since it was ready: looked at as late as possible, and again before
                // each switch.
                if rollout.is_ready(index) && !service.state.borrow().next_is_ready {
                    rollout.on_event(index, Event::Lost);
                    report(service.name(), RolloutStep::Ready, StepReport::Begun);
                    under_way.push(Box::pin(async move {
                        (index, Happened::Prepared(service.ready_again().await))
                    }));
                }
            }
            for action in rollout.advance() {
                let index = match action {
                    Action::Build(index)
                    | Action::Start(index)
                    | Action::Switch(index)
                    | Action::GoBack(index)
                    | Action::StayUnbuilt(index) => index,
                };
                let (turn, service) = (&plan.turns[index], services[index].clone());
                let new_run = |build| Plan {
                    id: turn.id,
                    spec: turn.spec.clone(),
                    build,
                    revision: plan.revision.clone(),
                };
                match action {
                    Action::Build(_) => {
                        let wish = (service, stops[index], give_up.subscribe());
                        let build = self.build(turn, plan, wish, report);
                        under_way.push(Box::pin(async move { (index, Happened::Built(build.await)) }));
                    }
                    Action::Start(_) if Stops::of(&service) != stops[index] => {
                        under_way.push(Box::pin(async move { (index, Happened::Prepared(Prepared::Left)) }));
                    }
                    Action::Start(_) => {
                        if let Some(build) = &builds[index] {
                            links[index] = Link::move_to(build, &turn.spec).await;
                        }
                        serves_after_all(&service, index, &mut rollout);
                        let (run, stops) = (new_run(builds[index].clone()), stops[index].stops);
                        report(service.name(), RolloutStep::Start, StepReport::Begun);
                        under_way.push(Box::pin(async move {
                            let mut preparation = service.prepare_unless_stopped(run, stops).await;
                            preparation.spawned().await;
                            (index, Happened::Spawned(preparation))
                        }));
                    }
                    Action::StayUnbuilt(_) => {
                        let (run, stops) = (new_run(None), stops[index].stops);
                        // There is one: a build that failed is all that leads here.
                        if let Some(failure) = failures[index].take() {
                            under_way.push(Box::pin(async move {
                                service.stay_unbuilt(run, stops, failure).await;
                                (index, Happened::Settled)
                            }));
                        }
                    }
                    Action::Switch(_) => {
                        let pruned = self.clone();
                        let spec = turn.spec.clone();
                        let link = links[index].take();
                        under_way.push(Box::pin(async move {
                            let switched = switch(&service, report).await;
                            if let Some(link) = link.filter(|_| !switched) {
                                link.move_back(service.name()).await;
                            }
                            pruned.prune(&service, &spec).await;
                            (index, if switched { Happened::Switched } else { Happened::Settled })
                        }));
                    }
                    Action::GoBack(_) => {
                        give_up.send_replace(rollout.went_back());
                        let link = links[index].take();
                        let alone = !rollout.went_back();
                        under_way.push(Box::pin(async move {
                            go_back(&service, link, alone, report).await;
                            (index, Happened::Settled)
                        }));
                    }
                }
            }
            let next = tokio::select! {
                next = under_way.next() => next,
                () = becomes(&mut cancelled, |&cancelled| cancelled), if !rollout.has_ended() && !rollout.went_back() => {
                    rollout.cancel();
                    continue;
                }
            };
            let Some((index, happened)) = next else { break };
            let name = services[index].name();
            match happened {
                Happened::Built(Ok(build)) => {
                    builds[index] = build;
                    rollout.on_event(index, Event::Built);
                }
                Happened::Built(Err(_)) if Stops::of(&services[index]) != stops[index] => {
                    rollout.on_event(index, Event::Left);
                }
                Happened::Built(Err(error)) => {
                    serves_after_all(&services[index], index, &mut rollout);
                    rollout.on_event(index, Event::Failed);
                    // A build that was ended because another service failed is no reason of its own.
                    if !*give_up.borrow() {
                        end.failed.insert(name.clone(), with_causes(&error));
                        failures[index] = Some(error.into_failure());
                    }
                }
                Happened::Spawned(preparation) => {
                    report(name, RolloutStep::Start, StepReport::Done(None));
                    report(name, RolloutStep::Ready, StepReport::Begun);
                    rollout.on_event(index, Event::Spawned);
                    under_way.push(Box::pin(async move {
                        (index, Happened::Prepared(preparation.ended().await))
                    }));
                }
                Happened::Prepared(prepared) => {
                    let event = match prepared {
                        Prepared::Ready => {
                            report(name, RolloutStep::Ready, StepReport::Done(None));
                            Event::Ready
                        }
                        Prepared::Failed(reason) => {
                            report(name, RolloutStep::Ready, StepReport::Failed(reason.clone()));
                            end.failed.insert(name.clone(), reason);
                            Event::Failed
                        }
                        Prepared::Left => {
                            let why = stops[index].why_left(&services[index]).to_owned();
                            report(name, RolloutStep::Ready, StepReport::Failed(why));
                            if let Some(link) = links[index].take() {
                                under_way.push(Box::pin(async move {
                                    link.move_back(name).await;
                                    (index, Happened::Settled)
                                }));
                            }
                            Event::Left
                        }
                    };
                    rollout.on_event(index, event);
                }
                Happened::Switched => end.switched.push(name.clone()),
                Happened::Settled => {}
            }
        }
        end.gave_up = rollout.went_back();
        end
    }

    /// Starts what was stopped for runs that were abandoned; returns when that is ready or has
    /// failed to be.
    pub async fn revive(&self, names: impl IntoIterator<Item = ServiceName>) {
        let services: Vec<Service> = names.into_iter().filter_map(|name| self.service(&name)).collect();
        join_all(services.iter().map(|service| async move {
            if let Prepared::Failed(reason) = service.revive().await {
                warn!(service = %service.name(), reason, "the old run does not become ready again");
            }
        }))
        .await;
    }

    async fn build(
        &self,
        turn: &Turn,
        plan: &RolloutPlan,
        (service, stops, give_up): (Service, Stops, watch::Receiver<bool>),
        report: Reporter<'_>,
    ) -> Result<Option<Build>, BuildError> {
        let ServiceKind::App(spec) = &turn.spec.kind else { return Ok(None) };
        if spec.build.is_empty() {
            return Ok(None);
        }
        let name = &turn.spec.name;
        report(name, RolloutStep::Build, StepReport::Begun);
        let (wishes, wished) = watch::channel(Wish::GoOn);
        let build = self.context.build(&turn.spec, &plan.revision, plan.rebuild, wished);
        let built = tokio::select! {
            built = build => built,
            never = wish(&wishes, service.clone(), stops, give_up) => match never {},
        };
        match built {
            Ok(build) => {
                let detail = build.as_ref().map(|build| build.id().to_string());
                report(name, RolloutStep::Build, StepReport::Done(detail));
                Ok(build)
            }
            Err(error) => {
                let reason = match &error {
                    BuildError::Cancelled => stops.why_left(&service).to_owned(),
                    error => with_causes(error),
                };
                warn!(service = %name, reason, "there is no build");
                report(name, RolloutStep::Build, StepReport::Failed(reason));
                Err(error)
            }
        }
    }

    /// Removes builds that no run needs.
    async fn prune(&self, service: &Service, spec: &ServiceSpec) {
        let ServiceKind::App(app) = &spec.kind else { return };
        if !app.build.is_empty() {
            self.context.builder.prune(service.name(), &app.folder, &service.state().builds).await;
        }
    }
}

/// The new run of a service ends. In a rollout of services on their own the old one goes on at once.
async fn go_back(service: &Service, link: Option<Link>, alone: bool, report: Reporter<'_>) {
    let name = service.name();
    report(name, RolloutStep::GoBack, StepReport::Begun);
    service.abandon().await;
    if let Some(link) = link {
        link.move_back(name).await;
    }
    if alone && let Prepared::Failed(reason) = service.revive().await {
        warn!(service = %name, reason, "the old run does not become ready again");
    }
    report(name, RolloutStep::GoBack, StepReport::Done(None));
}

/// Wishes a build's end when its rollout is given up or its service is stopped, and its end at once
/// when the service is killed.
async fn wish(
    wishes: &watch::Sender<Wish>,
    mut service: Service,
    before: Stops,
    mut give_up: watch::Receiver<bool>,
) -> Infallible {
    loop {
        let now = Stops::of(&service);
        wishes.send_replace(if now.kills > before.kills {
            Wish::Kill
        } else if now.stops > before.stops || *give_up.borrow() {
            Wish::End
        } else {
            Wish::GoOn
        });
        let changed = tokio::select! {
            changed = service.state.changed() => changed,
            changed = give_up.changed() => changed,
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How often a service had been stopped when a rollout of it began: more says that it has left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stops {
    stops: u64,
    kills: u64,
}

impl Stops {
    fn of(service: &Service) -> Self {
        let state = service.state.borrow();
        Self { stops: state.stops, kills: state.kills }
    }

    /// Why a service has left the rollout that began with these.
    fn why_left(self, service: &Service) -> &'static str {
        if Self::of(service) == self { "the rollout was given up" } else { "it was stopped" }
    }
}

/// What a future of a rollout brings.
enum Happened {
    Built(Result<Option<Build>, BuildError>),
    Spawned(crate::Preparation),
    Prepared(Prepared),
    Switched,
    Settled,
}

fn item(turn: &Turn, service: &Service) -> Item {
    let state = service.state();
    let (overlaps, background, runs) = match &turn.spec.kind {
        ServiceKind::App(spec) => (spec.overlaps(), spec.background, spec.run.is_some()),
        ServiceKind::External(_) | ServiceKind::Files => (true, false, false),
    };
    Item {
        overlaps: overlaps || !runs || state.stopped,
        background,
        vital: state.is_new || state.ready > 0 || (state.wanted == 0 && !state.stopped),
    }
}

/// Looks again before a service fails the rollout or does not: it may have been restarting when the
/// rollout began.
fn serves_after_all(service: &Service, index: usize, rollout: &mut Rollout) {
    if service.state.borrow().ready > 0 {
        rollout.make_vital(index);
    }
}

/// Answers whether the new run has taken over.
async fn switch(service: &Service, report: Reporter<'_>) -> bool {
    let name = service.name();
    report(name, RolloutStep::Switch, StepReport::Begun);
    let mut switch = service.commit().await;
    let detail = match switch.switched().await {
        Switched::Ready => None,
        Switched::Partly { ready, wanted } => {
            Some(format!("{ready} of {wanted} instances are ready; the others are started again"))
        }
        Switched::Left => {
            report(name, RolloutStep::Switch, StepReport::Failed("it was stopped".to_owned()));
            return false;
        }
        Switched::DriverFailed => {
            report(name, RolloutStep::Switch, StepReport::Failed(DRIVER_FAILED.to_owned()));
            return false;
        }
    };
    report(name, RolloutStep::Switch, StepReport::Done(detail));
    report(name, RolloutStep::Drain, StepReport::Begun);
    switch.drained().await;
    report(name, RolloutStep::Drain, StepReport::Done(None));
    report(name, RolloutStep::Stop, StepReport::Begun);
    switch.stopped().await;
    report(name, RolloutStep::Stop, StepReport::Done(None));
    info!(service = %name, "the new run has taken over");
    true
}
