//! The handle to a running node: reads the published state, asks for changes.

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use pmesh_manifest::{Manifest, Unsupported};
use pmesh_proxy::Tables;
use pmesh_sessions::{SessionLimits, Sessions, TrustedProxies};
use pmesh_supervisor::{
    AppSpec, CancelToken, Containment, HealthReport, LogFolder, NetProber, OsSpawner, Prober, RunBegun,
    Sampler, ServiceId, ServiceKind, ServiceName, Spawner, Supervisor, SupervisorSettings, WorkThreads,
};
use pmesh_threads::{NoThread, Threads};
use pmesh_vcs::{Cancel, CommitId, Fetched, Heads, Relation, Vcs, VcsError};
use tokio::sync::Notify;
use tracing::error;

use crate::{
    ChangesSince, Distance, Measured, Metrics, NoCancel, NoRun, NodeThreads, Operation, OperationId,
    OperationKind, Outcome, Repository, RepositorySource, Request, Scope, ServiceView, SubmitError, View,
    WorkTreeHold,
    bridge::{Bridge, key_of},
    cancellations::Cancellations,
    commits::InstanceCommits,
    fetch,
    fetched::FetchedCommits,
    file_folders::{FileFolders, with_fault},
    ids::Ids,
    maintenance::Maintenance,
    node_driver::NodeDriver,
    node_shared::NodeShared,
    publisher::Publisher,
    repository_reads::RepositoryReads,
    served_place::{NoRepositories, ServedPlace},
    vcs_call::AtEnd,
};

/// What a node is made from.
#[non_exhaustive]
pub struct NodeParts {
    /// The manifest's file; absolute, its folder without links. A reload reads it again.
    pub file: PathBuf,
    /// The same file by the path that somebody gave, absolute: a reload follows its links anew, because one of them
    /// may lead to the next release by then.
    pub given: PathBuf,
    /// What it says now.
    pub manifest: Manifest,
    /// What becomes of features that this server does not serve.
    pub unsupported: Unsupported,
    /// The repository that tracks the manifest; none if there is none.
    pub vcs: Option<Arc<dyn Vcs>>,
    /// The right to move its work tree; none where the server does not, or nobody else could.
    pub hold: Option<WorkTreeHold>,
    /// Who finds the repository, and takes its work tree, where a link in `given` leads to another one.
    pub repositories: Arc<dyn RepositorySource>,
    /// What the supervisor is made from.
    pub supervisor: SupervisorSettings,
    /// Starts processes.
    pub spawner: Arc<dyn Spawner>,
    /// Probes them.
    pub prober: Arc<dyn Prober>,
    /// The tables of the front that the node fills.
    pub tables: Tables,
    /// Threads for what may block.
    pub threads: NodeThreads,
}

impl NodeParts {
    /// The same with something changed: `parts.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl NodeParts {
    /// A node of this manifest whose services are processes of this machine, with what this process has in
    /// its environment: no repository, what is not served is refused, tables of its own without a client.
    ///
    /// `file` is where the manifest was read, absolute and without links. `work` are the threads that the logs were
    /// opened with.
    ///
    /// # Errors
    ///
    /// [`NoThread`].
    pub fn new(
        file: PathBuf,
        manifest: Manifest,
        logs: LogFolder,
        work: WorkThreads,
    ) -> Result<Self, NoThread> {
        let sessions = Arc::new(Sessions::new(&SessionLimits::default()));
        Ok(Self {
            given: file.clone(),
            file,
            manifest,
            unsupported: Unsupported::Refuse,
            vcs: None,
            hold: None,
            repositories: Arc::new(NoRepositories),
            spawner: Arc::new(OsSpawner::new(work.proc.clone())),
            prober: Arc::new(NetProber::new(&work)),
            threads: NodeThreads::start()?,
            supervisor: SupervisorSettings::new(logs, work),
            tables: Tables::new(sessions, TrustedProxies::default()),
        })
    }
}

impl fmt::Debug for NodeParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeParts").field("file", &self.file).finish_non_exhaustive()
    }
}

/// A handle to a running node; clones are of the same one.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<NodeShared>);

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("file", &self.0.place().file).finish_non_exhaustive()
    }
}

