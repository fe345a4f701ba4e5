//! The link `.run` of a service, moved forth and back. The service also runs without it, so a failure is only
//! logged.

use std::path::PathBuf;

use pmesh_threads::Threads;
use tracing::warn;

use crate::{
    Build, ServiceKind, ServiceSpec, build::BuildError, causes::with_causes, work_threads::FILES_LIMIT,
};

/// Where the link `.run` of a service led before it was moved.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    folder: PathBuf,
    before: Option<Build>,
}

impl Link {
    /// Moves the service's link to its new build.
    pub(crate) async fn move_to(build: &Build, spec: &ServiceSpec, files: &Threads) -> Option<Self> {
        let ServiceKind::App(app) = &spec.kind else { return None };
        let (build, folder) = (build.clone(), app.folder.clone());
        let moved = files.run(FILES_LIMIT, move |_| {
            let link = Self { before: Build::active(&folder), folder };
            build.activate().map(|()| link)
        });
        match moved.await.map_err(BuildError::Unanswered).flatten() {
            Ok(link) => Some(link),
            Err(error) => {
                warn!(reason = with_causes(&error), "the link .run stays behind");
                None
            }
        }
    }

    /// Moves the link back.
    pub(crate) async fn move_back(self, files: &Threads) {
        let moved = files.run(FILES_LIMIT, move |_| match &self.before {
            Some(build) => build.activate(),
            None => Build::deactivate(&self.folder),
        });
        if let Err(error) = moved.await.map_err(BuildError::Unanswered).flatten() {
            warn!(reason = with_causes(&error), "the link .run does not go back");
        }
    }
}
