//! A driver whose service waits for its build.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::{Before, Driver};
use crate::{
    Build, BuildError, Failure, Plan, Rebuild, Wish, backoff,
    causes::with_causes,
    link::Link,
    pending::{Happening, now},
    unbuilt::{Action, Event, Retry, Unbuilt},
};

impl Driver {
    pub(super) fn stay_unbuilt(&mut self, plan: Plan, failure: Failure) {
        self.is_new = false;
        if self.current.as_ref().is_some_and(|current| current.ready() > 0) {
            // It has recovered since it was decided that its failure is none of the rollout's.
            return;
        }
        let candidate = self.candidate.take().map(|candidate| candidate.generation);
        for old in self.current.take().into_iter().chain(candidate) {
            self.leave(old, Vec::new(), Vec::new());
        }
        self.take_unbuilt();
        self.before = Before::Nothing;
        self.stopped = false;
        self.wait_for_build(plan, failure);
    }

    pub(super) fn wait_for_build(&mut self, plan: Plan, failure: Failure) {
        let retry = Retry::new(backoff::seed(self.name.as_str()), self.held, now());
        self.unbuilt = Some(Unbuilt { plan, failure, retry, trying: None });
    }

    /// Nobody waits for the build any more: a try that is under way ends.
    pub(super) fn take_unbuilt(&mut self) -> Option<Unbuilt> {
        let unbuilt = self.unbuilt.take();
        for (_, wishes) in &self.tries {
            wishes.send_if_modified(|wish| {
                let is_new = *wish < Wish::End;
                *wish = (*wish).max(Wish::End);
                is_new
            });
        }
        unbuilt
    }

    pub(super) fn tell_unbuilt(&mut self, event: Event) {
        let Some(unbuilt) = &mut self.unbuilt else { return };
        match unbuilt.retry.on_event(event, now()) {
            Some(Action::Build) => {
                let key = self.context.new_upstream();
                let (wishes, wished) = watch::channel(Wish::GoOn);
                unbuilt.trying = Some(key);
                self.tries.push((key, wishes));
                let (context, plan) = (Arc::clone(&self.context), unbuilt.plan.clone());
                self.pending.push(Box::pin(async move {
                    let built = context.build(&plan.spec, &plan.revision, Rebuild::Changed, wished).await;
                    if let Ok(Some(build)) = &built {
                        // It stays where it is led: there is no run to go back to.
                        drop(Link::move_to(build, &plan.spec).await);
                    }
                    (key, Happening::Built(built))
                }));
            }
            Some(Action::End) => {
                for (_, wishes) in self.tries.iter().filter(|&&(key, _)| unbuilt.trying == Some(key)) {
                    wishes.send_replace(Wish::End);
                }
            }
            None => {}
        }
    }

    pub(super) fn on_built(&mut self, key: u64, built: Result<Option<Build>, BuildError>) {
        self.tries.retain(|&(other, _)| other != key);
        let Some(mut unbuilt) = self.unbuilt.take_if(|unbuilt| unbuilt.trying == Some(key)) else { return };
        match built {
            Ok(build) => {
                info!(service = %self.name, id = %unbuilt.plan.id, "it is built, and starts");
                let (ended, _) = oneshot::channel();
                self.start_alone(Plan { build, ..unbuilt.plan }, ended);
            }
            Err(error) => {
                unbuilt.trying = None;
                if !matches!(error, BuildError::Cancelled) {
                    warn!(service = %self.name, reason = with_causes(&error), "there is no build");
                    unbuilt.failure = error.into_failure();
                }
                self.unbuilt = Some(unbuilt);
                self.tell_unbuilt(Event::Failed);
            }
        }
    }
}
