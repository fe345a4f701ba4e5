//! A handle to one supervised service, and what it publishes of itself.

use std::{fmt, net::SocketAddr, sync::Arc, time::Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Build, BuildId, ExternalAddress, HealthReport, JobRun, Plan, ProcessTree, RunBegun, RunEnd,
    ServiceFailure, ServiceId, ServiceName, StopEnd, unbuilt::Missing,
};

/// How the preparation of a new run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prepared {
    /// All its instances are ready; of external addresses one is healthy or all have been probed.
    Ready,
    /// Not all of them are, and why. They go on trying until the run is abandoned.
    Failed(String),
    /// The service was stopped meanwhile.
    Left,
}

/// What has come of making a build again that was made in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remade {
    /// It is there again, in this build.
    Made(Option<BuildId>),
    /// It is not, and why. Nothing is started from it; it is tried again after a while.
    Failed(String),
    /// The service was stopped meanwhile, or nothing of it needs a build.
    Left,
}

/// Why something that was asked of a service has not come about, where the reason is its driver.
pub(crate) const DRIVER_FAILED: &str =
    "pmesh has failed in looking after it, and the server's log says where; try again";

impl Prepared {
    /// The driver of the service has gone without an answer.
    fn failed() -> Self {
        Self::Failed(DRIVER_FAILED.to_owned())
    }
}

/// The two moments of a preparation.
#[derive(Debug)]
pub struct Preparation {
    pub(crate) spawned: oneshot::Receiver<()>,
    pub(crate) ended: oneshot::Receiver<Prepared>,
}

impl Preparation {
    /// Resolves when all instances have been spawned for the first time, or when that will not
    /// come about any more. Cancel-safe.
    pub async fn spawned(&mut self) {
        // An error is the driver's way of saying that it will not come: `ended` says why.
        drop((&mut self.spawned).await);
    }

    /// How the preparation ended.
    pub async fn ended(self) -> Prepared {
        self.ended.await.unwrap_or_else(|_| Prepared::failed())
    }
}

/// What has taken over in a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Switched {
    /// The new run, all of it ready.
    Ready,
    /// The new run, of which this is ready. The others go on trying, and where none is ready requests
    /// wait.
    Partly {
        /// How many instances are ready.
        ready: u32,
        /// How many are wanted.
        wanted: u32,
    },
    /// Nothing: the service was stopped meanwhile.
    Left,
    /// Nothing: whoever looks after the service failed.
    DriverFailed,
}

/// The three moments of a switch.
#[derive(Debug)]
pub struct Switch {
    pub(crate) switched: oneshot::Receiver<Switched>,
    pub(crate) drained: oneshot::Receiver<()>,
    pub(crate) stopped: oneshot::Receiver<RunEnd>,
}

impl Switch {
    /// Resolves when the new run takes all new requests, or when it will not. Cancel-safe.
    pub async fn switched(&mut self) -> Switched {
        (&mut self.switched).await.unwrap_or(Switched::DriverFailed)
    }

    /// Resolves when nothing is under way to the old instances any more. Cancel-safe.
    pub async fn drained(&mut self) {
        drop((&mut self.drained).await);
    }

    /// Resolves when no process of the old instances lives, or what lives has outlived SIGKILL.
    pub async fn stopped(self) -> RunEnd {
        self.stopped.await.unwrap_or_default()
    }
}

