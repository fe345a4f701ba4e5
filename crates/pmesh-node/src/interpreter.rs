//! Carries out what the [`Course`] of an operation asks for, and records its steps. Nothing is decided here.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{
    StreamExt,
    future::{BoxFuture, OptionFuture, join_all, ready},
    stream::FuturesUnordered,
};
use pmesh_manifest::Manifest;
use pmesh_supervisor::{
    CancelToken, Executor, Remade, RevisionFacts, RolloutPlan, Service, ServiceId, ServiceName, StepName,
    StepState, Turn,
    rollout::{ActEnd, Instruction, RolloutAct},
};
use pmesh_vcs::{Revision, VcsError};
use tracing::{error, info, warn};

use crate::{
    Failure, OperationId, Outcome, Scope,
    course::{Act, ActResult, Aim, Course, Situation, Survey},
    fetch,
    history::StepKey,
    in_one_line, manifest_source,
    node_shared::{NodeShared, VcsTurn},
    stop_report::StopReport,
    vcs_call::AtEnd,
};

/// One operation under way.
pub(crate) struct Interpreter {
    shared: Arc<NodeShared>,
    id: OperationId,
    /// Whether the operation is to go back.
    cancel: CancelToken,
    /// How often each service had been stopped when the operation began.
    stops: BTreeMap<ServiceName, u64>,
    /// The services that are rolled over, once it is known which.
    executor: Option<Executor>,
    /// The act of the node's that is under way.
    act: OptionFuture<BoxFuture<'static, Finished>>,
    /// Builds that are made again beside each other.
    remakes: FuturesUnordered<BoxFuture<'static, (ServiceName, Remade)>>,
    /// The right to move the work tree, between its act and the move.
    turn: Option<VcsTurn>,
    /// Whether files that builds have made are served from where they were, until it ends.
    pins_files: bool,
    /// The steps that have begun and not ended.
    steps: BTreeMap<(Option<ServiceName>, StepName), StepKey>,
}

/// What an act brings.
enum Finished {
    End(ActResult),
    Turn(VcsTurn),
    Survey(Survey, Option<Revision>),
}

impl Interpreter {
    /// One operation, from now on: a stop that is asked for later has come after it.
    pub(crate) fn new(shared: Arc<NodeShared>, id: OperationId, cancel: CancelToken) -> Self {
        let stops = shared.supervisor.services().into_iter();
        let stops = stops.map(|service| (service.name().clone(), service.state().stops)).collect();
        let act = None.into();
        let (remakes, steps) = (FuturesUnordered::new(), BTreeMap::new());
        Self { shared, id, cancel, stops, executor: None, act, remakes, turn: None, pins_files: false, steps }
    }

    /// Runs the operation to its end.
    ///
    /// # Errors
    ///
    /// [`Failure`]; everything is as it was before then, unless it says otherwise.
    pub(crate) async fn run(self, aim: Aim) -> Result<Outcome, Failure> {
        let mut course = Course::new(aim, self.situation());
        self.carry_out(&mut course).await;
        course.end()
    }

    /// Leaves what a defect has cut off in the middle.
    pub(crate) async fn mend(mut self) {
        self.pins_files = true;
        let mut course = Course::new(Aim::Mend, self.situation());
        self.carry_out(&mut course).await;
    }

    async fn carry_out(mut self, course: &mut Course) {
        while let Some(next) = course.advance() {
            match next {
                Instruction::Do(Act::Service(act)) => {
                    if let Some(executor) = &mut self.executor {
                        executor.begin(act);
                    }
                }
                Instruction::Do(Act::Remake(name)) => {
                    let remade = remake(Arc::clone(&self.shared), self.cancel.clone(), name);
                    self.remakes.push(Box::pin(remade));
                }
                Instruction::Do(act) => self.act = Some(self.perform(act)).into(),
                Instruction::Tell(service, step, state) => self.record(service, step, state),
                Instruction::Wait => self.wait(course).await,
            }
        }
        if self.pins_files && self.shared.bridge.unpin() {
            self.shared.bridge.route(&self.shared.in_force());
        }
    }

