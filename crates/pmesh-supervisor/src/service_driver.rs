//! The task that owns a service: it waits for one thing, lets the machine decide, and acts.

mod acting;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, OptionFuture},
};
use tokio::sync::{mpsc, watch};
use tracing::{error, warn};

use crate::{
    Schedule, ServiceFailure, ServiceId, ServiceName,
    context::Context,
    nofile::NofileWarning,
    pending::{Caller, Pending, now, words_of},
    saved,
    service::{Service, ServiceRequest, ServiceState},
    service_event::{EventKey, ServiceEvent},
    service_machine::{ServiceMachine, Traffic},
    spans::service_span,
    timetable::{Due, Timetable},
};

/// Requests that may wait for a driver. It takes them without delay, so that a full inbox makes its
/// callers wait for no more than that.
const INBOX: usize = 16;

/// The least time between two ticks after one whose step panicked again and again: what is due stays due.
const AFTER_PANICS: Duration = Duration::from_secs(1);

/// The task that owns a service.
///
/// `machine` is what can be written down, `pending` what cannot. A step of the machine that panics has
/// not happened: the machine is as before, its event is told once more if it was none of a caller's,
/// and if that panics too the service is down until it is started or stopped.
pub(crate) struct ServiceDriver {
    machine: ServiceMachine,
    pending: Pending,
    context: Arc<Context>,
    inbox: mpsc::Receiver<ServiceRequest>,
    publisher: watch::Sender<ServiceState>,
    /// What the balancer was told last.
    told: Option<Traffic>,
    /// An upstream that leaves requests without an answer, as the balancer will tell.
    timed_out: Option<BoxFuture<'static, u64>>,
    /// Events whose last step panicked.
    panicked: BTreeMap<EventKey, u32>,
    /// How many steps have panicked in all.
    panics: u64,
    /// No tick before.
    rest_until: Option<Instant>,
    nofile: NofileWarning,
    /// When the next run of a job is due.
    timetable: Option<Timetable>,
    #[cfg(feature = "testing")]
    faults: crate::testing::Faults,
}

/// Returns the handle and the driver of a service. The caller [`run`](ServiceDriver::run)s it.
pub(crate) fn service(name: ServiceName, id: ServiceId, context: Arc<Context>) -> (Service, ServiceDriver) {
    let (requests, inbox) = mpsc::channel(INBOX);
    let (publisher, state) = watch::channel(ServiceState::new(id));
    let driver = ServiceDriver {
        machine: ServiceMachine::new(name.clone(), id, context.new_numbers()),
        pending: Pending::default(),
        context,
        inbox,
        publisher,
        told: None,
        timed_out: None,
        timetable: None,
        panicked: BTreeMap::new(),
        panics: 0,
        rest_until: None,
        nofile: NofileWarning::default(),
        #[cfg(feature = "testing")]
        faults: crate::testing::Faults::default(),
    };
    (Service { name, requests, state }, driver)
}

impl ServiceDriver {
    pub(crate) fn name(&self) -> &ServiceName {
        self.machine.name()
    }

    /// Drives the service until the last handle is gone and nothing of it is left. Dropped before, it
    /// can be run again.
    pub(crate) async fn run(&mut self) {
        let mut orphaned = false;
        self.go_on();
        while !self.machine.is_over(now()) {
            let look = self.timetable.as_ref().map(Timetable::look_at);
            let deadline = self.machine.deadline().into_iter().chain(look).min();
            let deadline = deadline.map(|at| self.rest_until.map_or(at, |until| at.max(until)));
            let deadline = deadline.map(tokio::time::Instant::from_std);
            let due: OptionFuture<_> = deadline.map(tokio::time::sleep_until).into();
            let event = tokio::select! {
                request = self.inbox.recv(), if !orphaned => {
                    orphaned = request.is_none();
                    self.event_of(request)
                }
                upstream = timed_out(&mut self.timed_out), if self.timed_out.is_some() => {
                    self.timed_out = self.told.as_ref().and_then(|told| self.await_timeouts(told));
                    Some(ServiceEvent::TimedOut { upstream })
                }
                Some(event) = self.pending.coming.next(), if !self.pending.coming.is_empty() => Some(event),
                Some(()) = due => Some(self.look_at_clock().unwrap_or(ServiceEvent::Tick)),
            };
            self.pending.events.extend(event);
            self.go_on();
        }
    }

    /// Its service comes when the server is about to end.
    pub(crate) fn begin_end(&mut self) {
        self.pending.events.push_back(ServiceEvent::EndBegins);
    }

