//! Threads for what a node does that may block, besides those of its supervisor.

use pmesh_threads::{NoThread, PoolLimits, Threads};

/// One pool for each kind of thing that can hang; clones share them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeThreads {
    /// For whoever waits for the repository, which has its own time limits.
    pub repository: Threads,
    /// For the manifest, and looks at the folders of file services.
    pub files: Threads,
    /// For long answers of the API, as fast as they are read.
    pub answers: Threads,
}

impl NodeThreads {
    /// Starts one thread of each kind; more come with work.
    ///
    /// # Errors
    ///
    /// [`NoThread`].
    pub fn start() -> Result<Self, NoThread> {
        Ok(Self {
            repository: Threads::start("repository", PoolLimits::new(8, 64))?,
            files: Threads::start("node-files", PoolLimits::new(4, 256))?,
            answers: Threads::start("answers", PoolLimits::new(4, 16))?,
        })
    }
}