    fn situation(&self) -> Situation {
        Situation {
            manifest: self.shared.in_force(),
            services: self.names(),
            has_repository: self.shared.place().vcs.is_some(),
            deployed: self.shared.publisher.view().deployed.as_deref().cloned(),
            unfinished: self.shared.unfinished.lock().clone(),
        }
    }

    fn names(&self) -> Vec<ServiceName> {
        self.shared.supervisor.services().iter().map(|service| service.name().clone()).collect()
    }

    /// Waits for the end of an act, or for the wish to go back, and tells the course.
    async fn wait(&mut self, course: &mut Course) {
        tokio::select! {
            Some(outcomes) = &mut self.act => {
                self.act = None.into();
                let end = self.take(outcomes);
                course.on_end(end);
            }
            Some((act, end)) = ended(&mut self.executor) => {
                if let (Some(executor), Some(rollout)) = (&self.executor, course.rollout()) {
                    executor.show(rollout);
                }
                course.on_service_end(act, end);
            }
            Some((name, remade)) = self.remakes.next() => course.on_remade(name, remade),
            () = self.cancel.cancelled(), if !course.is_cancelled() => course.cancel(),
        }
    }

    fn take(&mut self, outcomes: Finished) -> ActResult {
        match outcomes {
            Finished::End(end) => end,
            Finished::Turn(turn) => {
                self.turn = Some(turn);
                ActResult::Done
            }
            Finished::Survey(survey, head) => self.survey(&survey, head),
        }
    }

    /// Nothing is awaited from here to the rollout, which watches for stops itself.
    fn survey(&mut self, survey: &Survey, head: Option<Revision>) -> ActResult {
        let is_wanted = |name: &ServiceName| match &survey.scope {
            Scope::All => true,
            Scope::One(one) => one == name,
        };
        let services = survey.manifest.services.iter().map(|service| &service.spec);
        let wanted = services.filter(|spec| is_wanted(&spec.name) && !self.was_stopped_since(&spec.name));
        let turns = wanted.map(|spec| Turn::new(ServiceId(self.shared.new_id()), spec.clone())).collect();
        let revision = RevisionFacts::of(survey.manifest.root.clone()).with(|revision| {
            revision.commit = head.as_ref().and_then(|head| head.commit.as_ref()).map(ToString::to_string);
            revision.branch = head.as_ref().map(|head| head.branch.as_str().to_owned());
        });
        let plan = RolloutPlan::new(turns, survey.unity, revision).with(|plan| plan.rebuild = survey.rebuild);
        let services = plan.turns.iter().map(|turn| turn.spec.name.clone()).collect();
        // Nothing is built yet, and no link has moved.
        self.pins_files = true;
        self.shared.bridge.pin(&self.shared.in_force());
        let (rollout, executor) = self.shared.supervisor.begin(&plan);
        self.executor = Some(executor);
        // Services that are new are known from now on.
        self.shared.publish_services();
        ActResult::Surveyed { head, rollout, services }
    }

    /// Whether a stop that was asked for after the operation has ended the service's part of it.
    fn was_stopped_since(&self, name: &ServiceName) -> bool {
        let stops = self.shared.supervisor.service(name).map(|service| service.state().stops);
        stops.is_some_and(|stops| self.stops.get(name).is_some_and(|&before| stops != before))
    }

