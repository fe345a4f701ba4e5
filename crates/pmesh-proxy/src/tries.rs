//! How often, and on which upstreams, a request is tried.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    answer::Reason, destination::UpstreamsNow, exchange::Failure, refused::Refused, spec::Retry,
    upload::Upload, upstream::Live,
};

/// How often an upstream may have executed a request before it is given up.
const MAX_EXECUTIONS: u32 = 2;

/// The tries of one request.
#[derive(Debug)]
pub(crate) struct Tries<'a> {
    retry: &'a Retry,
    may_repeat: bool,
    /// The time in the queue is none of the tries'.
    begun: Option<Instant>,
    waits_since: Option<Instant>,
    tried: Vec<Arc<Live>>,
    pause: Duration,
    attempts: u32,
    /// How often an upstream may have executed it.
    executions: u32,
}

/// What a try that failed leaves.
pub(crate) struct Failed {
    /// What is sent next, or what the client is told.
    pub(crate) next: Result<Upload, Refused>,
    /// Another upstream may do better.
    pub(crate) is_upstreams_fault: bool,
    /// It counts as an error of the upstream.
    pub(crate) is_error: bool,
}

impl<'a> Tries<'a> {
    /// `may_repeat`: the request does no harm if it is executed twice.
    pub(crate) fn new(retry: &'a Retry, may_repeat: bool) -> Self {
        Self {
            retry,
            may_repeat,
            begun: None,
            waits_since: None,
            tried: Vec::new(),
            pause: retry.backoff,
            attempts: 0,
            executions: 0,
        }
    }

    /// The upstreams that have failed.
    pub(crate) fn tried(&self) -> &[Arc<Live>] {
        &self.tried
    }

    /// When it began to wait for an upstream for the first time.
    pub(crate) fn waits_since(&mut self, now: impl FnOnce() -> Instant) -> Instant {
        *self.waits_since.get_or_insert_with(now)
    }

    /// Another try begins; returns when the first one did.
    pub(crate) fn begin(&mut self, now: impl FnOnce() -> Instant) -> Instant {
        self.attempts += 1;
        *self.begun.get_or_insert_with(now)
    }

    /// Whether the next try takes a new connection in any case.
    pub(crate) fn is_anew(&self) -> bool {
        self.executions > 0
    }

    /// What becomes of a request whose try has failed; `again` is the same request once more.
    pub(crate) fn on_failure(&mut self, failure: Failure, again: impl FnOnce() -> Upload) -> Failed {
        let refused = |reason, left| Err(Refused { reason, left });
        match failure {
            Failure::Client => {
                Failed { next: Err(Refused::broken_body()), is_upstreams_fault: false, is_error: false }
            }
            Failure::ClientRests => {
                Failed { next: Err(Refused::body_rests()), is_upstreams_fault: false, is_error: false }
            }
            Failure::TooSlow { left } => Failed {
                next: refused(Reason::UpstreamTooSlow, left),
                is_upstreams_fault: true,
                is_error: true,
            },
            // It has waited for one already, and others do not have it either.
            Failure::NoDescriptor(upload) => Failed {
                next: refused(Reason::NoDescriptor, upload.into_body()),
                is_upstreams_fault: false,
                is_error: false,
            },
            Failure::Unsent(upload) if self.attempts < self.retry.attempts => {
                Failed { next: Ok(*upload), is_upstreams_fault: true, is_error: true }
            }
            Failure::Unsent(upload) => Failed {
                next: refused(Reason::BadUpstream, upload.into_body()),
                is_upstreams_fault: true,
                is_error: true,
            },
            Failure::Sent { why: _, is_stale, has_begun, left } => {
                // An app may close an idle connection whenever it likes; a new one it will not.
                let is_upstreams_fault = !is_stale || has_begun;
                self.executions += 1;
                let may_again = self.may_repeat && !has_begun && self.executions < MAX_EXECUTIONS;
                if may_again && self.attempts < self.retry.attempts {
                    Failed { next: Ok(again()), is_upstreams_fault, is_error: is_upstreams_fault }
                } else {
                    // What may happen to an idle connection is no error, unless a request is lost over it.
                    let is_error = is_upstreams_fault || !may_again;
                    Failed { next: refused(Reason::BadUpstream, left), is_upstreams_fault, is_error }
                }
            }
        }
    }

    /// The next try is for another upstream; where there is none, for the same ones after a pause. Whether there
    /// is time for that.
    pub(crate) async fn turn_to_others(&mut self, to: &UpstreamsNow, failed: Arc<Live>) -> bool {
        self.tried.push(failed);
        if to.has_other_than(&self.tried) {
            return true;
        }
        self.tried.clear();
        if self.elapsed() + self.pause > self.retry.timeout {
            return false;
        }
        to.changed_within(self.pause).await;
        self.pause = self.pause.saturating_mul(2);
        true
    }

    /// Whether no try may begin any more.
    pub(crate) fn is_over(&self) -> bool {
        self.elapsed() > self.retry.timeout
    }

    fn elapsed(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }
}
