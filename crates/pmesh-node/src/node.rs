//! The handle to a running node: reads the published state, asks for changes.

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use pmesh_manifest::{Manifest, Unsupported};
use pmesh_proxy::Tables;
use pmesh_sessions::{SessionLimits, Sessions, TrustedProxies};
use pmesh_supervisor::{
    AppSpec, CancelToken, HealthReport, LogFolder, NetProber, OsSpawner, Prober, Sampler, ServiceId,
    ServiceKind, ServiceName, Spawner, Supervisor, SupervisorSettings, rollout::Limits,
};
use pmesh_vcs::{Cancel, Fetched, Heads, Vcs, VcsError};
use tokio::sync::Notify;
use tracing::error;

use crate::{
    FETCH_LIMIT, Metrics, Operation, OperationId, OperationKind, Repository, Request, Scope,
    bridge::{Bridge, key_of},
    driver::Driver,
    history::Operations,
    ids::Ids,
    shared::Shared,
};

/// What a node is made from.
pub struct NodeParts {
    /// The manifest's file; absolute, its folder without links. A reload reads it again.
    pub file: PathBuf,
    /// What it says now.
    pub manifest: Manifest,
    /// What becomes of features that this server does not serve.
    pub unsupported: Unsupported,
    /// The repository that tracks the manifest; none if there is none.
    pub vcs: Option<Arc<dyn Vcs>>,
    /// What the supervisor is made from.
    pub supervisor: SupervisorSettings,
    /// Starts processes.
    pub spawner: Arc<dyn Spawner>,
    /// Probes them.
    pub prober: Arc<dyn Prober>,
    /// The tables of the front that the node fills.
    pub tables: Tables,
}

impl NodeParts {
    /// A node of this manifest whose services are processes of this machine, with what this process has in
    /// its environment: no repository, what is not served is refused, tables of its own without a client.
    ///
    /// `file` is where the manifest was read, absolute and without links.
    pub fn new(file: PathBuf, manifest: Manifest, logs: LogFolder) -> Self {
        let sessions = Arc::new(Sessions::new(&SessionLimits::default()));
        Self {
            file,
            manifest,
            unsupported: Unsupported::Refuse,
            vcs: None,
            supervisor: SupervisorSettings {
                logs,
                state: None,
                env: std::env::vars_os().collect(),
                limits: Limits::default(),
            },
            spawner: Arc::new(OsSpawner::new()),
            prober: Arc::new(NetProber),
            tables: Tables::new(sessions, TrustedProxies::default()),
        }
    }
}

impl fmt::Debug for NodeParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeParts").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("{limit} operations wait already; try again when some have ended", limit = crate::QUEUE_LIMIT)]
    Busy,
    /// The server is about to end.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// No service of this name.
    #[error("no service \"{0}\" in the manifest")]
    UnknownService(ServiceName),
}

