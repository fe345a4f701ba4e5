//! What a run of a service is started from.

use std::{ffi::OsString, time::Duration};

use crate::{
    Build, MachineFacts, RestartPolicy, RevisionFacts, Schedule, ServiceFacts, ServiceId, ServiceKind,
    ServiceSpec, UserAccount, saved::saved,
};

/// What a run of a service is started from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The id of the run.
    pub id: ServiceId,
    /// What it was declared as.
    pub spec: ServiceSpec,
    /// The build that its instances run from; none for a service without build commands.
    pub build: Option<Build>,
    /// What this machine said of it when it was started; none before that was read.
    pub machine: Option<MachineFacts>,
    /// What its instances are told of the work tree.
    pub revision: RevisionFacts,
}

saved!(struct Plan { id, spec, build, machine, revision });

impl Plan {
    /// A run without a build.
    pub fn new(id: ServiceId, spec: ServiceSpec, revision: RevisionFacts) -> Self {
        Self { id, spec, build: None, machine: None, revision }
    }

    /// What its processes are told of themselves.
    pub(crate) fn facts(&self) -> ServiceFacts<'_> {
        ServiceFacts {
            service: &self.spec.name,
            commit: self.revision.commit.as_deref(),
            branch: self.revision.branch.as_deref(),
            root: &self.revision.root,
            build: self.build.as_ref().map(Build::id),
            machine: self.machine.as_ref(),
        }
    }

    /// Who its processes run as, where that is somebody else than the server.
    pub(crate) fn account(&self) -> Option<&UserAccount> {
        self.machine.as_ref()?.account.as_ref()
    }

    /// What a word of a command means in this run: as [`Build::resolve`] where it has a build.
    pub(crate) fn resolve(&self, word: &str) -> OsString {
        match &self.build {
            Some(build) => build.resolve(word),
            None => word.into(),
        }
    }

    /// Whether its instances have all that they are started from in the product's own folder: then it does not
    /// matter what becomes of the other files.
    pub(crate) fn is_self_contained(&self) -> bool {
        let ServiceKind::App(app) = &self.spec.kind else { return false };
        let runs_from_it = app.run.as_ref().is_some_and(|run| {
            std::iter::once(&run.program).chain(&run.arguments).any(|word| word.starts_with(".run/"))
        });
        runs_from_it && self.build.as_ref().is_some_and(|build| !build.is_in_place())
    }

    /// Whether its instances need what its build has made, or found, in the service's folder.
    pub(crate) fn needs_product(&self) -> bool {
        self.build.is_some() && !self.is_self_contained()
    }

    /// The times at which its instances are started.
    pub(crate) fn schedule(&self) -> Option<&Schedule> {
        match &self.spec.kind {
            ServiceKind::App(spec) => spec.schedule.as_ref(),
            ServiceKind::External(_) | ServiceKind::Files => None,
        }
    }

    /// How long a run of them may take.
    pub(crate) fn run_timeout(&self) -> Option<Duration> {
        match &self.spec.kind {
            ServiceKind::App(spec) if spec.schedule.is_some() => Some(spec.run_timeout),
            _ => None,
        }
    }

    /// Whether an instance that ends by itself is started again.
    pub(crate) fn restart(&self) -> RestartPolicy {
        match &self.spec.kind {
            ServiceKind::App(spec) if spec.schedule.is_some() => RestartPolicy::Never,
            ServiceKind::App(spec) if spec.background => spec.restart,
            ServiceKind::App(_) | ServiceKind::External(_) | ServiceKind::Files => RestartPolicy::Always,
        }
    }

    /// How many instances are wanted of an app; 1 where there is nothing to run, for its build.
    pub(crate) fn wanted(&self) -> u32 {
        match &self.spec.kind {
            ServiceKind::App(spec) if spec.run.is_some() => spec.instances,
            ServiceKind::App(_) | ServiceKind::External(_) | ServiceKind::Files => 1,
        }
    }

    /// Whether the old run serves until this one is ready.
    pub(crate) fn overlaps(&self) -> bool {
        match &self.spec.kind {
            ServiceKind::App(spec) => spec.overlaps(),
            // Nothing of ours runs: the switch is all there is.
            ServiceKind::External(_) | ServiceKind::Files => true,
        }
    }
}
