//! A change of the node's state as data: what was asked, what it did step by step, how it ended.
//!
//! The API, the command line and the log tell the same story because they read the same record.

use std::{
    collections::BTreeMap, error::Error, fmt, num::ParseIntError, str::FromStr, sync::Arc, time::SystemTime,
};

use pmesh_manifest::{Mistakes, ReadError};
use pmesh_supervisor::{Rebuild, ServiceName, StepName, StepState};
use pmesh_threads::Unanswered;
use pmesh_vcs::{Moved, Revision, VcsError, redact};

use crate::stop_failure::StopFailure;

/// An operation's name: a 64-bit number that rises with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(pub u64);

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OperationId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// What is asked of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Fetch, and roll every service over to the remote head.
    Update(Rebuild),
    /// Read the manifest from disk, and roll over to it.
    Reload(Rebuild),
    /// Restart services; a stopped one starts.
    Restart(Scope, Rebuild),
    /// Stop services until they are restarted.
    Stop(Scope),
}

/// The services that a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// All of them.
    All,
    /// This one.
    One(ServiceName),
}

/// The kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperationKind {
    /// The server's start.
    Start,
    /// [`Request::Update`].
    Update,
    /// [`Request::Reload`].
    Reload,
    /// [`Request::Restart`].
    Restart,
    /// [`Request::Stop`].
    Stop,
    /// The start of a job by hand.
    Run,
    /// The server's end.
    Shutdown,
}

impl OperationKind {
    /// The word for it, in the API and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Update => "update",
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Run => "run",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperationState {
    /// It waits for its turn.
    Queued,
    /// It runs.
    Running,
    /// It ended well.
    Done,
    /// It ended with a [`Failure`].
    Failed,
    /// Somebody or the server's end took it out of the queue, or ended it early: it went back.
    Cancelled,
}

impl OperationState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing of it is still to come.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// What it does.
    pub name: StepName,
    /// The service that it is about, if it is about one.
    pub service: Option<ServiceName>,
    /// Where it stands, with what a person may want to know of it: a build, a reason.
    pub state: StepState,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
}

/// The record of an operation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Operation {
    /// Its name.
    pub id: OperationId,
    /// What it is.
    pub kind: OperationKind,
    /// Where it stands.
    pub state: OperationState,
    /// When its turn came; none while it is queued.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// What it did, in order; at most [`Operation::MAX_STEPS`], the first ones kept.
    pub steps: Vec<Arc<Step>>,
    /// How it ended.
    pub outcome: Option<Result<Outcome, Arc<Failure>>>,
}

impl Operation {
    /// The most steps that are kept of one operation: enough for 200 services in seven steps each,
    /// forth and back.
    pub const MAX_STEPS: usize = 4096;

    /// What went well and a person should know all the same, service by service: first answers that are errors,
    /// instances that had to be killed, processes that live.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for step in &self.steps {
            let (StepName::Ready | StepName::Stop, StepState::Done(Some(detail))) = (step.name, &step.state)
            else {
                continue;
            };
            let warning = match &step.service {
                Some(service) => format!("service {service}: {detail}"),
                None => detail.clone(),
            };
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        warnings
    }
}

/// What an operation that ended well did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one an operation, of which a hundred are kept")]
pub enum Outcome {
    /// The server has started; what is not ready yet is named with its reason and goes on trying.
    Started {
        /// Services that did not become ready in their time.
        failed: BTreeMap<ServiceName, String>,
    },
    /// The work tree stands at `to`.
    Updated(Update),
    /// The manifest is in force.
    Reloaded {
        /// Services that had no ready instance before and have none now.
        failed: BTreeMap<ServiceName, String>,
    },
    /// Services were restarted.
    Restarted {
        /// How many.
        count: usize,
    },
    /// Services were stopped.
    Stopped {
        /// How many were not stopped before.
        count: usize,
    },
    /// A run of a job has begun.
    Begun,
    /// The server has stopped.
    ShutDown,
}

/// Why an operation is not cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoCancel {
    /// There is none of this id, or not any more.
    #[error("no operation {0}")]
    Unknown(OperationId),
    /// It is over.
    #[error("operation {0} has ended")]
    Ended(OperationId),
    /// One of this kind takes nothing back.
    #[error("a {} takes nothing back: it goes on", .0.as_str())]
    GoesOn(OperationKind),
}

