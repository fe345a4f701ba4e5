//! What a node is made from, read from a project's folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use pmesh_manifest::{ReadError, Unsupported};
use pmesh_supervisor::{LogFolder, LogLimits, WorkThreads};
use pmesh_threads::NoThread;

use crate::NodeParts;

/// Why no node can be made of a project.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no manifest, or it cannot be served as it is.
    #[error(transparent)]
    Manifest(#[from] ReadError),
    /// A thread cannot be started.
    #[error(transparent)]
    NoThread(#[from] NoThread),
    /// A folder cannot be used.
    #[error("cannot use {}", path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl NodeParts {
    /// Those of the project at `project`, a manifest or a folder that has one, with the services' output in the
    /// folder `logs`; else as [`NodeParts::new`] has them. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(project: &Path, logs: &Path) -> Result<Self, OpenError> {
        let folder = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Folder { path, source }
        };
        let found = pmesh_manifest::find(project)?;
        let file = found.canonicalize().map_err(folder(&found))?;
        let manifest = pmesh_manifest::read(&file, Unsupported::Refuse)?;
        let work = WorkThreads::start()?;
        let logs = LogFolder::open(logs, LogLimits::default(), &work).map_err(folder(logs))?;
        Ok(Self::new(file, manifest, logs, work)?)
    }
}
