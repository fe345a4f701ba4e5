//! Whether a service does what it should, and when a probed thing counts as healthy. Plain types.

use std::time::{Duration, Instant};

use crate::{BuildProgress, Monitor, ServiceFailure, lack, saved::saved};

/// The health of a service, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// Its health in one word.
    pub status: Status,
    /// Instances (or addresses) that are healthy; at most `total`, also while old and new instances overlap.
    pub healthy: u32,
    /// Instances that are wanted; 0 when stopped.
    pub total: u32,
    /// What is wrong, in words that help; always there if the status is `Degraded` or `Down`.
    pub error: Option<String>,
    /// The first part of `error`: one short sentence. Without an error, why there is nothing to run: `done`.
    pub reason: Option<String>,
    /// The second part of `error`: the last lines of output, oldest first.
    pub last_lines: Vec<String>,
    /// The third part of `error`: how long after the report the next try is, if one is planned.
    pub next_try: Option<Duration>,
    /// The build that is under way for the service, if there is one; filled in by the caller, who knows the
    /// builds.
    pub building: Option<BuildProgress>,
}

/// The one word for a service's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every wanted instance is healthy, or there is nothing to run.
    Ok,
    /// Some are healthy; or all are, but an instance that ends could not be started again.
    Degraded,
    /// None is healthy yet, and nothing has failed.
    Starting,
    /// None is healthy.
    Down,
    /// It was stopped on request.
    Stopped,
}

impl HealthReport {
    /// A service that was stopped on request.
    pub fn stopped() -> Self {
        Self::without_words(Status::Stopped, 0, 0)
    }

    /// A service whose instances have done what they were started for.
    pub fn done() -> Self {
        Self { reason: Some("done".to_owned()), ..Self::without_words(Status::Ok, 0, 0) }
    }

    /// A job of which nothing runs: when it runs the next time, and how its last run has failed, if it has.
    pub fn of_job(failure: Option<&ServiceFailure>, next: Option<Instant>, now: Instant) -> Self {
        let report = match failure {
            Some(failure) => Self::without_words(Status::Degraded, 0, 0).because_of(failure, now),
            None => Self {
                reason: Some("it waits for its time".to_owned()),
                ..Self::without_words(Status::Ok, 0, 0)
            },
        };
        Self { next_try: next.map(|at| at.saturating_duration_since(now)), ..report }
    }

    /// A service of which nothing is served, for this reason, and no try is planned.
    pub fn down(reason: String) -> Self {
        Self { error: Some(reason.clone()), reason: Some(reason), ..Self::without_words(Status::Down, 0, 0) }
    }

    fn without_words(status: Status, healthy: u32, total: u32) -> Self {
        Self {
            status,
            healthy,
            total,
            error: None,
            reason: None,
            last_lines: Vec::new(),
            next_try: None,
            building: None,
        }
    }

    /// The health at the moment `now` of a service that wants `total` instances or addresses, of which
    /// `healthy` are healthy; with the newest failure of the others, if there is one.
    pub fn of(healthy: u32, total: u32, failure: Option<&ServiceFailure>, now: Instant) -> Self {
        let healthy = healthy.min(total);
        let missing = total - healthy;
        let status = match (healthy, failure) {
            _ if missing == 0 => Status::Ok,
            (0, None) => Status::Starting,
            (0, Some(_)) => Status::Down,
            _ => Status::Degraded,
        };
        let report = Self::without_words(status, healthy, total);
        match (status, failure) {
            (Status::Ok | Status::Starting | Status::Stopped, _) => report,
            (Status::Degraded | Status::Down, Some(failure)) => report.because_of(failure, now),
            (Status::Degraded | Status::Down, None) => {
                let reason = format!("{missing} of {total} instances are not ready yet");
                Self { error: Some(reason.clone()), reason: Some(reason), ..report }
            }
        }
    }

    /// The same health for a service whose instances could not be started again if they ended, for this
    /// reason: it is degraded even if all of them are healthy.
    #[must_use]
    pub fn without_reserve(self, failure: &ServiceFailure, now: Instant) -> Self {
        let status = if self.status == Status::Ok { Status::Degraded } else { self.status };
        Self { status, ..self }.because_of(failure, now)
    }