impl Node {
    /// Returns the node and the task that drives it. The tables lead to the manifest's services from now
    /// on; those that are not ready yet let requests wait. The task's first operation is `start`; it ends
    /// after [`shut_down`](Self::shut_down) and [`close`](Self::close), when every process has ended.
    ///
    /// # Panics
    ///
    /// The task, for a defect that no operation could answer for; every service has been stopped then.
    #[must_use = "the task is the node's life"]
    pub fn new(parts: NodeParts) -> (Self, impl Future<Output = ()> + Send) {
        let bridge = Bridge::new(parts.tables);
        // Before the front accepts: requests that come before their service is ready wait for it.
        bridge.route(&parts.manifest);
        let balancer: Arc<Bridge> = Arc::clone(&bridge);
        let proc = parts.supervisor.threads.proc.clone();
        let fetched = FetchedCommits::open(parts.supervisor.state.as_deref());
        let (supervisor, supervising) =
            Supervisor::new(parts.supervisor, parts.spawner, parts.prober, balancer);
        let mut ids = Ids::new(std::process::id());
        let names: Vec<ServiceName> =
            parts.manifest.services.iter().map(|service| service.spec.name.clone()).collect();
        let mut new_id = || OperationId(ids.next(SystemTime::now()));
        let (start, shutdown) = (new_id(), new_id());
        let first_change = new_id().0;
        // From the first moment on nobody asks in vain for a service of the manifest.
        for name in &names {
            supervisor.add(name, ServiceId(new_id().0));
        }
        let shared = Arc::new(NodeShared {
            place: Mutex::new(Arc::new(ServedPlace { file: parts.file, vcs: parts.vcs, hold: parts.hold })),
            repositories: parts.repositories,
            given: parts.given,
            unsupported: parts.unsupported,
            publisher: Publisher::new(first_change, supervisor.builds()),
            supervisor,
            bridge,
            requests: Notify::new(),
            manifest: Mutex::new(Arc::new(parts.manifest)),
            unfinished: Mutex::default(),
            ids: Mutex::new(ids),
            vcs_turn: Arc::default(),
            commits: InstanceCommits::default(),
            fetched: Arc::new(fetched),
            maintenance: Maintenance::default(),
            readers_fetch: tokio::sync::Mutex::default(),
            sampler: Sampler::new(proc.clone()),
            proc,
            file_folders: FileFolders::on(parts.threads.files.clone()),
            threads: parts.threads,
            repository_reads: RepositoryReads::default(),
            cancellations: Cancellations::default(),
            ending: CancelToken::new(),
            closed: CancelToken::new(),
            hurrying: CancelToken::new(),
            shutdown,
        });
        shared.publish_services();
        shared.publisher.record(start, OperationKind::Start);
        let driver = NodeDriver::new(Arc::clone(&shared), start, shutdown);
        let node = Self(Arc::clone(&shared));
        let task = async move {
            let driven = async {
                // Unwound from here, the supervisor's task would be dropped, and what it supervises
                // would run on without anybody.
                let Err(panic) = AssertUnwindSafe(driver.run()).catch_unwind().await else { return };
                error!("the driver of the node panicked; every service is stopped");
                shared.publisher.close();
                shared.ending.cancel();
                shared.supervisor.stop(&shared.supervisor.services()).await;
                std::panic::resume_unwind(panic);
            };
            // The driver ends when every service has stopped; the supervisor's task would wait for
            // the last handle, and whoever answers reads may hold one.
            tokio::select! {
                () = driven => {}
                () = supervising => {}
                () = shared.publisher.follow() => {}
                () = follow_instances(&shared) => {}
                () = follow_removed(&shared) => {}
            }
        };
        (node, task)
    }

    /// The manifest's file that is served; absolute, its folder without links as of the last reload.
    pub fn manifest(&self) -> PathBuf {
        self.0.place().file.clone()
    }

    /// The node as it was published last. Never waits for a change in progress.
    pub fn view(&self) -> Arc<View> {
        self.0.publisher.view()
    }

    /// What has changed since the change `after` (of a [`View`], or of the last answer), as soon as something
    /// has; [`ChangesSince::Gap`] where that is more than the last [`CHANGES_LIMIT`](crate::CHANGES_LIMIT). Cancel-safe.
    pub async fn changes_after(&self, after: u64) -> ChangesSince {
        self.0.publisher.changes_after(after).await
    }

    /// The services and the ids of their runs, but for the stopped ones; in the manifest's order.
    pub fn services(&self) -> Vec<(ServiceName, ServiceId)> {
        let view = self.view();
        let running = view.services.iter().filter(|service| !service.state.has_stopped());
        running.map(|service| (service.name.clone(), service.state.id)).collect()
    }