/// What is asked of a driver.
#[derive(Debug)]
pub(crate) enum ServiceRequest {
    Prepare {
        plan: Box<Plan>,
        /// How often the service had been stopped when it was decided to prepare this.
        stops: u64,
        spawned: oneshot::Sender<()>,
        ended: oneshot::Sender<Prepared>,
    },
    StayUnbuilt {
        plan: Box<Plan>,
        stops: u64,
        missing: Missing,
        failure: ServiceFailure,
        done: oneshot::Sender<()>,
    },
    AwaitReady {
        ended: oneshot::Sender<Prepared>,
    },
    LookAgain {
        ended: oneshot::Sender<Prepared>,
    },
    Switch {
        switched: oneshot::Sender<Switched>,
    },
    Commit {
        switched: oneshot::Sender<Switched>,
        drained: oneshot::Sender<()>,
        stopped: oneshot::Sender<RunEnd>,
    },
    Abandon {
        done: oneshot::Sender<RunEnd>,
    },
    Revive {
        ended: oneshot::Sender<Prepared>,
    },
    Stop {
        done: oneshot::Sender<StopEnd>,
    },
    RunNow {
        begun: oneshot::Sender<RunBegun>,
    },
    Kill,
    Hold {
        done: oneshot::Sender<()>,
    },
    Release,
    HoldProduct {
        done: oneshot::Sender<()>,
    },
    ProductIsWhole,
    Remake {
        failure: Option<ServiceFailure>,
        ended: oneshot::Sender<Remade>,
    },
    EndBegins,
    #[cfg(feature = "testing")]
    Fail {
        fault: crate::testing::Fault,
        done: oneshot::Sender<()>,
    },
}

/// A handle to one supervised service; clones control the same service.
///
/// Dropping the last handle stops the service, with its grace period.
#[derive(Clone, Debug)]
pub struct Service {
    pub(crate) name: ServiceName,
    pub(crate) requests: mpsc::Sender<ServiceRequest>,
    pub(crate) state: watch::Receiver<ServiceState>,
}

impl Service {
    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// What it published last. Never waits for a change in progress.
    pub fn state(&self) -> ServiceState {
        self.state.borrow().clone()
    }

    /// What it publishes from now on, for who follows many services.
    pub fn states(&self) -> watch::Receiver<ServiceState> {
        self.state.clone()
    }

    /// Resolves when something has been published that is not as before, or the service is gone.
    /// Cancel-safe.
    pub async fn changed(&mut self) {
        drop(self.state.changed().await);
    }

    /// Starts a new run beside the present one, or in its place where the two may not overlap or
    /// nothing of the present one is ready. The new instances take no traffic from those that have
    /// it before [`commit`](Self::commit).
    ///
    /// Must be followed by `commit` or [`abandon`](Self::abandon). A stop that is under way wins: the
    /// preparation ends as [`Prepared::Left`] then, and nothing starts.
    pub async fn prepare(&self, plan: Plan) -> Preparation {
        let stops = self.state.borrow().stops;
        self.prepare_unless_stopped(plan, stops).await
    }

    /// Prepares, unless the service was stopped since it had been `stops` times.
    pub(crate) async fn prepare_unless_stopped(&self, plan: Plan, stops: u64) -> Preparation {
        let (spawned, spawned_rx) = oneshot::channel();
        let (ended, ended_rx) = oneshot::channel();
        self.ask(ServiceRequest::Prepare { plan: Box::new(plan), stops, spawned, ended }).await;
        Preparation { spawned: spawned_rx, ended: ended_rx }
    }

    /// A run that lacks what it needs to start is the service from now on, unless the one before it serves or
    /// the service was stopped since it had been `stops` times. It is built, released and started as soon as that
    /// succeeds.
    pub(crate) async fn stay_unbuilt(
        &self,
        plan: Plan,
        stops: u64,
        missing: Missing,
        failure: ServiceFailure,
    ) {
        let (done, ended) = oneshot::channel();
        let plan = Box::new(plan);
        self.ask(ServiceRequest::StayUnbuilt { plan, stops, missing, failure, done }).await;
        drop(ended.await);
    }

    /// Waits for the prepared run as [`Preparation::ended`] does, once more: it was ready, and is not any
    /// longer.
    pub(crate) async fn ready_again(&self) -> Prepared {
        let (ended, end) = oneshot::channel();
        self.ask(ServiceRequest::AwaitReady { ended }).await;
        end.await.unwrap_or_else(|_| Prepared::failed())
    }

