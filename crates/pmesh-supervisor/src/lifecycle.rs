//! The life of one instance: start, ready, drain, stop, kill, back off. A plain type: it takes
//! events and the time, and answers with what to do.
//!
//! The order at the end of an instance is decided here: it leaves the balancer, the requests under way drain,
//! SIGTERM goes to its process tree, and SIGKILL follows when the grace is over.

use std::time::{Duration, Instant};

use crate::{AppSpec, backoff::Backoff, lack, saved::saved, survivor::AFTER_KILL};

/// How long an instance may take for each part of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grace {
    /// From spawn to ready.
    pub ready: Duration,
    /// From leaving the balancer to SIGTERM, while requests are under way.
    pub drain: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop: Duration,
    /// From unhealthy to replaced.
    pub unhealthy: Duration,
}

saved!(struct Grace { ready, drain, stop, unhealthy });

impl From<&AppSpec> for Grace {
    fn from(spec: &AppSpec) -> Self {
        Self {
            ready: spec.ready_timeout,
            drain: spec.drain_timeout,
            stop: spec.stop_timeout,
            unhealthy: spec.unhealthy_timeout,
        }
    }
}

/// What happens to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is wanted: it starts.
    Start,
    /// It is not wanted any more: it drains and stops with all of its grace.
    Stop,
    /// It is not wanted any more: it is killed without grace.
    Kill,
    /// Its process could not be started.
    SpawnFailed,
    /// Its process could not be started because the server itself has run out of something: no failure of the
    /// instance.
    SpawnPutOff,
    /// It has answered its first probe, or lived long enough where there is none.
    Ready,
    /// Its requests under way have ended, and no new ones will come.
    Drained,
    /// Its leader has ended.
    Exited,
    /// The same, and it is not to be started again.
    Finished,
    /// No process of its tree lives any more. Comes after `Exited`.
    TreeEnded,
    /// After [`LookAtSurvivors`](Action::LookAtSurvivors): something of its tree still lives.
    Outlives,
    /// Its process may not be started, neither for the first time nor again, until
    /// [`Release`](Event::Release).
    Hold,
    /// Its process may be started again: ends [`Hold`](Event::Hold).
    Release,
    /// Its process is to be replaced by another one.
    Replace,
    /// A [`deadline`](Lifecycle::deadline) may have passed.
    Tick,
}

/// What is to be done for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start its process.
    Spawn,
    /// Wait until the requests under way to it have ended, and then report [`Event::Drained`]. The balancer
    /// sends it no new ones: [`Lifecycle::is_ready`] says who takes traffic.
    Drain,
    /// SIGTERM to every process of its tree.
    Terminate,
    /// SIGKILL to every process of its tree.
    Kill,
    /// See what of its tree SIGKILL has not ended; report [`Event::Outlives`] if there is anything.
    LookAtSurvivors,
}

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing of it runs, and nothing is planned.
    Stopped,
    /// It is started later: after a failure, or because it may not be started yet.
    BackingOff {
        /// When.
        until: Instant,
    },
    /// Its process runs and is not ready.
    Starting {
        /// When it counts as failed, if it is not ready by then.
        ready_by: Instant,
    },
    /// It takes traffic.
    Ready {
        /// Since when.
        since: Instant,
    },
    /// It has left the balancer, and finishes the requests under way.
    Draining {
        /// When it gets SIGTERM in any case.
        until: Instant,
        /// What comes after the end of the tree.
        then: Then,
    },
    /// Its tree was sent SIGTERM.
    Stopping {
        /// When SIGKILL follows.
        kill_at: Instant,
        /// What comes after the end of the tree.
        then: Then,
    },
    /// Its tree was sent SIGKILL.
    Killing {
        /// When to look which of its processes still live.
        look_at: Instant,
        /// What comes after the end of the tree.
        then: Then,
    },
    /// SIGKILL has not ended its tree: nothing is left to do but wait.
    Outliving {
        /// What comes after the end of the tree.
        then: Then,
    },
}

saved!(enum Phase {
    0 Stopped,
    1 BackingOff { until },
    2 Starting { ready_by },
    3 Ready { since },
    4 Draining { until, then },
    5 Stopping { kill_at, then },
    6 Killing { look_at, then },
    7 Outliving { then },
});

/// What comes after the end of a process tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing: it was not wanted any more.
    Stay,
    /// It is started again after this pause: it had ended by itself, or is replaced.
    BackOff(Duration),
}