    /// The health of every service, in the manifest's order. Waits for the disks of file services for a second
    /// at most. Cancel-safe.
    pub async fn health(&self) -> Vec<(ServiceName, HealthReport)> {
        self.healths(&self.view().services).await
    }

    /// The health of one service; none if there is no such service. Waits and is cancelled as
    /// [`health`](Self::health).
    pub async fn health_of(&self, name: &ServiceName) -> Option<HealthReport> {
        let service = Arc::clone(self.view().service(name)?);
        self.healths(&[service]).await.pop().map(|(_, health)| health)
    }

    async fn healths(&self, services: &[Arc<ServiceView>]) -> Vec<(ServiceName, HealthReport)> {
        let faults = self.0.file_folders.faults(&self.0.in_force(), services).await;
        let now = tokio::time::Instant::now().into_std();
        let report = |service: &Arc<ServiceView>| {
            let report = with_fault(service.state.health(now), faults.get(&service.name));
            (service.name.clone(), HealthReport { building: service.building.clone(), ..report })
        };
        services.iter().map(report).collect()
    }

    /// The metrics of every service, in the manifest's order. The first call takes 100 ms.
    pub async fn metrics(&self) -> Vec<(ServiceName, Metrics)> {
        self.measured(self.view().services.clone()).await
    }

    /// The metrics of one service; none if there is no such service. No other one is measured.
    pub async fn metrics_of(&self, name: &ServiceName) -> Option<Metrics> {
        let service = Arc::clone(self.view().service(name)?);
        self.measured(vec![service]).await.pop().map(|(_, metrics)| metrics)
    }

    async fn measured(&self, services: Vec<Arc<ServiceView>>) -> Vec<(ServiceName, Metrics)> {
        let instances = services.iter().flat_map(|service| &service.state.instances);
        let trees = instances.map(|instance| instance.tree.pids()).collect();
        let (figures, healths) = tokio::join!(self.0.sampler.measure(trees), self.healths(&services));
        let mut figures = figures.into_iter();
        let metrics = |(service, (name, health)): (Arc<ServiceView>, _)| {
            let upstreams = self.0.bridge.tables().statistics(&key_of(&service.name));
            let metrics = Metrics {
                id: service.state.id,
                kind: service.kind,
                upstreams: upstreams
                    .into_iter()
                    .map(|upstream| {
                        let is_healthy = service.state.is_healthy(upstream.id);
                        (upstream, is_healthy)
                    })
                    .collect(),
                containment: Containment::of_all(
                    service.state.instances.iter().map(|instance| instance.tree.containment()),
                ),
                instances: (service.state.instances.iter().zip(figures.by_ref()))
                    .map(|(instance, figures)| Measured {
                        number: instance.number,
                        port: instance.address.map(|address| address.port()),
                        commit: self.0.commits.of(instance.upstream),
                        restarts: instance.restarts,
                        figures,
                    })
                    .collect(),
                runs: service.state.job_runs.clone(),
                is_job: service.state.is_job,
                health,
                log: self.log_path(&name),
            };
            (name, metrics)
        };
        services.into_iter().zip(healths).map(metrics).collect()
    }

    /// The repository as it is on disk now. Never goes to the network.
    ///
    /// However many ask at a time share reads, each of which begins after they have asked. Cancel-safe: when nobody
    /// waits for a read any more, it ends.
    ///
    /// # Errors
    ///
    /// Those of [`Vcs`]; [`VcsError::NotFound`] where no repository tracks the manifest.
    pub async fn repository(&self) -> Result<Repository, Arc<VcsError>> {
        let shared = Arc::clone(&self.0);
        let read = async move { Self(shared).read_repository().await };
        let repository = self.0.repository_reads.ask(read).await?;
        Ok(Repository { deployed: self.view().deployed.clone(), ..repository })
    }

    async fn read_repository(&self) -> Result<Repository, VcsError> {
        let cancel = CancelOnDrop(Cancel::new());
        let wanted = cancel.0.clone();
        self.0
            .with_vcs(move |vcs| {
                let Heads { head, remote_head: remote, remote_url: url } = vcs.heads(&wanted)?;
                let commits =
                    head.commit.as_ref().zip(remote.as_ref().and_then(|remote| remote.commit.as_ref()));
                let distance = match commits {
                    Some((here, there)) => distance(vcs.relation(here, there, &wanted))?,
                    None => None,
                };
                Ok(Repository { system: vcs.system(), head, remote, url, deployed: None, distance })
            })
            .await
    }