/// A handle to a running node; clones are of the same one.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Shared>);

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("file", &self.0.file).finish_non_exhaustive()
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
    pub fn new(parts: NodeParts) -> (Self, impl Future<Output = ()> + Send) {
        let bridge = Bridge::new(parts.tables);
        // Before the front accepts: requests that come before their service is ready wait for it.
        bridge.route(&parts.manifest);
        let balancer: Arc<Bridge> = Arc::clone(&bridge);
        let (supervisor, supervising) =
            Supervisor::new(parts.supervisor, parts.spawner, parts.prober, balancer);
        let mut ids = Ids::new(std::process::id());
        let names: Vec<ServiceName> =
            parts.manifest.services.iter().map(|service| service.spec.name.clone()).collect();
        let mut new_id = || OperationId(ids.next(SystemTime::now()));
        let (start, shutdown) = (new_id(), new_id());
        // From the first moment on nobody asks in vain for a service of the manifest.
        for name in &names {
            supervisor.add(name, ServiceId(new_id().0));
        }
        let shared = Arc::new(Shared {
            file: parts.file,
            unsupported: parts.unsupported,
            vcs: parts.vcs,
            supervisor,
            bridge,
            operations: Operations::new(),
            requests: Notify::new(),
            manifest: Mutex::new(Arc::new(parts.manifest)),
            unfinished: Mutex::default(),
            ids: Mutex::new(ids),
            vcs_turn: Arc::default(),
            readers_fetch: tokio::sync::Mutex::default(),
            sampler: Sampler::new(),
            ending: CancelToken::new(),
            closed: CancelToken::new(),
            hurrying: CancelToken::new(),
            shutdown,
        });
        shared.operations.record(start, OperationKind::Start);
        let driver = Driver::new(Arc::clone(&shared), start, shutdown);
        let node = Self(Arc::clone(&shared));
        let task = async move {
            let driven = async {
                // Unwound from here, the supervisor's task would be dropped, and what it supervises
                // would run on without anybody.
                let Err(panic) = AssertUnwindSafe(driver.run()).catch_unwind().await else { return };
                error!("the driver of the node panicked; every service is stopped");
                shared.ending.cancel();
                shared.supervisor.stop(&shared.supervisor.services()).await;
                std::panic::resume_unwind(panic);
            };
            // The driver ends when every service has stopped; the supervisor's task would wait for
            // the last handle, and whoever answers reads may hold one.
            tokio::select! {
                () = driven => {}
                () = supervising => {}
            }
        };
        (node, task)
    }

    /// The manifest's file that is served; absolute.
    pub fn manifest(&self) -> &Path {
        &self.0.file
    }

    /// The services and the ids of their runs, but for the stopped ones; in the manifest's order.
    pub fn services(&self) -> Vec<(ServiceName, ServiceId)> {
        self.0
            .in_order()
            .into_iter()
            .filter_map(|(name, service)| {
                let state = service.state();
                (!state.stopped).then_some((name, state.id))
            })
            .collect()
    }

    /// The health of every service, in the manifest's order.
    pub fn health(&self) -> Vec<(ServiceName, HealthReport)> {
        let now = tokio::time::Instant::now().into_std();
        self.0.in_order().into_iter().map(|(name, service)| (name, service.state().health(now))).collect()
    }

    /// The health of one service; none if there is no such service.
    pub fn health_of(&self, name: &ServiceName) -> Option<HealthReport> {
        let now = tokio::time::Instant::now().into_std();
        Some(self.0.supervisor.service(name)?.state().health(now))
    }

    /// The metrics of every service, in the manifest's order. The first call takes 100 ms.
    pub async fn metrics(&self) -> Vec<(ServiceName, Metrics)> {
        let services = self.0.in_order();
        let states: Vec<_> = services.iter().map(|(_, service)| service.state()).collect();
        let trees =
            states.iter().flat_map(|state| &state.instances).map(|instance| instance.tree.pids()).collect();
        let mut figures = self.0.sampler.measure(trees).await.into_iter();
        let now = tokio::time::Instant::now().into_std();
        services
            .into_iter()
            .zip(states)
            .map(|((name, _), state)| {
                let healthy: Vec<u64> = state
                    .instances
                    .iter()
                    .filter(|instance| instance.healthy)
                    .map(|instance| instance.upstream)
                    .chain(
                        state
                            .addresses
                            .iter()
                            .filter(|address| address.healthy)
                            .map(|address| address.upstream),
                    )
                    .collect();
                let upstreams = self.0.bridge.tables().statistics(&key_of(&name));
                let metrics = Metrics {
                    id: state.id,
                    kind: self.0.type_of(&name),
                    upstreams: upstreams
                        .into_iter()
                        .map(|upstream| {
                            let is_healthy = healthy.contains(&upstream.id);
                            (upstream, is_healthy)
                        })
                        .collect(),
                    instances: figures.by_ref().take(state.instances.len()).collect(),
                    health: state.health(now),
                };
                (name, metrics)
            })
            .collect()
    }

    /// The metrics of one service; none if there is no such service.
    pub async fn metrics_of(&self, name: &ServiceName) -> Option<Metrics> {
        self.0.supervisor.service(name)?;
        self.metrics().await.into_iter().find(|(other, _)| other == name).map(|(_, metrics)| metrics)
    }

    /// The repository as it is on disk now. Never goes to the network.
    ///
    /// Cancel-safe: dropped, it ends the read.
    ///
    /// # Errors
    ///
    /// Those of [`Vcs`]; [`VcsError::NotFound`] where no repository tracks the manifest.
    pub async fn repository(&self) -> Result<Repository, VcsError> {
        let cancel = CancelOnDrop(Cancel::new());
        let wanted = cancel.0.clone();
        self.0
            .with_vcs(move |vcs| {
                let Heads { head, remote_head: remote, remote_url: url } = vcs.heads(&wanted)?;
                Ok(Repository { system: vcs.system(), head, remote, url })
            })
            .await
    }

    /// Fetches what the remote has, within [`FETCH_LIMIT`]; changes nothing but the remote head.
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
            let cancel = cancel.0.clone();
            self.0.with_vcs_in(turn, move |vcs| vcs.fetch(FETCH_LIMIT, &cancel))
        };
        let mut call = pin!(call);
        tokio::select! {
            result = &mut call => return result,
            () = self.ending() => cancel.0.cancel(),
        }
        call.await
    }

    /// The table of client sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        self.0.bridge.tables().sessions()
    }

    /// The last 100 operations, newest first.
    pub fn operations(&self) -> Vec<Operation> {
        self.0.operations.all()
    }

    /// One operation, as it stands.
    pub fn operation(&self, id: OperationId) -> Option<Operation> {
        self.0.operations.one(id)
    }

    /// Waits for the end of an operation; none if there is none of this id. Cancel-safe: the
    /// operation goes on whoever waits.
    pub async fn operation_ended(&self, id: OperationId) -> Option<Operation> {
        let mut changes = self.0.operations.subscribe();
        loop {
            if self.0.operations.has_ended(id)? {
                return self.operation(id);
            }
            changes.changed().await.ok()?;
        }
    }

    /// Puts a request in the queue, or joins an equal one that still waits there. It runs when those
    /// before it have ended, whoever hangs up; a stop does not wait for the rollout that it ends.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]; nothing is queued then.
    pub fn submit(&self, request: Request) -> Result<OperationId, SubmitError> {
        if self.0.ending.is_cancelled() {
            return Err(SubmitError::ShuttingDown);
        }
        if let Request::Restart(Scope::One(name), _) | Request::Stop(Scope::One(name)) = &request
            && !self.0.manifest.lock().services.iter().any(|service| service.spec.name == *name)
        {
            return Err(SubmitError::UnknownService(name.clone()));
        }
        let new_id = || OperationId(self.0.new_id());
        let id = self.0.operations.enqueue(request, new_id).ok_or(SubmitError::Busy)?;
        self.0.requests.notify_one();
        Ok(id)
    }

    /// Asks the server to end: nothing more is queued, and the running operation goes back at its
    /// next step. Who owns the listeners waits for [`ending`](Self::ending), closes them, and calls
    /// [`close`](Self::close).
    pub fn shut_down(&self) -> OperationId {
        self.0.operations.record_once(self.0.shutdown, OperationKind::Shutdown);
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

/// Ends a call that nobody waits for any more.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
