//! A supervisor among fakes, and a journal of everything that it did to them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::{OsStr, OsString},
    fmt::Debug,
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use pmesh_supervisor::{
    AppSpec, Balancer, CancelToken, Command, Expected, ExternalSpec, HealthReport, Launch, ListenAddress,
    LogFolder, LogLimits, Plan, ProcessTree, RevisionFacts, RolloutEnd, RolloutPlan, Service, ServiceId,
    ServiceKind, ServiceName, ServiceSpec, ServiceUpstream, Signal, SpawnError, Spawned, Spawner, StepName,
    StepState, Supervisor, SupervisorSettings, Survivor, Turn,
    rollout::Unity,
    testing::{FakeProber, FakeSpawner},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SEC: Duration = Duration::from_secs(1);
/// When an instance whose probes pass is ready: the first probe is so long after the start.
pub(crate) const READY: Duration = Duration::from_millis(10);

/// Nothing that a test waits for takes so long: it failed.
const NEVER: Duration = Duration::from_hours(24);

/// What the supervisor did. Processes are counted from 0 in the order of their start, as
/// [`FakeSpawner`] counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It started a process.
    Spawned(usize),
    /// It tried to start this program, which failed.
    NotSpawned(String),
    /// It signalled a process that runs.
    Signalled(usize, Signal),
    /// From now on these take the requests of a service.
    Serving(&'static str, Vec<usize>),
    /// A process left the balancer.
    Withdrawn(usize),
    /// A service is wanted no more, and nothing takes its requests.
    Gone(&'static str),
    /// It reported a step of a rollout that went well.
    Done(&'static str, StepName),
    /// It reported a step of a rollout that failed, and why.
    Failed(&'static str, StepName, String),
}

/// Everything that was seen, with the time since the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    began: Instant,
    entries: Arc<Mutex<Vec<(Duration, Seen)>>>,
    /// What must never be.
    wrongs: Arc<Mutex<Vec<String>>>,
    changes: watch::Sender<u64>,
}

impl Journal {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            entries: Arc::default(),
            wrongs: Arc::default(),
            changes: watch::Sender::new(0),
        }
    }

    fn note(&self, seen: Seen) {
        self.entries.lock().push((self.began.elapsed(), seen));
        self.changes.send_modify(|count| *count += 1);
    }
}

/// What requests are under way, and who takes new ones.
#[derive(Clone, Debug)]
struct Traffic {
    journal: Journal,
    spawner: FakeSpawner,
    serving: Arc<Mutex<BTreeMap<ServiceName, HashMap<u64, usize>>>>,
    /// The ports of external addresses that serve.
    external: Arc<Mutex<BTreeMap<ServiceName, Vec<u16>>>>,
    /// The processes of all upstreams there ever were.
    known: Arc<Mutex<HashMap<u64, usize>>>,
    under_way: watch::Sender<HashMap<usize, usize>>,
}

impl Traffic {
    fn process_at(&self, address: SocketAddr) -> usize {
        let launches = self.spawner.launches();
        let found = launches.iter().rposition(|launch| port(launch) == Some(address.port()));
        found.expect("an upstream's process was started")
    }

    fn serves(&self, process: usize) -> bool {
        self.serving.lock().values().any(|upstreams| upstreams.values().any(|&serving| serving == process))
    }
}

impl Balancer for Traffic {
    fn set_upstreams(&self, service: &ServiceName, upstreams: Vec<ServiceUpstream>, when_empty: Expected) {
        let (mut serving, mut external) = (HashMap::new(), Vec::new());
        for ServiceUpstream { id, address, .. } in upstreams {
            match address {
                ListenAddress::Instance(address) => drop(serving.insert(id, self.process_at(address))),
                ListenAddress::External(address) => external.push(address.port),
            }
        }
        self.external.lock().insert(service.clone(), external);
        self.known.lock().extend(&serving);
        let mut processes: Vec<usize> = serving.values().copied().collect();
        processes.sort_unstable();
        self.serving.lock().insert(service.clone(), serving);
        self.journal.note(match when_empty {
            Expected::Nothing => Seen::Gone(leak(service)),
            Expected::Back => Seen::Serving(leak(service), processes),
        });
    }

    fn withdraw(&self, service: &ServiceName, ids: &[u64]) -> BoxFuture<'static, ()> {
        let known = self.known.lock();
        // An instance that never took requests leaves too: there is nothing to write down then.
        let left: Vec<usize> = ids.iter().filter_map(|id| known.get(id).copied()).collect();
        if let Some(serving) = self.serving.lock().get_mut(service) {
            serving.retain(|id, _| !ids.contains(id));
        }
        for &process in &left {
            self.journal.note(Seen::Withdrawn(process));
        }
        let mut under_way = self.under_way.subscribe();
        Box::pin(async move {
            let idle = under_way.wait_for(|counts| left.iter().all(|process| !counts.contains_key(process)));
            drop(idle.await);
        })
    }
}