    /// Looks once more at every instance of the new run, prepared or in force already: one that has died or
    /// fails its probe is [`Prepared::Failed`].
    pub(crate) async fn look_again(&self) -> Prepared {
        let (ended, end) = oneshot::channel();
        self.ask(ServiceRequest::LookAgain { ended }).await;
        end.await.unwrap_or_else(|_| Prepared::failed())
    }

    /// The prepared run takes all new requests. The old one goes on running beside it until
    /// [`commit`](Self::commit), or takes them again after [`abandon`](Self::abandon).
    pub(crate) async fn switch(&self) -> Switched {
        let (switched, end) = oneshot::channel();
        self.ask(ServiceRequest::Switch { switched }).await;
        end.await.unwrap_or(Switched::DriverFailed)
    }

    /// The prepared run, ready or not, is the service from now on; the old one drains and stops. An
    /// instance that ended after it was ready is no reason to refuse: in a rollout others may have been
    /// switched by then, and a moment later nothing could be refused any more. It is started again as
    /// after any other end, and [`Switch::switched`] tells.
    pub async fn commit(&self) -> Switch {
        let (switched, switched_rx) = oneshot::channel();
        let (drained, drained_rx) = oneshot::channel();
        let (stopped, stopped_rx) = oneshot::channel();
        self.ask(ServiceRequest::Commit { switched, drained, stopped }).await;
        Switch { switched: switched_rx, drained: drained_rx, stopped: stopped_rx }
    }

    /// The prepared run ends; returns when no process of it lives, or what lives has outlived SIGKILL. What runs
    /// beside it goes on; what was stopped for it is started by [`revive`](Self::revive).
    pub async fn abandon(&self) -> RunEnd {
        let (done, ended) = oneshot::channel();
        self.ask(ServiceRequest::Abandon { done }).await;
        ended.await.unwrap_or_default()
    }

    /// Starts the run again that was stopped for an abandoned one, from its own plan; returns when
    /// it is ready or has failed to be. At once if none was stopped.
    pub async fn revive(&self) -> Prepared {
        let (ended, end) = oneshot::channel();
        self.ask(ServiceRequest::Revive { ended }).await;
        end.await.unwrap_or_else(|_| Prepared::failed())
    }

    /// Stops the service, whatever it was at; returns when no process of it lives and its output is in
    /// its log (which is waited for up to 1 s). A build that a rollout makes for it is asked to end. A process that
    /// SIGKILL has not ended in 5 s is waited for no longer: [`StopEnd`] names it, and so does the service's state
    /// until it is gone.
    ///
    /// Cancel-safe: dropped before the request is queued, nothing happens; after, the stop goes on.
    pub async fn stop(&self) -> StopEnd {
        let (done, ended) = oneshot::channel();
        self.ask(ServiceRequest::Stop { done }).await;
        ended.await.unwrap_or_default()
    }

    /// Starts a run of a job now, or once more one that has ended by itself. Does not wait for its end.
    ///
    /// Cancel-safe: dropped before the request is queued, nothing happens; after, the run goes on.
    pub async fn run_now(&self) -> RunBegun {
        let (begun, answer) = oneshot::channel();
        self.ask(ServiceRequest::RunNow { begun }).await;
        answer.await.unwrap_or(RunBegun::Nothing)
    }

    /// Stops the service without grace: every process of it is killed, also those of a build for it and
    /// of its shutdown commands. Returns when that is asked for; [`stop`](Self::stop) behind it returns
    /// when the service has none left.
    pub async fn kill(&self) {
        self.ask(ServiceRequest::Kill).await;
    }

    /// No instance is started and no build tried again before [`release`](Self::release), except by a
    /// rollout and from a build of its own: the files in the work tree are about to become another
    /// revision's. Returns when that is so, and a try to build that was under way has ended.
    pub async fn hold(&self) {
        let (done, held) = oneshot::channel();
        self.ask(ServiceRequest::Hold { done }).await;
        drop(held.await);
    }