    fn record(&mut self, service: Option<ServiceName>, step: StepName, state: StepState) {
        let publisher = &self.shared.publisher;
        if state == StepState::Running {
            let key = publisher.begin_step(self.id, step, service.clone());
            self.steps.extend(key.map(|key| ((service, step), key)));
        } else if let Some(key) = self.steps.remove(&(service, step)) {
            publisher.end_step(self.id, key, state);
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table of every act")]
    fn perform(&mut self, act: Act) -> BoxFuture<'static, Finished> {
        let (shared, cancel) = (Arc::clone(&self.shared), self.cancel.clone());
        let at_once = |end| -> BoxFuture<'static, Finished> { Box::pin(ready(Finished::End(end))) };
        match act {
            Act::Fetch => {
                ending(async move { Ok(ActResult::Fetched(fetch::fetch(&shared, &cancel).await?)) })
            }
            Act::CheckCommit(commit) => ending(async move {
                Ok(ActResult::Checked(Arc::new(manifest_source::in_commit(&shared, &cancel, &commit).await?)))
            }),
            Act::CheckFile => ending(async move {
                Ok(ActResult::Checked(Arc::new(manifest_source::on_disk(&shared, &cancel).await?)))
            }),
            Act::Locate => ending(async move {
                let (manifest, place) = manifest_source::where_given(&shared, &cancel).await?;
                let is_other = !Arc::ptr_eq(&place, &shared.place());
                Ok(ActResult::Located(Arc::new(manifest), is_other.then_some(place)))
            }),
            Act::ServeFrom(place) => at_once(ActResult::Left(shared.serve_from(place))),
            Act::TakeTurn => Box::pin(async move {
                match fetch::vcs_turn(&shared, &cancel).await {
                    Ok(turn) => Finished::Turn(turn),
                    Err(failure) => Finished::End(ActResult::Failed(failure)),
                }
            }),
            Act::Hold => on_all(shared, async |service| service.hold().await),
            Act::Release => on_all(shared, async |service| service.release().await),
            // How they end is in the log.
            Act::Abandon => on_all(shared, async |service| drop(service.abandon().await)),
            Act::CheckOut(commit) => {
                let turn = self.turn.take();
                ending(async move {
                    let turn = match turn {
                        Some(turn) => turn,
                        None => shared.vcs_turn().await,
                    };
                    let ends = (AtEnd::Cut, &cancel);
                    let moving =
                        shared.with_vcs_in(turn, ends, move |vcs, cancel| vcs.check_out(&commit, cancel));
                    let kept = moving.await.map_err(|error| match error {
                        VcsError::Cancelled => Failure::ShuttingDown,
                        other => other.into(),
                    })?;
                    if !kept.is_empty() {
                        let files = kept.len();
                        warn!(
                            files,
                            "tracked files with local changes stay as they are; the commit leaves them alone"
                        );
                    }
                    Ok(ActResult::CheckedOut(kept))
                })
            }
            Act::GoBack { tried, to, kept } => ending(async move {
                info!(%to, "the rollout failed: the work tree goes back");
                // A fetch of somebody else ends within its limit.
                let turn = shared.vcs_turn().await;
                let ends = (AtEnd::Finish, &cancel);
                let moving = shared
                    .with_vcs_in(turn, ends, move |vcs, cancel| vcs.go_back(&tried, &to, &kept, cancel));
                let back = moving.await;
                if let Err(failure) = &back {
                    error!(reason = in_one_line(failure), "the work tree could not go back");
                }
                Ok(back.map(|()| ActResult::Done)?)
            }),
            Act::Return(commit) => ending(async move {
                info!(to = %commit, "the rollout failed: the work tree goes back to what the services run");
                let turn = shared.vcs_turn().await;
                let ends = (AtEnd::Finish, &cancel);
                let moving =
                    shared.with_vcs_in(turn, ends, move |vcs, cancel| vcs.check_out(&commit, cancel));
                let back = moving.await;
                if let Err(failure) = &back {
                    error!(reason = in_one_line(failure), "the work tree could not go back");
                }
                Ok(back.map(|_| ActResult::Done)?)
            }),
            Act::Survey(survey) => {
                Box::pin(async move { Finished::Survey(survey, head(&shared, &cancel).await) })
            }
            Act::PutInForce(manifest) => {
                *shared.manifest.lock() = Arc::clone(&manifest);
                shared.bridge.unpin();
                shared.bridge.route(&manifest);
                shared.publish_services();
                at_once(ActResult::Done)
            }
            Act::Route(manifest) => {
                shared.bridge.route(&manifest);
                at_once(ActResult::Done)
            }
            Act::Deployed(revision) => {
                shared.publisher.deployed(revision);
                at_once(ActResult::Done)
            }
            Act::TidyUp => {
                shared.tidy_up();
                at_once(ActResult::Done)
            }
            Act::Remember { commit, trial } => {
                shared.unfinished.lock().record(commit.as_ref(), trial);
                at_once(ActResult::Done)
            }
            Act::Forget(manifest) => {
                let gone = gone(self.names(), &manifest);
                ending(async move {
                    let ends = shared.supervisor.remove(&gone).await;
                    shared.bridge.forget(&manifest);
                    shared.publish_services();
                    Ok(ActResult::Stopped(StopReport(ends)))
                })
            }
            Act::Revive => {
                let names = self.names();
                ending(async move {
                    tokio::select! {
                        biased;
                        // Nothing is started where everything is about to be stopped.
                        () = cancel.cancelled() => {}
                        () = shared.supervisor.revive(names) => {}
                    }
                    Ok(ActResult::Done)
                })
            }
            Act::FindLacking => {
                ending(async move { Ok(ActResult::Lacking(shared.supervisor.lacking().await)) })
            }
            Act::Stop(scope) => ending(async move { Ok(ActResult::Stopped(stop(&shared, &scope).await)) }),
            // The acts of the executor, and those that are carried out side by side.
            Act::Service(_) | Act::Remake(_) => at_once(ActResult::Done),
        }
    }
}

/// The end of an act of the services'; none if none is under way. Cancel-safe.
async fn ended(executor: &mut Option<Executor>) -> Option<(RolloutAct, ActEnd)> {
    executor.as_mut()?.ended().await
}

/// Builds a service again. A server that is about to end does not wait for it.
async fn remake(shared: Arc<NodeShared>, cancel: CancelToken, name: ServiceName) -> (ServiceName, Remade) {
    let remade = tokio::select! {
        biased;
        () = cancel.cancelled() => Remade::Failed(Failure::ShuttingDown.to_string()),
        remade = shared.supervisor.remake(&name) => remade,
    };
    (name, remade)
}

/// An act that brings nothing but its end.
fn ending(
    act: impl Future<Output = Result<ActResult, Failure>> + Send + 'static,
) -> BoxFuture<'static, Finished> {
    Box::pin(async { Finished::End(act.await.unwrap_or_else(ActResult::Failed)) })
}

