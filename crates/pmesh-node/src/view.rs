//! What the node tells about itself. Reads never wait for a change in progress: they see the state
//! that was published last.

use pmesh_proxy::UpstreamStatistics;
use pmesh_supervisor::{HealthReport, InstanceFigures, ServiceId};
use pmesh_vcs::Revision;

/// The repository that the node serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The version control system: `git`.
    pub system: &'static str,
    /// What is checked out.
    pub head: Revision,
    /// The remote head as of the last fetch; none without a remote branch to follow.
    pub remote: Option<Revision>,
    /// The remote's address, without credentials.
    pub url: Option<String>,
}

/// The kinds of service, as metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Its instances.
    pub instances: Vec<InstanceFigures>,
    /// Its health at the same time.
    pub health: HealthReport,
}
