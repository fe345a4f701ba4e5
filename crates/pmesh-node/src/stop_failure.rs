//! A stop that has not ended everything.

use std::collections::BTreeMap;

use pmesh_supervisor::{RunEnd, ServiceName};

/// A stop after which processes live that SIGKILL has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopFailure {
    /// How many services were not stopped before.
    pub count: usize,
    /// The services of which something lives: what, and how the rest ended.
    pub services: BTreeMap<ServiceName, RunEnd>,
}

impl StopFailure {
    /// Why each of the services has not ended.
    pub fn reasons(&self) -> BTreeMap<ServiceName, String> {
        let reason = |(name, end): (&ServiceName, &RunEnd)| Some((name.clone(), end.outlives()?));
        self.services.iter().filter_map(reason).collect()
    }

    pub(crate) fn sentence(&self) -> String {
        let reasons: Vec<String> = self
            .reasons()
            .iter()
            .map(|(service, reason)| format!("service {service} has not ended: {reason}"))
            .collect();
        format!("{}; what lives is waited for, and until it is gone the service is Down", reasons.join("; "))
    }
}
