//! What all services of a supervisor share.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    Balancer, Build, BuildError, Builder, LogFolder, Ports, Prober, Rebuild, RevisionFacts, ServiceFacts,
    ServiceKind, ServiceSpec, Spawner, Wish, environment::build_environment, lack::Lack,
    machine_step::Numbers, restart_budget::RestartBudget, work_threads::WorkThreads,
};

/// What every instance is started with.
#[derive(Debug)]
pub(crate) struct InstanceContext {
    /// The server's own environment.
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) logs: LogFolder,
    pub(crate) ports: Ports,
}

/// What all drivers of a supervisor share.
pub(crate) struct Context {
    pub(crate) spawner: Arc<dyn Spawner>,
    pub(crate) prober: Arc<dyn Prober>,
    pub(crate) balancer: Arc<dyn Balancer>,
    pub(crate) builder: Builder,
    pub(crate) surroundings: InstanceContext,
    pub(crate) last_block: AtomicU32,
    pub(crate) lack: Lack,
    pub(crate) restarts: Mutex<RestartBudget>,
    pub(crate) threads: WorkThreads,
}

impl Context {
    /// A block of numbers for one more service.
    pub(crate) fn new_numbers(&self) -> Numbers {
        Numbers::of_block(self.last_block.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The build of a service, as [`Builder::build`] gives it.
    pub(crate) async fn build(
        &self,
        spec: &ServiceSpec,
        revision: &RevisionFacts,
        rebuild: Rebuild,
        wishes: watch::Receiver<Wish>,
    ) -> Result<Option<Build>, BuildError> {
        let ServiceKind::App(app) = &spec.kind else { return Ok(None) };
        let InstanceContext { env, logs, .. } = &self.surroundings;
        let facts = ServiceFacts {
            service: &spec.name,
            commit: revision.commit.as_deref(),
            branch: revision.branch.as_deref(),
            root: &revision.root,
            build: None,
        };
        let (env, log) = (build_environment(env, app, &facts), logs.log(&app.log));
        self.builder.build(&spec.name, app, &env, rebuild, &*self.spawner, &log, wishes).await
    }
}
