//! What the node publishes: one view and one stream of changes, made where something changes and only read
//! elsewhere.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use pmesh_manifest::Manifest;
use pmesh_supervisor::{
    BuildProgress, BuildsUnderWay, Service, ServiceKind, ServiceName, ServiceState, StepName, StepState,
};
use pmesh_vcs::Revision;
use tokio::sync::watch;

use crate::{
    ChangesSince, Failure, Operation, OperationId, OperationKind, Outcome, Request, ServiceType, ServiceView,
    SubmitError, View,
    changes::{ChangeKind, Changes},
    history::{History, StepKey},
    operation_queue::{OperationQueue, Submitted},
};

/// The state that the node publishes. Short locks only; reads take a view that never changes.
pub(crate) struct Publisher {
    inner: Mutex<Inner>,
    /// The id of the last change.
    last: watch::Sender<u64>,
    /// Counts changes of the list of services.
    roster: watch::Sender<u64>,
}

struct Inner {
    view: Arc<View>,
    changes: Changes,
    queue: OperationQueue,
    history: History,
    /// Who waits for the end of an operation that has not ended.
    ends: BTreeMap<OperationId, watch::Sender<Option<Arc<Operation>>>>,
    services: Vec<PublishedService>,
    builds: watch::Receiver<BuildsUnderWay>,
    deployed: Option<Arc<Revision>>,
    /// Whether the services in the view are not as they are.
    are_services_stale: bool,
    are_operations_stale: bool,
}

/// A service, in the order of the view.
struct PublishedService {
    name: ServiceName,
    kind: ServiceType,
    states: watch::Receiver<ServiceState>,
    building: Option<BuildProgress>,
    /// How it is shown; none where it has changed since, and has to be shown anew.
    view: Option<Arc<ServiceView>>,
}

