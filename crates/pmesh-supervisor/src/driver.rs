//! The task that owns a service: it waits for one thing, lets the lifecycles decide, and acts.

mod waiting;

use std::{sync::Arc, time::Instant};

use futures_util::{StreamExt, future::OptionFuture};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::{
    Expected, ServiceId, ServiceKind, ServiceName, Wish,
    context::Context,
    ending::OUTPUT_GRACE,
    generation::Generation,
    lifecycle,
    nofile::NofileWarning,
    pending::{Happening, Pending, answer, now},
    service::{Plan, Prepared, Request, Service, ServiceState, Switched},
    unbuilt::{self, Unbuilt},
};

/// Requests that may wait for a driver. It takes them without delay, so that a full inbox makes its
/// callers wait for no more than that.
const INBOX: usize = 16;

/// Returns the handle and the task that owns the service. The caller spawns the task.
pub(crate) fn service(
    name: ServiceName,
    id: ServiceId,
    context: Arc<Context>,
) -> (Service, impl Future<Output = ()> + Send) {
    let (requests, inbox) = mpsc::channel(INBOX);
    let (publisher, state) = watch::channel(ServiceState::new(id));
    let driver = Driver {
        name: name.clone(),
        context,
        current: None,
        candidate: None,
        before: Before::Nothing,
        unbuilt: None,
        tries: Vec::new(),
        leaving: Vec::new(),
        stopped: false,
        is_new: true,
        stops: 0,
        kills: 0,
        stop_waiters: Vec::new(),
        nofile: NofileWarning::default(),
        held: false,
        hold_waiters: Vec::new(),
        pending: Pending::default(),
        output_until: None,
        publisher,
        told: None,
    };
    (Service { name, requests, state }, driver.run(inbox))
}

struct Driver {
    name: ServiceName,
    context: Arc<Context>,
    /// The run that is the service.
    current: Option<Generation>,
    /// The run that is to become it.
    candidate: Option<Candidate>,
    /// What had to make room for the candidate.
    before: Before,
    /// The run that is the service as soon as it is built.
    unbuilt: Option<Unbuilt>,
    /// Tries to build that are under way, also such that are wanted no more: their keys, and what
    /// is wished of them.
    tries: Vec<(u64, watch::Sender<Wish>)>,
    /// Runs that end.
    leaving: Vec<Leaving>,
    stopped: bool,
    is_new: bool,
    /// How often it was stopped.
    stops: u64,
    /// How often it was killed.
    kills: u64,
    stop_waiters: Vec<(oneshot::Sender<bool>, bool)>,
    nofile: NofileWarning,
    /// Whether nothing may be started from the files in the work tree.
    held: bool,
    hold_waiters: Vec<oneshot::Sender<()>>,
    pending: Pending,
    /// While everything has ended but the way of the output into the log: how long that is waited for.
    output_until: Option<Instant>,
    publisher: watch::Sender<ServiceState>,
    /// What the balancer was told last.
    told: Option<(Vec<u64>, Expected)>,
}

/// What a service was, for the case that its candidate fails.
#[derive(Debug)]
enum Before {
    /// It never ran, or runs beside its candidate.
    Nothing,
    /// It was stopped on request.
    Stopped,
    /// It was a run of this plan.
    Run(Plan),
    /// It waited for its build.
    Unbuilt(Unbuilt),
}

struct Candidate {
    generation: Generation,
    /// Whether it waits for the end of the run before it.
    waits: bool,
    /// Whether nothing serves beside it, so that its instances take traffic as they become ready.
    alone: bool,
    /// Whether it is the service when its start has ended, without a commit.
    revived: bool,
    spawned: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Sender<Prepared>>,
}

