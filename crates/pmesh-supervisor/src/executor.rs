//! Carries out the acts that a [`Rollout`] asks for. Nothing is decided here.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use futures_util::{
    StreamExt,
    future::{BoxFuture, ready},
    stream::FuturesUnordered,
};
use pmesh_threads::Threads;
use tokio::sync::watch;
use tracing::{Instrument, info, warn};

use crate::{
    Basis, Build, BuildError, CancelToken, Plan, Preparation, Prepared, Rebuild, Remade, RevisionFacts,
    Service, ServiceFailure, ServiceId, ServiceKind, ServiceName, ServiceSpec, Switch, Switched, Wish,
    causes::with_causes,
    context::Context,
    link::Link,
    release::Release,
    rollout::{ActEnd, Item, Look, Rollout, RolloutAct, Unity},
    service::DRIVER_FAILED,
    spans::service_span,
    unbuilt::Missing,
};

/// A service of a rollout, and the spec that it is to get.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Turn {
    /// The id of its new run.
    pub id: ServiceId,
    /// The spec that it is to get.
    pub spec: ServiceSpec,
}

impl Turn {
    /// `id` is the one of the new run.
    pub fn new(id: ServiceId, spec: ServiceSpec) -> Self {
        Self { id, spec }
    }
}

/// What a rollout is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RolloutPlan {
    /// The services, each of them once.
    pub turns: Vec<Turn>,
    /// Whether the services succeed and fail together or each on its own.
    pub unity: Unity,
    /// Whether services are built although a build of the same content exists.
    pub rebuild: Rebuild,
    /// What instances are told of the work tree.
    pub revision: RevisionFacts,
}

impl RolloutPlan {
    /// These services, with what instances are told of the work tree; existing builds of the same content are
    /// used.
    pub fn new(turns: Vec<Turn>, unity: Unity, revision: RevisionFacts) -> Self {
        Self { turns, unity, rebuild: Rebuild::Changed, revision }
    }

    /// The same with something changed: `plan.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// How a rollout ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolloutEnd {
    /// The services that did not become ready, and why.
    pub failed: BTreeMap<ServiceName, String>,
    /// The services whose new run is in force, in the order of the plan.
    pub switched: Vec<ServiceName>,
    /// Whether the whole rollout was given up: the new instances have ended. The services that were stopped
    /// to make room are started again by [`Supervisor::revive`](crate::Supervisor::revive), after the caller
    /// has put back their files.
    pub gave_up: bool,
}

/// Carries out the acts of a rollout, side by side.
///
/// Not cancel-safe: dropped early, it kills running builds, and leaves prepared runs beside the current ones.
#[must_use = "a rollout that nobody executes does nothing"]
pub struct Executor {
    context: Arc<Context>,
    unity: Unity,
    rebuild: Rebuild,
    revision: RevisionFacts,
    members: Vec<Member>,
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
}

/// A service in a rollout, with what its acts have left for later acts.
struct Member {
    turn: Turn,
    service: Service,
    /// How often the service had been stopped when the rollout began.
    stops: Stops,
    /// Cancelled when the service's build or release is to end.
    end_build: CancelToken,
    /// What it is started from.
    basis: Basis,
    /// Why the service has no build.
    failure: Option<(Missing, ServiceFailure)>,
    link: Option<Link>,
    preparation: Option<Preparation>,
    switch: Option<Switch>,
}

struct Ended {
    act: RolloutAct,
    end: ActEnd,
    left: Remains,
}

/// What an act leaves for later acts of the same service.
enum Remains {
    Nothing,
    Basis(Basis),
    Unbuilt(Missing, ServiceFailure),
    Link(Link),
    Preparation(Preparation),
    Switch(Switch),
}

const DONE: ActEnd = ActEnd::Done(None);