    /// What a request is to the machine.
    fn event_of(&mut self, request: Option<ServiceRequest>) -> Option<ServiceEvent> {
        let pending = &mut self.pending;
        Some(match request {
            None => ServiceEvent::Orphaned,
            Some(ServiceRequest::Prepare { plan, stops, spawned, ended }) => ServiceEvent::Prepare {
                plan: plan.into(),
                stops,
                spawned: pending.ticket(Caller::Done(spawned)),
                ended: pending.ticket(Caller::Prepared(ended)),
            },
            Some(ServiceRequest::StayUnbuilt { plan, stops, missing, failure, done }) => {
                ServiceEvent::StayUnbuilt {
                    plan: plan.into(),
                    stops,
                    missing,
                    failure,
                    done: pending.ticket(Caller::Done(done)),
                }
            }
            Some(ServiceRequest::AwaitReady { ended }) => {
                ServiceEvent::AwaitReady { ended: pending.ticket(Caller::Prepared(ended)) }
            }
            Some(ServiceRequest::LookAgain { ended }) => {
                ServiceEvent::LookAgain { ended: pending.ticket(Caller::Prepared(ended)) }
            }
            Some(ServiceRequest::Switch { switched }) => {
                ServiceEvent::Switch { switched: pending.ticket(Caller::Switched(switched)) }
            }
            Some(ServiceRequest::Commit { switched, drained, stopped }) => ServiceEvent::Commit {
                switched: pending.ticket(Caller::Switched(switched)),
                drained: pending.ticket(Caller::Done(drained)),
                stopped: pending.ticket(Caller::Ended(stopped)),
            },
            Some(ServiceRequest::Abandon { done }) => {
                ServiceEvent::Abandon { done: pending.ticket(Caller::Ended(done)) }
            }
            Some(ServiceRequest::Revive { ended }) => {
                ServiceEvent::Revive { ended: pending.ticket(Caller::Prepared(ended)) }
            }
            Some(ServiceRequest::Stop { done }) => {
                ServiceEvent::Stop { done: pending.ticket(Caller::Stopped(done)) }
            }
            Some(ServiceRequest::Kill) => ServiceEvent::Kill,
            Some(ServiceRequest::Hold { done }) => {
                ServiceEvent::Hold { done: pending.ticket(Caller::Done(done)) }
            }
            Some(ServiceRequest::Release) => ServiceEvent::Release,
            Some(ServiceRequest::HoldProduct { done }) => {
                ServiceEvent::HoldProduct { done: pending.ticket(Caller::Done(done)) }
            }
            Some(ServiceRequest::ProductIsWhole) => ServiceEvent::ProductIsWhole,
            Some(ServiceRequest::Remake { failure, ended }) => {
                ServiceEvent::Remake { failure, ended: pending.ticket(Caller::Remade(ended)) }
            }
            Some(ServiceRequest::RunNow { begun }) => {
                ServiceEvent::RunNow { begun: pending.ticket(Caller::RunBegun(begun)) }
            }
            Some(ServiceRequest::EndBegins) => ServiceEvent::EndBegins,
            #[cfg(feature = "testing")]
            Some(ServiceRequest::Fail { fault, done }) => {
                self.faults.add(fault);
                drop(done);
                return None;
            }
        })
    }

    /// Tells the machine what has happened and does what it asks for, until nothing is left of both.
    fn go_on(&mut self) {
        self.show();
        self.act();
        while let Some(event) = self.pending.events.pop_front() {
            self.step(event);
            self.show();
            self.act();
        }
    }

    fn step(&mut self, event: ServiceEvent) {
        if let ServiceEvent::Exited { upstream, exit } = event {
            self.pending.wait_for_tree(upstream, exit, &self.context.prober);
        }
        let (key, told) = (event.key(), event.clone());
        // A step that panics leaves a machine that nobody knows: so it is a copy that takes it.
        let mut next = self.machine.clone();
        #[cfg(feature = "testing")]
        let faults = &mut self.faults;
        let step = catch_unwind(AssertUnwindSafe(|| {
            let actions = next.on_event(event, now());
            #[cfg(feature = "testing")]
            faults.strike(key.0);
            actions
        }));
        match step {
            Ok(actions) => {
                self.machine = next;
                self.panicked.remove(&key);
                self.pending.actions.extend(actions);
            }
            Err(panic) => self.on_panic(told, words_of(&*panic)),
        }
        self.pending.let_go(key);
    }

    /// The step of an event has panicked, and not happened.
    ///
    /// A caller who wanted a start or a switch is told so. Everything else will not happen again by
    /// itself, so it is told once more, and after a second panic to the machine that has broken down, which
    /// has little left to decide.
    fn on_panic(&mut self, event: ServiceEvent, panic: &str) {
        let key = event.key();
        self.panics += 1;
        let times = self.panicked.entry(key).or_default();
        *times += 1;
        let (is_first, panics) = (*times == 1, self.panics);
        error!(
            event = key.0,
            panic, panics, is_first, "a step of the service panicked; the event is dropped"
        );
        if !is_first {
            self.panicked.remove(&key);
        }
        let is_dropped = event.is_start() || !is_first && self.machine.is_broken();
        if !is_first && !self.machine.is_broken() {
            self.break_down(format!(
                "pmesh failed twice in looking after it (at the event `{}`: {panic}); what ran of it was ended, \
                 a restart starts it anew",
                key.0
            ));
        }
        if is_dropped {
            self.pending.fail(&event.tickets());
            self.rest_until = Some(now() + AFTER_PANICS);
        } else {
            self.pending.events.push_back(event);
        }
    }