struct Leaving {
    generation: Generation,
    /// Whether its shutdown commands have run, and its instances have been told to stop.
    told: bool,
    drained: Vec<oneshot::Sender<()>>,
    stopped: Vec<oneshot::Sender<()>>,
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut orphaned = false;
        loop {
            if orphaned && self.is_quiet() && self.has_written() {
                return;
            }
            let due: OptionFuture<_> =
                self.deadline().map(|at| tokio::time::sleep_until(tokio::time::Instant::from_std(at))).into();
            tokio::select! {
                request = inbox.recv(), if !orphaned => match request {
                    Some(request) => self.on_request(request),
                    None => {
                        orphaned = true;
                        self.stop();
                    }
                },
                Some((upstream, happening)) = self.pending.events.next(),
                    if !self.pending.events.is_empty() =>
                {
                    self.on_happening(upstream, happening);
                }
                Some(()) = self.pending.outputs.next(), if !self.pending.outputs.is_empty() => {}
                Some(()) = due => self.tick(),
            }
            self.settle();
        }
    }

    /// Whether nothing of the service runs.
    fn is_quiet(&self) -> bool {
        self.current.is_none() && self.candidate.is_none() && self.has_ended()
    }

    /// Whether all that was to end has ended.
    fn has_ended(&self) -> bool {
        let wanted = self.unbuilt.as_ref().and_then(|unbuilt| unbuilt.trying);
        self.leaving.is_empty() && self.tries.iter().all(|&(key, _)| wanted == Some(key))
    }

    /// Whether the output of what has ended is in the log, or has taken too long.
    fn has_written(&mut self) -> bool {
        if self.pending.outputs.is_empty() {
            return true;
        }
        let now = now();
        *self.output_until.get_or_insert(now + OUTPUT_GRACE) <= now
    }

    fn deadline(&self) -> Option<Instant> {
        let retry = self.unbuilt.iter().filter_map(|unbuilt| unbuilt.retry.deadline());
        let output = self.output_until.filter(|&until| until > now());
        self.generations().filter_map(Generation::deadline).chain(retry).chain(output).min()
    }

    fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.current
            .iter()
            .chain(self.candidate.iter().map(|candidate| &candidate.generation))
            .chain(self.leaving.iter().map(|leaving| &leaving.generation))
    }

    fn generations_mut(&mut self) -> impl Iterator<Item = &mut Generation> {
        self.current
            .iter_mut()
            .chain(self.candidate.iter_mut().map(|candidate| &mut candidate.generation))
            .chain(self.leaving.iter_mut().map(|leaving| &mut leaving.generation))
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Prepare { stops, ended, .. } if stops != self.stops => answer(ended, Prepared::Left),
            Request::Prepare { plan, spawned, ended, .. } => self.prepare(*plan, spawned, ended),
            Request::StayUnbuilt { plan, stops, failure, done } => {
                if stops == self.stops {
                    self.stay_unbuilt(*plan, failure);
                }
                answer(done, ());
            }
            Request::AwaitReady { ended } => match &mut self.candidate {
                // Answered, as the first time, when what has changed is settled.
                Some(candidate) if !candidate.revived => candidate.ended = Some(ended),
                _ => answer(ended, Prepared::Left),
            },
            Request::Commit { switched, drained, stopped } => self.commit(switched, drained, stopped),
            Request::Abandon { done } => self.abandon(done),
            Request::Revive { ended } => self.revive(ended),
            Request::Stop { done } => {
                let was_up = !self.stopped;
                self.stop();
                self.stop_waiters.push((done, was_up));
            }
            Request::Kill => {
                self.kills += 1;
                self.stop();
                let context = Arc::clone(&self.context);
                let mut pending = std::mem::take(&mut self.pending);
                for leaving in &mut self.leaving {
                    leaving.told = true;
                }
                for (_, wishes) in &self.tries {
                    wishes.send_replace(Wish::Kill);
                }
                for generation in self.generations_mut() {
                    generation.kill(&context, &mut pending);
                }
                self.pending = pending;
            }
            Request::Hold { done } => {
                self.held = true;
                self.hold_waiters.push(done);
                self.tell_hold(lifecycle::Event::Hold);
                self.tell_unbuilt(unbuilt::Event::Hold);
            }
            Request::Release => {
                self.held = false;
                self.tell_hold(lifecycle::Event::Release);
                self.tell_unbuilt(unbuilt::Event::Release);
            }
        }
    }

    /// Tells the run that is the service, or is coming back to be it.
    fn tell_hold(&mut self, event: lifecycle::Event) {
        let back = self.candidate.as_mut().filter(|candidate| candidate.revived);
        let runs = self.current.iter_mut().chain(back.map(|candidate| &mut candidate.generation));
        for run in runs.filter(|run| run.plan.build.is_none()) {
            run.tell_all(event, &self.context, &mut self.pending);
        }
    }

    fn prepare(&mut self, plan: Plan, spawned: oneshot::Sender<()>, ended: oneshot::Sender<Prepared>) {
        if let Some(candidate) = self.candidate.take() {
            if candidate.revived {
                self.before = Before::Run(candidate.generation.plan.clone());
            }
            self.leave(candidate.generation, Vec::new(), Vec::new());
        }
        let serves = self.current.as_ref().is_some_and(|current| current.ready() > 0);
        let overlaps = serves && plan.overlaps();
        info!(service = %self.name, id = %plan.id, overlaps, "a new run starts");
        if !overlaps {
            if let Some(old) = self.current.take() {
                self.before = Before::Run(old.plan.clone());
                self.leave(old, Vec::new(), Vec::new());
            } else if let Some(unbuilt) = self.take_unbuilt() {
                self.before = Before::Unbuilt(unbuilt);
            } else if self.stopped {
                self.before = Before::Stopped;
            }
        }
        if let ServiceKind::App(app) = &plan.spec.kind {
            let limit = self.context.spawner.nofile_limit();
            if self.nofile.is_due(app.nofile, limit) {
                warn!(
                    service = %self.name, wanted = app.nofile, limit,
                    "nofile is cut to the hard limit; raise that (`LimitNOFILE` of a systemd unit, `ulimit -Hn` of a shell)"
                );
            }
        }
        self.stopped = false;
        let generation = Generation::new(plan, &self.name, &self.context);
        self.candidate = Some(Candidate {
            generation,
            waits: true,
            alone: !overlaps,
            revived: false,
            spawned: Some(spawned),
            ended: Some(ended),
        });
    }

    fn commit(
        &mut self,
        switched: oneshot::Sender<Switched>,
        drained: oneshot::Sender<()>,
        stopped: oneshot::Sender<()>,
    ) {
        let Some(candidate) = self.candidate.take_if(|candidate| !candidate.revived) else {
            // It was stopped meanwhile; what waits for the switch learns so by the channels' end.
            return;
        };
        self.before = Before::Nothing;
        self.is_new = false;
        let new = candidate.generation;
        let what = match (new.ready(), new.wanted()) {
            _ if new.all_ready() => Switched::Ready,
            (ready, wanted) => Switched::Partly { ready, wanted },
        };
        let old = self.current.replace(new);
        self.publish();
        answer(switched, what);
        match old {
            Some(old) => self.leave(old, vec![drained], vec![stopped]),
            None => {
                answer(drained, ());
                answer(stopped, ());
            }
        }
    }

    fn abandon(&mut self, done: oneshot::Sender<()>) {
        let Some(candidate) = self.candidate.take_if(|candidate| !candidate.revived) else {
            answer(done, ());
            return;
        };
        if candidate.alone {
            // It may have taken requests, as a run does that is the service.
            self.leave(candidate.generation, Vec::new(), vec![done]);
        } else {
            // The commands before a stop are for runs that served; this one never did.
            let (drained, stopped) = (Vec::new(), vec![done]);
            self.leaving.push(Leaving { generation: candidate.generation, told: false, drained, stopped });
            self.tell_leaving();
        }
        if self.current.is_none() && matches!(self.before, Before::Nothing | Before::Stopped) {
            self.before = Before::Nothing;
            self.stopped = true;
        }
    }

    fn revive(&mut self, ended: oneshot::Sender<Prepared>) {
        match std::mem::replace(&mut self.before, Before::Nothing) {
            Before::Run(plan) => self.start_alone(plan, ended),
            Before::Unbuilt(Unbuilt { plan, failure, .. }) => {
                answer(ended, Prepared::Failed(failure.sentence(now())));
                self.wait_for_build(plan, failure);
            }
            Before::Nothing | Before::Stopped => answer(ended, Prepared::Ready),
        }
    }

    /// Starts a run that is the service at once: nothing is to be switched later.
    fn start_alone(&mut self, plan: Plan, ended: oneshot::Sender<Prepared>) {
        // A rollout that was dropped on its way has abandoned nothing.
        if let Some(candidate) = self.candidate.take() {
            self.leave(candidate.generation, Vec::new(), Vec::new());
        }
        self.candidate = Some(Candidate {
            generation: Generation::new(plan, &self.name, &self.context),
            waits: true,
            alone: true,
            revived: true,
            spawned: None,
            ended: Some(ended),
        });
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.stops += 1;
        self.is_new = false;
        self.before = Before::Nothing;
        self.take_unbuilt();
        let mut left = None;
        if let Some(candidate) = self.candidate.take() {
            left = candidate.ended;
            self.leave(candidate.generation, Vec::new(), Vec::new());
        }
        if let Some(current) = self.current.take() {
            info!(service = %self.name, "it stops on request");
            self.leave(current, Vec::new(), Vec::new());
        }
        if let Some(ended) = left {
            // As in `settle_candidate`.
            self.publish();
            answer(ended, Prepared::Left);
        }
    }

    /// A run ends: its shutdown commands first, then its instances.
    fn leave(
        &mut self,
        mut generation: Generation,
        drained: Vec<oneshot::Sender<()>>,
        stopped: Vec<oneshot::Sender<()>>,
    ) {
        let told = generation.run_shutdown_commands(&self.name, &self.context, &mut self.pending);
        self.leaving.push(Leaving { generation, told: false, drained, stopped });
        if !told {
            self.tell_leaving();
        }
    }

    /// Tells the instances of runs that end, and have no shutdown command under way, to stop.
    fn tell_leaving(&mut self) {
        for leaving in &mut self.leaving {
            if !leaving.told && !leaving.generation.is_shutting_down() {
                leaving.told = true;
                leaving.generation.tell_all(lifecycle::Event::Stop, &self.context, &mut self.pending);
            }
        }
    }

    fn on_happening(&mut self, upstream: u64, happening: Happening) {
        let happening = match happening {
            Happening::Built(built) => return self.on_built(upstream, built),
            happening => happening,
        };
        let context = Arc::clone(&self.context);
        let mut pending = std::mem::take(&mut self.pending);
        for generation in self.generations_mut() {
            if generation.owns(upstream) {
                generation.on_happening(upstream, happening, &context, &mut pending);
                break;
            }
        }
        self.pending = pending;
    }

    fn tick(&mut self) {
        self.tell_unbuilt(unbuilt::Event::Tick);
        let context = Arc::clone(&self.context);
        let mut pending = std::mem::take(&mut self.pending);
        for generation in self.generations_mut() {
            generation.tick(&context, &mut pending);
        }
        self.pending = pending;
    }

    /// Draws the conclusions from what has changed, and publishes.
    fn settle(&mut self) {
        self.tell_leaving();
        self.leaving.retain_mut(|leaving| {
            if leaving.told && leaving.generation.has_drained() {
                for waiter in leaving.drained.drain(..) {
                    answer(waiter, ());
                }
            }
            let over = leaving.told && leaving.generation.has_stopped();
            if over {
                for waiter in leaving.stopped.drain(..) {
                    answer(waiter, ());
                }
            }
            !over
        });
        self.settle_candidate();
        if let Some(current) = &mut self.current {
            current.start_next(&self.context, &mut self.pending);
        }
        // Before the answers: who gets one finds the state that it is about.
        self.publish();
        if self.tries.iter().all(|(_, wishes)| *wishes.borrow() == Wish::GoOn) {
            for waiter in self.hold_waiters.drain(..) {
                answer(waiter, ());
            }
        }
        if !self.has_ended() {
            self.output_until = None;
        } else if !self.stop_waiters.is_empty() && self.has_written() {
            for (waiter, was_up) in self.stop_waiters.drain(..) {
                answer(waiter, was_up);
            }
        }
    }

    fn settle_candidate(&mut self) {
        let Some(candidate) = &mut self.candidate else { return };
        if candidate.waits && (!candidate.alone || self.leaving.is_empty()) {
            candidate.waits = false;
        }
        if candidate.waits {
            return;
        }
        candidate.generation.start_next(&self.context, &mut self.pending);
        if candidate.generation.all_spawned()
            && let Some(spawned) = candidate.spawned.take()
        {
            answer(spawned, ());
        }
        let end = if candidate.generation.all_ready() {
            Some(Prepared::Ready)
        } else {
            candidate.generation.failure_of_start().map(Prepared::Failed)
        };
        if let Some(end) = end
            && let Some(ended) = candidate.ended.take()
        {
            if let Prepared::Failed(reason) = &end {
                warn!(service = %self.name, reason, "a new run does not become ready");
            }
            candidate.spawned = None;
            if candidate.revived
                && let Some(candidate) = self.candidate.take()
            {
                self.current = Some(candidate.generation);
            }
            // Before the answer: who gets it finds the state that it is about.
            self.publish();
            answer(ended, end);
        }
    }

    fn publish(&mut self) {
        let candidate = self.candidate.as_ref().filter(|candidate| candidate.alone);
        let serving = candidate.map(|candidate| &candidate.generation).or(self.current.as_ref());
        let expected = if self.stopped { Expected::Nothing } else { Expected::Back };
        let upstreams = serving.map(Generation::upstreams).unwrap_or_default();
        let ids: Vec<u64> = upstreams.iter().map(|upstream| upstream.id).collect();
        let telling = (ids, expected);
        if self.told.as_ref() != Some(&telling) {
            self.context.balancer.set_upstreams(&self.name, upstreams, expected);
            self.told = Some(telling);
        }
        let shown = serving.or(self.candidate.as_ref().map(|candidate| &candidate.generation));
        let builds = self.generations().filter_map(|generation| generation.plan.build.clone()).collect();
        let empty = ServiceState {
            stopped: self.stopped,
            is_new: self.is_new,
            stops: self.stops,
            kills: self.kills,
            wanted: u32::from(!self.stopped),
            builds,
            ..ServiceState::new(self.publisher.borrow().id)
        };
        let state = match (shown, &self.unbuilt) {
            _ if self.stopped => empty,
            (Some(generation), _) => ServiceState {
                id: generation.plan.id,
                wanted: generation.wanted(),
                ready: generation.ready(),
                healthy: generation.healthy(),
                next_is_ready: self.candidate.as_ref().is_some_and(|next| next.generation.all_ready()),
                failure: generation.failure(),
                instances: generation.instances(),
                addresses: generation.addresses(),
                ..empty
            },
            (None, Some(unbuilt)) => ServiceState {
                id: unbuilt.plan.id,
                wanted: unbuilt.plan.wanted(),
                failure: Some(unbuilt.failure()),
                ..empty
            },
            (None, None) => empty,
        };
        self.publisher.send_if_modified(|published| {
            let is_news = *published != state;
            *published = state;
            is_news
        });
    }
}
