//! The operations that roll services over: start, reload, restart; and what they share with update.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::join_all;
use pmesh_manifest::{Manifest, ReadError};
use pmesh_supervisor::{
    RevisionFacts, RolloutEnd, RolloutPlan, RolloutStep, ServiceId, ServiceName, StepReport, Turn,
    rollout::Unity,
};
use pmesh_vcs::{CommitId, Revision, VcsError};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    Failure, OperationId, Outcome, Rebuild, RolloutFailure, Scope, StepName, StepState,
    history::StepKey,
    in_one_line,
    shared::{Shared, raised},
    unfinished::Unfinished,
};

/// One operation under way.
pub(crate) struct Rolling {
    pub(crate) shared: Arc<Shared>,
    id: OperationId,
    /// Becomes true when the operation is to go back.
    pub(crate) cancelled: watch::Receiver<bool>,
    /// How often each service had been stopped when the operation began.
    stops: BTreeMap<ServiceName, u64>,
}

impl Rolling {
    pub(crate) fn new(shared: Arc<Shared>, id: OperationId, cancelled: watch::Receiver<bool>) -> Self {
        let stops = shared.supervisor.services().into_iter();
        let stops = stops.map(|service| (service.name().clone(), service.state().stops)).collect();
        Self { shared, id, cancelled, stops }
    }

    pub(crate) fn begin_step(&self, name: StepName) -> StepKey {
        self.shared.operations.begin_step(self.id, name, None)
    }

    pub(crate) fn end_step(&self, key: StepKey, state: StepState, detail: Option<String>) {
        self.shared.operations.end_step(self.id, key, state, detail);
    }

    /// The server's start: everything is started, and nothing goes back unless the server is to end.
    pub(crate) async fn start(&self, unfinished: &mut Unfinished) -> Result<Outcome, Failure> {
        let manifest = self.shared.in_force();
        let head = self.head().await;
        let all = |_: &ServiceName| true;
        let end =
            self.roll_out(&manifest, head.as_ref(), all, Unity::Regardless, Rebuild::Changed, &|| {}).await;
        if end.gave_up {
            return Err(Failure::ShuttingDown);
        }
        unfinished.record(commit_of(head.as_ref()), end.failed.is_empty());
        Ok(Outcome::Started { failed: end.failed })
    }

    pub(crate) async fn restart(&self, scope: &Scope, rebuild: Rebuild) -> Result<Outcome, Failure> {
        let manifest = self.shared.in_force();
        if let Scope::One(name) = scope
            && !manifest.services.iter().any(|service| service.spec.name == *name)
        {
            return Err(Failure::UnknownService(name.clone()));
        }
        let wanted = |name: &ServiceName| match scope {
            Scope::All => true,
            Scope::One(one) => one == name,
        };
        let head = self.head().await;
        let end = self.roll_out(&manifest, head.as_ref(), wanted, Unity::Each, rebuild, &|| {}).await;
        // A file service that was stopped is served again.
        self.shared.bridge.route(&manifest);
        if end.gave_up {
            return Err(Failure::ShuttingDown);
        }
        let count = end.switched.len();
        if end.failed.is_empty() {
            return Ok(Outcome::Restarted { count });
        }
        Err(Failure::Rollout(Box::new(RolloutFailure {
            services: end.failed,
            restarted: Some(count),
            revisions: None,
            rolled_back: false,
            stuck: None,
        })))
    }

    pub(crate) async fn reload(
        &self,
        unfinished: &mut Unfinished,
        rebuild: Rebuild,
    ) -> Result<Outcome, Failure> {
        let step = self.begin_step(StepName::Check);
        let manifest = match self.read_manifest().await {
            Ok(manifest) => Arc::new(manifest),
            Err(failure) => {
                self.end_step(step, StepState::Failed, Some(in_one_line(&failure)));
                return Err(failure);
            }
        };
        self.end_step(step, StepState::Done, None);
        let head = self.head().await;
        let end = self.replace_manifest(&manifest, head.as_ref(), rebuild).await;
        unfinished.record(commit_of(head.as_ref()), !end.gave_up && end.failed.is_empty());
        if !end.gave_up {
            return Ok(Outcome::Reloaded { failed: end.failed });
        }
        let was_cancelled = self.is_cancelled();
        self.revive().await;
        self.forget_all_but(&self.shared.in_force()).await;
        if was_cancelled {
            return Err(Failure::ShuttingDown);
        }
        Err(Failure::Rollout(Box::new(RolloutFailure {
            services: end.failed,
            restarted: None,
            revisions: None,
            rolled_back: true,
            stuck: None,
        })))
    }