impl Executor {
    pub(crate) fn new(context: Arc<Context>, plan: &RolloutPlan, services: Vec<Service>) -> Self {
        let member = |(turn, service): (&Turn, Service)| Member {
            turn: turn.clone(),
            stops: Stops::of(&service),
            service,
            end_build: CancelToken::new(),
            basis: Basis::default(),
            failure: None,
            link: None,
            preparation: None,
            switch: None,
        };
        Self {
            context,
            unity: plan.unity,
            rebuild: plan.rebuild,
            revision: plan.revision.clone(),
            members: plan.turns.iter().zip(services).map(member).collect(),
            under_way: FuturesUnordered::new(),
        }
    }

    /// What the rollout is told of its services when it begins.
    pub(crate) fn items(&self) -> Vec<Item> {
        let place =
            |name: &ServiceName| self.members.iter().position(|member| member.turn.spec.name == *name);
        let after = |member: &Member| member.turn.spec.after().iter().filter_map(place).collect();
        // A restart is of what was released before.
        let releases = self.unity != Unity::Each;
        self.members.iter().map(|member| member.item(releases, after(member))).collect()
    }

    /// The name of the service at this place of the rollout.
    pub fn name(&self, index: usize) -> &ServiceName {
        self.members[index].service.name()
    }

    /// Tells the rollout how its services look now: to be called before its first act, and before it is told
    /// of the end of one.
    pub fn show(&self, rollout: &mut Rollout) {
        for (index, member) in self.members.iter().enumerate() {
            rollout.look(index, member.look());
        }
    }

    /// Begins an act.
    pub fn begin(&mut self, act: RolloutAct) {
        let span = service_span(self.name(act.service()));
        let future = self.perform(act).instrument(span);
        self.under_way.push(Box::pin(async move {
            let (end, left) = future.await;
            Ended { act, end, left }
        }));
    }

    /// Resolves when an act has ended, with how it ended; `None` if no act is under way. Cancel-safe.
    pub async fn ended(&mut self) -> Option<(RolloutAct, ActEnd)> {
        let Ended { act, end, left } = self.under_way.next().await?;
        let member = &mut self.members[act.service()];
        match left {
            Remains::Nothing => {}
            Remains::Basis(basis) => member.basis = basis,
            Remains::Unbuilt(missing, failure) => member.failure = Some((missing, failure)),
            Remains::Link(link) => member.link = Some(link),
            Remains::Preparation(preparation) => member.preparation = Some(preparation),
            Remains::Switch(switch) => member.switch = Some(switch),
        }
        Some((act, end))
    }

    /// How the rollout ended.
    pub fn end(&self, rollout: &Rollout) -> RolloutEnd {
        let failed = rollout.failures().into_iter();
        RolloutEnd {
            failed: failed.map(|(index, reason)| (self.name(index).clone(), reason.to_owned())).collect(),
            switched: rollout.switched().map(|index| self.name(index).clone()).collect(),
            gave_up: rollout.went_back(),
        }
    }