    fn because_of(self, failure: &ServiceFailure, now: Instant) -> Self {
        Self {
            error: Some(failure.sentence(now)),
            reason: Some(failure.what.clone()),
            last_lines: failure.last_lines.clone(),
            next_try: failure.retry_at.map(|at| at.saturating_duration_since(now)),
            ..self
        }
    }
}

/// The health of one probed instance or address by the thresholds of its monitor: takes the results of
/// probes, and says when the next probe is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Liveness {
    healthy: bool,
    /// How many results in a row contradict `healthy`.
    against: u32,
    next: Instant,
    /// `Some` until the first pass: probes come in quick succession, so that readiness is seen early.
    eager: Option<Eager>,
}

saved!(struct Liveness { healthy, against, next, eager });

/// The growing pause between probes of something that has not been healthy yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Eager {
    pause: Duration,
    /// The longest pause; `None`: the monitor's interval.
    longest: Option<Duration>,
}

saved!(struct Eager { pause, longest });

/// The first pause between probes of something that has not been healthy yet; it doubles each time.
const EAGER_START: Duration = Duration::from_millis(10);
/// The longest pause between probes of an instance that has just been started.
const STARTING_LIMIT: Duration = Duration::from_millis(250);

impl Liveness {
    /// For an instance that has just been started: unhealthy, and probed in quick succession until a probe
    /// passes. How long that may take is limited elsewhere.
    pub(crate) fn starting(now: Instant) -> Self {
        Self::eager(now, Some(STARTING_LIMIT))
    }

    /// For something that may have run for long or be down for long: unhealthy until a probe passes, and
    /// probed in quick succession at first, then less and less often down to the monitor's interval.
    pub(crate) fn unknown(now: Instant) -> Self {
        Self::eager(now, None)
    }

    fn eager(now: Instant, longest: Option<Duration>) -> Self {
        let eager = Eager { pause: EAGER_START, longest };
        Self { healthy: false, against: 0, next: now + eager.pause, eager: Some(eager) }
    }

    /// Whether it counts as healthy.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Whether it is healthy or was before.
    pub(crate) fn has_been_healthy(&self) -> bool {
        self.eager.is_none()
    }

    /// When the next probe is due. The next starts only when the one before it has a result, so
    /// probes never pile up.
    pub(crate) fn next_probe(&self) -> Instant {
        self.next
    }

    /// Takes the result of a probe that decides alone, without threshold; answers whether the health has
    /// changed.
    pub(crate) fn set_healthy(&mut self, healthy: bool, monitor: &Monitor, now: Instant) -> bool {
        let changed = self.healthy != healthy;
        (self.healthy, self.against) = (healthy, 0);
        self.next = now + if healthy { monitor.healthy_interval } else { monitor.unhealthy_interval };
        changed
    }

    /// Moves the next probe to `then`, if it is due later.
    pub(crate) fn probe_by(&mut self, then: Instant) {
        self.next = self.next.min(then);
    }

    /// Takes that no probe could be made: the next one comes soon, and nothing else changes.
    pub(crate) fn on_unmade(&mut self, now: Instant) {
        self.next = now + lack::PAUSE;
    }

