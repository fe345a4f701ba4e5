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
    AppSpec, Balancer, Basis, BuildError, Builder, LogFolder, MachineFacts, Ports, Prober, Rebuild,
    RevisionFacts, ServiceFacts, ServiceKind, ServiceName, ServiceSpec, ServiceState, Spawner, Wish,
    accounts, env_files, environment::build_environment, job::WallClock, lack::Lack, machine_step::Numbers,
    releases::Releases, restart_budget::RestartBudget, work_threads::WorkThreads,
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
    pub(crate) releases: Releases,
    pub(crate) clock: WallClock,
    /// What each service publishes of itself.
    pub(crate) states: Mutex<BTreeMap<ServiceName, watch::Receiver<ServiceState>>>,
}

impl Context {
    /// A block of numbers for one more service.
    pub(crate) fn new_numbers(&self) -> Numbers {
        Numbers::of_block(self.last_block.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Those of these services that are not ready. One that there is not is not waited for.
    pub(crate) fn unready(&self, names: &[ServiceName]) -> Vec<ServiceName> {
        let states = self.states.lock();
        let is_unready =
            |name: &&ServiceName| states.get(*name).is_some_and(|state| !state.borrow().serves());
        names.iter().filter(is_unready).cloned().collect()
    }

    /// Resolves when all of these services are ready. Cancel-safe.
    pub(crate) async fn ready(&self, names: &[ServiceName]) {
        while let Some(name) = self.unready(names).first() {
            let state = self.states.lock().get(name).cloned();
            if let Some(mut state) = state {
                // An error says that there is no such service any more.
                drop(state.wait_for(ServiceState::serves).await.map(drop));
            }
        }
    }

    /// What a service is started from: the build, as [`Builder::build`] gives it, and what its env files say, and who it runs as, which is found out
    /// before unless it is `known`.
    pub(crate) async fn build(
        &self,
        spec: &ServiceSpec,
        revision: &RevisionFacts,
        known: Option<MachineFacts>,
        rebuild: Rebuild,
        wishes: watch::Receiver<Wish>,
    ) -> Result<Basis, BuildError> {
        let ServiceKind::App(app) = &spec.kind else { return Ok(Basis::default()) };
        let machine = match known {
            Some(known) => known,
            None => {
                tokio::select! {
                    biased;
                    () = Wish::becomes(wishes.clone(), Wish::End) => return Err(BuildError::Cancelled),
                    machine = self.machine_facts(app) => machine?,
                }
            }
        };
        let InstanceContext { env, logs, .. } = &self.surroundings;
        let facts = ServiceFacts {
            service: &spec.name,
            commit: revision.commit.as_deref(),
            branch: revision.branch.as_deref(),
            root: &revision.root,
            build: None,
            machine: Some(&machine),
        };
        let (env, log) = (build_environment(env, app, &facts), logs.log(&app.log));
        let declared = (&machine, &env);
        let build =
            self.builder.build(&spec.name, app, declared, rebuild, &*self.spawner, &log, wishes).await?;
        Ok(Basis { build, machine: Some(machine) })
    }

    /// What this machine says of a service.
    async fn machine_facts(&self, app: &AppSpec) -> Result<MachineFacts, BuildError> {
        let files = &self.threads.files;
        let account = match &app.user {
            Some(user) => accounts::find(user, files).await.map_err(BuildError::Account)?,
            None => None,
        };
        let file_env = env_files::read(&app.env_files, files).await.map_err(BuildError::EnvFile)?;
        Ok(MachineFacts { file_env, account })
    }
}