    fn perform(&mut self, act: RolloutAct) -> BoxFuture<'static, (ActEnd, Remains)> {
        let context = Arc::clone(&self.context);
        let (rebuild, revision) = (self.rebuild, self.revision.clone());
        let member = &mut self.members[act.service()];
        let service = member.service.clone();
        let spec = member.turn.spec.clone();
        let run = (member.turn.id, spec.clone(), revision.clone());
        let plan =
            |Basis { build, machine }| Plan { id: run.0, spec: run.1, build, machine, revision: run.2 };
        match act {
            RolloutAct::Build(_) => {
                let give_up = member.end_build.clone();
                Box::pin(build(context, spec, (revision, rebuild), (service, member.stops, give_up)))
            }
            RolloutAct::EndBuild(_) => {
                member.end_build.cancel();
                Box::pin(ready((DONE, Remains::Nothing)))
            }
            RolloutAct::Release(_) => {
                let (plan, give_up) = (plan(member.basis.clone()), member.end_build.clone());
                Box::pin(release(context, plan, (service, member.stops, give_up)))
            }
            RolloutAct::Link(_) => {
                let files = self.context.threads.files.clone();
                Box::pin(link(member.basis.build.clone(), spec, files))
            }
            RolloutAct::Start(_) => {
                let (plan, stops) = (plan(member.basis.clone()), member.stops.stops);
                Box::pin(async move {
                    let mut preparation = service.prepare_unless_stopped(plan, stops).await;
                    preparation.spawned().await;
                    (DONE, Remains::Preparation(preparation))
                })
            }
            RolloutAct::AwaitReady(_) => Box::pin(await_ready(service, member.preparation.take())),
            RolloutAct::LookAgain(_) => Box::pin(async move {
                let end = end_of(service.look_again().await, None);
                (end, Remains::Nothing)
            }),
            RolloutAct::Switch(_) => Box::pin(switch(service)),
            RolloutAct::Drain(_) => Box::pin(drain_old(service)),
            RolloutAct::Stop(_) => Box::pin(stop_old(service, member.switch.take())),
            RolloutAct::Prune(_) => Box::pin(prune(context, service, spec)),
            RolloutAct::StayUnbuilt(_) => {
                let (plan, stops, failure) =
                    (plan(Basis::default()), member.stops.stops, member.failure.take());
                Box::pin(stay_unbuilt(context, service, (plan, stops), failure))
            }
            RolloutAct::GoBack(_) => {
                Box::pin(async move { (ActEnd::Done(service.abandon().await.remark()), Remains::Nothing) })
            }
            RolloutAct::Unlink(_) => {
                let (link, files) = (member.link.take(), self.context.threads.files.clone());
                Box::pin(async move {
                    if let Some(link) = link {
                        link.move_back(&files).await;
                    }
                    (DONE, Remains::Nothing)
                })
            }
            RolloutAct::LookAtProduct(_) => {
                let failure = member.failure.take().map(|(_, failure)| failure);
                Box::pin(
                    async move { (look_at_product(&context, &service, failure).await, Remains::Nothing) },
                )
            }
            RolloutAct::Remake(_) => Box::pin(async move {
                let end = match service.remake(None).await {
                    Remade::Made(build) => ActEnd::Done(build.map(|build| build.to_string())),
                    Remade::Failed(reason) => ActEnd::Failed(reason),
                    Remade::Left => ActEnd::CutOff,
                };
                (end, Remains::Nothing)
            }),
            RolloutAct::Revive(_) => Box::pin(async move {
                revive(&service).await;
                (DONE, Remains::Nothing)
            }),
        }
    }
}

impl Member {
    fn item(&self, releases: bool, after: Vec<usize>) -> Item {
        let state = self.service.state();
        let app = match &self.turn.spec.kind {
            ServiceKind::App(spec) => Some(spec),
            ServiceKind::External(_) | ServiceKind::Files => None,
        };
        let has_to_stop = app.is_some_and(|spec| spec.run.is_some() && !spec.overlaps()) && !state.stopped;
        Item {
            // What this machine says of it is read where the build is made, which gets that.
            builds: app.is_some_and(|spec| spec.has_preparation()),
            releases: releases && app.is_some_and(|spec| !spec.release.is_empty()),
            overlaps: !has_to_stop,
            background: app.is_some_and(|spec| spec.background),
            vital: state.is_new || state.ready > 0 || (state.wanted == 0 && !state.stopped),
            after,
        }
    }

    fn look(&self) -> Look {
        let has_left = Stops::of(&self.service) != self.stops;
        let state = self.service.state.borrow();
        Look { has_left, serves: state.serves(), next_is_ready: state.next_is_ready }
    }
}

/// How often a service had been stopped when a rollout of it began: a higher count later says that it has
/// left the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stops {
    stops: u64,
    kills: u64,
}

impl Stops {
    fn of(service: &Service) -> Self {
        let state = service.state.borrow();
        Self { stops: state.stops, kills: state.kills }
    }
}

