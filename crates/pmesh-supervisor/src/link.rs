//! The link `.run` of a service, moved to and fro. Without it the service runs all the same: a failure
//! is for the log.

use std::path::PathBuf;

use tracing::warn;

use crate::{Build, ServiceKind, ServiceSpec, causes::with_causes};

/// Where the link `.run` of a service led before it was moved.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    folder: PathBuf,
    before: Option<Build>,
}

impl Link {
    /// Moves the link of a service to its new build.
    pub(crate) async fn move_to(build: &Build, spec: &ServiceSpec) -> Option<Self> {
        let ServiceKind::App(app) = &spec.kind else { return None };
        let (build, folder) = (build.clone(), app.folder.clone());
        let moved = tokio::task::spawn_blocking(move || {
            let link = Self { before: Build::active(&folder), folder };
            build.activate().map(|()| link)
        });
        match moved.await.expect("it does not panic") {
            Ok(link) => Some(link),
            Err(error) => {
                warn!(reason = with_causes(&error), "the link .run stays behind");
                None
            }
        }
    }

    /// Moves it back.
    pub(crate) async fn move_back(self) {
        let moved = tokio::task::spawn_blocking(move || match &self.before {
            Some(build) => build.activate(),
            None => Build::deactivate(&self.folder),
        });
        if let Err(error) = moved.await.expect("it does not panic") {
            warn!(reason = with_causes(&error), "the link .run does not go back");
        }
    }
}