    /// What runs of the service ends, and it is down for this reason.
    fn break_down(&mut self, reason: String) {
        let held: Vec<u64> = self.pending.processes.keys().copied().collect();
        let mut next = self.machine.clone();
        match catch_unwind(AssertUnwindSafe(|| next.break_down(reason, held, now()))) {
            Ok(actions) => {
                self.machine = next;
                self.pending.fail_starts();
                self.pending.actions.extend(actions);
                self.pending.events.push_back(ServiceEvent::Tick);
            }
            Err(panic) => error!(panic = words_of(&*panic), "the service cannot even break down"),
        }
    }

    /// Who leaves requests without an answer, while somebody takes traffic.
    fn await_timeouts(&self, traffic: &Traffic) -> Option<BoxFuture<'static, u64>> {
        let times = traffic.timeouts.filter(|_| !traffic.upstreams.is_empty())?;
        Some(self.context.balancer.timed_out(self.machine.name(), times))
    }

    /// Tells balancers who takes traffic, and readers how the service is, if that is news.
    fn show(&mut self) {
        let traffic = self.machine.traffic();
        if self.told.as_ref() != Some(&traffic) {
            let Traffic { upstreams, when_empty, user, .. } = traffic.clone();
            let (balancer, name) = (&self.context.balancer, self.machine.name());
            let tell = AssertUnwindSafe(|| {
                balancer.set_user(name, user);
                balancer.set_upstreams(name, upstreams, when_empty);
            });
            match catch_unwind(tell) {
                Ok(()) => {
                    self.timed_out = self.await_timeouts(&traffic);
                    self.told = Some(traffic);
                }
                Err(panic) => {
                    error!(panic = words_of(&*panic), "the balancer cannot be told who takes traffic");
                }
            }
        }
        self.keep_timetable();
        let mut state = self.machine.state(|upstream| self.pending.tree(upstream));
        state.next_run = self.timetable.as_ref().and_then(Timetable::next);
        self.publisher.send_if_modified(|published| {
            let is_news = *published != state;
            *published = state;
            is_news
        });
    }

    /// Follows the times of the service as it is now. As long as these stay the same, it goes on with them.
    fn keep_timetable(&mut self) {
        let schedule = self.machine.schedule();
        if schedule != self.timetable.as_ref().map(Timetable::schedule) {
            let times = |schedule: &Schedule| Timetable::new(schedule.clone(), (self.context.clock)(), now());
            self.timetable = schedule.map(times);
        }
    }

    /// Whether the time of a job has come.
    fn look_at_clock(&mut self) -> Option<ServiceEvent> {
        let times = self.timetable.as_mut().filter(|times| times.look_at() <= now())?;
        match times.look((self.context.clock)(), now()) {
            Due::Now => Some(ServiceEvent::JobIsDue),
            Due::Missed => {
                let warn =
                    || warn!("the time of a run has passed while the clock was set or the machine slept");
                service_span(self.machine.name()).in_scope(warn);
                None
            }
            Due::NotYet => None,
        }
    }

    /// Goes on from what is written of the machine, as a driver in another process would: so that this
    /// way is gone whenever a driver is run again. Answers with the length of that.
    fn read_back(&mut self) -> usize {
        let now = now();
        let written = saved::write(&self.machine, now);
        match saved::read(&written, now) {
            Ok(machine) => self.machine = machine,
            Err(error) => error!(%error, "a service's machine cannot be read back; it goes on as it is"),
        }
        written.bytes.len()
    }

    /// The task has ended although it should not have. Until the driver is [`run`](Self::run) again
    /// nobody knows how its service is, and nothing is started or switched.
    pub(crate) fn on_ended_early(&mut self) {
        let span = service_span(self.name());
        let bytes = span.in_scope(|| self.read_back());
        span.in_scope(|| {
            error!(bytes, "the driver ended early; it is started again from what is written of it");
        });
        self.pending.fail_starts();
        self.publisher.send_modify(|state| {
            state.wanted = state.wanted.max(1);
            (state.ready, state.healthy, state.next_is_ready) = (0, 0, false);
            state.instances.clear();
            state.addresses.clear();
            state.failure = Some(ServiceFailure {
                what: "pmesh has failed in looking after it, and tries again within a second".to_owned(),
                retry_at: None,
                last_lines: Vec::new(),
            });
        });
    }

    /// Refuses the starts and switches that were asked for while nobody ran it. The rest waits for
    /// [`run`](Self::run): an end is never refused.
    pub(crate) fn refuse_starts(&mut self) {
        while let Ok(request) = self.inbox.try_recv() {
            let Some(event) = self.event_of(Some(request)) else { continue };
            if event.is_start() {
                self.pending.fail(&event.tickets());
            } else {
                self.pending.events.push_back(event);
            }
        }
        let is_stop = |event: &ServiceEvent| matches!(event, ServiceEvent::Stop { .. });
        self.machine.take_over(self.pending.events.iter().any(is_stop));
    }
}

/// Resolves with what `future` does; never without one.
async fn timed_out(future: &mut Option<BoxFuture<'static, u64>>) -> u64 {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