/// Why a run of a job has not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoRun {
    /// No service of this name.
    #[error("no service \"{0}\" in the manifest")]
    UnknownService(ServiceName),
    /// One is under way.
    #[error("a run of \"{0}\" is under way")]
    RunsAlready(ServiceName),
    /// It runs all the time.
    #[error("\"{0}\" runs all the time: it has neither a `schedule`, nor may it end (`restart`)")]
    NoJob(ServiceName),
    /// There is nothing that could be started.
    #[error("\"{0}\" is stopped, not built, or about to change; restart it, or try again")]
    Nothing(ServiceName),
    /// The server is about to end.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// What an update did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Update {
    /// What the services ran before.
    pub from: Revision,
    /// What they run now.
    pub to: Revision,
    /// Commits that only this machine has: the work tree was left there.
    pub ahead: Option<usize>,
    /// Whether every service was built anew because that was asked for.
    pub invalidated: bool,
    /// Whether the last rollout of `to` had failed, at least for some services, and was tried again.
    pub retried: bool,
    /// Whether the services were rolled over to what they ran already for another reason: the work tree had been moved
    /// away from it by hand, the manifest of the last reload had failed, or nobody knew what they ran.
    pub repeated: bool,
    /// Services that had no ready instance before and have none now.
    pub failed: BTreeMap<ServiceName, String>,
    /// Where the remote has sent the fetch.
    pub moved_to: Option<Moved>,
}

/// Why an operation did not end well. Nothing is changed then, but for what it says.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The repository refused or is out of reach.
    #[error(transparent)]
    Vcs(#[from] VcsError),
    /// The manifest says `repo: {update: false}`.
    #[error(
        "this manifest does not allow updates (`repo: {{update: false}}`); update the work tree by other means, then reload"
    )]
    UpdateDisabled,
    /// The manifest that the operation was to follow has mistakes.
    #[error("the manifest has mistakes; mend them and try again:\n{0}")]
    ManifestInvalid(Mistakes),
    /// The manifest could not be read.
    #[error(transparent)]
    ManifestUnreadable(ReadError),
    /// The work tree that the path of the manifest leads to now cannot be had for this server: somebody else moves it.
    #[error(transparent)]
    WorkTree(Box<dyn Error + Send + Sync>),
    /// The commit that the operation was to follow has no manifest.
    #[error("commit {commit} has no {}; nothing was changed", .file.display())]
    ManifestMissing {
        /// The manifest's file, relative to the top of the repository.
        file: std::path::PathBuf,
        /// The commit.
        commit: pmesh_vcs::CommitId,
    },
    /// The commit that the operation was to follow has a second manifest beside the one that is served.
    #[error("commit {commit} has both pm3.yml and pm3.yaml; remove one of them; nothing was changed")]
    ManifestAmbiguous {
        /// The commit.
        commit: pmesh_vcs::CommitId,
    },
    /// Services did not become ready.
    #[error("{}", .0.sentence())]
    Rollout(Box<RolloutFailure>),
    /// Processes of services live that SIGKILL has not ended.
    #[error("{}", .0.sentence())]
    Stop(Box<StopFailure>),
    /// No service of this name.
    #[error("no service \"{0}\" in the manifest")]
    UnknownService(ServiceName),
    /// The server is about to end.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// Somebody has cancelled it.
    #[error("it was cancelled; everything is as it was before")]
    Cancelled,
    /// The disk did not answer, or there was no thread to ask it.
    #[error("cannot read the manifest")]
    Unanswered(#[source] Unanswered),
    /// Something that should not happen; the log has more.
    #[error("{0}")]
    Internal(String),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Invalid(mistakes) => Self::ManifestInvalid(mistakes),
            other => Self::ManifestUnreadable(other),
        }
    }
}

/// A rollout that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolloutFailure {
    /// The services that failed, and why.
    pub services: BTreeMap<ServiceName, String>,
    /// Of a restart: how many services were restarted all the same.
    pub restarted: Option<usize>,
    /// Of a restart: the services among them whose builds were taken as they were.
    pub reused: Vec<ServiceName>,
    /// Of an update: from where to where it was to go.
    pub revisions: Option<(Revision, Revision)>,
    /// Whether everything is as it was before.
    pub rolled_back: bool,
    /// The services that could not be brought back, and why: what they were built from in place cannot be built again. What
    /// lives of them serves on, and the build is tried again.
    pub stuck: BTreeMap<ServiceName, String>,
    /// Of an update: why the work tree could not go back, if it could not.
    pub work_tree: Option<String>,
}

impl RolloutFailure {
    fn sentence(&self) -> String {
        let mut text = String::new();
        for (service, reason) in &self.services {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&format!("service {service} failed: {reason}"));
        }
        for service in &self.reused {
            text.push_str(&format!(
                "; if files are missing that its build makes, `pmesh-server restart --invalidate {service}` makes them again"
            ));
        }
        if self.rolled_back {
            text.push_str("; everything is as it was before");
        }
        if let Some(reason) = &self.work_tree {
            let between = if text.is_empty() { "" } else { "; " };
            text.push_str(&format!("{between}the work tree could not go back: {reason}"));
        }
        for (service, reason) in &self.stuck {
            text.push_str(&format!(
                "; what lives of service {service} serves on, but it could not be built again as it was before: {reason}"
            ));
        }
        text
    }
}

/// An error and its causes in one line: our texts leave the cause to `source`. What a cause says that
/// the text has already is left out.
pub fn in_one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.split('\n').map(redact::printable).collect::<Vec<_>>().join("\n")
}
