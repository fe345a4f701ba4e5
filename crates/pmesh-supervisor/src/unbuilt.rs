//! A run that waits before it starts: a build that failed, and is no reason to go back, is tried again; and so is one whose
//! service starts after others that are not ready: its try waits for them, and then builds.

use std::{sync::Arc, time::Instant};

use crate::{Plan, ServiceFailure, ServiceKind, backoff::Backoff, saved::saved};

/// What happens to a run without a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryEvent {
    /// The try has failed, or was ended.
    Failed,
    /// No try may be under way until [`Release`](RetryEvent::Release).
    Hold,
    /// It may again.
    Release,
    /// A [`deadline`](BuildRetry::deadline) may have passed.
    Tick,
}

/// What is to be done for a run without a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryAction {
    /// Try to build.
    Build,
    /// End the try that is under way.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TryPhase {
    Waiting {
        until: Instant,
    },
    Building,
    /// The try is ended, and another comes when it may.
    Ending,
}

saved!(enum TryPhase { 0 Waiting { until }, 1 Building, 2 Ending });

/// When the next try is. A plain type: takes events and the time, answers with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuildRetry {
    backoff: Backoff,
    phase: TryPhase,
    held: bool,
}

saved!(struct BuildRetry { backoff, phase, held });

impl BuildRetry {
    /// After the first failure; `seed` decides the jitter.
    pub(crate) fn new(seed: u64, held: bool, now: Instant) -> Self {
        let mut backoff = Backoff::of_builds(seed);
        let until = now + backoff.on_failure(None);
        Self { backoff, phase: TryPhase::Waiting { until }, held }
    }

    /// The first try is under way; `seed` decides the jitter.
    pub(crate) fn trying(seed: u64, held: bool) -> Self {
        Self { backoff: Backoff::of_builds(seed), phase: TryPhase::Building, held }
    }

    /// The first try is to begin now, or as soon as it may; `seed` decides the jitter.
    pub(crate) fn due(seed: u64, held: bool, now: Instant) -> Self {
        Self { backoff: Backoff::of_builds(seed), phase: TryPhase::Waiting { until: now }, held }
    }

    /// When the next try is planned.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        match self.phase {
            TryPhase::Waiting { until } => Some(until),
            TryPhase::Building | TryPhase::Ending => None,
        }
    }

    /// When [`RetryEvent::Tick`] is due if nothing else happens first. An early tick does nothing.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next_try().filter(|_| !self.held)
    }

    pub(crate) fn on_event(&mut self, event: RetryEvent, now: Instant) -> Option<RetryAction> {
        match (event, self.phase) {
            (RetryEvent::Failed, TryPhase::Building) => {
                self.phase = TryPhase::Waiting { until: now + self.backoff.on_failure(None) };
                None
            }
            // No failure of its own.
            (RetryEvent::Failed, TryPhase::Ending) => {
                self.phase = TryPhase::Waiting { until: now };
                self.on_event(RetryEvent::Tick, now)
            }
            (RetryEvent::Failed, TryPhase::Waiting { .. }) => None,

            (RetryEvent::Hold, TryPhase::Building) => {
                self.held = true;
                self.phase = TryPhase::Ending;
                Some(RetryAction::End)
            }
            (RetryEvent::Hold, TryPhase::Waiting { .. } | TryPhase::Ending) => {
                self.held = true;
                None
            }
            (RetryEvent::Release, _) => {
                self.held = false;
                self.on_event(RetryEvent::Tick, now)
            }

            (RetryEvent::Tick, TryPhase::Waiting { until }) if until <= now && !self.held => {
                self.phase = TryPhase::Building;
                Some(RetryAction::Build)
            }
            (RetryEvent::Tick, _) => None,
        }
    }
}

/// A run that waits for its build.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unbuilt {
    /// What it is started from when it has one.
    pub(crate) plan: Arc<Plan>,
    /// Why it has none.
    pub(crate) failure: ServiceFailure,
    pub(crate) retry: BuildRetry,
    /// The number of the try that is under way.
    pub(crate) trying: Option<u64>,
    /// What it lacks.
    pub(crate) missing: Missing,
}

