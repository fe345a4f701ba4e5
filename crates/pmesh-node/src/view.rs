//! What the node tells about itself. Reads never wait for a change in progress: they see the state
//! that was published last.

use std::{path::PathBuf, sync::Arc};

use pmesh_proxy::UpstreamStatistics;
use pmesh_supervisor::{
    BuildProgress, Containment, HealthReport, InstanceFigures, JobRun, ServiceId, ServiceName, ServiceState,
};
use pmesh_vcs::Revision;

use crate::Operation;

/// The node as it was published last: a whole that never changes. What is in it fits together: who finds an
/// operation ended finds what it has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct View {
    /// The id of the last change that is in it; those behind it follow from
    /// [`Node::changes_after`](crate::Node::changes_after).
    pub change: u64,
    /// The services, in the order of the manifest; those that are not in it (any more) behind.
    pub services: Vec<Arc<ServiceView>>,
    /// The operations that have not ended and the last that have, newest first.
    pub operations: Vec<Arc<Operation>>,
    /// The revision that the services run: that of the last rollout of all of them. None before the first one,
    /// and without a repository.
    pub deployed: Option<Arc<Revision>>,
}

impl View {
    /// The service of this name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<ServiceView>> {
        self.services.iter().find(|service| service.name == *name)
    }
}

/// A service as it was published last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// What it is.
    pub kind: ServiceType,
    /// How it is.
    pub state: ServiceState,
    /// How far the build is that is made for it, if one is.
    pub building: Option<BuildProgress>,
}

/// The repository that the node serves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repository {
    /// The version control system: `git`.
    pub system: &'static str,
    /// What is checked out.
    pub head: Revision,
    /// The remote head as of the last fetch; none without a remote branch to follow.
    pub remote: Option<Revision>,
    /// The remote's address, without credentials.
    pub url: Option<String>,
    /// The revision that the services run, as [`View::deployed`].
    pub deployed: Option<Arc<Revision>>,
    /// How the head lies to the remote head; none where there is none, no commit in common, or too many to count.
    pub distance: Option<Distance>,
}

/// How many commits lie between the head and the remote head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Distance {
    /// Those that the remote alone has.
    pub behind: usize,
    /// Those that it lacks.
    pub ahead: usize,
}

/// An instance, and what it uses.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Its number in the service, from 1.
    pub number: u32,
    /// The port that it listens on; none for a background service.
    pub port: Option<u16>,
    /// The commit that was checked out when it was started; that of its build where it has one.
    pub commit: Option<String>,
    /// How often it was started again in its run.
    pub restarts: u32,
    /// What it uses.
    pub figures: InstanceFigures,
}

/// The kinds of service, as metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceType {
    /// Processes.
    App,
    /// Files.
    Files,
    /// Somebody else's addresses.
    Proxy,
}

impl ServiceType {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Files => "file",
            Self::Proxy => "proxy",
        }
    }
}

/// What is measured of a service.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The id of its run.
    pub id: ServiceId,
    /// What it is.
    pub kind: ServiceType,
    /// Its upstreams, with whether each is healthy; none for a service that takes no traffic.
    pub upstreams: Vec<(UpstreamStatistics, bool)>,
    /// How it is known which processes belong to its instances: the least exact way of all; none without instances.
    pub containment: Option<Containment>,
    /// Its instances.
    pub instances: Vec<Measured>,
    /// Whether it is a job: started at set times.
    pub is_job: bool,
    /// The last runs of a job, oldest first, and those under way.
    pub runs: Vec<JobRun>,
    /// Its health at the same time.
    pub health: HealthReport,
    /// The path of its log; none of files and proxies.
    pub log: Option<PathBuf>,
}
