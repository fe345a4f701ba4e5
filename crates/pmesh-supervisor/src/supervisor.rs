//! All services of a node: who they are, and their rollouts.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    future::Future,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU32},
    time::SystemTime,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, warn};

use crate::{
    Balancer, Builder, BuildsUnderWay, CancelToken, Executor, LogFolder, NetProber, NoBalancer, OsSpawner,
    Ports, Prober, Rebuild, Remade, RevisionFacts, RolloutEnd, RolloutPlan, Service, ServiceId, ServiceKind,
    ServiceName, ServiceSpec, Spawner, StepName, StepState, StopEnd, Turn,
    context::{Context, InstanceContext},
    drivers::run_drivers,
    executor::revive,
    job::WallClock,
    lack::Lack,
    precedence::Precedence,
    releases::Releases,
    rollout::{Instruction, Rollout, RolloutLimits, Unity},
    service_driver::{self, ServiceDriver},
    spans::service_span,
    work_threads::WorkThreads,
};

/// What a supervisor is made from.
#[derive(Clone)]
#[non_exhaustive]
pub struct SupervisorSettings {
    /// Where the services' output goes.
    pub logs: LogFolder,
    /// Threads for what may block.
    pub threads: WorkThreads,
    /// The server's own folder, absolute and without links, if it has one: what is in it is content of
    /// no build.
    pub state: Option<PathBuf>,
    /// The environment that services get a part of: as a rule the server's own.
    pub env: BTreeMap<OsString, OsString>,
    /// How many services build and start at a time.
    pub limits: RolloutLimits,
    /// What the time of day is, for jobs.
    pub clock: WallClock,
}

impl SupervisorSettings {
    /// The same with something changed: `settings.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl SupervisorSettings {
    /// Output into `logs`, what this process has in its environment, the limits of this machine's cores, and no
    /// folder of the server's own.
    pub fn new(logs: LogFolder, threads: WorkThreads) -> Self {
        Self {
            logs,
            threads,
            state: None,
            env: std::env::vars_os().collect(),
            limits: RolloutLimits::default(),
            clock: Arc::new(SystemTime::now),
        }
    }
}

/// Owns the services of a node; clones control the same ones.
#[derive(Clone)]
pub struct Supervisor {
    context: Arc<Context>,
    services: Arc<Mutex<Services>>,
    drivers: mpsc::UnboundedSender<ServiceDriver>,
    limits: RolloutLimits,
}

/// The services of a supervisor.
#[derive(Default)]
struct Services {
    named: BTreeMap<ServiceName, Service>,
    /// Those of them that were removed.
    leaving: BTreeSet<ServiceName>,
    /// Whether the server is about to end: one that comes now is told so too.
    is_ending: bool,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("services", &self.services.lock().named.keys())
            .finish_non_exhaustive()
    }
}

/// Who learns of the steps of a rollout.
pub type Reporter<'a> = &'a (dyn Fn(&ServiceName, StepName, StepState) + Send + Sync);

impl Supervisor {
    /// Returns the supervisor and the task that owns all its services. The caller spawns the task;
    /// it ends when the last clone of the supervisor has been dropped and every service has ended.
    /// Dropped or aborted before, it kills every process of theirs, without their grace.
    #[must_use = "the task is the supervisor's life"]
    pub fn new(
        settings: SupervisorSettings,
        spawner: Arc<dyn Spawner>,
        prober: Arc<dyn Prober>,
        balancer: Arc<dyn Balancer>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        // Bounded by the number of services: each sends one driver, once.
        let (drivers, inbox) = mpsc::unbounded_channel();
        let builder = Builder::new(settings.limits.builds, settings.threads.clone());
        let state = settings.state;
        let context = Context {
            spawner,
            prober,
            balancer,
            builder: match &state {
                Some(state) => builder.with_state(state.clone()),
                None => builder,
            },
            surroundings: InstanceContext { env: settings.env, logs: settings.logs, ports: Ports::new() },
            last_block: AtomicU32::new(0),
            lack: Lack::default(),
            restarts: Mutex::default(),
            releases: Releases::new(state.as_deref(), settings.threads.files.clone()),
            clock: settings.clock,
            threads: settings.threads,
            states: Mutex::default(),
        };
        let supervisor =
            Self { context: Arc::new(context), services: Arc::default(), drivers, limits: settings.limits };
        (supervisor, run_drivers(inbox))
    }

