//! How often, and on which upstreams, a request is tried.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{
    answer::Reason, bad_answer::BadAnswer, limits::FrontStage, live_upstream::LiveUpstream, spec::Retry,
    upstream_connection::AskFailure, upstream_group::UpstreamGroup,
};

/// How often an upstream may have executed a request before it is given up.
const MAX_EXECUTIONS: u32 = 2;

/// The tries of one request.
#[derive(Debug)]
pub(crate) struct Tries<'a> {
    retry: &'a Retry,
    may_repeat: bool,
    /// When the first try began: time in the queue does not count.
    begun: Option<Instant>,
    waits_since: Option<Instant>,
    tried: Vec<Arc<LiveUpstream>>,
    pause: Duration,
    attempts: u32,
    /// How often an upstream may have executed it.
    executions: u32,
}

/// What becomes of a request whose try has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AfterFailure {
    pub(crate) next: NextTry,
    /// Another upstream may do better.
    pub(crate) is_upstreams_fault: bool,
    /// It counts as an error of the upstream.
    pub(crate) is_error: bool,
}

/// What is sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextTry {
    /// The same request, of which nothing was sent.
    Rest,
    /// The same request once more.
    Anew,
    /// Nothing; the client is told this.
    None(Reason),
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
    pub(crate) fn tried(&self) -> &[Arc<LiveUpstream>] {
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

    /// A try has failed.
    pub(crate) fn on_failure(&mut self, why: AskFailure) -> AfterFailure {
        let has_tries = self.attempts < self.retry.attempts;
        let upstreams_fault = |next| AfterFailure { next, is_upstreams_fault: true, is_error: true };
        let nobodys_fault =
            |reason| AfterFailure { next: NextTry::None(reason), is_upstreams_fault: false, is_error: false };
        match why {
            AskFailure::BrokenBody => nobodys_fault(Reason::BROKEN_BODY),
            AskFailure::BodyRests => nobodys_fault(Reason::BodyRests),
            // It has waited for one already, and others do not have it either.
            AskFailure::NoDescriptor => nobodys_fault(Reason::NoDescriptor),
            AskFailure::TooSlow => upstreams_fault(NextTry::None(Reason::UpstreamTooSlow)),
            AskFailure::Unsent if has_tries => upstreams_fault(NextTry::Rest),
            AskFailure::Unsent => upstreams_fault(NextTry::None(Reason::BadUpstream)),
            AskFailure::Sent { why, is_stale, has_begun } => {
                // An app may close an idle connection whenever it likes; a new one it will not.
                let is_upstreams_fault = !is_stale || has_begun;
                self.executions += 1;
                let may_again = self.may_repeat && !has_begun && self.executions < MAX_EXECUTIONS;
                if may_again && has_tries {
                    AfterFailure { next: NextTry::Anew, is_upstreams_fault, is_error: is_upstreams_fault }
                } else {
                    // What may happen to an idle connection is no error, unless a request is lost over it.
                    let is_error = is_upstreams_fault || !may_again;
                    let reason = match why {
                        BadAnswer::Nothing => Reason::BadUpstream,
                        refused => Reason::BadAnswer(refused),
                    };
                    AfterFailure { next: NextTry::None(reason), is_upstreams_fault, is_error }
                }
            }
        }
    }

    /// The next try is for another upstream; where there is none, for the same ones after a pause, if there is time for
    /// that. When the front ends, it is not waited for what has failed.
    pub(crate) async fn turn_to_others(
        &mut self,
        to: &UpstreamGroup,
        failed: Arc<LiveUpstream>,
        stage: &watch::Receiver<FrontStage>,
    ) -> Result<(), Reason> {
        self.tried.push(failed);
        if to.has_other_than(&self.tried) {
            return Ok(());
        }
        self.tried.clear();
        if self.elapsed() + self.pause > self.retry.timeout {
            return Err(Reason::BadUpstream);
        }
        tokio::select! {
            biased;
            () = FrontStage::draining(stage) => return Err(Reason::Ending),
            () = to.changed_within(self.pause) => {}
        }
        self.pause = self.pause.saturating_mul(2);
        Ok(())
    }

    /// Whether another try may begin.
    pub(crate) fn go_on(&self) -> Result<(), Reason> {
        if self.elapsed() > self.retry.timeout { Err(Reason::BadUpstream) } else { Ok(()) }
    }

    fn elapsed(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: AskFailure = sent(false, false);

    const fn sent(is_stale: bool, has_begun: bool) -> AskFailure {
        AskFailure::Sent { why: BadAnswer::Nothing, is_stale, has_begun }
    }

    /// What is sent next after each of these failures, with three tries.
    fn after(may_repeat: bool, failures: &[AskFailure]) -> AfterFailure {
        let retry = Retry { attempts: 3, ..Retry::default() };
        let mut tries = Tries::new(&retry, may_repeat);
        let now = Instant::now();
        let mut after = None;
        for failure in failures {
            tries.begin(|| now);
            after = Some(tries.on_failure(*failure));
        }
        after.unwrap()
    }

    #[test]
    fn what_was_never_sent_is_tried_as_often_as_is_said() {
        let unsent = AskFailure::Unsent;
        assert_eq!(after(false, &[unsent; 2]).next, NextTry::Rest);
        assert_eq!(after(false, &[unsent; 3]).next, NextTry::None(Reason::BadUpstream));
    }

    #[test]
    fn what_may_have_been_executed_is_tried_once_more_if_that_does_no_harm() {
        assert_eq!(after(true, &[LOST]).next, NextTry::Anew);
        assert_eq!(after(true, &[LOST; 2]).next, NextTry::None(Reason::BadUpstream));
        assert_eq!(after(false, &[LOST]).next, NextTry::None(Reason::BadUpstream));
        let begun = sent(true, true);
        assert_eq!(after(true, &[begun]).next, NextTry::None(Reason::BadUpstream));
    }

    #[test]
    fn an_upstream_is_blamed_for_what_it_has_done_alone() {
        let stale = sent(true, false);
        for (may_repeat, why, is_upstreams_fault, is_error) in [
            (true, AskFailure::Unsent, true, true),
            (true, AskFailure::TooSlow, true, true),
            (true, LOST, true, true),
            (true, stale, false, false),
            // The request is lost over it.
            (false, stale, false, true),
            (true, AskFailure::NoDescriptor, false, false),
            (true, AskFailure::BrokenBody, false, false),
            (true, AskFailure::BodyRests, false, false),
        ] {
            let after = after(may_repeat, &[why]);
            assert_eq!((after.is_upstreams_fault, after.is_error), (is_upstreams_fault, is_error), "{why:?}");
        }
    }
}
