//! All services of a node: who they are, and their rollouts.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    future::Future,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
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
    Balancer, Build, Builder, LogFolder, Plan, Ports, Prepared, Prober, Rebuild, RevisionFacts, Service,
    ServiceFacts, ServiceId, ServiceName, ServiceSpec, Spawner,
    driver::{self, Context},
    environment::command_environment,
    generation::Surroundings,
    rollout::{Action, Event, Item, Limits, Rollout, Unity},
    spec::ServiceKind,
};

/// What a supervisor is made from.
#[derive(Clone)]
pub struct SupervisorSettings {
    /// Where the services' output goes.
    pub logs: LogFolder,
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
    drivers: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
    builder: Builder,
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
    pub fn new(
        settings: SupervisorSettings,
        spawner: Arc<dyn Spawner>,
        prober: Arc<dyn Prober>,
        balancer: Arc<dyn Balancer>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        // Bounded by the number of services: each sends one future, once.
        let (drivers, inbox) = mpsc::unbounded_channel();
        let context = Context {
            spawner,
            prober,
            balancer,
            surroundings: Surroundings { env: settings.env, logs: settings.logs, ports: Ports::new() },
            last_upstream: AtomicU64::new(0),
        };
        let supervisor = Self {
            context: Arc::new(context),
            services: Arc::default(),
            drivers,
            builder: Builder::new(settings.limits.builds),
            limits: settings.limits,
        };
        (supervisor, drive(inbox))
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
        let (service, task) = driver::service(name.clone(), id, Arc::clone(&self.context));
        services.insert(name.clone(), service.clone());
        if self.drivers.send(Box::pin(task)).is_err() {
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
        let stops: Vec<u64> = services.iter().map(|service| service.state().stops).collect();
        let mut end = RolloutEnd::default();
        let mut under_way: FuturesUnordered<BoxFuture<'_, (usize, Happened)>> = FuturesUnordered::new();
        let give_up = watch::Sender::new(false);
        loop {
            for action in rollout.advance() {
                let index = match action {
                    Action::Build(index)
                    | Action::Start(index)
                    | Action::Switch(index)
                    | Action::GoBack(index) => index,
                };
                let (turn, service) = (&plan.turns[index], services[index].clone());
                match action {
                    Action::Build(_) => {
                        let build = self.build(turn, plan, give_up.subscribe(), report);
                        under_way.push(Box::pin(async move { (index, Happened::Built(build.await)) }));
                    }
                    Action::Start(_) if service.state().stops != stops[index] => {
                        under_way.push(Box::pin(async move { (index, Happened::Prepared(Prepared::Left)) }));
                    }
                    Action::Start(_) => {
                        if let Some(build) = &builds[index] {
                            links[index] = Link::move_to(build.clone(), turn).await;
                        }
                        let run = Plan {
                            id: turn.id,
                            spec: turn.spec.clone(),
                            build: builds[index].clone(),
                            revision: plan.revision.clone(),
                        };
                        report(service.name(), RolloutStep::Start, StepReport::Begun);
                        under_way.push(Box::pin(async move {
                            let mut preparation = service.prepare(run).await;
                            preparation.spawned().await;
                            (index, Happened::Spawned(preparation))
                        }));
                    }
                    Action::Switch(_) => {
                        end.switched.push(service.name().clone());
                        let pruned = self.clone();
                        let spec = turn.spec.clone();
                        under_way.push(Box::pin(async move {
                            switch(&service, report).await;
                            pruned.prune(&service, &spec).await;
                            (index, Happened::Switched)
                        }));
                    }
                    Action::GoBack(_) => {
                        give_up.send_replace(plan.unity != Unity::Each);
                        let link = links[index].take();
                        let alone = plan.unity == Unity::Each;
                        under_way.push(Box::pin(async move {
                            go_back(&service, link, alone, report).await;
                            (index, Happened::WentBack)
                        }));
                    }
                }
            }
            let next = tokio::select! {
                next = under_way.next() => next,
                () = becomes_true(&mut cancelled), if !rollout.has_ended() && !rollout.went_back() => {
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
                Happened::Built(Err(reason)) => {
                    rollout.on_event(index, Event::Failed);
                    // A build that was ended because another service failed is no reason of its own.
                    if !*give_up.borrow() {
                        end.failed.insert(name.clone(), reason);
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
                            report(name, RolloutStep::Ready, StepReport::Failed("it was stopped".to_owned()));
                            Event::Left
                        }
                    };
                    rollout.on_event(index, event);
                }
                Happened::Switched | Happened::WentBack => {}
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
        mut give_up: watch::Receiver<bool>,
        report: Reporter<'_>,
    ) -> Result<Option<Build>, String> {
        let ServiceKind::App(spec) = &turn.spec.kind else { return Ok(None) };
        if spec.build.is_empty() {
            return Ok(None);
        }
        let name = &turn.spec.name;
        report(name, RolloutStep::Build, StepReport::Begun);
        let surroundings = &self.context.surroundings;
        let log = surroundings.logs.log(&spec.log);
        let facts = ServiceFacts {
            service: name,
            commit: plan.revision.commit.as_deref(),
            branch: plan.revision.branch.as_deref(),
            root: &plan.revision.root,
            build: None,
        };
        let env = command_environment(&surroundings.env, spec, &facts);
        let cancel = async move { becomes_true(&mut give_up).await };
        let built =
            self.builder.build(name, spec, &env, plan.rebuild, &*self.context.spawner, &log, cancel).await;
        match built {
            Ok(build) => {
                let detail = build.as_ref().map(|build| build.id().to_string());
                report(name, RolloutStep::Build, StepReport::Done(detail));
                Ok(build)
            }
            Err(error) => {
                let reason = with_causes(&error);
                warn!(service = %name, reason, "the build failed");
                report(name, RolloutStep::Build, StepReport::Failed(reason.clone()));
                Err(reason)
            }
        }
    }

    /// Removes builds that no run needs.
    async fn prune(&self, service: &Service, spec: &ServiceSpec) {
        let ServiceKind::App(app) = &spec.kind else { return };
        if !app.build.is_empty() {
            self.builder.prune(service.name(), &app.folder, &service.state().builds).await;
        }
    }
}

/// Where the link `.run` of a service led before it was moved.
#[derive(Clone, Debug)]
struct Link {
    folder: PathBuf,
    before: Option<Build>,
}

impl Link {
    /// Moves the link of a service to its new build. Without the link the service runs all the same:
    /// a failure is for the log.
    async fn move_to(build: Build, turn: &Turn) -> Option<Self> {
        let ServiceKind::App(spec) = &turn.spec.kind else { return None };
        let folder = spec.folder.clone();
        let moved = tokio::task::spawn_blocking(move || {
            let link = Self { before: Build::active(&folder), folder };
            build.activate().map(|()| link)
        });
        match moved.await.expect("it does not panic") {
            Ok(link) => Some(link),
            Err(error) => {
                warn!(service = %turn.spec.name, reason = with_causes(&error), "the link .run stays behind");
                None
            }
        }
    }

    async fn move_back(self, service: &ServiceName) {
        let moved = tokio::task::spawn_blocking(move || match &self.before {
            Some(build) => build.activate(),
            None => Build::deactivate(&self.folder),
        });
        if let Err(error) = moved.await.expect("it does not panic") {
            warn!(%service, reason = with_causes(&error), "the link .run does not go back");
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

/// An error and its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What a future of a rollout brings.
enum Happened {
    Built(Result<Option<Build>, String>),
    Spawned(crate::Preparation),
    Prepared(Prepared),
    Switched,
    WentBack,
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
        vital: state.is_new || state.healthy > 0 || (state.wanted == 0 && !state.stopped),
    }
}

async fn switch(service: &Service, report: Reporter<'_>) {
    let name = service.name();
    report(name, RolloutStep::Switch, StepReport::Begun);
    let mut switch = service.commit().await;
    switch.switched().await;
    report(name, RolloutStep::Switch, StepReport::Done(None));
    report(name, RolloutStep::Drain, StepReport::Begun);
    switch.drained().await;
    report(name, RolloutStep::Drain, StepReport::Done(None));
    report(name, RolloutStep::Stop, StepReport::Begun);
    switch.stopped().await;
    report(name, RolloutStep::Stop, StepReport::Done(None));
    info!(service = %name, "the new run has taken over");
}

/// Resolves when the value is true; never if its sender is gone before. Cancel-safe.
async fn becomes_true(value: &mut watch::Receiver<bool>) {
    let is_true = value.wait_for(|&value| value).await.is_ok();
    if !is_true {
        std::future::pending::<()>().await;
    }
}

/// Runs the drivers of all services.
async fn drive(mut inbox: mpsc::UnboundedReceiver<BoxFuture<'static, ()>>) {
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            task = inbox.recv() => match task {
                Some(task) => drop(tasks.spawn(task)),
                None => break,
            },
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => report_panic(ended),
        }
    }
    while let Some(ended) = tasks.join_next().await {
        report_panic(ended);
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the driver of a service ended early");
    }
}