/// The same act for every service.
fn on_all<F>(
    shared: Arc<NodeShared>,
    act: impl Fn(Service) -> F + Send + 'static,
) -> BoxFuture<'static, Finished>
where
    F: Future<Output = ()> + Send,
{
    ending(async move {
        join_all(shared.supervisor.services().into_iter().map(act)).await;
        Ok(ActResult::Done)
    })
}

/// The services that a manifest lacks.
fn gone(names: Vec<ServiceName>, manifest: &Manifest) -> Vec<ServiceName> {
    let declared = |name: &ServiceName| manifest.services.iter().any(|service| service.spec.name == *name);
    names.into_iter().filter(|name| !declared(name)).collect()
}

async fn stop(shared: &NodeShared, scope: &Scope) -> StopReport {
    let mut services = shared.supervisor.services();
    services.retain(|service| match scope {
        Scope::All => true,
        Scope::One(name) => name == service.name(),
    });
    StopReport(shared.supervisor.stop(&services).await)
}

/// What is checked out, and what instances are told of it: nothing where there is no repository.
async fn head(shared: &NodeShared, cancel: &CancelToken) -> Option<Revision> {
    let head = tokio::select! {
        head = shared.with_vcs(<dyn pmesh_vcs::Vcs>::head) => head,
        // Nothing is started any more.
        () = cancel.cancelled() => return None,
    };
    match head {
        Ok(head) => Some(head),
        Err(VcsError::NotFound(_)) => None,
        Err(error) => {
            warn!(error = in_one_line(&error), "the services are not told of the revision");
            None
        }
    }
}
