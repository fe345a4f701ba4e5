//! The life of one instance: start, ready, drain, stop, kill, back off. A plain type: it takes
//! events and the time, and answers with what to do.
//!
//! The order at the end of an instance is decided here: it leaves the balancer, what is under way
//! drains, SIGTERM goes to its process tree, and SIGKILL follows when the grace is over.

use std::time::{Duration, Instant};

use crate::{AppSpec, backoff::Backoff, lack, saved::saved};

/// How long an instance may take for each part of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grace {
    /// From spawn to ready.
    pub ready: Duration,
    /// From leaving the balancer to SIGTERM, while requests are under way.
    pub drain: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop: Duration,
}

saved!(struct Grace { ready, drain, stop });

impl From<&AppSpec> for Grace {
    fn from(spec: &AppSpec) -> Self {
        Self { ready: spec.ready_timeout, drain: spec.drain_timeout, stop: spec.stop_timeout }
    }
}

/// What happens to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is wanted.
    Start,
    /// It is not wanted any more, and gets all of its grace.
    Stop,
    /// It is not wanted any more, and gets none.
    Kill,
    /// Its process could not be started.
    SpawnFailed,
    /// Its process could not be started for want of this server's own descriptors: no fault of its own.
    SpawnPutOff,
    /// It has answered its first probe, or lived long enough where there is none.
    Ready,
    /// What was under way has ended, and nothing new will come.
    Drained,
    /// Its leader has ended.
    Exited,
    /// No process of its tree lives any more. Comes after `Exited`.
    TreeEnded,
    /// It may not be started, the first time or again, until [`Release`](Event::Release).
    Hold,
    /// It may again.
    Release,
    /// A [`deadline`](Lifecycle::deadline) may have passed.
    Tick,
}

/// What is to be done for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start its process.
    Spawn,
    /// Wait for what is under way to it; [`Event::Drained`] is due when that has ended. It takes no new
    /// traffic: who does is seen by [`Lifecycle::is_ready`].
    Drain,
    /// SIGTERM to every process of its tree.
    Terminate,
    /// SIGKILL to every process of its tree.
    Kill,
}

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing of it runs, and nothing is planned.
    Stopped,
    /// It is started later: it failed, or it may not be started yet.
    BackingOff {
        /// When.
        until: Instant,
    },
    /// Its process runs and is not ready.
    Starting {
        /// When it counts as failed.
        ready_by: Instant,
    },
    /// It takes traffic.
    Ready {
        /// Since when.
        since: Instant,
    },
    /// It has left the balancer, and finishes what is under way.
    Draining {
        /// When the finishing is over.
        until: Instant,
    },
    /// Its tree has been asked to end.
    Stopping {
        /// When the asking is over.
        kill_at: Instant,
        /// What comes when the tree is gone.
        then: Then,
    },
    /// Its tree has been told to end.
    Killing {
        /// What comes when the tree is gone.
        then: Then,
    },
}

saved!(enum Phase {
    0 Stopped,
    1 BackingOff { until },
    2 Starting { ready_by },
    3 Ready { since },
    4 Draining { until },
    5 Stopping { kill_at, then },
    6 Killing { then },
});

/// What comes after the end of a process tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing: it was not wanted any more.
    Stay,
    /// It is started again after this pause: it ended by itself.
    BackOff(Duration),
}

saved!(enum Then { 0 Stay, 1 BackOff(value) });

/// One instance's life, through all its restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lifecycle {
    phase: Phase,
    grace: Grace,
    backoff: Backoff,
    /// Ends in a row that came before the instance was ready.
    failed_starts: u32,
    held: bool,
}

saved!(struct Lifecycle { phase, grace, backoff, failed_starts, held });

impl Lifecycle {
    /// An instance that is not started yet; `seed` decides the jitter of its pauses.
    pub(crate) fn new(grace: Grace, seed: u64) -> Self {
        Self { phase: Phase::Stopped, grace, backoff: Backoff::new(seed), failed_starts: 0, held: false }
    }

    /// Where it stands.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it takes traffic.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// Whether nothing of it runs and nothing is planned.
    pub(crate) fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    /// Ends in a row that came before it was ready.
    pub(crate) fn failed_starts(&self) -> u32 {
        self.failed_starts
    }