impl Publisher {
    /// Publishes nothing yet; the ids of changes begin behind `first`. `builds` are those under way, of all services.
    pub(crate) fn new(first: u64, builds: watch::Receiver<BuildsUnderWay>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                view: Arc::new(View {
                    change: first,
                    services: Vec::new(),
                    operations: Vec::new(),
                    deployed: None,
                }),
                changes: Changes::new(first),
                queue: OperationQueue::default(),
                history: History::default(),
                ends: BTreeMap::new(),
                services: Vec::new(),
                builds,
                deployed: None,
                are_services_stale: false,
                are_operations_stale: false,
            }),
            last: watch::Sender::new(first),
            roster: watch::Sender::new(0),
        }
    }

    /// What was published last.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.inner.lock().view)
    }

    /// What has changed since the change `after`, as soon as something has. Cancel-safe.
    pub(crate) async fn changes_after(&self, after: u64) -> ChangesSince {
        let mut last = self.last.subscribe();
        loop {
            last.mark_unchanged();
            match self.inner.lock().changes.since(after) {
                ChangesSince::Changes(changes) if changes.is_empty() => {}
                since => return since,
            }
            // The sender is ours.
            drop(last.changed().await);
        }
    }

    /// Changes something and publishes it, behind what the services have published of themselves: who
    /// learns that an operation has ended finds what it has done.
    fn publish<T>(&self, edit: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        let before = inner.changes.last();
        inner.take_states();
        let result = edit(&mut inner);
        inner.renew_view();
        let last = inner.changes.last();
        drop(inner);
        if last != before {
            self.last.send_replace(last);
        }
        result
    }

    /// These are the services from now on, in the order of the manifest and behind it.
    pub(crate) fn set_services(&self, services: &[Service], manifest: &Manifest) {
        let place = |name: &ServiceName| {
            manifest.services.iter().position(|service| service.spec.name == *name).unwrap_or(usize::MAX)
        };
        let kind = |name: &ServiceName| {
            let service = manifest.services.iter().find(|service| service.spec.name == *name);
            match service.map(|service| &service.spec.kind) {
                Some(ServiceKind::External(_)) => ServiceType::Proxy,
                Some(ServiceKind::Files) => ServiceType::Files,
                Some(ServiceKind::App(_)) | None => ServiceType::App,
            }
        };
        let mut followed: Vec<PublishedService> = services
            .iter()
            .map(|service| {
                let name = service.name();
                PublishedService {
                    name: name.clone(),
                    kind: kind(name),
                    states: service.states(),
                    building: None,
                    view: None,
                }
            })
            .collect();
        followed.sort_by_key(|service| place(&service.name));
        let is_new = self.publish(|inner| {
            let is_same = |(one, other): (&PublishedService, &PublishedService)| {
                one.name == other.name && one.kind == other.kind && one.states.same_channel(&other.states)
            };
            if inner.services.len() == followed.len() && inner.services.iter().zip(&followed).all(is_same) {
                return false;
            }
            inner.services = followed;
            inner.take_builds();
            inner.push(ChangeKind::Services);
            true
        });
        if is_new {
            self.roster.send_modify(|count| *count += 1);
        }
    }

    /// Publishes what services publish, for ever. Cancel-safe.
    pub(crate) async fn follow(&self) {
        let mut roster = self.roster.subscribe();
        loop {
            roster.mark_unchanged();
            let (mut news, mut builds): (FuturesUnordered<_>, _) = {
                let inner = self.inner.lock();
                (
                    inner.services.iter().map(|service| news(service.states.clone())).collect(),
                    inner.builds.clone(),
                )
            };
            loop {
                tokio::select! {
                    Some(states) = news.next() => {
                        self.publish(|_| {});
                        // A service that has gone says nothing more.
                        news.extend(states.map(self::news));
                    }
                    // The supervisor lives as long as the node.
                    Ok(()) = builds.changed() => self.publish(|_| {}),
                    _ = roster.changed() => break,
                }
            }
        }
    }

    /// The services run this revision.
    pub(crate) fn deployed(&self, revision: Revision) {
        self.publish(|inner| {
            inner.deployed = Some(Arc::new(revision));
            inner.push(ChangeKind::Deployed);
        });
    }

    /// Puts a request in the queue, or finds the operation that serves it; see [`OperationQueue::submit`].
    ///
    /// # Errors
    ///
    /// [`SubmitError`]; nothing is queued then.
    pub(crate) fn submit(
        &self,
        request: Request,
        new_id: impl FnOnce() -> OperationId,
    ) -> Result<OperationId, SubmitError> {
        let kind = request.kind();
        self.publish(|inner| match inner.queue.submit(request, new_id)? {
            Submitted::Joined(id) => Ok(id),
            Submitted::Anew(id) => {
                inner.record(id, kind);
                Ok(id)
            }
        })
    }

    /// Nothing is taken into the queue any more.
    pub(crate) fn close(&self) {
        self.inner.lock().queue.close();
    }

    /// Takes a request whose turn has come; see [`OperationQueue::take`].
    pub(crate) fn take(&self, may_run: impl Fn(&Request) -> bool) -> Option<(OperationId, Request)> {
        self.inner.lock().queue.take(may_run)
    }

    /// See [`OperationQueue::take_restart`].
    pub(crate) fn take_restart(
        &self,
        may_restart: impl Fn(&ServiceName) -> bool,
    ) -> Option<(OperationId, Request)> {
        self.inner.lock().queue.take_restart(may_restart)
    }

    /// Takes a request out of the queue for good; whether it waited there.
    pub(crate) fn withdraw(&self, id: OperationId) -> bool {
        let waited = self.inner.lock().queue.withdraw(id);
        if waited {
            self.end(id, Err(Arc::new(Failure::Cancelled)));
        }
        waited
    }

    /// Records an operation that does not queue, if it is not recorded yet.
    pub(crate) fn record(&self, id: OperationId, kind: OperationKind) {
        self.publish(|inner| {
            if inner.history.one(id).is_none() {
                inner.record(id, kind);
            }
        });
    }

    pub(crate) fn begin(&self, id: OperationId) {
        self.publish(|inner| {
            inner.history.begin(id, SystemTime::now());
            inner.push(ChangeKind::Operation(id));
        });
    }

    pub(crate) fn end(&self, id: OperationId, outcome: Result<Outcome, Arc<Failure>>) {
        let (waiting, ended) = self.publish(|inner| {
            inner.queue.on_end(id);
            let ended = inner.history.end(id, outcome, SystemTime::now());
            inner.push(ChangeKind::Operation(id));
            (inner.ends.remove(&id), ended)
        });
        if let Some(waiting) = waiting {
            waiting.send_replace(ended);
        }
    }

    pub(crate) fn begin_step(
        &self,
        id: OperationId,
        name: StepName,
        service: Option<ServiceName>,
    ) -> Option<StepKey> {
        self.publish(|inner| {
            let key = inner.history.begin_step(id, name, service, SystemTime::now())?;
            inner.push(ChangeKind::Step(id, key));
            Some(key)
        })
    }

    pub(crate) fn end_step(&self, id: OperationId, key: StepKey, state: StepState) {
        self.publish(|inner| {
            inner.history.end_step(id, key, state, SystemTime::now());
            inner.push(ChangeKind::Step(id, key));
        });
    }

    pub(crate) fn operation(&self, id: OperationId) -> Option<Arc<Operation>> {
        self.inner.lock().history.one(id).cloned()
    }

    /// Resolves when the operation has ended; none if there is none of this id. It waits for this one alone,
    /// whatever else changes. Cancel-safe.
    pub(crate) async fn ended(&self, id: OperationId) -> Option<Arc<Operation>> {
        let mut end = {
            let inner = self.inner.lock();
            match inner.ends.get(&id) {
                Some(end) => end.subscribe(),
                None => return inner.history.one(id).cloned(),
            }
        };
        let ended = end.wait_for(Option::is_some).await.ok()?;
        ended.clone()
    }
}