/// A name that a journal can hold without a lifetime. There are a handful of them in a test.
fn leak(name: &ServiceName) -> &'static str {
    name.to_string().leak()
}

/// A request that is under way to a process until it is dropped.
#[derive(Debug)]
pub(crate) struct RequestUnderWay {
    traffic: Traffic,
    process: usize,
}

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        self.traffic.under_way.send_modify(|counts| {
            let count = counts.get_mut(&self.process).expect("it was counted");
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.process);
            }
        });
    }
}

/// Writes down what is started and signalled, and lets the fake do it.
struct WatchedSpawner {
    spawner: FakeSpawner,
    traffic: Traffic,
    /// Programs of which one may run at a time.
    single: Arc<Mutex<HashSet<OsString>>>,
}

impl Spawner for WatchedSpawner {
    fn spawn(&self, launch: &Launch) -> Result<Spawned, SpawnError> {
        let journal = &self.traffic.journal;
        let launches = self.spawner.launches();
        if self.single.lock().contains(&launch.program)
            && self.spawner.running().iter().any(|&process| launches[process].program == launch.program)
        {
            journal.wrongs.lock().push(format!("a second {}", launch.program.display()));
        }
        match self.spawner.spawn(launch) {
            Ok(spawned) => {
                let process = self.spawner.launches().len() - 1;
                journal.note(Seen::Spawned(process));
                let tree = WatchedTree { tree: spawned.tree, process, traffic: self.traffic.clone() };
                Ok(Spawned::new(Box::new(tree), spawned.exit, spawned.output))
            }
            Err(error) => {
                journal.note(Seen::NotSpawned(launch.program.to_string_lossy().into_owned()));
                Err(error)
            }
        }
    }
}

struct WatchedTree {
    tree: Box<dyn ProcessTree>,
    process: usize,
    traffic: Traffic,
}

impl ProcessTree for WatchedTree {
    fn leader(&self) -> u32 {
        self.tree.leader()
    }

    fn pids(&self) -> Vec<u32> {
        self.tree.pids()
    }

    fn signal(&self, signal: Signal) {
        let journal = &self.traffic.journal;
        if self.traffic.serves(self.process) {
            journal.wrongs.lock().push(format!("{signal:?} to {}, which takes requests", self.process));
        }
        if !self.tree.pids().is_empty() {
            journal.note(Seen::Signalled(self.process, signal));
        }
        self.tree.signal(signal);
    }

    fn survivors(&self) -> Vec<Survivor> {
        self.tree.survivors()
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        self.tree.ended()
    }
}

/// A supervisor and its fakes. A test ends with [`World::end`], which checks that nothing is left.
pub(crate) struct World {
    pub(crate) spawner: FakeSpawner,
    pub(crate) prober: FakeProber,
    pub(crate) supervisor: Supervisor,
    folder: tempfile::TempDir,
    traffic: Traffic,
    journal: Journal,
    task: JoinHandle<()>,
    cancel: CancelToken,
    last_id: AtomicU64,
    single: Arc<Mutex<HashSet<OsString>>>,
    /// By how many seconds somebody has put the clock forward.
    pub(crate) clock_ahead: Arc<AtomicU64>,
}

