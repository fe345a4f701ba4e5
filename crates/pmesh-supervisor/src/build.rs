//! Builds: a service's commands, run once for each content of its folder.
//!
//! A build's product lives in `.build-<id>/` in the service's folder from the start, for tools record
//! absolute paths; so it is never renamed. That it is finished says a file beside it,
//! `.build-<id>.ok`, made last and removed first.

mod content;
mod folder;

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use crate::{
    AppSpec, BuildCache, Command, Exit, Failure, Launch, ServiceLog, ServiceName, SpawnError, Spawner, Stdin,
    Tail, Wish, causes::with_causes, command, ending,
};

/// The name of a build: a hash of everything that it is made from, in 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId(Arc<str>);

impl BuildId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A finished build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    id: BuildId,
    folder: PathBuf,
}

impl Build {
    /// What it was made from.
    pub fn id(&self) -> &BuildId {
        &self.id
    }

    /// Where its product is; absolute if the service's folder is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A word of a `run` command for an instance of this build: what begins with `.run/` is in this
    /// build's folder, wherever the link `.run` leads by then.
    pub fn resolve(&self, word: &str) -> OsString {
        match word.strip_prefix(".run/") {
            Some(rest) => self.folder.join(rest).into_os_string(),
            None => word.into(),
        }
    }

    /// Lets the service's link `.run` lead to this build, in one atomic step. Going back is the same
    /// call for the build before, or [`Build::deactivate`] where there was none. Blocks for a few
    /// system calls.
    ///
    /// # Errors
    ///
    /// [`BuildError::Files`].
    pub fn activate(&self) -> Result<(), BuildError> {
        folder::link(&self.folder, folder::RUN)
    }

    /// Removes the link `.run` of a service's folder, if there is one.
    ///
    /// # Errors
    ///
    /// [`BuildError::Files`].
    pub fn deactivate(folder: &Path) -> Result<(), BuildError> {
        folder::unlink(&folder.join(folder::RUN))
    }

    /// The finished build that `.run` leads to in a service's folder.
    pub fn active(folder: &Path) -> Option<Self> {
        folder::active(folder)
    }
}

/// Whether a build is made although it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuild {
    /// Only if nothing was built from the same content.
    IfChanged,
    /// Yes. The one that is there stays as it is, for those that run from it.
    Always,
}

/// Why there is no build. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A command failed.
    #[error("build step `{step}` ended with {exit}{}", Lines(lines))]
    Failed {
        /// The command.
        step: String,
        /// How it ended.
        exit: Exit,
        /// The end of its output.
        lines: Vec<String>,
    },
    /// A command could not be started.
    #[error("build step `{step}` cannot be started")]
    Spawn {
        /// The command.
        step: String,
        /// The system's reason.
        source: SpawnError,
    },
    /// The commands took too long together.
    #[error(
        "build step `{step}` was ended: the build took longer than `build_timeout`, {limit:?}{}",
        Lines(lines)
    )]
    Timeout {
        /// The command that ran then.
        step: String,
        /// The limit.
        limit: Duration,
        /// The end of its output.
        lines: Vec<String>,
    },
    /// The caller did not want it any more.
    #[error("the build was cancelled")]
    Cancelled,
    /// Something in the service's folder cannot be read or made.
    #[error("cannot {action} {}", path.display())]
    Files {
        /// What was tried, as a verb: `read`, `link`…
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl BuildError {
    /// The same for a service's health: in one line, with the last lines apart.
    pub(crate) fn into_failure(mut self) -> Failure {
        let last_lines = match &mut self {
            Self::Failed { lines, .. } | Self::Timeout { lines, .. } => std::mem::take(lines),
            Self::Spawn { .. } | Self::Cancelled | Self::Files { .. } => Vec::new(),
        };
        Failure { what: with_causes(&self), retry_at: None, last_lines }
    }
}

/// The last lines of an output, behind a text.
struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; its last lines:\n{}", self.0.join("\n")) }
    }
}

/// Makes builds. Clones share the limit and the turns.
///
/// Builds of one folder never overlap, whatever service they are for: they share the link `.build`.
#[derive(Clone, Debug)]
pub struct Builder {
    at_a_time: Arc<Semaphore>,
    folders: Arc<Mutex<HashMap<PathBuf, Weak<Semaphore>>>>,
    state: Option<PathBuf>,
}

/// "Never", for a limit that no clock reaches.
const FAR: Duration = Duration::from_hours(30 * 365 * 24);

impl Builder {
    /// A builder that runs at most so many builds at a time, and at least one.
    pub fn new(at_a_time: usize) -> Self {
        let at_a_time = Arc::new(Semaphore::new(at_a_time.max(1)));
        Self { at_a_time, folders: Arc::default(), state: None }
    }

    /// The same builder, for which nothing in the folder `state` is content of a service whose folder
    /// it lies in: it is the server's own. Absolute and without links, as services' folders are.
    #[must_use]
    pub fn with_state(self, state: PathBuf) -> Self {
        Self { state: Some(state), ..self }
    }

