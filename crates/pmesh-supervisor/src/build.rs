//! Builds: a service's commands, run once for each content of its folder.
//!
//! A build's product is made in `.build-<id>/` in the service's folder and is never renamed, because tools
//! record absolute paths. The file `.build-<id>.ok` beside it says that the build is finished; it is made
//! last and removed first.
//!
//! A build that changes anything else in the folder has built *in place*: what it makes there (`dist/`,
//! `node_modules/`) exists only once, for all builds together, and `.build-in-place` says which build made
//! it. See `holding.rs`.

mod board;
mod content;
mod error;
mod folder;
mod holding;
mod own;
mod product;
#[cfg(test)]
mod tests;
mod traces;

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use pmesh_threads::Threads;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tracing::{info, warn};

pub(crate) use self::error::BuildError;
use self::{
    board::{BuildBoard, BuildSign},
    own::Own,
};
pub use self::{
    board::{BuildProgress, BuildStep, BuildsUnderWay},
    product::{Build, BuildId},
};
use crate::{
    AppSpec, BuildCache, Command, Launch, MachineFacts, ServiceLog, ServiceName, Spawner, Stdin, Wish,
    causes::with_causes,
    command,
    step_kind::StepKind,
    steps::Steps,
    work_threads::{FILES_LIMIT, HASHING_LIMIT, WorkThreads},
};

/// Whether a service is built although a build of the same content exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rebuild {
    /// No: that build is used.
    Changed,
    /// Yes. The existing build stays as it is, for the instances that run from it.
    Everything,
}

/// Makes builds. Clones share the limit of builds at a time, and the turns of the folders.
///
/// Builds of one folder never overlap, whatever service they are for: they share the link `.build`.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    at_a_time: Arc<Semaphore>,
    threads: WorkThreads,
    folders: Arc<Mutex<HashMap<PathBuf, Weak<Semaphore>>>>,
    state: Option<PathBuf>,
    board: BuildBoard,
}

impl Builder {
    /// A builder that runs at most `at_a_time` builds at a time, and at least one.
    pub(crate) fn new(at_a_time: usize, threads: WorkThreads) -> Self {
        let at_a_time = Arc::new(Semaphore::new(at_a_time.max(1)));
        Self { at_a_time, threads, folders: Arc::default(), state: None, board: BuildBoard::new() }
    }

    /// The same builder, which leaves out the folder `state` where a service's folder contains it: it is the
    /// server's own, and no content of a build. `state` is absolute and without links, as services' folders
    /// are.
    #[must_use]
    pub(crate) fn with_state(self, state: PathBuf) -> Self {
        Self { state: Some(state), ..self }
    }

    /// Follows the builds that are under way, and which step each of them runs.
    pub(crate) fn under_way(&self) -> watch::Receiver<BuildsUnderWay> {
        self.board.follow()
    }

    /// Finds or makes the build of a service; `None` for a service without build commands.
    ///
    /// The commands run in the service's folder with `env`, in which is what the env files say, as the user of `machine`, and with `PM3_OUT` (the product's folder,
    /// absolute), `PM3_BUILD` and `PM3_BUILDING=1` on top; `.build` is a link to the product's folder while
    /// they run. Processes that they leave running are ended (SIGTERM, after `stop_timeout` SIGKILL); so are
    /// the commands when `build_timeout` is over or `wishes` asks for their end. When the sender of `wishes`
    /// is gone, the build goes on. The output of the commands goes into `log`.
    ///
    /// Not cancel-safe: dropped early, it kills what runs at once, and an unfinished product stays until the
    /// next build or [`Builder::prune`].
    ///
    /// # Errors
    ///
    /// [`BuildError`]; the product is removed then.
    #[expect(clippy::too_many_arguments, reason = "all of it is the caller's, and none belongs together")]
    pub(crate) async fn build(
        &self,
        service: &ServiceName,
        spec: &AppSpec,
        (machine, env): (&MachineFacts, &BTreeMap<OsString, OsString>),
        rebuild: Rebuild,
        spawner: &dyn Spawner,
        log: &ServiceLog,
        wishes: watch::Receiver<Wish>,
    ) -> Result<Option<Build>, BuildError> {
        if spec.build.is_empty() {
            return Ok(None);
        }
        let sign = self.board.begin(service);
        let turn = self.turn(&spec.folder);
        let permits = async {
            // The turn of the folder first: a build that waits for its folder must not take one of the places
            // of running builds.
            let folder = turn.acquire().await;
            (folder, self.at_a_time.acquire().await)
        };
        let _permits = tokio::select! {
            biased;
            () = Wish::becomes(wishes.clone(), Wish::End) => return Err(BuildError::Cancelled),
            permits = permits => permits,
        };
        let build =
            Attempt { service, spec, machine, env, spawner, log, sign, hashing: &self.threads.hashing };
        let own = Own::new(&spec.folder, log.path(), self.state.as_deref());
        let id = build.content(own.clone()).await?;
        if rebuild == Rebuild::Changed && spec.build_cache == BuildCache::ByContent {
            let (folder, id) = (spec.folder.clone(), id.clone());
            if let Some(found) = self.with_files(move || folder::cached(&folder, &id)).await? {
                return Ok(Some(found));
            }
        }
        let owner = machine.account.as_ref().map(|account| (account.uid, account.gid));
        let begun = self.with_files(move || folder::begin(own, &id, owner)).await??;
        match build.run(&begun.build, &wishes).await {
            Ok(()) => {
                let service = service.clone();
                self.with_files(move || begun.finish(&service)).await?.map(Some)
            }
            Err(error) => {
                if let Err(unanswered) = self.with_files(move || begun.give_up()).await {
                    warn!(reason = with_causes(&unanswered), "an unfinished build stays until the next one");
                }
                Err(error)
            }
        }
    }