async fn build(
    context: Arc<Context>,
    spec: ServiceSpec,
    (revision, rebuild): (RevisionFacts, Rebuild),
    (service, stops, give_up): (Service, Stops, CancelToken),
) -> (ActEnd, Remains) {
    // The build may be about to replace what the old instances were started from.
    service.hold_product().await;
    let (wishes, wished) = watch::channel(Wish::GoOn);
    let built = tokio::select! {
        biased;
        never = wish(&wishes, service.clone(), stops, give_up) => match never {},
        built = context.build(&spec, &revision, None, rebuild, wished) => built,
    };
    context.lacks_product(&service).await;
    match built {
        Ok(basis) => {
            let detail = basis.build.as_ref().map(|build| build.id().to_string());
            (ActEnd::Done(detail), Remains::Basis(basis))
        }
        Err(error) => {
            let reason = with_causes(&error);
            warn!(reason, "there is no build");
            let end = match error {
                BuildError::Cancelled => ActEnd::CutOff,
                _ => ActEnd::Failed(reason),
            };
            (end, Remains::Unbuilt(Missing::Build, error.into_failure()))
        }
    }
}

async fn release(
    context: Arc<Context>,
    plan: Plan,
    (service, stops, give_up): (Service, Stops, CancelToken),
) -> (ActEnd, Remains) {
    let (wishes, wished) = watch::channel(Wish::GoOn);
    let released = tokio::select! {
        biased;
        never = wish(&wishes, service, stops, give_up) => match never {},
        released = context.release(&plan, &wished) => released,
    };
    match released {
        Ok(Release::Made) => (DONE, Remains::Nothing),
        Ok(Release::WasMade) => {
            let detail = "not needed: it was made for this commit and build";
            (ActEnd::Done(Some(detail.to_owned())), Remains::Nothing)
        }
        Err(BuildError::Cancelled) => (ActEnd::CutOff, Remains::Nothing),
        Err(error) => {
            let reason = with_causes(&error);
            warn!(reason, "the release has failed");
            (ActEnd::Failed(reason), Remains::Unbuilt(Missing::Release, error.into_failure()))
        }
    }
}

/// Asks a build to end when its rollout is given up or its service is stopped, and kills it when the service
/// is killed.
async fn wish(
    wishes: &watch::Sender<Wish>,
    mut service: Service,
    before: Stops,
    give_up: CancelToken,
) -> Infallible {
    loop {
        let now = Stops::of(&service);
        wishes.send_replace(if now.kills > before.kills {
            Wish::Kill
        } else if now.stops > before.stops || give_up.is_cancelled() {
            Wish::End
        } else {
            Wish::GoOn
        });
        let is_there = tokio::select! {
            changed = service.state.changed() => changed.is_ok(),
            () = give_up.cancelled(), if !give_up.is_cancelled() => true,
        };
        if !is_there {
            std::future::pending::<()>().await;
        }
    }
}

/// It starts when it has what it lacks; where that is others that it starts after, the end says whom it waits for.
async fn stay_unbuilt(
    context: Arc<Context>,
    service: Service,
    (plan, stops): (Plan, u64),
    failure: Option<(Missing, ServiceFailure)>,
) -> (ActEnd, Remains) {
    if let Some((missing, failure)) = failure {
        service.stay_unbuilt(plan, stops, missing, failure).await;
        return (DONE, Remains::Nothing);
    }
    let names: Vec<String> =
        context.unready(plan.spec.after()).iter().map(|name| format!("`{name}`")).collect();
    let what = match names.len() {
        // It has become ready meanwhile.
        0 => "it starts now, as what it starts after is ready".to_owned(),
        1 => format!("it starts after {}, which is not ready", names[0]),
        _ => format!("it starts after {}, which are not ready", names.join(", ")),
    };
    let failure = ServiceFailure { what: what.clone(), retry_at: None, last_lines: Vec::new() };
    service.stay_unbuilt(plan, stops, Missing::Others, failure).await;
    (ActEnd::Failed(what), Remains::Nothing)
}