    /// The manifest as it is on disk.
    pub(crate) async fn read_manifest(&self) -> Result<Manifest, Failure> {
        let (file, unsupported) = (self.shared.file.clone(), self.shared.unsupported);
        let shown = self.shared.shown_file().to_owned();
        let read = tokio::task::spawn_blocking(move || pmesh_manifest::read_as(&file, &shown, unsupported));
        match read.await {
            Ok(Ok(manifest)) => Ok(manifest),
            Ok(Err(ReadError::Invalid(mistakes))) => Err(Failure::ManifestInvalid(mistakes)),
            Ok(Err(error)) => Err(Failure::ManifestUnreadable(error)),
            Err(panic) => Err(Failure::Internal(format!("reading the manifest ended early: {panic}"))),
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Leaves what a defect has cut off in the middle: prepared runs end, and what was stopped or held
    /// for them goes on.
    pub(crate) async fn give_up(&self) {
        let services = self.shared.supervisor.services();
        join_all(services.iter().map(|service| async move {
            service.abandon().await;
            service.release().await;
        }))
        .await;
        self.revive().await;
        self.forget_all_but(&self.shared.in_force()).await;
    }

    /// Starts what was stopped for runs that were abandoned – but not where everything is about to be
    /// stopped.
    pub(crate) async fn revive(&self) {
        let mut cancelled = self.cancelled.clone();
        tokio::select! {
            biased;
            () = raised(&mut cancelled) => {}
            () = self.shared.supervisor.revive(self.names()) => {}
        }
    }

    fn names(&self) -> Vec<ServiceName> {
        self.shared.supervisor.services().iter().map(|service| service.name().clone()).collect()
    }

    /// Rolls all services over to `manifest` and `head`, which is checked out, and puts it in force if that
    /// succeeds. If it gave up, the caller puts back its files and revives.
    pub(crate) async fn replace_manifest(
        &self,
        manifest: &Arc<Manifest>,
        head: Option<&Revision>,
        rebuild: Rebuild,
    ) -> RolloutEnd {
        let is_in_force = AtomicBool::new(false);
        let put_in_force = || {
            if !is_in_force.swap(true, Ordering::Relaxed) {
                *self.shared.manifest.lock() = Arc::clone(manifest);
                self.shared.bridge.route(manifest);
            }
        };
        let all = |_: &ServiceName| true;
        let end = self.roll_out(manifest, head, all, Unity::Together, rebuild, &put_in_force).await;
        if !end.gave_up {
            put_in_force();
            self.forget_all_but(manifest).await;
        }
        end
    }

    /// Stops and forgets the services that `manifest` lacks.
    pub(crate) async fn forget_all_but(&self, manifest: &Manifest) {
        let declared =
            |name: &ServiceName| manifest.services.iter().any(|service| service.spec.name == *name);
        let gone: Vec<ServiceName> = self.names().into_iter().filter(|name| !declared(name)).collect();
        self.shared.supervisor.remove(&gone).await;
    }

    async fn roll_out(
        &self,
        manifest: &Manifest,
        head: Option<&Revision>,
        wanted: impl Fn(&ServiceName) -> bool,
        unity: Unity,
        rebuild: Rebuild,
        before_first_switch: &(dyn Fn() + Send + Sync),
    ) -> RolloutEnd {
        // Nothing is awaited from here to the rollout, which watches for stops itself.
        let turns = manifest
            .services
            .iter()
            .filter(|service| wanted(&service.spec.name) && !self.was_stopped_since(&service.spec.name))
            .map(|service| Turn { id: ServiceId(self.shared.new_id()), spec: service.spec.clone() })
            .collect();
        let plan = RolloutPlan {
            turns,
            unity,
            rebuild: match rebuild {
                Rebuild::Changed => pmesh_supervisor::Rebuild::IfChanged,
                Rebuild::Everything => pmesh_supervisor::Rebuild::Always,
            },
            revision: RevisionFacts {
                root: manifest.root.clone(),
                commit: commit_of(head).map(ToString::to_string),
                branch: head.map(|head| head.branch.as_str().to_owned()),
            },
        };
        let report = |service: &ServiceName, step: RolloutStep, report: StepReport| {
            if (step, &report) == (RolloutStep::Switch, &StepReport::Begun) {
                before_first_switch();
            }
            self.record(service, step, report);
        };
        self.shared.supervisor.roll_out(&plan, self.cancelled.clone(), &report).await
    }

    /// Whether a stop that was asked for after the operation has ended the service's part of it.
    fn was_stopped_since(&self, name: &ServiceName) -> bool {
        let stops = self.shared.supervisor.service(name).map(|service| service.state().stops);
        stops.is_some_and(|stops| self.stops.get(name).is_some_and(|&before| stops != before))
    }

    fn record(&self, service: &ServiceName, step: RolloutStep, report: StepReport) {
        let name = match step {
            RolloutStep::Build => StepName::Build,
            RolloutStep::Start => StepName::Start,
            RolloutStep::Ready => StepName::Ready,
            RolloutStep::Switch => StepName::Switch,
            RolloutStep::Drain => StepName::Drain,
            RolloutStep::Stop => StepName::Stop,
            RolloutStep::GoBack => StepName::RollBack,
        };
        let operations = &self.shared.operations;
        match report {
            StepReport::Begun => drop(operations.begin_step(self.id, name, Some(service))),
            StepReport::Done(detail) => {
                operations.end_step_of(self.id, name, service, StepState::Done, detail);
            }
            StepReport::Failed(reason) => {
                operations.end_step_of(self.id, name, service, StepState::Failed, Some(reason));
            }
        }
    }

    /// What is checked out, and what instances are told of it: nothing where there is no repository.
    pub(crate) async fn head(&self) -> Option<Revision> {
        match self.shared.with_vcs(<dyn pmesh_vcs::Vcs>::head).await {
            Ok(head) => Some(head),
            Err(VcsError::NotFound(_)) => None,
            Err(error) => {
                warn!(error = in_one_line(&error), "the services are not told of the revision");
                None
            }
        }
    }
}

fn commit_of(head: Option<&Revision>) -> Option<&CommitId> {
    head?.commit.as_ref()
}