saved!(enum Then { 0 Stay, 1 BackOff(value) });

/// It is replaced: started again without a pause.
const AGAIN: Then = Then::BackOff(Duration::ZERO);

/// One instance's life, through all its restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lifecycle {
    phase: Phase,
    grace: Grace,
    backoff: Backoff,
    /// How many times in a row it has failed before it was ready.
    failed_starts: u32,
    held: bool,
}

saved!(struct Lifecycle { phase, grace, backoff, failed_starts, held });

impl Lifecycle {
    /// An instance that is not started yet; `seed` decides the jitter of its pauses.
    pub(crate) fn new(grace: Grace, seed: u64) -> Self {
        Self { phase: Phase::Stopped, grace, backoff: Backoff::new(seed), failed_starts: 0, held: false }
    }

    /// Where the instance stands.
    /// Whether its start is one more after a restart that has failed.
    pub(crate) fn has_failed_again(&self) -> bool {
        self.backoff.has_failed_again()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// How long each part of its life may take.
    pub(crate) fn grace(&self) -> Grace {
        self.grace
    }

    /// Whether it takes traffic.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// Whether nothing of it runs and nothing is planned.
    pub(crate) fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    /// How many times in a row it has failed before it was ready.
    pub(crate) fn failed_starts(&self) -> u32 {
        self.failed_starts
    }

    /// When [`Event::Tick`] is due if nothing else happens first. An early tick does nothing.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::BackingOff { .. } if self.held => None,
            Phase::BackingOff { until: at }
            | Phase::Starting { ready_by: at }
            | Phase::Draining { until: at, .. }
            | Phase::Stopping { kill_at: at, .. }
            | Phase::Killing { look_at: at, .. } => Some(at),
            Phase::Stopped | Phase::Ready { .. } | Phase::Outliving { .. } => None,
        }
    }

    /// Takes an event; answers with what to do, in this order.
    #[expect(clippy::too_many_lines, reason = "a table of every event in every phase")]
    pub(crate) fn on_event(&mut self, event: Event, now: Instant) -> Vec<Action> {
        use Phase::{BackingOff, Draining, Killing, Outliving, Ready, Starting, Stopped, Stopping};
        match (event, self.phase) {
            (Event::Start, Stopped) if self.held => self.settle(BackingOff { until: now }),
            (Event::Start, Stopped) => self.spawn(now),
            (Event::Start, BackingOff { .. } | Starting { .. } | Ready { .. }) => Vec::new(),
            (Event::Start, Draining { .. } | Stopping { .. } | Killing { .. } | Outliving { .. }) => {
                unreachable!("an instance that was told to end is never started again: a new one is")
            }

            (Event::Stop, Stopped) => Vec::new(),
            (Event::Stop, BackingOff { .. }) => self.settle(Stopped),
            (Event::Stop, Starting { .. }) => self.terminate(Then::Stay, now),
            (Event::Stop, Ready { .. }) => self.drain(Then::Stay, now),
            (Event::Stop, Draining { until, .. }) => self.settle(Draining { until, then: Then::Stay }),
            (Event::Stop, Stopping { kill_at, .. }) => self.settle(Stopping { kill_at, then: Then::Stay }),
            (Event::Stop, Killing { look_at, .. }) => self.settle(Killing { look_at, then: Then::Stay }),
            (Event::Stop, Outliving { .. }) => self.settle(Outliving { then: Then::Stay }),

            (Event::Replace, Starting { .. }) => self.terminate(AGAIN, now),
            (Event::Replace, Ready { .. }) => self.drain(AGAIN, now),
            // In the other phases no process runs that could be replaced, or it is ending already.
            (Event::Replace, _) => Vec::new(),

            (Event::Kill, Stopped) => Vec::new(),
            (Event::Kill, BackingOff { .. }) => self.settle(Stopped),
            (Event::Kill, Ready { .. }) => {
                let mut actions = vec![Action::Drain];
                actions.extend(self.kill(Then::Stay, now));
                actions
            }
            (Event::Kill, Starting { .. } | Draining { .. } | Stopping { .. }) => self.kill(Then::Stay, now),
            (Event::Kill, Killing { look_at, .. }) => {
                self.phase = Killing { look_at, then: Then::Stay };
                vec![Action::Kill]
            }
            (Event::Kill, Outliving { .. }) => {
                self.phase = Outliving { then: Then::Stay };
                vec![Action::Kill]
            }

            (Event::SpawnPutOff, Starting { .. }) => self.settle(BackingOff { until: now + lack::PAUSE }),
            (Event::SpawnFailed, Starting { .. }) => {
                let pause = self.fail(None);
                self.settle(BackingOff { until: now + pause })
            }
            (Event::SpawnFailed | Event::SpawnPutOff, _) => Vec::new(),

            (Event::Ready, Starting { .. }) => {
                self.failed_starts = 0;
                self.settle(Ready { since: now })
            }
            (Event::Ready, _) => Vec::new(),

            (Event::Drained, Draining { then, .. }) => self.terminate(then, now),
            (Event::Drained, _) => Vec::new(),

            // The leader has ended. The rest of its tree is ended too, before another process is started.
            (Event::Exited, Starting { .. }) => {
                let pause = self.fail(None);
                self.terminate(Then::BackOff(pause), now)
            }
            (Event::Exited, Ready { since }) => {
                let pause = self.fail(Some(now.saturating_duration_since(since)));
                let mut actions = vec![Action::Drain];
                actions.extend(self.terminate(Then::BackOff(pause), now));
                actions
            }
            (Event::Finished, Starting { .. }) => self.terminate(Then::Stay, now),
            (Event::Finished, Ready { .. }) => {
                let mut actions = vec![Action::Drain];
                actions.extend(self.terminate(Then::Stay, now));
                actions
            }
            (Event::Exited | Event::Finished, Draining { then, .. }) => self.terminate(then, now),
            (
                Event::Exited | Event::Finished,
                Stopped | BackingOff { .. } | Stopping { .. } | Killing { .. } | Outliving { .. },
            ) => Vec::new(),

            (Event::TreeEnded, Stopping { then, .. } | Killing { then, .. } | Outliving { then }) => {
                match then {
                    Then::Stay => self.settle(Stopped),
                    Then::BackOff(pause) => {
                        self.phase = BackingOff { until: now + pause };
                        self.on_event(Event::Tick, now)
                    }
                }
            }
            (
                Event::TreeEnded,
                Stopped | BackingOff { .. } | Starting { .. } | Ready { .. } | Draining { .. },
            ) => Vec::new(),

            (Event::Outlives, Killing { then, .. }) => self.settle(Outliving { then }),
            (Event::Outlives, _) => Vec::new(),

            (Event::Hold, _) => {
                self.held = true;
                Vec::new()
            }
            (Event::Release, _) => {
                self.held = false;
                self.on_event(Event::Tick, now)
            }

            (Event::Tick, BackingOff { until }) if until <= now && !self.held => self.spawn(now),
            (Event::Tick, Starting { ready_by }) if ready_by <= now => {
                let pause = self.fail(None);
                self.terminate(Then::BackOff(pause), now)
            }
            (Event::Tick, Draining { until, then }) if until <= now => self.terminate(then, now),
            (Event::Tick, Stopping { kill_at, then }) if kill_at <= now => self.kill(then, now),
            // The survivors are looked for now, and again later: a look that shows none means that the end of
            // the tree is about to be reported.
            (Event::Tick, Killing { look_at, then }) if look_at <= now => {
                self.phase = Killing { look_at: now + AFTER_KILL, then };
                vec![Action::LookAtSurvivors]
            }
            (Event::Tick, _) => Vec::new(),
        }
    }

    fn settle(&mut self, phase: Phase) -> Vec<Action> {
        self.phase = phase;
        Vec::new()
    }

    fn spawn(&mut self, now: Instant) -> Vec<Action> {
        self.phase = Phase::Starting { ready_by: now + self.grace.ready };
        vec![Action::Spawn]
    }

    fn drain(&mut self, then: Then, now: Instant) -> Vec<Action> {
        self.phase = Phase::Draining { until: now + self.grace.drain, then };
        vec![Action::Drain]
    }

    fn terminate(&mut self, then: Then, now: Instant) -> Vec<Action> {
        self.phase = Phase::Stopping { kill_at: now + self.grace.stop, then };
        vec![Action::Terminate]
    }

    fn kill(&mut self, then: Then, now: Instant) -> Vec<Action> {
        self.phase = Phase::Killing { look_at: now + AFTER_KILL, then };
        vec![Action::Kill]
    }

    fn fail(&mut self, ready_for: Option<Duration>) -> Duration {
        if ready_for.is_none() {
            self.failed_starts = self.failed_starts.saturating_add(1);
        }
        self.backoff.on_failure(ready_for)
    }
}

#[cfg(test)]
mod tests;