impl Inner {
    fn record(&mut self, id: OperationId, kind: OperationKind) {
        self.history.record(id, kind);
        self.ends.insert(id, watch::Sender::new(None));
        self.push(ChangeKind::Operation(id));
    }

    fn push(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Services | ChangeKind::Service(_) => self.are_services_stale = true,
            ChangeKind::Operation(_) | ChangeKind::Step(..) => self.are_operations_stale = true,
            ChangeKind::Deployed => {}
        }
        self.changes.push(kind);
    }

    /// Takes what services have published since the last time.
    fn take_states(&mut self) {
        let changed =
            self.services.iter_mut().filter(|service| service.states.has_changed().unwrap_or(false));
        let changed: Vec<ServiceName> = changed
            .map(|service| {
                service.view = None;
                service.name.clone()
            })
            .collect();
        for name in changed {
            self.push(ChangeKind::Service(name));
        }
        if self.builds.has_changed().unwrap_or(false) {
            for name in self.take_builds() {
                self.push(ChangeKind::Service(name));
            }
        }
    }

    /// Takes how far the builds are; answers of which services that is not as before.
    fn take_builds(&mut self) -> Vec<ServiceName> {
        let builds = Arc::clone(&self.builds.borrow_and_update());
        let changed =
            self.services.iter_mut().filter(|service| builds.get(&service.name) != service.building.as_ref());
        let renewed = changed.map(|service| {
            service.building = builds.get(&service.name).cloned();
            service.view = None;
            service.name.clone()
        });
        renewed.collect()
    }

    /// Makes the view anew where something has changed.
    fn renew_view(&mut self) {
        let change = self.changes.last();
        if change == self.view.change {
            return;
        }
        let mut view = View { change, deployed: self.deployed.clone(), ..View::clone(&self.view) };
        if std::mem::take(&mut self.are_services_stale) {
            view.services = self.services.iter_mut().map(PublishedService::view).collect();
        }
        if std::mem::take(&mut self.are_operations_stale) {
            view.operations = self.history.shown().cloned().collect();
        }
        self.view = Arc::new(view);
    }
}

impl PublishedService {
    fn view(&mut self) -> Arc<ServiceView> {
        let Self { name, kind, states, building, view } = self;
        let made = view.get_or_insert_with(|| {
            let state = states.borrow_and_update().clone();
            Arc::new(ServiceView { name: name.clone(), kind: *kind, state, building: building.clone() })
        });
        Arc::clone(made)
    }
}

/// Resolves when a service publishes something; none if it has gone.
async fn news(mut states: watch::Receiver<ServiceState>) -> Option<watch::Receiver<ServiceState>> {
    states.changed().await.is_ok().then_some(states)
}