    /// When [`Event::Tick`] is due if nothing else happens first. An early tick does nothing.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::BackingOff { .. } if self.held => None,
            Phase::BackingOff { until: at }
            | Phase::Starting { ready_by: at }
            | Phase::Draining { until: at }
            | Phase::Stopping { kill_at: at, .. } => Some(at),
            // Killing has none: a kill cannot be refused, and a deadline that stays in the past
            // would make the driver spin until the end is reported.
            Phase::Stopped | Phase::Ready { .. } | Phase::Killing { .. } => None,
        }
    }

    /// Takes an event; answers with what to do, in this order.
    #[expect(clippy::too_many_lines, reason = "a table of every event in every phase")]
    pub(crate) fn on_event(&mut self, event: Event, now: Instant) -> Vec<Action> {
        use Phase::{BackingOff, Draining, Killing, Ready, Starting, Stopped, Stopping};
        match (event, self.phase) {
            (Event::Start, Stopped) if self.held => self.settle(BackingOff { until: now }),
            (Event::Start, Stopped) => self.spawn(now),
            (Event::Start, BackingOff { .. } | Starting { .. } | Ready { .. }) => Vec::new(),
            (Event::Start, Draining { .. } | Stopping { .. } | Killing { .. }) => {
                unreachable!("an instance that was told to end is never started again: a new one is")
            }

            (Event::Stop, Stopped | Draining { .. }) => Vec::new(),
            (Event::Stop, BackingOff { .. }) => self.settle(Stopped),
            (Event::Stop, Starting { .. }) => self.terminate(Then::Stay, now),
            (Event::Stop, Ready { .. }) => {
                self.phase = Draining { until: now + self.grace.drain };
                vec![Action::Drain]
            }
            (Event::Stop, Stopping { kill_at, .. }) => self.settle(Stopping { kill_at, then: Then::Stay }),
            (Event::Stop, Killing { .. }) => self.settle(Killing { then: Then::Stay }),

            (Event::Kill, Stopped) => Vec::new(),
            (Event::Kill, BackingOff { .. }) => self.settle(Stopped),
            (Event::Kill, Ready { .. }) => {
                self.phase = Killing { then: Then::Stay };
                vec![Action::Drain, Action::Kill]
            }
            (Event::Kill, Starting { .. } | Draining { .. } | Stopping { .. } | Killing { .. }) => {
                self.phase = Killing { then: Then::Stay };
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

            (Event::Drained, Draining { .. }) => self.terminate(Then::Stay, now),
            (Event::Drained, _) => Vec::new(),

            // The leader is gone; what it left behind in its tree goes too, before another starts.
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
            (Event::Exited, Draining { .. }) => self.terminate(Then::Stay, now),
            (Event::Exited, Stopped | BackingOff { .. } | Stopping { .. } | Killing { .. }) => Vec::new(),

            (Event::TreeEnded, Stopping { then, .. } | Killing { then }) => match then {
                Then::Stay => self.settle(Stopped),
                Then::BackOff(pause) => {
                    self.phase = BackingOff { until: now + pause };
                    self.on_event(Event::Tick, now)
                }
            },
            (
                Event::TreeEnded,
                Stopped | BackingOff { .. } | Starting { .. } | Ready { .. } | Draining { .. },
            ) => Vec::new(),

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
            (Event::Tick, Draining { until }) if until <= now => self.terminate(Then::Stay, now),
            (Event::Tick, Stopping { kill_at, then }) if kill_at <= now => {
                self.phase = Killing { then };
                vec![Action::Kill]
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

    fn terminate(&mut self, then: Then, now: Instant) -> Vec<Action> {
        self.phase = Phase::Stopping { kill_at: now + self.grace.stop, then };
        vec![Action::Terminate]
    }

    fn fail(&mut self, ready_for: Option<Duration>) -> Duration {
        if ready_for.is_none() {
            self.failed_starts = self.failed_starts.saturating_add(1);
        }
        self.backoff.on_failure(ready_for)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{Action, Event, Grace, Lifecycle, Phase};

    const SEC: Duration = Duration::from_secs(1);
    const GRACE: Grace = Grace {
        ready: Duration::from_secs(30),
        drain: Duration::from_secs(20),
        stop: Duration::from_secs(10),
    };

    fn starting() -> (Lifecycle, Instant) {
        let (mut instance, now) = (Lifecycle::new(GRACE, 1), Instant::now());
        assert_eq!(instance.on_event(Event::Start, now), [Action::Spawn]);
        (instance, now)
    }

    fn ready() -> (Lifecycle, Instant) {
        let (mut instance, now) = starting();
        assert_eq!(instance.on_event(Event::Ready, now), []);
        (instance, now)
    }

    #[test]
    fn an_instance_leaves_the_balancer_and_drains_before_it_is_signalled() {
        let (mut instance, now) = ready();
        assert_eq!(instance.on_event(Event::Stop, now), [Action::Drain]);
        assert_eq!(instance.on_event(Event::Tick, now + 19 * SEC), []);
        assert_eq!(instance.on_event(Event::Drained, now + 19 * SEC), [Action::Terminate]);
        assert_eq!(instance.on_event(Event::Exited, now + 20 * SEC), []);
        assert_eq!(instance.on_event(Event::TreeEnded, now + 20 * SEC), []);
        assert!(instance.is_stopped());
    }

    #[test]
    fn a_drain_that_takes_too_long_ends_with_sigterm() {
        let (mut instance, now) = ready();
        instance.on_event(Event::Stop, now);
        assert_eq!(instance.deadline(), Some(now + GRACE.drain));
        assert_eq!(instance.on_event(Event::Tick, now + GRACE.drain), [Action::Terminate]);
        assert_eq!(instance.on_event(Event::Drained, now + GRACE.drain), []);
    }

    #[test]
    fn an_instance_that_ignores_sigterm_is_killed_once_when_its_grace_ends() {
        let (mut instance, now) = starting();
        assert_eq!(instance.on_event(Event::Stop, now), [Action::Terminate]);
        assert_eq!(instance.on_event(Event::Tick, now + 9 * SEC), []);
        assert_eq!(instance.on_event(Event::Tick, now + 10 * SEC), [Action::Kill]);
        assert_eq!(instance.on_event(Event::Tick, now + 11 * SEC), []);
        assert_eq!(instance.deadline(), None);
    }

    #[test]
    fn the_leaders_end_does_not_spare_the_rest_of_the_tree_the_kill() {
        let (mut instance, now) = starting();
        instance.on_event(Event::Stop, now);
        assert_eq!(instance.on_event(Event::Exited, now + SEC), []);
        assert!(!instance.is_stopped());
        assert_eq!(instance.on_event(Event::Tick, now + 10 * SEC), [Action::Kill]);
        instance.on_event(Event::TreeEnded, now + 10 * SEC);
        assert!(instance.is_stopped());
    }

    #[test]
    fn a_crash_of_a_ready_instance_is_told_to_the_balancer_and_restarts_at_once() {
        let (mut instance, now) = ready();
        assert_eq!(instance.on_event(Event::Exited, now + SEC), [Action::Drain, Action::Terminate]);
        assert_eq!(instance.on_event(Event::TreeEnded, now + SEC), [Action::Spawn]);
    }

    #[test]
    fn each_crash_in_a_row_doubles_the_wait() {
        let (mut instance, mut now) = starting();
        instance.on_event(Event::Exited, now);
        assert_eq!(instance.on_event(Event::TreeEnded, now), [Action::Spawn]);
        for wait in [100, 200, 400, 800] {
            instance.on_event(Event::Exited, now);
            assert_eq!(instance.on_event(Event::TreeEnded, now), []);
            let due = instance.deadline().expect("it backs off");
            let pause = (due - now).as_millis();
            assert!((wait..=wait + wait / 10).contains(&pause), "{pause} for {wait}");
            now = due;
            assert_eq!(instance.on_event(Event::Tick, now), [Action::Spawn]);
        }
        assert_eq!(instance.failed_starts(), 5);
    }

    #[test]
    fn an_instance_that_is_not_ready_in_time_is_stopped_and_tried_again() {
        let (mut instance, now) = starting();
        assert_eq!(instance.on_event(Event::Tick, now + GRACE.ready), [Action::Terminate]);
        instance.on_event(Event::Exited, now + GRACE.ready);
        assert_eq!(instance.on_event(Event::TreeEnded, now + GRACE.ready), [Action::Spawn]);
        assert_eq!(instance.failed_starts(), 1);
    }

    #[test]
    fn a_spawn_that_fails_is_tried_again() {
        let (mut instance, now) = starting();
        instance.on_event(Event::SpawnFailed, now);
        assert_eq!(instance.on_event(Event::Tick, now), [Action::Spawn]);
        instance.on_event(Event::SpawnFailed, now);
        assert_eq!(instance.on_event(Event::Tick, now), [], "the second time after a pause");
        let due = instance.deadline().unwrap();
        assert_eq!(instance.on_event(Event::Tick, due), [Action::Spawn]);
    }

    #[test]
    fn a_spawn_that_is_put_off_comes_again_soon_and_is_no_failed_start() {
        let (mut instance, mut now) = starting();
        for _ in 0..5 {
            assert_eq!(instance.on_event(Event::SpawnPutOff, now), []);
            assert_eq!(instance.on_event(Event::Tick, now), [], "not at once");
            now = instance.deadline().unwrap();
            assert_eq!(instance.on_event(Event::Tick, now), [Action::Spawn]);
        }
        assert_eq!(instance.failed_starts(), 0);
        instance.on_event(Event::SpawnFailed, now);
        assert_eq!(instance.deadline(), Some(now), "its own first failure costs no pause");
    }

    #[test]
    fn a_stop_while_backing_off_is_done_at_once() {
        let (mut instance, now) = starting();
        instance.on_event(Event::SpawnFailed, now);
        assert_eq!(instance.on_event(Event::Stop, now), []);
        assert!(instance.is_stopped());
        assert_eq!(instance.on_event(Event::Tick, now + 60 * SEC), []);
    }

    #[test]
    fn a_held_instance_that_dies_is_not_started_before_it_is_released() {
        let (mut instance, now) = ready();
        instance.on_event(Event::Hold, now);
        instance.on_event(Event::Exited, now);
        assert_eq!(instance.on_event(Event::TreeEnded, now), []);
        assert_eq!(instance.on_event(Event::Tick, now + 60 * SEC), []);
        assert_eq!(instance.deadline(), None);
        assert_eq!(instance.on_event(Event::Release, now + 60 * SEC), [Action::Spawn]);
    }

    #[test]
    fn a_held_instance_whose_turn_comes_is_started_when_it_is_released() {
        let (mut instance, now) = (Lifecycle::new(GRACE, 1), Instant::now());
        instance.on_event(Event::Hold, now);
        assert_eq!(instance.on_event(Event::Start, now), []);
        assert_eq!((instance.on_event(Event::Tick, now + SEC), instance.deadline()), (vec![], None));
        assert_eq!(instance.on_event(Event::Release, now + SEC), [Action::Spawn]);
        assert_eq!(instance.failed_starts(), 0);
    }

    #[test]
    fn a_stop_during_the_clearing_after_a_crash_prevents_the_restart() {
        let (mut instance, now) = ready();
        instance.on_event(Event::Exited, now);
        assert_eq!(instance.on_event(Event::Stop, now), []);
        assert_eq!(instance.on_event(Event::TreeEnded, now), []);
        assert!(instance.is_stopped());
    }

    proptest! {
        /// A driver that does what it is told, and an operating system and operator that do what
        /// they like: there is never a second process, and a stop always ends in `Stopped`.
        #[test]
        fn whatever_happens_there_is_one_process_at_most_and_a_stop_ends(
            script in proptest::collection::vec((0_u8..8, 0_u64..12), 0..120),
        ) {
            let mut now = Instant::now();
            let mut instance = Lifecycle::new(GRACE, 3);
            let (mut alive, mut leader, mut joined) = (false, false, false);
            let apply = |actions: Vec<Action>, alive: &mut bool, leader: &mut bool, joined: &mut bool| {
                for action in actions {
                    match action {
                        Action::Spawn => {
                            assert!(!*alive, "a second process");
                            (*alive, *leader) = (true, true);
                        }
                        Action::Drain => {
                            assert!(*joined, "left without having joined");
                            *joined = false;
                        }
                        Action::Terminate | Action::Kill => {
                            assert!(*alive, "a signal to nobody");
                            assert!(!*joined, "signalled before it was told to the balancer");
                        }
                    }
                }
            };
            let mut stopped = false;
            for (what, seconds) in script {
                now += Duration::from_secs(seconds);
                let event = match what {
                    0 if !stopped => Event::Start,
                    1 => Event::Tick,
                    2 if leader => Event::Ready,
                    3 if leader => { leader = false; Event::Exited }
                    4 if alive && !leader => {
                        if !matches!(instance.phase(), Phase::Stopping { .. } | Phase::Killing { .. }) { continue }
                        alive = false;
                        Event::TreeEnded
                    }
                    5 => Event::Drained,
                    6 if stopped || what == 6 && seconds == 0 => { stopped = true; Event::Stop }
                    7 => if seconds % 2 == 0 { Event::Hold } else { Event::Release },
                    _ => continue,
                };
                if event == Event::Start && !matches!(instance.phase(), Phase::Stopped) { continue }
                let was_ready = instance.is_ready();
                let actions = instance.on_event(event, now);
                apply(actions, &mut alive, &mut leader, &mut joined);
                if instance.is_ready() && !was_ready {
                    assert!(leader && !joined);
                    joined = true;
                }
                assert_eq!(instance.is_ready(), joined, "who takes traffic is said in one way");
            }
            let actions = instance.on_event(Event::Stop, now);
            apply(actions, &mut alive, &mut leader, &mut joined);
            for _ in 0..4 {
                now += Duration::from_mins(1);
                let actions = instance.on_event(Event::Tick, now);
                apply(actions, &mut alive, &mut leader, &mut joined);
            }
            if alive {
                instance.on_event(Event::Exited, now);
                instance.on_event(Event::TreeEnded, now);
            }
            prop_assert!(instance.is_stopped());
        }
    }
}
