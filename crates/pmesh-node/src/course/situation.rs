//! The node as an operation finds it.

use std::sync::Arc;

use pmesh_manifest::Manifest;
use pmesh_supervisor::ServiceName;
use pmesh_vcs::Revision;

use crate::unfinished::Unfinished;

/// What a course has to know of the node when it begins.
#[derive(Clone, Debug)]
pub(crate) struct Situation {
    /// The manifest in force.
    pub(crate) manifest: Arc<Manifest>,
    /// The services that there are.
    pub(crate) services: Vec<ServiceName>,
    pub(crate) has_repository: bool,
    /// The revision that the services run; none where that is not known.
    pub(crate) deployed: Option<Revision>,
    pub(crate) unfinished: Unfinished,
}
