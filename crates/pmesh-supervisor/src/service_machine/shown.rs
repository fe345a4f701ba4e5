//! What a service shows of itself.

use std::sync::Arc;

use super::{ServiceMachine, Standing, before::Before};
use crate::{
    Build, Expected, InstanceView, ProcessTree, ServiceFailure, ServiceKind, ServiceName, ServiceState,
    ServiceUpstream, run::Run, slot::SlotView, unbuilt::Unbuilt,
};

/// Who takes the traffic of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) upstreams: Vec<ServiceUpstream>,
    pub(crate) when_empty: Expected,
    /// Who its instances run as, where that is somebody else than the server.
    pub(crate) user: Option<u32>,
    /// After how many requests in a row without an answer an instance is asked whether it is ready; none where
    /// nobody would be asked.
    pub(crate) timeouts: Option<u32>,
}

impl ServiceMachine {
    /// The run that is what the service shows.
    pub(super) fn shown(&self) -> Option<&Run> {
        self.serving().or(self.candidate.as_ref().map(|candidate| &candidate.run))
    }

    /// The run that takes the traffic.
    fn serving(&self) -> Option<&Run> {
        let alone = self.candidate.as_ref().filter(|candidate| candidate.alone);
        alone.map(|candidate| &candidate.run).or(self.current.as_ref())
    }

    /// The services that it starts after, whether it runs or waits.
    fn after(&self) -> &[ServiceName] {
        let plan = self.shown().map(Run::plan).or(self.unbuilt.as_ref().map(|unbuilt| &unbuilt.plan));
        plan.map_or(&[], |plan| plan.spec.after())
    }

    /// Who takes its traffic.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            upstreams: self.serving().map(Run::upstreams).unwrap_or_default(),
            when_empty: if self.is_stopped() { Expected::Nothing } else { Expected::Back },
            user: self.serving().and_then(|run| Some(run.plan().account()?.uid)),
            timeouts: self.serving().and_then(Run::timeouts),
        }
    }

    /// The builds that any instance runs from, or is started from.
    pub(crate) fn builds(&self) -> Vec<Build> {
        let mut builds: Vec<Build> = Vec::new();
        for build in
            self.runs().flat_map(Run::builds).chain(self.relies_on().and_then(|plan| plan.build.as_ref()))
        {
            if !builds.contains(build) {
                builds.push(build.clone());
            }
        }
        builds
    }

    /// Whether it goes back to a run that has nothing to start.
    fn comes_back_at_once(&self) -> bool {
        matches!(&self.before, Before::Run(plan) if matches!(plan.spec.kind, ServiceKind::Files))
    }

    /// What it shows of itself, with the trees of its processes as its driver has them.
    pub(crate) fn state(&self, tree: impl Fn(u64) -> Option<Arc<dyn ProcessTree>>) -> ServiceState {
        let empty = ServiceState {
            stopped: self.is_stopped(),
            is_new: self.is_new,
            stops: self.stops,
            kills: self.kills,
            wanted: u32::from(!self.is_stopped()),
            builds: self.builds(),
            after: self.after().to_vec(),
            relies_on: self.relies_on().and_then(|plan| plan.build.clone()),
            // That of the run that is shown: each event settles it.
            ..ServiceState::new(self.id)
        };
        // Of a run that is there: what it was built from is not.
        let is_next = self.candidate.as_ref().is_some_and(|next| next.alone && !next.revived);
        let lacking = self.unbuilt.as_ref().filter(|_| !is_next).map(Unbuilt::failure);
        match (self.shown(), &self.unbuilt, &self.standing) {
            _ if self.is_stopped() => ServiceState { failure: self.failure_of_stopping(), ..empty },
            (Some(run), ..) => ServiceState {
                wanted: run.wanted(),
                ready: run.ready(),
                healthy: run.healthy(),
                next_is_ready: self.candidate.as_ref().is_some_and(|next| next.run.all_ready()),
                next_remark: self.candidate.as_ref().and_then(|next| next.run.remark()),
                lacks_product: lacking.is_some(),
                job_runs: self.shown_runs(),
                is_job: run.plan().schedule().is_some(),
                is_done: lacking.is_none() && run.is_done(),
                failure: lacking.or_else(|| run.failure()).or_else(|| self.failure_of_waiting(run)),
                instances: run
                    .instances()
                    .filter_map(|slot| {
                        let SlotView { number, upstream, address, healthy, restarts } = slot;
                        let tree = tree(upstream)?;
                        Some(InstanceView { number, upstream, address, healthy, restarts, tree })
                    })
                    .collect(),
                addresses: run.addresses(),
                ..empty
            },
            (None, Some(unbuilt), _) => {
                ServiceState { wanted: unbuilt.plan.wanted(), failure: Some(unbuilt.failure()), ..empty }
            }
            (None, None, Standing::Broken { reason, plan }) => ServiceState {
                wanted: plan.as_ref().map_or(1, |plan| plan.wanted()),
                failure: Some(ServiceFailure {
                    what: reason.clone(),
                    retry_at: None,
                    last_lines: Vec::new(),
                }),
                ..empty
            },
            // Its old run comes back later, and its files are served meanwhile: nothing of it has to start.
            (None, None, Standing::Wanted | Standing::Stopped) if self.comes_back_at_once() => {
                ServiceState { wanted: 0, ..empty }
            }
            (None, None, Standing::Wanted | Standing::Stopped) => empty,
        }
    }
}