    /// Fetches what the remote has, within [`FETCH_LIMIT`](crate::FETCH_LIMIT); changes nothing but the remote head.
    ///
    /// Cancel-safe: dropped, it ends the fetch. So does the server's end.
    ///
    /// # Errors
    ///
    /// Those of [`Vcs::fetch`].
    pub async fn fetch(&self) -> Result<Fetched, VcsError> {
        let cancel = CancelOnDrop(Cancel::new());
        let _one_reader = self.0.readers_fetch.lock().await;
        let turn = self.0.vcs_turn().await;
        let call = {
            let (cancel, record) = (cancel.0.clone(), Arc::clone(&self.0.fetched));
            self.0.with_vcs(move |vcs| {
                let fetched = fetch::fetch_and_remember(vcs, &record, &cancel);
                drop(turn);
                fetched
            })
        };
        self.0.call_ends(&self.0.ending).wait(AtEnd::Cut, &cancel.0, call).await
    }

    /// Threads for looks at `/proc`, for who stands on this node.
    pub fn proc_threads(&self) -> &Threads {
        &self.0.proc
    }

    /// Threads for long answers.
    pub fn answer_threads(&self) -> &Threads {
        &self.0.threads.answers
    }

    /// The table of client sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        self.0.bridge.tables().sessions()
    }

    /// The operations that have not ended and the last that have, newest first.
    pub fn operations(&self) -> Vec<Arc<Operation>> {
        self.view().operations.clone()
    }

    /// One operation, as it stands.
    pub fn operation(&self, id: OperationId) -> Option<Arc<Operation>> {
        self.0.publisher.operation(id)
    }

    /// Waits for the end of an operation; none if there is none of this id. Nobody wakes it before. Cancel-safe:
    /// the operation goes on whoever waits.
    pub async fn operation_ended(&self, id: OperationId) -> Option<Operation> {
        self.0.publisher.ended(id).await.map(Arc::unwrap_or_clone)
    }

    /// Puts a request in the queue, or joins an equal one that still waits there. It runs when those
    /// before it have ended, whoever hangs up; a stop does not wait for the rollout that it ends.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]; nothing is queued then.
    pub fn submit(&self, request: Request) -> Result<OperationId, SubmitError> {
        if let Request::Restart(Scope::One(name), _) | Request::Stop(Scope::One(name)) = &request
            && !self.0.manifest.lock().services.iter().any(|service| service.spec.name == *name)
        {
            return Err(SubmitError::UnknownService(name.clone()));
        }
        let new_id = || OperationId(self.0.new_id());
        let id = self.0.publisher.submit(request, new_id)?;
        self.0.requests.notify_one();
        Ok(id)
    }

    /// Takes an operation out of the queue, or asks one that runs to go back: at once where it only waits (for the remote, a
    /// build, an instance, a drain), else at its next step. Too late where all is decided; then it ends well.
    ///
    /// # Errors
    ///
    /// [`NoCancel`].
    pub fn cancel(&self, id: OperationId) -> Result<(), NoCancel> {
        let operation = self.0.publisher.operation(id).ok_or(NoCancel::Unknown(id))?;
        if matches!(operation.kind, OperationKind::Stop | OperationKind::Shutdown | OperationKind::Run) {
            let ended = operation.state.has_ended();
            return Err(if ended { NoCancel::Ended(id) } else { NoCancel::GoesOn(operation.kind) });
        }
        if self.0.publisher.withdraw(id) {
            return Ok(());
        }
        // It runs or is about to: whoever runs it finds the same token.
        self.0.cancellations.of(id).cancel();
        let has_ended = self.0.publisher.operation(id).is_none_or(|operation| operation.state.has_ended());
        if has_ended && self.0.cancellations.forget(id) {
            return Err(NoCancel::Ended(id));
        }
        Ok(())
    }

    /// Starts a run of a job now, beside whatever is under way, and returns when it has begun. It goes on by itself.
    ///
    /// Not cancel-safe: dropped on its way, the run may have begun and no operation tells of it.
    ///
    /// # Errors
    ///
    /// [`NoRun`]; nothing was started then, and there is no operation.
    pub async fn run_now(&self, name: &ServiceName) -> Result<OperationId, NoRun> {
        if self.0.ending.is_cancelled() {
            return Err(NoRun::ShuttingDown);
        }
        let Some(service) = self.0.supervisor.service(name) else {
            return Err(NoRun::UnknownService(name.clone()));
        };
        match service.run_now().await {
            RunBegun::Begun => {}
            RunBegun::RunsAlready => return Err(NoRun::RunsAlready(name.clone())),
            RunBegun::NoJob => return Err(NoRun::NoJob(name.clone())),
            _ => return Err(NoRun::Nothing(name.clone())),
        }
        let id = OperationId(self.0.new_id());
        self.0.publisher.record(id, OperationKind::Run);
        self.0.publisher.begin(id);
        self.0.publisher.end(id, Ok(Outcome::Begun));
        Ok(id)
    }

    /// Asks the server to end: nothing more is queued, and the running operation goes back at its
    /// next step. Who owns the listeners waits for [`ending`](Self::ending), closes them, and calls
    /// [`close`](Self::close).
    pub fn shut_down(&self) -> OperationId {
        self.0.publisher.close();
        self.0.publisher.record(self.0.shutdown, OperationKind::Shutdown);
        self.0.ending.cancel();
        self.0.shutdown
    }

    /// Resolves when the server has been asked to end. Cancel-safe.
    pub async fn ending(&self) {
        self.0.ending.cancelled().await;
    }

    /// No request comes any more: the services may stop now. The driver's task ends when they have.
    pub fn close(&self) {
        self.shut_down();
        self.0.closed.cancel();
    }

    /// Ends every process at once, without grace: somebody is in a hurry.
    pub fn hurry(&self) {
        self.close();
        self.0.hurrying.cancel();
    }

    /// The longest time that requests in flight may take at the server's end: the longest
    /// `drain_timeout` of its services, the default of it where none has one.
    pub fn drain_limit(&self) -> Duration {
        let manifest = Arc::clone(&self.0.manifest.lock());
        let drains = manifest.services.iter().filter_map(|service| match &service.spec.kind {
            ServiceKind::App(app) => Some(app.drain_timeout),
            ServiceKind::External(_) | ServiceKind::Files => None,
        });
        drains.max().unwrap_or(AppSpec::DRAIN_TIMEOUT)
    }
}