saved!(struct Unbuilt { plan, failure, retry, trying, missing });

/// What a run lacks that has not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A build.
    Build,
    /// What its release commands make.
    Release,
    /// Services that it starts after.
    Others,
}

saved!(enum Missing { 0 Build, 1 Release, 2 Others });

impl Missing {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Release => "release",
            Self::Others => "service that it starts after",
        }
    }
}

impl Unbuilt {
    /// Why it has no build and when the next try is. Instances of it may run: what they were started from is not
    /// there any more then.
    pub(crate) fn failure(&self) -> ServiceFailure {
        let ServiceFailure { what, last_lines, .. } = self.failure.clone();
        let before = match self.missing {
            Missing::Build if self.has_nothing_to_build() => "it is not started: ",
            Missing::Build => "it is not built: ",
            Missing::Release => "its release has failed: ",
            Missing::Others => return self.failure.clone(),
        };
        ServiceFailure { what: format!("{before}{what}"), retry_at: self.retry.next_try(), last_lines }
    }

    /// Whether what it lacks is something of this machine: there is nothing to build.
    fn has_nothing_to_build(&self) -> bool {
        matches!(&self.plan.spec.kind, ServiceKind::App(app) if app.build.is_empty() && app.has_preparation())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{BuildRetry, RetryAction, RetryEvent};
    use crate::backoff::{FIRST_BUILD_PAUSE, LONGEST_BUILD_PAUSE};

    fn failed_once() -> (BuildRetry, Instant) {
        let now = Instant::now();
        (BuildRetry::new(1, false, now), now)
    }

    #[test]
    fn a_build_that_failed_is_tried_again_after_a_pause_that_doubles_up_to_a_limit() {
        let (mut retry, mut now) = failed_once();
        let mut plain = FIRST_BUILD_PAUSE;
        for _ in 0..12 {
            let due = retry.deadline().expect("a try is planned");
            assert!(due - now >= plain && due - now <= plain + plain / 10, "{:?}", due - now);
            assert_eq!(retry.on_event(RetryEvent::Tick, now + plain.mul_f64(0.99)), None);
            assert_eq!(retry.on_event(RetryEvent::Tick, due), Some(RetryAction::Build));
            assert_eq!(retry.deadline(), None);
            now = due + Duration::from_mins(1);
            assert_eq!(retry.on_event(RetryEvent::Failed, now), None);
            plain = (2 * plain).min(LONGEST_BUILD_PAUSE);
        }
    }

    #[test]
    fn a_hold_ends_the_try_and_the_release_begins_another_at_once() {
        let (mut retry, now) = failed_once();
        let due = retry.deadline().expect("a try is planned");
        assert_eq!(retry.on_event(RetryEvent::Tick, due), Some(RetryAction::Build));
        assert_eq!(retry.on_event(RetryEvent::Hold, due), Some(RetryAction::End));
        assert_eq!(retry.on_event(RetryEvent::Failed, due), None);
        assert_eq!(retry.deadline(), None);
        assert_eq!(retry.on_event(RetryEvent::Release, now + LONGEST_BUILD_PAUSE), Some(RetryAction::Build));
    }

    #[test]
    fn a_release_before_the_try_has_ended_waits_for_its_end() {
        let (mut retry, _) = failed_once();
        let due = retry.deadline().expect("a try is planned");
        retry.on_event(RetryEvent::Tick, due);
        retry.on_event(RetryEvent::Hold, due);
        assert_eq!(retry.on_event(RetryEvent::Release, due), None);
        assert_eq!(retry.on_event(RetryEvent::Failed, due), Some(RetryAction::Build));
    }

    #[test]
    fn a_try_whose_time_comes_while_it_is_held_waits_for_the_release() {
        let (mut retry, now) = failed_once();
        assert_eq!(retry.on_event(RetryEvent::Hold, now), None);
        assert_eq!(retry.on_event(RetryEvent::Tick, now + LONGEST_BUILD_PAUSE), None);
        assert_eq!(retry.deadline(), None);
        assert_eq!(retry.on_event(RetryEvent::Release, now), None, "it is not due yet");
        assert!(retry.deadline().is_some());
    }
}
