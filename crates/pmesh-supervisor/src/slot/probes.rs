//! How an instance is probed, and what its probes have said.

use std::time::{Duration, Instant};

use crate::{FirstAnswer, Liveness, ProbeFailure, lifecycle::Phase, saved::saved};

/// The longest time between two looks where an instance listens that is not ready.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The probes of one process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Probes {
    pub(super) liveness: Liveness,
    pub(super) under_way: Option<ProbeKind>,
    /// Whether the listening socket was seen to belong to the tree.
    pub(super) proven: bool,
    /// Whether requests to it have had no answer, and it has not answered one of ours since.
    pub(super) silent: bool,
    /// When it was looked last where it listens; at first when it was started.
    sought: Instant,
    /// Since when it is unhealthy, after it was ready.
    pub(super) unhealthy_since: Option<Instant>,
    /// Why it does not pass, as far as that tells something of this process.
    failure: Option<ProbeFailure>,
}

saved!(struct Probes { liveness, under_way, proven, silent, sought, unhealthy_since, failure });

/// How an instance is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeKind {
    Checks,
    /// By a request that wants an answer.
    Request {
        since: Instant,
    },
    /// A request to it has been answered meanwhile: that the probe fails says nothing then.
    Overtaken,
}

saved!(enum ProbeKind { 0 Checks, 1 Request { since }, 2 Overtaken });

impl Probes {
    /// Those of a process that has just been started.
    pub(super) fn starting(now: Instant) -> Self {
        Self {
            liveness: Liveness::starting(now),
            under_way: None,
            proven: false,
            silent: false,
            sought: now,
            unhealthy_since: None,
            failure: None,
        }
    }

    /// Whether the probe that is made now is to look where the process listens, if nobody accepts connections where
    /// it should: a few times until it counts as late, for the look reads much of `/proc`.
    pub(super) fn seeks(&mut self, phase: Phase, ready_timeout: Duration, now: Instant) -> bool {
        let is_due = matches!(phase, Phase::Starting { .. })
            && now.saturating_duration_since(self.sought) >= LOOK_AGAIN.min(ready_timeout / 4);
        if is_due {
            self.sought = now;
        }
        is_due
    }

    /// Takes how it is now, once it has been ready.
    pub(super) fn note_health(&mut self, now: Instant) {
        if self.liveness.is_healthy() {
            self.unhealthy_since = None;
        } else {
            self.unhealthy_since.get_or_insert(now);
        }
    }

    /// Takes what a probe has said.
    pub(super) fn remember(&mut self, result: &Result<FirstAnswer, ProbeFailure>) {
        self.proven |= result.is_ok();
        match (result, &self.failure) {
            (Ok(_), _) => self.failure = None,
            // Where it listens is looked up now and then only.
            (Err(ProbeFailure::Connect { .. }), Some(ProbeFailure::Elsewhere { .. })) => {}
            (Err(failure), _) => self.failure = Some(failure.clone()),
        }
    }

    /// Why it does not pass.
    pub(super) fn failure(&self) -> Option<&ProbeFailure> {
        self.failure.as_ref()
    }

    /// The same, if it is that somebody else has its port.
    pub(super) fn holder(&self) -> Option<&ProbeFailure> {
        self.failure().filter(|failure| matches!(failure, ProbeFailure::ForeignPort { .. }))
    }
}