/// Looks at what is checked out whenever an instance has been started, for ever. Cancel-safe.
async fn follow_instances(shared: &NodeShared) {
    loop {
        let view = shared.publisher.view();
        let manifest = shared.in_force();
        let has_build = |name: &ServiceName| {
            let service = manifest.services.iter().find(|service| service.spec.name == *name);
            matches!(service.map(|service| &service.spec.kind), Some(ServiceKind::App(app)) if !app.build.is_empty())
        };
        let new = shared.commits.sort_out(&view, has_build);
        if !new.is_empty() {
            // Where it cannot be read, whoever asks for the repository is told why.
            let head = shared.with_vcs(<dyn Vcs>::head).await.ok().and_then(|head| head.commit);
            shared.commits.add(&new, head.as_ref().map(CommitId::as_str));
        }
        // Whatever has changed, the view says how it is.
        drop(shared.publisher.changes_after(view.change).await);
    }
}

/// Forgets services that the manifest has lost as soon as nothing of them lives any more, for ever. Cancel-safe.
async fn follow_removed(shared: &NodeShared) {
    loop {
        let change = shared.publisher.view().change;
        if shared.supervisor.forget_gone() {
            shared.publish_services();
        }
        drop(shared.publisher.changes_after(change).await);
    }
}

/// The two counts of a relation; none where there is nothing to count, or too much of it.
fn distance(relation: Result<Relation, VcsError>) -> Result<Option<Distance>, VcsError> {
    match relation {
        Ok(Relation::Same) => Ok(Some(Distance::default())),
        Ok(Relation::Behind { by }) => Ok(Some(Distance { behind: by, ahead: 0 })),
        Ok(Relation::Ahead { by }) => Ok(Some(Distance { behind: 0, ahead: by })),
        Ok(Relation::Diverged { ahead, behind }) => Ok(Some(Distance { behind, ahead })),
        Ok(Relation::Unrelated | Relation::Unknown)
        | Err(VcsError::RepositoryTooLarge { .. } | VcsError::Timeout { .. } | VcsError::UnknownCommit(_)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Ends a call that nobody waits for any more.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