    /// The build of a service: one that is there, or a new one. `None` where the service has no
    /// commands for it.
    ///
    /// The commands run in the service's folder with `env`, and in it also `PM3_OUT` (the product's
    /// folder, absolute), `PM3_BUILD` and `PM3_BUILDING=1`; `.build` is a link to the product's folder
    /// while they run. What they leave running is ended (SIGTERM, after `stop_timeout` SIGKILL), also
    /// when the time is up or `wishes` says so; nobody wishes anything any more when its sender is gone.
    /// Their output goes into `log`.
    ///
    /// Not to be dropped early: then what runs is killed at once, and an unfinished product stays
    /// until the next build or [`Builder::prune`].
    ///
    /// # Errors
    ///
    /// [`BuildError`]; the product is removed then.
    #[expect(clippy::too_many_arguments, reason = "all of it is the caller's, and none belongs together")]
    pub async fn build(
        &self,
        service: &ServiceName,
        spec: &AppSpec,
        env: &BTreeMap<OsString, OsString>,
        rebuild: Rebuild,
        spawner: &dyn Spawner,
        log: &ServiceLog,
        wishes: watch::Receiver<Wish>,
    ) -> Result<Option<Build>, BuildError> {
        if spec.build.is_empty() {
            return Ok(None);
        }
        let turn = self.turn(&spec.folder);
        let permits = async {
            // Of the folder first: who waits for that takes no place among the running ones.
            let folder = turn.acquire().await;
            (folder, self.at_a_time.acquire().await)
        };
        let _permits = tokio::select! {
            permits = permits => permits,
            () = Wish::becomes(wishes.clone(), Wish::End) => return Err(BuildError::Cancelled),
        };
        let build = Attempt { service, spec, env, spawner, log };
        let id = build.content(self.state.clone()).await?;
        let reuse = rebuild == Rebuild::IfChanged && spec.build_cache == BuildCache::ByContent;
        if let Some(found) = folder::finished(&spec.folder, &id).pop()
            && reuse
        {
            return Ok(Some(found));
        }
        let product = folder::begin(&spec.folder, &id)?;
        match build.run(&product, &wishes).await.and_then(|()| folder::finish(&product, service)) {
            Ok(()) => Ok(Some(product)),
            Err(error) => {
                blocking(move || folder::remove(&product)).await;
                Err(error)
            }
        }
    }

    /// Removes builds of a service from its folder: all but the two that were made last, the one that
    /// `.run` leads to, and those in `keep`; also what unfinished ones have left. Builds of other
    /// services in the same folder stay.
    pub async fn prune(&self, service: &ServiceName, folder: &Path, keep: &[Build]) {
        let turn = self.turn(folder);
        let _permit = turn.acquire().await;
        let (service, folder, keep) = (service.clone(), folder.to_owned(), keep.to_vec());
        blocking(move || folder::prune(&service, &folder, &keep)).await;
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
    env: &'a BTreeMap<OsString, OsString>,
    spawner: &'a dyn Spawner,
    log: &'a ServiceLog,
}

/// Why a step did not come to its own end.
enum Stopped {
    Cancelled,
    Timeout,
}

impl Attempt<'_> {
    async fn content(&self, state: Option<PathBuf>) -> Result<BuildId, BuildError> {
        let (service, spec) = (self.service.clone(), self.spec.clone());
        let log = self.log.path().to_owned();
        blocking(move || content::identify(&service, &spec, &log, state.as_deref())).await
    }

    async fn run(&self, product: &Build, wishes: &watch::Receiver<Wish>) -> Result<(), BuildError> {
        folder::link(&product.folder, folder::BUILD)?;
        let begin = Instant::now();
        let limit = self.spec.build_timeout;
        let deadline = begin.checked_add(limit).unwrap_or(begin + FAR);
        for command in &self.spec.build {
            let step = command.to_string();
            self.log.note(&format!("build {}: {step}", product.id));
            let tail = Tail::new();
            let end = self.step(command, product, &tail, deadline, wishes).await?;
            let lines = tail.lines();
            let error = match end {
                Ok(Exit::Code(0)) => continue,
                Ok(exit) => BuildError::Failed { step, exit, lines },
                Err(Stopped::Cancelled) => BuildError::Cancelled,
                Err(Stopped::Timeout) => BuildError::Timeout { step, limit, lines },
            };
            self.log.note(&format!("build {} failed", product.id));
            return Err(error);
        }
        self.log.note(&format!("build {} done in {:.1} s", product.id, begin.elapsed().as_secs_f64()));
        Ok(())
    }

    async fn step(
        &self,
        command: &Command,
        product: &Build,
        tail: &Tail,
        deadline: Instant,
        wishes: &watch::Receiver<Wish>,
    ) -> Result<Result<Exit, Stopped>, BuildError> {
        let spawned = self.spawner.spawn(&self.launch(command, product));
        let spawned = spawned.map_err(|source| BuildError::Spawn { step: command.to_string(), source })?;
        let stop = async {
            tokio::select! {
                () = Wish::becomes(wishes.clone(), Wish::End) => Stopped::Cancelled,
                () = tokio::time::sleep_until(deadline) => Stopped::Timeout,
            }
        };
        let grace = async {
            tokio::select! {
                () = Wish::becomes(wishes.clone(), Wish::Kill) => {}
                () = tokio::time::sleep(self.spec.stop_timeout) => {}
            }
        };
        Ok(ending::run(spawned, self.log, tail.clone(), stop, grace).await)
    }

    fn launch(&self, command: &Command, product: &Build) -> Launch {
        let mut env = self.env.clone();
        env.insert("PM3_BUILDING".into(), "1".into());
        env.insert("PM3_BUILD".into(), product.id.as_str().into());
        env.insert("PM3_OUT".into(), product.folder.clone().into_os_string());
        env.extend(command.env.iter().map(|(name, value)| (name.into(), value.into())));
        command::launch(command, self.spec, |word| word.into(), env, Stdin::Null)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic, and the runtime lives")
}

fn files(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    move |source| BuildError::Files { action, path: path.to_owned(), source }
}