async fn link(build: Option<Build>, spec: ServiceSpec, files: Threads) -> (ActEnd, Remains) {
    let Some(build) = build else { return (ActEnd::CutOff, Remains::Nothing) };
    match Link::move_to(&build, &spec, &files).await {
        Some(link) => (DONE, Remains::Link(link)),
        // The log says why the link was not moved; the service runs without it.
        None => (ActEnd::CutOff, Remains::Nothing),
    }
}

async fn await_ready(service: Service, preparation: Option<Preparation>) -> (ActEnd, Remains) {
    let prepared = match preparation {
        Some(preparation) => preparation.ended().await,
        None => service.ready_again().await,
    };
    let remark = service.state().next_remark;
    (end_of(prepared, remark), Remains::Nothing)
}

fn end_of(prepared: Prepared, remark: Option<String>) -> ActEnd {
    match prepared {
        Prepared::Ready => ActEnd::Done(remark),
        Prepared::Failed(reason) => ActEnd::Failed(reason),
        Prepared::Left => ActEnd::CutOff,
    }
}

async fn switch(service: Service) -> (ActEnd, Remains) {
    let detail = match service.switch().await {
        Switched::Ready => None,
        Switched::Partly { ready, wanted } => {
            Some(format!("{ready} of {wanted} instances are ready; the others are started again"))
        }
        Switched::Left => return (ActEnd::CutOff, Remains::Nothing),
        Switched::DriverFailed => return (ActEnd::Failed(DRIVER_FAILED.to_owned()), Remains::Nothing),
    };
    (ActEnd::Done(detail), Remains::Nothing)
}

/// Lets the old instances leave the balancer, and waits until no request is under way to them.
async fn drain_old(service: Service) -> (ActEnd, Remains) {
    let mut switch = service.commit().await;
    match switch.switched().await {
        Switched::Ready | Switched::Partly { .. } => {}
        Switched::Left => return (ActEnd::CutOff, Remains::Nothing),
        Switched::DriverFailed => return (ActEnd::Failed(DRIVER_FAILED.to_owned()), Remains::Nothing),
    }
    switch.drained().await;
    (DONE, Remains::Switch(switch))
}

/// Looks whether the old instances can be started again; `Failed` means that they have to be built again
/// first. After a failure of the build itself, that is tried after a pause.
async fn look_at_product(context: &Context, service: &Service, failure: Option<ServiceFailure>) -> ActEnd {
    if !context.lacks_product(service).await {
        return DONE;
    }
    match failure {
        Some(failure) => {
            service.remake(Some(failure)).await;
            DONE
        }
        None => ActEnd::Failed("its folder does not hold its build any more".to_owned()),
    }
}

/// Waits until the old instances have ended.
async fn stop_old(service: Service, switch: Option<Switch>) -> (ActEnd, Remains) {
    let Some(switch) = switch else { return (ActEnd::CutOff, Remains::Nothing) };
    let end = switch.stopped().await;
    let state = service.state();
    if state.ready > 0 || state.wanted == 0 {
        info!("the new run has taken over");
    } else {
        warn!("the old run has ended, and nothing of the new one is ready");
    }
    (ActEnd::Done(end.remark()), Remains::Nothing)
}

async fn prune(context: Arc<Context>, service: Service, spec: ServiceSpec) -> (ActEnd, Remains) {
    if let ServiceKind::App(app) = &spec.kind {
        context.builder.prune(service.name(), &app.folder, &service.state().builds).await;
    }
    (DONE, Remains::Nothing)
}

/// Starts what was stopped to make room for a run that was abandoned; returns when it is ready or has failed
/// to become ready.
pub(crate) async fn revive(service: &Service) {
    if let Prepared::Failed(reason) = service.revive().await {
        warn!(reason, "the old run does not become ready again");
    }
}
