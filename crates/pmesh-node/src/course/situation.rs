//! The node as an operation finds it.

use std::sync::Arc;

use pmesh_manifest::Manifest;
use pmesh_supervisor::{BuildCache, ServiceKind, ServiceName};
use pmesh_vcs::Revision;

use crate::{Rebuild, unfinished::Unfinished};

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

impl Situation {
    /// Those of `services` whose builds are taken as they are where nothing has changed.
    pub(crate) fn reused<'a>(
        &self,
        rebuild: Rebuild,
        services: impl Iterator<Item = &'a ServiceName>,
    ) -> Vec<ServiceName> {
        if rebuild == Rebuild::Everything {
            return Vec::new();
        }
        let is_taken = |kind: &ServiceKind| match kind {
            ServiceKind::App(app) => !app.build.is_empty() && app.build_cache == BuildCache::ByContent,
            ServiceKind::External(_) | ServiceKind::Files => false,
        };
        let has_build = |name: &&ServiceName| {
            let mut specs = self.manifest.services.iter().map(|declared| &declared.spec);
            specs.any(|spec| spec.name == **name && is_taken(&spec.kind))
        };
        services.filter(has_build).cloned().collect()
    }
}