/// What the clock shows when a world begins: 2026-11-27T12:00:00Z.
const NOON: Duration = Duration::from_hours(498_828);

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (spawner, prober) = (FakeSpawner::new(), FakeProber::new());
        let journal = Journal::new();
        let traffic = Traffic {
            journal: journal.clone(),
            spawner: spawner.clone(),
            serving: Arc::default(),
            external: Arc::default(),
            known: Arc::default(),
            under_way: watch::Sender::default(),
        };
        let clock_ahead = Arc::<AtomicU64>::default();
        let threads = pmesh_supervisor::testing::work_threads();
        let logs = LogFolder::open(&folder.path().join("logs"), LogLimits::default(), &threads).unwrap();
        let settings = SupervisorSettings::new(logs, threads).with(|settings| {
            // In a service's folder, as a project may have it.
            settings.state = Some(folder.path().join("web/state"));
            settings.env = BTreeMap::new();
            settings.limits.starts = 8;
            settings.limits.builds = 2;
            let (ahead, began) = (Arc::clone(&clock_ahead), Instant::now());
            settings.clock = Arc::new(move || {
                let ahead = Duration::from_secs(ahead.load(Ordering::Relaxed));
                SystemTime::UNIX_EPOCH + NOON + began.elapsed() + ahead
            });
        });
        let single: Arc<Mutex<HashSet<OsString>>> = Arc::default();
        let watched = WatchedSpawner {
            spawner: spawner.clone(),
            traffic: traffic.clone(),
            single: Arc::clone(&single),
        };
        let (supervisor, task) =
            Supervisor::new(settings, Arc::new(watched), Arc::new(prober.clone()), Arc::new(traffic.clone()));
        Self {
            spawner,
            prober,
            supervisor,
            folder,
            traffic,
            journal,
            task: tokio::spawn(task),
            cancel: CancelToken::new(),
            single,
            clock_ahead,
            last_id: AtomicU64::new(0),
        }
    }

    /// An app that runs the program of its own name.
    pub(crate) fn app(&self, name: &str) -> AppSpec {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        AppSpec::new(&service_name(name), folder).with(|app| app.run = Some(command(name)))
    }

    /// A second process of this program is wrong while one runs.
    pub(crate) fn never_two(&self, program: &str) {
        self.single.lock().insert(program.into());
    }

    /// An app without a port.
    pub(crate) fn background(&self, name: &str) -> AppSpec {
        self.app(name).with(|app| app.background = true)
    }

    /// Rolls services over, and writes the steps down.
    pub(crate) async fn roll_out(&self, unity: Unity, apps: &[(&'static str, &AppSpec)]) -> RolloutEnd {
        self.begin(unity, apps).await.unwrap()
    }

    /// The rollout of [`World::roll_out`], begun.
    pub(crate) fn begin(&self, unity: Unity, apps: &[(&'static str, &AppSpec)]) -> JoinHandle<RolloutEnd> {
        self.begin_and(unity, apps, |_, _, _| {})
    }

    /// A restart of a service that somebody stops when the start of its new run is reported.
    pub(crate) async fn restart_and_stop_at_its_start(&self, name: &str, app: &AppSpec) -> RolloutEnd {
        let stopped = self.service(name);
        let stop = move |_: &ServiceName, step, report: &StepState| {
            if (step, report) == (StepName::Start, &StepState::Running) {
                // Polled once, it has asked; the answer interests nobody.
                assert!(stopped.stop().now_or_never().is_none(), "a stop takes its time");
            }
        };
        self.begin_with(Unity::Each, [service(name, app)], stop).await.unwrap()
    }

    /// Starts a service of external addresses.
    pub(crate) async fn external(&self, name: &str, spec: &ExternalSpec) {
        let spec = ServiceSpec::new(service_name(name), ServiceKind::External(spec.clone()));
        self.begin_with(Unity::Regardless, [spec], |_, _, _| {}).await.unwrap();
    }

    /// The rollout of [`World::roll_out`], begun, with something that is done at each report.
    pub(crate) fn begin_and(
        &self,
        unity: Unity,
        apps: &[(&'static str, &AppSpec)],
        act: impl Fn(&ServiceName, StepName, &StepState) + Send + Sync + 'static,
    ) -> JoinHandle<RolloutEnd> {
        self.begin_with(unity, apps.iter().map(|&(name, app)| service(name, app)), act)
    }

    fn begin_with(
        &self,
        unity: Unity,
        specs: impl IntoIterator<Item = ServiceSpec>,
        act: impl Fn(&ServiceName, StepName, &StepState) + Send + Sync + 'static,
    ) -> JoinHandle<RolloutEnd> {
        let plan = RolloutPlan::new(
            specs.into_iter().map(|spec| Turn::new(self.new_id(), spec)).collect(),
            unity,
            RevisionFacts::default(),
        );
        let (supervisor, journal, cancel) =
            (self.supervisor.clone(), self.journal.clone(), self.cancel.clone());
        tokio::spawn(async move {
            let report = move |service: &ServiceName, step, report| {
                act(service, step, &report);
                match report {
                    StepState::Running => {}
                    StepState::Done(_) => journal.note(Seen::Done(leak(service), step)),
                    StepState::Failed(reason) => journal.note(Seen::Failed(leak(service), step, reason)),
                }
            };
            supervisor.roll_out(&plan, &cancel, &report).await
        })
    }

    /// A run of an app, for a service that is told itself what to do.
    pub(crate) fn plan(&self, name: &str, app: &AppSpec) -> Plan {
        Plan::new(self.new_id(), service(name, app), RevisionFacts::default())
    }

    fn new_id(&self) -> ServiceId {
        ServiceId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The server's start: all of them, whatever comes of it.
    pub(crate) async fn start(&self, apps: &[(&'static str, &AppSpec)]) -> RolloutEnd {
        self.roll_out(Unity::Regardless, apps).await
    }

    /// A start that has to succeed.
    pub(crate) async fn up(&self, apps: &[(&'static str, &AppSpec)]) {
        let end = self.start(apps).await;
        assert!(end.failed.is_empty(), "{:?}", end.failed);
    }

    /// Gives up every rollout that is under way.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    pub(crate) fn service(&self, name: &str) -> Service {
        self.supervisor.service(&service_name(name)).expect("the service is known")
    }

    pub(crate) fn health(&self, name: &str) -> HealthReport {
        self.service(name).state().health(Instant::now().into_std())
    }

    /// The id of a service's run.
    pub(crate) fn id(&self, name: &str) -> u64 {
        self.service(name).state().id.0
    }

    /// Which processes take the requests of a service.
    pub(crate) fn serving(&self, name: &str) -> Vec<usize> {
        let serving = self.traffic.serving.lock();
        let upstreams = serving.get(&service_name(name)).into_iter().flat_map(HashMap::values);
        let mut processes: Vec<usize> = upstreams.copied().collect();
        processes.sort_unstable();
        processes
    }

    /// Which external addresses take the requests of a service, by their ports.
    pub(crate) fn externals(&self, name: &str) -> Vec<u16> {
        self.traffic.external.lock()[&service_name(name)].clone()
    }

    /// What was started, by the programs' names.
    pub(crate) fn programs(&self) -> Vec<String> {
        let name = |launch: Launch| launch.program.into_string().unwrap();
        self.spawner.launches().into_iter().map(name).collect()
    }

    /// The port that a process was told to listen on.
    pub(crate) fn port(&self, process: usize) -> Option<u16> {
        port(&self.spawner.launches()[process])
    }

    /// A request comes to a process, and stays under way until it is dropped.
    pub(crate) fn request(&self, process: usize) -> RequestUnderWay {
        self.traffic.under_way.send_modify(|counts| *counts.entry(process).or_default() += 1);
        RequestUnderWay { traffic: self.traffic.clone(), process }
    }

    /// The time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.journal.began.elapsed()
    }

    /// How long ago it was `then`.
    pub(crate) fn since(&self, then: Duration) -> Duration {
        self.now().abs_diff(then)
    }

    /// Lets time pass, and everything happen that is due meanwhile.
    pub(crate) async fn pass(&self, time: Duration) {
        sleep(time).await;
    }

    /// Lets everything happen that needs no time (and takes a millisecond for it).
    pub(crate) async fn settle(&self) {
        self.pass(MS).await;
    }

    /// Waits until something is seen; answers when it was.
    pub(crate) async fn see(&self, seen: Seen) -> Duration {
        self.wait_for(|world| world.when(&seen), &seen).await
    }

    /// Waits until these take the requests of a service; answers when that is.
    pub(crate) async fn see_serving(&self, name: &str, processes: &[usize]) -> Duration {
        self.wait_for(|world| (world.serving(name) == processes).then(|| world.now()), &processes).await
    }

    async fn wait_for<T>(&self, mut look: impl FnMut(&Self) -> Option<T>, what: &(impl Debug + Sync)) -> T {
        let mut changes = self.journal.changes.subscribe();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let changed = timeout(NEVER, changes.changed()).await;
            assert!(changed.is_ok(), "{what:?} is not in {:#?}", self.journal());
        }
    }

    /// When something was first seen.
    pub(crate) fn when(&self, seen: &Seen) -> Option<Duration> {
        self.journal.entries.lock().iter().find(|(_, entry)| entry == seen).map(|&(at, _)| at)
    }

    /// Everything that was seen.
    pub(crate) fn journal(&self) -> Vec<(Duration, Seen)> {
        self.journal.entries.lock().clone()
    }

    /// What was seen and is of interest, in order, without the times.
    pub(crate) fn order(&self, is_of_interest: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        self.journal().into_iter().map(|(_, seen)| seen).filter(is_of_interest).collect()
    }

    /// When processes were started.
    pub(crate) fn starts(&self) -> Vec<Duration> {
        let entries = self.journal();
        entries.into_iter().filter(|(_, seen)| matches!(seen, Seen::Spawned(_))).map(|(at, _)| at).collect()
    }

    /// Ends the supervisor's own task, as the end of its runtime does; returns when it is gone.
    pub(crate) async fn abort(&self) {
        self.task.abort();
        self.settle().await;
        assert!(self.task.is_finished());
    }

    /// Drops the supervisor, waits for its end, and checks that nothing is left of it.
    pub(crate) async fn end(self) {
        self.end_with(&[]).await;
    }

    /// The same, where these processes outlive everything.
    pub(crate) async fn end_with(self, survivors: &[usize]) {
        drop(self.supervisor);
        let ended = timeout(NEVER, self.task).await;
        assert!(ended.is_ok(), "the supervisor does not end: {:#?}", self.journal.entries.lock());
        ended.unwrap().unwrap();
        assert_eq!(self.spawner.running(), survivors, "{:#?}", self.journal.entries.lock());
        assert_eq!(*self.journal.wrongs.lock(), Vec::<String>::new());
        let serving = self.traffic.serving.lock();
        assert!(serving.values().all(HashMap::is_empty), "{serving:?}");
    }
}

pub(crate) fn service_name(name: &str) -> ServiceName {
    name.parse().unwrap()
}

fn service(name: &str, app: &AppSpec) -> ServiceSpec {
    ServiceSpec::new(service_name(name), ServiceKind::App(Box::new(app.clone())))
}

pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

/// Why a service did not become ready in a rollout.
pub(crate) fn reason<'a>(end: &'a RolloutEnd, name: &str) -> &'a str {
    end.failed.get(&service_name(name)).map_or("it did", String::as_str)
}

fn port(launch: &Launch) -> Option<u16> {
    launch.env.get(OsStr::new("PORT"))?.to_str()?.parse().ok()
}
