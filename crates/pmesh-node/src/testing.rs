//! A whole node on fakes: a manifest on the disk, and a repository, processes and probes in memory.

use std::{collections::BTreeMap, ops::Deref, path::Path, sync::Arc};

use pmesh_manifest::Unsupported;
use pmesh_proxy::Tables;
use pmesh_sessions::{SessionLimits, Sessions, TrustedProxies};
use pmesh_supervisor::{
    LogFolder, LogLimits, SupervisorSettings,
    testing::{FakeProber, FakeSpawner, work_threads},
};
use pmesh_threads::testing::threads;
use pmesh_vcs::{Vcs, testing::FakeVcs};
use tokio::task::JoinHandle;

use crate::{Node, NodeParts, NodeThreads, served_place::NoRepositories};

/// A [`Node`] and the fakes that it works with. Dropped, its task is ended at once; there is no
/// process that could be left.
#[derive(Debug)]
#[non_exhaustive]
pub struct TestNode {
    node: Node,
    /// The repository. What is checked out of it lies in the node's folder.
    pub vcs: FakeVcs,
    /// Where its processes are.
    pub spawner: FakeSpawner,
    /// What probes them.
    pub prober: FakeProber,
    /// The tables that a front would serve from.
    pub tables: Tables,
    task: JoinHandle<()>,
}

impl TestNode {
    /// The commit that is checked out at the start, as [`FakeVcs`] names it.
    pub const COMMIT: &str = "a1";

    /// A node that serves `manifest` out of the empty folder `folder`, once its services have started
    /// or failed to.
    ///
    /// # Panics
    ///
    /// If there is no manifest or it has mistakes, or the folder cannot be written. Outside of a tokio runtime.
    pub async fn start(folder: &Path, manifest: &str) -> Self {
        Self::start_with(folder, &[("pm3.yml", manifest)]).await
    }

    /// The same with these files in the repository, whose top is `folder`; the first is the manifest.
    ///
    /// # Panics
    ///
    /// See [`start`](Self::start).
    pub async fn start_with(folder: &Path, files: &[(&str, &str)]) -> Self {
        let node = Self::new(folder, files, true);
        let starts = node.operations();
        let first = starts.last().expect("the start is an operation");
        node.operation_ended(first.id).await.expect("the last hundred are kept");
        node
    }

    /// The same without a repository, and without waiting for the start.
    ///
    /// # Panics
    ///
    /// See [`start`](Self::start).
    pub fn without_repository(folder: &Path, manifest: &str) -> Self {
        Self::new(folder, &[("pm3.yml", manifest)], false)
    }

    /// The same as [`start`](Self::start) without waiting for the start: on a runtime of one thread it begins with
    /// the caller's first await.
    ///
    /// # Panics
    ///
    /// See [`start`](Self::start).
    pub fn starting(folder: &Path, manifest: &str) -> Self {
        Self::new(folder, &[("pm3.yml", manifest)], true)
    }

    fn new(folder: &Path, files: &[(&str, &str)], has_repository: bool) -> Self {
        let folder = folder.canonicalize().expect("the folder is there");
        let vcs = FakeVcs::mirrored(&folder, Self::COMMIT, files.iter().copied())
            .expect("the files can be written");
        let (file, _) = files.first().expect("a node has a manifest");
        let file = folder.join(file);
        let manifest = pmesh_manifest::read(&file, Unsupported::Refuse).expect("the manifest is good");
        let (spawner, prober) = (FakeSpawner::new(), FakeProber::new());
        let work = work_threads();
        let logs = LogFolder::open(&folder.join("logs"), LogLimits::default(), &work)
            .expect("the folder of the logs can be made");
        let tables =
            Tables::new(Arc::new(Sessions::new(&SessionLimits::default())), TrustedProxies::default());
        let parts = NodeParts {
            given: file.clone(),
            supervisor: SupervisorSettings::new(logs, work).with(|settings| settings.env = BTreeMap::new()),
            file,
            manifest,
            unsupported: Unsupported::Refuse,
            hold: None,
            repositories: Arc::new(NoRepositories),
            vcs: has_repository.then(|| Arc::new(vcs.clone()) as Arc<dyn Vcs>),
            spawner: Arc::new(spawner.clone()),
            prober: Arc::new(prober.clone()),
            tables: tables.clone(),
            threads: NodeThreads {
                repository: threads("repository"),
                files: threads("node-files"),
                answers: threads("answers"),
            },
        };
        let (node, task) = Node::new(parts);
        Self { node, vcs, spawner, prober, tables, task: tokio::spawn(task) }
    }

    /// The handle to it, for what is built on it.
    pub fn handle(&self) -> Node {
        self.node.clone()
    }
}

impl Deref for TestNode {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}