    /// Ends [`hold`](Self::hold).
    pub async fn release(&self) {
        self.ask(ServiceRequest::Release).await;
    }

    /// No instance that needs what its build has made in the service's folder is started before
    /// [`product_is_whole`](Self::product_is_whole): somebody is about to build there. Returns when that is so, and a try to
    /// build it again has ended.
    pub(crate) async fn hold_product(&self) {
        let (done, held) = oneshot::channel();
        self.ask(ServiceRequest::HoldProduct { done }).await;
        drop(held.await);
    }

    /// The folder holds what the build of its run has made there: instances may be started again.
    pub(crate) async fn product_is_whole(&self) {
        self.ask(ServiceRequest::ProductIsWhole).await;
    }

    /// Builds again what its run was built from, in its folder; nothing is started from it before. Where that has just
    /// failed, it is tried after a while; as often as it fails.
    pub(crate) async fn remake(&self, failure: Option<ServiceFailure>) -> Remade {
        let (ended, end) = oneshot::channel();
        self.ask(ServiceRequest::Remake { failure, ended }).await;
        end.await.unwrap_or_else(|_| Remade::Failed(DRIVER_FAILED.to_owned()))
    }

    /// Nothing is started or built any more, whatever ends: the server is about to. What runs goes on until it is
    /// [stopped](Self::stop). Returns when that is asked for.
    pub(crate) async fn begin_end(&self) {
        self.ask(ServiceRequest::EndBegins).await;
    }

    /// Puts a fault into whoever looks after the service; returns when it is there.
    #[cfg(feature = "testing")]
    pub async fn fail(&self, fault: crate::testing::Fault) {
        let (done, is_done) = oneshot::channel();
        self.ask(ServiceRequest::Fail { fault, done }).await;
        drop(is_done.await);
    }

    async fn ask(&self, request: ServiceRequest) {
        // The driver ends after the last handle, or with the supervisor's own task: that is the error, and
        // whoever waits for an answer gets the end of its channel.
        drop(self.requests.send(request).await);
    }
}

/// What a service publishes of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four facts of a service that have nothing to do with each other"
)]
#[non_exhaustive]
pub struct ServiceState {
    /// The id of the run.
    pub id: ServiceId,
    /// Whether it was stopped on request.
    pub stopped: bool,
    /// Whether no run of it has ever been in force, ready or not, and it was never stopped.
    pub is_new: bool,
    /// How often it was stopped on request.
    pub stops: u64,
    /// How often it was killed on request.
    pub kills: u64,
    /// How many instances or addresses are wanted.
    pub wanted: u32,
    /// How many of them have become ready and live, or are addresses that have been healthy: they take
    /// traffic, healthy or not, where nothing better is there.
    pub ready: u32,
    /// How many of them are healthy: ready, and their probes pass.
    pub healthy: u32,
    /// Whether all instances of the run that is prepared are ready, or its addresses have been probed.
    pub next_is_ready: bool,
    /// Whether what its instances were started from is to be built again before any other is started.
    pub lacks_product: bool,
    /// The build that has to be whole before another instance may be started: of the run that it is or
    /// goes back to. None where that needs nothing but the product's own folder.
    pub relies_on: Option<Build>,
    /// What is to be told of the instances of the run that is prepared, though they are ready.
    pub next_remark: Option<String>,
    /// The newest failure of an instance or address that is not healthy; of a stopped service that a process of it has
    /// outlived SIGKILL.
    pub failure: Option<ServiceFailure>,
    /// Whether its instances are started at set times, and end by themselves.
    pub is_job: bool,
    /// When that is the next time, if it is known.
    pub next_run: Option<Instant>,
    /// The last runs of a job, oldest first, and those under way.
    pub job_runs: Vec<JobRun>,
    /// Whether all of its instances have ended as they should, and stay so.
    pub is_done: bool,
    /// The services that it starts after, and that stop after it.
    pub after: Vec<ServiceName>,
    /// Its instances that live, the old ones of a switch not among them.
    pub instances: Vec<InstanceView>,
    /// Its external addresses.
    pub addresses: Vec<AddressView>,
    /// The builds that any instance runs from, the old ones of a switch too.
    pub builds: Vec<Build>,
}

