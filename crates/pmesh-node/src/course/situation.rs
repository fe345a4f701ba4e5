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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pmesh_manifest::{ManifestText, Unsupported};

    use super::*;

    #[test]
    fn builds_that_are_taken_as_they_are_are_those_of_apps_that_have_one_and_reuse_it() {
        let text = "services:\n  built: !App\n    build: make\n    run: work\n  other: !App\n    build: make\n    run: work\n  \
                    plain: !App\n    run: work\n  always: !App\n    build: make\n    no_build_control: true\n    run: work\n  \
                    files: !FS\n    path: public\n  far: !Proxy 127.0.0.1:1\n";
        let source = ManifestText::new(text.as_bytes(), Path::new("pm3.yml"), Path::new("/project"));
        let manifest = Arc::new(pmesh_manifest::parse(&source, Unsupported::Refuse).unwrap());
        let services: Vec<ServiceName> =
            manifest.services.iter().map(|declared| declared.spec.name.clone()).collect();
        let situation = Situation {
            manifest,
            services: services.clone(),
            has_repository: false,
            deployed: None,
            unfinished: Unfinished::default(),
        };
        let reused = |rebuild, services: &[ServiceName]| {
            let reused = situation.reused(rebuild, services.iter());
            reused.iter().map(ServiceName::to_string).collect::<Vec<_>>()
        };
        assert_eq!(reused(Rebuild::Changed, &services), ["built", "other"]);
        assert_eq!(reused(Rebuild::Changed, &services[..1]), ["built"]);
        assert_eq!(reused(Rebuild::Changed, &["gone".parse().unwrap()]), [""; 0]);
        assert_eq!(reused(Rebuild::Everything, &services), [""; 0]);
    }
}