    /// As [`new`](Self::new), with processes of this machine, probes over its network, and nobody who balances.
    #[must_use = "the task is the supervisor's life"]
    pub fn on_this_machine(settings: SupervisorSettings) -> (Self, impl Future<Output = ()> + Send) {
        let spawner = OsSpawner::new(settings.threads.proc.clone());
        let prober = NetProber::new(&settings.threads);
        Self::new(settings, Arc::new(spawner), Arc::new(prober), Arc::new(NoBalancer))
    }

    /// Keeps one service running, in the place of one of the same name. Returns its handle when it is ready or
    /// has failed to be; from then on it is tried again whenever it ends.
    ///
    /// Not cancel-safe: dropped on its way, what is prepared stays beside what runs.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path().to_owned();
    /// use pmesh_supervisor::{
    ///     Command, LogFolder, LogLimits, ServiceSpec, Supervisor, SupervisorSettings, WorkThreads,
    /// };
    ///
    /// let threads = WorkThreads::start()?;
    /// let logs = LogFolder::open(&folder, LogLimits::default(), &threads)?;
    /// let (supervisor, task) = Supervisor::on_this_machine(SupervisorSettings::new(logs, threads));
    /// tokio::spawn(task);
    /// let sleep = Command::new("sleep").arguments(["60"]);
    /// let service = supervisor.run_one(ServiceSpec::background("job".parse()?, folder, sleep)).await;
    /// assert_eq!(service.state().health(std::time::Instant::now()).healthy, 1);
    /// service.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_one(&self, spec: ServiceSpec) -> Service {
        let id = self.services.lock().named.values().map(|service| service.state().id.0).max().unwrap_or(0);
        let root = match &spec.kind {
            ServiceKind::App(app) => app.folder.clone(),
            ServiceKind::External(_) | ServiceKind::Files => PathBuf::new(),
        };
        let id = ServiceId(id + 1);
        let service = self.add(&spec.name, id);
        let plan = RolloutPlan {
            turns: vec![Turn { id, spec }],
            unity: Unity::Regardless,
            rebuild: Rebuild::Changed,
            revision: RevisionFacts { root, ..RevisionFacts::default() },
        };
        self.roll_out(&plan, &CancelToken::new(), &|_, _, _| {}).await;
        service
    }

    /// The service of this name.
    pub fn service(&self, name: &ServiceName) -> Option<Service> {
        self.services.lock().named.get(name).cloned()
    }

    /// Where the output of all services goes.
    pub fn logs(&self) -> &LogFolder {
        &self.context.surroundings.logs
    }

    /// The builds under way, and from now on which of their steps runs.
    pub fn builds(&self) -> watch::Receiver<BuildsUnderWay> {
        self.context.builder.under_way()
    }

    /// All services, by name.
    pub fn services(&self) -> Vec<Service> {
        self.services.lock().named.values().cloned().collect()
    }

    /// The service of this name; if there is none a new one, which counts as starting, with the id that
    /// it has until its first run.
    pub fn add(&self, name: &ServiceName, id: ServiceId) -> Service {
        let mut services = self.services.lock();
        services.leaving.remove(name);
        if let Some(service) = services.named.get(name) {
            return service.clone();
        }
        let (service, mut driver) = service_driver::service(name.clone(), id, Arc::clone(&self.context));
        if services.is_ending {
            driver.begin_end();
        }
        services.named.insert(name.clone(), service.clone());
        self.context.states.lock().insert(name.clone(), service.states());
        if self.drivers.send(driver).is_err() {
            let warn = || warn!("the supervisor's task has ended; the service will do nothing");
            service_span(name).in_scope(warn);
        }
        service
    }

    /// Nothing is started or built any more, also of services that are added later: the server is about to end. What runs
    /// goes on until it is [stopped](Self::stop). Returns when that is asked for.
    pub async fn begin_end(&self) {
        let services: Vec<Service> = {
            let mut services = self.services.lock();
            services.is_ending = true;
            services.named.values().cloned().collect()
        };
        join_all(services.iter().map(Service::begin_end)).await;
    }

    /// Stops services and forgets them; returns as [`stop`](Self::stop). One of which something has outlived SIGKILL stays
    /// among the others and tells of it, until [`forget_gone`](Self::forget_gone) comes after its end.
    pub async fn remove(&self, names: &[ServiceName]) -> BTreeMap<ServiceName, StopEnd> {
        let removed: Vec<Service> = names.iter().filter_map(|name| self.service(name)).collect();
        let ends = self.stop(&removed).await;
        self.services.lock().leaving.extend(ends.keys().cloned());
        self.forget_gone();
        ends
    }

    /// Forgets the [removed](Self::remove) services of which nothing lives any more; whether there was one.
    pub fn forget_gone(&self) -> bool {
        let mut services = self.services.lock();
        let Services { named, leaving, .. } = &mut *services;
        let before = leaving.len();
        leaving.retain(|name| {
            let lives = named.get(name).is_some_and(|service| service.state().failure.is_some());
            if !lives {
                named.remove(name);
                self.context.states.lock().remove(name);
            }
            lives
        });
        leaving.len() < before
    }

    /// Stops services, side by side, but for those that others of them [start after](crate::AppSpec::after), which stop when
    /// these have; returns how that has ended for each, when no process of them lives, or what lives has outlived
    /// SIGKILL.
    pub async fn stop(&self, services: &[Service]) -> BTreeMap<ServiceName, StopEnd> {
        let place = |name: &ServiceName| services.iter().position(|service| service.name() == name);
        let after = services.iter().map(|service| service.state().after.iter().filter_map(place).collect());
        let precedence = Precedence::new(after.collect());
        let stopped: Vec<CancelToken> = services.iter().map(|_| CancelToken::new()).collect();
        let ends = services.iter().enumerate().map(async |(place, service)| {
            for behind in precedence.behind(place) {
                stopped[behind].cancelled().await;
            }
            let end = service.stop().await;
            stopped[place].cancel();
            (service.name().clone(), end)
        });
        join_all(ends).await.into_iter().collect()
    }

    /// A rollout as a value, and what carries its acts out, for a caller who has acts of its own among them;
    /// see [`roll_out`](Self::roll_out). Services that there are not yet are added.
    pub fn begin(&self, plan: &RolloutPlan) -> (Rollout, Executor) {
        let services = plan.turns.iter().map(|turn| self.add(&turn.spec.name, turn.id)).collect();
        let executor = Executor::new(Arc::clone(&self.context), plan, services);
        let mut rollout = Rollout::new(&executor.items(), plan.unity, self.limits);
        executor.show(&mut rollout);
        (rollout, executor)
    }

    /// Rolls services over, in the order that [`Rollout`] decides. When `cancel` says so, everything that
    /// is not switched goes back.
    ///
    /// Not cancel-safe: dropped on its way, what is prepared stays beside what runs.
    pub async fn roll_out(
        &self,
        plan: &RolloutPlan,
        cancel: &CancelToken,
        report: Reporter<'_>,
    ) -> RolloutEnd {
        let (mut rollout, mut executor) = self.begin(plan);
        let mut is_cancelled = false;
        while let Some(next) = rollout.advance() {
            match next {
                Instruction::Do(act) => executor.begin(act),
                Instruction::Tell(index, step, state) => report(executor.name(index), step, state),
                Instruction::Wait => tokio::select! {
                    Some((act, end)) = executor.ended() => {
                        executor.show(&mut rollout);
                        rollout.on_end(act, end);
                    }
                    () = cancel.cancelled(), if !is_cancelled => {
                        is_cancelled = true;
                        rollout.cancel();
                    }
                },
            }
        }
        executor.end(&rollout)
    }

    /// The services whose folders do not hold any more what they were built from in place, by their names: another build
    /// has been made there. Instances of theirs that end are not started again before they were
    /// [made again](Self::remake).
    pub async fn lacking(&self) -> Vec<ServiceName> {
        let lacks = async |service: Service| {
            let lacks = self.context.lacks_product(&service).await;
            lacks.then(|| service.name().clone())
        };
        join_all(self.services().into_iter().map(lacks)).await.into_iter().flatten().collect()
    }

    /// Builds again what a service was built from in place, from the files that are there. Where that fails it is tried again after
    /// some time, and then after growing pauses.
    ///
    /// Cancel-safe: dropped, the build goes on.
    pub async fn remake(&self, name: &ServiceName) -> Remade {
        match self.service(name) {
            Some(service) => service.remake(None).instrument(service_span(name)).await,
            None => Remade::Left,
        }
    }

    /// Starts what was stopped for runs that were abandoned, and builds it again before where its folder does not hold its
    /// build any more; returns when it is ready or has failed to be.
    pub async fn revive(&self, names: impl IntoIterator<Item = ServiceName>) {
        let services: Vec<Service> = names.into_iter().filter_map(|name| self.service(&name)).collect();
        let revive = async |service: &Service| {
            if !service.state().lacks_product {
                self.context.make_whole(service).await;
            }
            revive(service).await;
        };
        join_all(services.iter().map(|service| revive(service).instrument(service_span(service.name()))))
            .await;
    }
}