impl ServiceState {
    /// A service whose first run, with this id, is still to come.
    pub(crate) fn new(id: ServiceId) -> Self {
        Self {
            id,
            stopped: false,
            is_new: true,
            stops: 0,
            kills: 0,
            wanted: 1,
            ready: 0,
            healthy: 0,
            next_is_ready: false,
            lacks_product: false,
            relies_on: None,
            next_remark: None,
            failure: None,
            is_job: false,
            next_run: None,
            job_runs: Vec::new(),
            is_done: false,
            after: Vec::new(),
            instances: Vec::new(),
            addresses: Vec::new(),
            builds: Vec::new(),
        }
    }

    /// Whether the upstream that balancers know by this id is healthy.
    pub fn is_healthy(&self, upstream: u64) -> bool {
        let mut instances = self.instances.iter().map(|instance| (instance.upstream, instance.healthy));
        let mut addresses = self.addresses.iter().map(|address| (address.upstream, address.healthy));
        instances.any(|known| known == (upstream, true)) || addresses.any(|known| known == (upstream, true))
    }

    /// Whether it does what it is for: an instance of it is ready, or it needs none.
    pub(crate) fn serves(&self) -> bool {
        self.ready > 0 || self.wanted == 0 && !self.stopped && !self.is_new
    }

    /// Whether it was stopped on request, and nothing of it lives.
    pub fn has_stopped(&self) -> bool {
        self.stopped && self.failure.is_none()
    }

    /// Its health, in words for the moment `now`.
    pub fn health(&self, now: Instant) -> HealthReport {
        match &self.failure {
            None if self.stopped => return HealthReport::stopped(),
            Some(failure) if self.stopped => return HealthReport::down(failure.what.clone()),
            _ => {}
        }
        if self.is_done {
            return HealthReport::done();
        }
        if self.is_job && self.wanted == 0 {
            return HealthReport::of_job(self.failure.as_ref(), self.next_run, now);
        }
        let report = HealthReport::of(self.healthy, self.wanted, self.failure.as_ref(), now);
        match &self.failure {
            Some(failure) if self.lacks_product => report.without_reserve(failure, now),
            _ => report,
        }
    }
}

/// An instance as it is published.
#[derive(Clone)]
#[non_exhaustive]
pub struct InstanceView {
    /// Its number in the service, from 1.
    pub number: u32,
    /// The id that balancers know it by.
    pub upstream: u64,
    /// Where it listens; none for a background service.
    pub address: Option<SocketAddr>,
    /// Whether it is ready and its probes pass.
    pub healthy: bool,
    /// How often it has been started again in this run.
    pub restarts: u32,
    /// Its processes.
    pub tree: Arc<dyn ProcessTree>,
}

impl PartialEq for InstanceView {
    /// `upstream` stands for the process, and so for `tree`.
    fn eq(&self, other: &Self) -> bool {
        let key = |view: &Self| (view.number, view.upstream, view.address, view.healthy);
        key(self) == key(other)
    }
}

impl Eq for InstanceView {}

impl fmt::Debug for InstanceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceView")
            .field("number", &self.number)
            .field("leader", &self.tree.leader())
            .field("address", &self.address)
            .field("healthy", &self.healthy)
            .finish_non_exhaustive()
    }
}

/// An external address as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressView {
    /// The id that balancers know it by.
    pub upstream: u64,
    /// The address.
    pub address: ExternalAddress,
    /// Whether its probes pass.
    pub healthy: bool,
}