    /// Takes the result of a probe; answers whether the health has changed.
    pub(crate) fn on_result(&mut self, passed: bool, monitor: &Monitor, now: Instant) -> bool {
        let speaks_against = passed != self.healthy;
        self.against = if speaks_against { self.against + 1 } else { 0 };
        let threshold = match (self.healthy, self.eager) {
            (true, _) => monitor.unhealthy_threshold,
            // The first pass after a start is readiness, not recovery: one pass is enough.
            (false, Some(_)) => 1,
            (false, None) => monitor.healthy_threshold,
        };
        let changed = speaks_against && self.against >= threshold.max(1);
        if changed {
            self.healthy = passed;
            self.against = 0;
        }
        self.next = now
            + match &mut self.eager {
                _ if passed => monitor.healthy_interval,
                Some(Eager { pause, longest }) => {
                    *pause = pause.saturating_mul(2).min(longest.unwrap_or(monitor.unhealthy_interval));
                    *pause
                }
                None => monitor.unhealthy_interval,
            };
        if passed {
            self.eager = None;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{HealthReport, Liveness, Status};
    use crate::{Monitor, ServiceFailure};

    fn failure() -> ServiceFailure {
        ServiceFailure { what: "exit code 1".to_owned(), retry_at: None, last_lines: Vec::new() }
    }

    #[test]
    fn a_service_is_ok_only_when_every_wanted_instance_is_healthy() {
        let now = Instant::now();
        let status = |healthy, total, failure: Option<&ServiceFailure>| {
            HealthReport::of(healthy, total, failure, now).status
        };
        assert_eq!(status(2, 2, Some(&failure())), Status::Ok);
        assert_eq!(status(0, 0, None), Status::Ok);
        assert_eq!(HealthReport::of(5, 2, None, now).healthy, 2, "old and new overlap");
        assert_eq!(status(1, 2, None), Status::Degraded);
        assert_eq!(status(0, 2, None), Status::Starting);
        assert_eq!(status(0, 2, Some(&failure())), Status::Down);
    }

    #[test]
    fn whenever_a_service_is_degraded_or_down_there_is_a_reason() {
        for healthy in 0..=3 {
            for failure in [None, Some(&failure())] {
                let report = HealthReport::of(healthy, 3, failure, Instant::now());
                let must = matches!(report.status, Status::Degraded | Status::Down);
                assert_eq!((report.error.is_some(), report.reason.is_some()), (must, must), "{report:?}");
            }
        }
    }

    #[test]
    fn a_failure_comes_in_pieces_too_and_none_of_it_where_all_is_well() {
        let now = Instant::now();
        let lines: Vec<String> = ["a", "    b"].map(str::to_owned).to_vec();
        let wait = Duration::from_secs(4);
        let failure = ServiceFailure { retry_at: Some(now + wait), last_lines: lines.clone(), ..failure() };
        let report = HealthReport::of(0, 1, Some(&failure), now);
        assert_eq!(
            report.error.as_deref(),
            Some("exit code 1; the next try is in 4.0 s; its last lines: a | b")
        );
        assert_eq!((report.reason.as_deref(), report.next_try), (Some("exit code 1"), Some(wait)));
        assert_eq!(report.last_lines, lines);
        let late = HealthReport::of(0, 1, Some(&failure), now + 2 * wait);
        assert_eq!(late.next_try, Some(Duration::ZERO));
        let well = HealthReport::of(1, 1, Some(&failure), now);
        assert_eq!((well.reason, well.last_lines, well.next_try), (None, vec![], None));
    }

    #[test]
    fn what_is_down_for_a_reason_of_its_own_says_it_and_what_was_stopped_has_none() {
        let down = HealthReport::down("its folder is not there".to_owned());
        assert_eq!((down.status, down.error.as_deref()), (Status::Down, Some("its folder is not there")));
        assert_eq!((down.reason, down.next_try), (down.error, None));
        let stopped = HealthReport::stopped();
        assert_eq!((stopped.status, stopped.total, stopped.error), (Status::Stopped, 0, None));
    }

    #[test]
    fn what_is_not_ready_yet_and_has_not_failed_is_counted() {
        let report = HealthReport::of(1, 3, None, Instant::now());
        assert_eq!(report.error.as_deref(), Some("2 of 3 instances are not ready yet"));
    }

    #[test]
    fn the_first_pass_makes_ready_and_only_failures_in_a_row_take_it_back() {
        let monitor = Monitor { unhealthy_threshold: 3, healthy_threshold: 2, ..Monitor::default() };
        let now = Instant::now();
        let mut live = Liveness::starting(now);
        assert!(!live.on_result(false, &monitor, now));
        assert!(live.on_result(true, &monitor, now));
        assert!(live.is_healthy());
        for results in [[false, false, true], [false, false, true]] {
            for passed in results {
                assert!(!live.on_result(passed, &monitor, now));
            }
        }
        assert!(!live.on_result(false, &monitor, now));
        assert!(!live.on_result(false, &monitor, now));
        assert!(live.on_result(false, &monitor, now));
        assert!(!live.is_healthy());
        assert!(!live.on_result(true, &monitor, now), "recovery needs its threshold");
        assert!(live.on_result(true, &monitor, now));
    }

    #[test]
    fn what_was_healthy_once_is_remembered_as_that() {
        let monitor = Monitor { unhealthy_threshold: 1, ..Monitor::default() };
        let now = Instant::now();
        let mut live = Liveness::starting(now);
        live.on_result(false, &monitor, now);
        assert!(!live.has_been_healthy());
        live.on_result(true, &monitor, now);
        live.on_result(false, &monitor, now);
        assert_eq!((live.is_healthy(), live.has_been_healthy()), (false, true));
    }

    #[test]
    fn a_result_that_decides_alone_needs_no_others_and_says_whether_it_changed_anything() {
        let monitor = Monitor { unhealthy_threshold: 3, ..Monitor::default() };
        let now = Instant::now();
        let mut live = Liveness::starting(now);
        live.on_result(true, &monitor, now);
        for (healthy, changes) in [(true, false), (false, true), (false, false), (true, true)] {
            assert_eq!(live.set_healthy(healthy, &monitor, now), changes);
            let interval = if healthy { monitor.healthy_interval } else { monitor.unhealthy_interval };
            assert_eq!((live.is_healthy(), live.next_probe()), (healthy, now + interval));
        }
    }

    #[test]
    fn a_probe_may_be_had_sooner_and_never_later() {
        let now = Instant::now();
        let mut live = Liveness::starting(now);
        live.set_healthy(true, &Monitor::default(), now);
        let due = live.next_probe();
        live.probe_by(due + Duration::from_secs(1));
        assert_eq!(live.next_probe(), due);
        live.probe_by(now);
        assert_eq!(live.next_probe(), now);
    }

    #[test]
    fn probes_of_what_somebody_else_starts_come_less_and_less_often_down_to_the_interval() {
        let monitor = Monitor { unhealthy_interval: Duration::from_secs(20), ..Monitor::default() };
        let mut now = Instant::now();
        let mut live = Liveness::unknown(now);
        let mut pauses = Vec::new();
        for _ in 0..13 {
            pauses.push((live.next_probe() - now).as_millis());
            now = live.next_probe();
            live.on_result(false, &monitor, now);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_240, 20_000, 20_000]);
        assert!(live.on_result(true, &monitor, now), "the first pass is enough");
        let often = Monitor { unhealthy_interval: Duration::from_millis(5), ..monitor };
        let mut live = Liveness::unknown(now);
        live.on_result(false, &often, now);
        assert_eq!(live.next_probe() - now, often.unhealthy_interval);
    }

    #[test]
    fn a_probe_that_could_not_be_made_is_no_result_and_comes_again_soon() {
        let monitor = Monitor { unhealthy_threshold: 2, ..Monitor::default() };
        let now = Instant::now();
        let mut live = Liveness::starting(now);
        live.on_result(true, &monitor, now);
        assert!(!live.on_result(false, &monitor, now));
        for _ in 0..10 {
            live.on_unmade(now);
            assert_eq!(live.next_probe() - now, Duration::from_millis(500));
        }
        assert!(live.is_healthy(), "one result speaks against it, not eleven");
        assert!(live.on_result(false, &monitor, now), "and that one still counts");
    }

    #[test]
    fn until_the_first_pass_probes_come_quickly_and_then_at_the_interval() {
        let monitor = Monitor::default();
        let mut now = Instant::now();
        let mut live = Liveness::starting(now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.push((live.next_probe() - now).as_millis());
            now = live.next_probe();
            live.on_result(false, &monitor, now);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 250, 250]);
        live.on_result(true, &monitor, now);
        assert_eq!(live.next_probe() - now, monitor.healthy_interval);
        live.on_result(false, &monitor, now);
        assert_eq!(live.next_probe() - now, Duration::from_secs(5), "not eager again");
    }
}