    /// [`Build::is_whole`], off the runtime. False while somebody builds in the folder.
    pub(crate) async fn is_whole(&self, build: &Build) -> bool {
        let build = build.clone();
        // A build whose folder could not be looked at counts as not whole, and is made again.
        self.with_files(move || build.is_whole()).await.unwrap_or(false)
    }

    /// Removes builds of a service from its folder: all but the two that were made last, the one that `.run`
    /// leads to, and those in `keep`; also what unfinished builds have left. Builds of other services in the
    /// same folder stay.
    pub(crate) async fn prune(&self, service: &ServiceName, folder: &Path, keep: &[Build]) {
        let turn = self.turn(folder);
        let _permit = turn.acquire().await;
        let (service, folder, keep) = (service.clone(), folder.to_owned(), keep.to_vec());
        if let Err(unanswered) = self.with_files(move || folder::prune(&service, &folder, &keep)).await {
            warn!(reason = with_causes(&unanswered), "old builds stay until the next time");
        }
    }

    async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BuildError> {
        self.threads.files.run(FILES_LIMIT, move |_| work()).await.map_err(BuildError::Unanswered)
    }

    fn turn(&self, folder: &Path) -> Arc<Semaphore> {
        let mut folders = self.folders.lock();
        folders.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = folders.get(folder).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Semaphore::new(1));
        folders.insert(folder.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

/// One build under way.
struct Attempt<'a> {
    service: &'a ServiceName,
    spec: &'a AppSpec,
    machine: &'a MachineFacts,
    env: &'a BTreeMap<OsString, OsString>,
    spawner: &'a dyn Spawner,
    log: &'a ServiceLog,
    sign: BuildSign,
    hashing: &'a Threads,
}

impl Attempt<'_> {
    async fn content(&self, own: Own) -> Result<BuildId, BuildError> {
        let (service, spec, machine) = (self.service.clone(), self.spec.clone(), self.machine.clone());
        let identified =
            self.hashing.run(HASHING_LIMIT, move |_| content::identify(&service, &spec, &machine, &own));
        identified.await.map_err(BuildError::Unanswered)?
    }

    async fn run(&self, product: &Build, wishes: &watch::Receiver<Wish>) -> Result<(), BuildError> {
        folder::link(product.folder(), folder::BUILD)?;
        let begin = Instant::now();
        let steps = Steps {
            kind: StepKind::Build,
            spawner: self.spawner,
            log: self.log,
            limit: self.spec.build_timeout,
            stop_timeout: self.spec.stop_timeout,
            wishes,
            deadline: Steps::deadline(self.spec.build_timeout),
        };
        let of = self.spec.build.len();
        for (index, command) in self.spec.build.iter().enumerate() {
            let (step, number, step_began) = (command.to_string(), index + 1, Instant::now());
            self.log.note(&format!("build {}: {step}", product.id()));
            info!("build step {number} of {of} begins: {step}");
            self.sign.step(BuildStep { number, of, command: step });
            let end = steps.run(command, &self.launch(command, product)).await;
            info!("build step {number} of {of} has ended after {:.1} s", step_began.elapsed().as_secs_f64());
            if let Err(error) = end {
                self.log.note(&format!("build {} failed", product.id()));
                return Err(error);
            }
        }
        self.log.note(&format!("build {} done in {:.1} s", product.id(), begin.elapsed().as_secs_f64()));
        Ok(())
    }

    fn launch(&self, command: &Command, product: &Build) -> Launch {
        let mut env = self.env.clone();
        env.insert("PM3_BUILDING".into(), "1".into());
        env.insert("PM3_BUILD".into(), product.id().as_str().into());
        env.insert("PM3_OUT".into(), product.folder().to_owned().into_os_string());
        env.extend(command.env.iter().map(|(name, value)| (name.into(), value.into())));
        command::launch(
            command,
            self.spec,
            self.machine.account.as_ref(),
            |word| word.into(),
            env,
            Stdin::Null,
        )
    }
}
