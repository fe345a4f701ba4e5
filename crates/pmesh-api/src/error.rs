//! What goes wrong, for a person, for a program and as a status: each given once, here.

use std::fmt;

use http::{HeaderName, HeaderValue, StatusCode, header};
use pmesh_manifest::ReadError;
use pmesh_node::{Failure, OperationId, RolloutFailure, StopFailure, SubmitError, in_one_line};
use pmesh_supervisor::LogReadError;
use pmesh_threads::Unanswered;
use pmesh_vcs::VcsError;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::wire;

macro_rules! codes {
    ($($status:literal: $($(#[doc = $doc:literal])+ $name:ident $text:literal,)+)+) => {
        /// The `code` of an error's body: what a program goes by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($($(#[doc = $doc])+ $name,)+)+
        }

        impl Code {
            /// All of them, by status.
            pub const ALL: &[Self] = &[$($(Self::$name,)+)+];

            /// The code as it stands in the body.
            pub fn as_str(self) -> &'static str {
                match self { $($(Self::$name => $text,)+)+ }
            }

            /// The status of the answer that has it.
            pub fn status(self) -> StatusCode {
                let status = match self { $($(Self::$name => $status,)+)+ };
                StatusCode::from_u16(status).expect("the table below has statuses between 400 and 504")
            }
        }
    };
}

codes! {
    400:
        /// A malformed path, header, JSON, form or percent-encoding.
        BadRequest "bad_request",
        /// A parameter that the route does not have.
        UnknownParameter "unknown_parameter",
        /// A value of the wrong type, or two values for one parameter.
        BadParameter "bad_parameter",
        /// `/service/stop/` or `/service/restart/` without a name after the slash.
        ServiceNameMissing "service_name_missing",
    401:
        /// A token is asked for, and none was sent.
        TokenRequired "token_required",
        /// It is not this one.
        TokenWrong "token_wrong",
    403:
        /// Another user of the machine asks, or somebody through another proxy, or from elsewhere.
        NotInternal "not_internal",
        /// The `Host` is not a name of the API.
        HostNotAllowed "host_not_allowed",
        /// A page of another site asks, or a browser acts by GET.
        CrossSite "cross_site",
        /// What the server has started itself acts by GET.
        GetFromService "get_from_service",
    404:
        /// No such path.
        RouteNotFound "route_not_found",
        /// No such service.
        ServiceNotFound "service_not_found",
        /// No such operation, or one that is no longer kept.
        OperationNotFound "operation_not_found",
        /// The manifest is in no repository.
        RepositoryNotFound "repository_not_found",
    405:
        /// Not by this method; `Allow` says by which.
        MethodNotAllowed "method_not_allowed",
    409:
        /// The branch follows no remote.
        NoRemote "no_remote",
        /// The remote has no such branch.
        NoRemoteBranch "no_remote_branch",
        /// No branch is checked out.
        DetachedHead "detached_head",
        /// The branch has no commit yet.
        UnbornBranch "unborn_branch",
        /// A merge, rebase, cherry-pick or bisect has begun.
        MergeInProgress "merge_in_progress",
        /// Another git is at work.
        RepositoryLocked "repository_locked",
        /// Parts of the repository have different owners, or one who is neither the server's user nor served by root.
        RepositoryOwner "repository_owner",
        /// The manifest does not allow updates.
        UpdateDisabled "update_disabled",
        /// Local changes would be lost.
        WorkTreeDirty "work_tree_dirty",
        /// Local commits would be lost.
        HistoryDiverged "history_diverged",
        /// It ended early and went back.
        Cancelled "cancelled",
        /// The operation to be cancelled is over, or of a kind that takes nothing back.
        OperationEnded "operation_ended",
        /// A run of the job is under way.
        AlreadyRunning "already_running",
        /// The service is no job, or there is nothing of it that could be started.
        NotRunnable "not_runnable",
    413:
        /// The body is above 64 KiB.
        BodyTooLarge "body_too_large",
    422:
        /// The manifest has mistakes.
        ManifestInvalid "manifest_invalid",
        /// Submodules or LFS, which would not be checked out.
        RepositoryUnsupported "repository_unsupported",
        /// More than a server should read: entries, levels, bytes, or time while it still moves.
        RepositoryTooLarge "repository_too_large",
    500:
        /// Services did not become ready.
        RolloutFailed "rollout_failed",
        /// A process of a service lives that SIGKILL has not ended.
        StopFailed "stop_failed",
        /// The repository cannot be read.
        RepositoryDamaged "repository_damaged",
        /// A full disk, a read-only file system, missing rights.
        RepositoryUnwritable "repository_unwritable",
        /// The disk does not give a log, or what stands in its place is none.
        LogUnreadable "log_unreadable",
        /// Something that should not happen; the log has more.
        Internal "internal",
    502:
        /// The remote could not be reached, or refused.
        FetchFailed "fetch_failed",
    503:
        /// Too much waits, or the system gives no thread or process at the moment.
        Busy "busy",
        /// The server is about to end.
        ShuttingDown "shutting_down",
    504:
        /// The remote did not answer in time.
        FetchTimeout "fetch_timeout",
        /// The repository did not answer in time.
        RepositoryTimeout "repository_timeout",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Seconds after which a caller may try again when the queue is full: an operation that is in the
/// way takes about as long as a service needs to start.
const RETRY_AFTER: &str = "5";

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// What follows `error` and `code` in the body.
    fields: Vec<(&'static str, Value)>,
}

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), headers: Vec::new(), fields: Vec::new() }
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn with_field(mut self, name: &'static str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).expect("the types of `wire` are JSON");
        self.fields.push((name, value));
        self
    }

    /// The error of an action that was begun: its id is the last field of the body.
    pub(crate) fn of_operation(self, id: OperationId) -> Self {
        self.with_field("operation", id.to_string())
    }

    /// `{"error", "code", …}`.
    pub(crate) fn body(&self) -> Value {
        let first = [("error", json!(self.message)), ("code", json!(self.code.as_str()))];
        let fields = first.into_iter().chain(self.fields.iter().cloned());
        fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
    }
}

/// The error for what passes: it is to be tried again.
fn busy(message: String) -> ApiError {
    ApiError::new(Code::Busy, message).with_header(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER))
}

impl From<&VcsError> for ApiError {
    fn from(error: &VcsError) -> Self {
        // No `_` arm: a new failure is given its code before the workspace compiles again.
        let code = match error {
            VcsError::NotFound(_) => Code::RepositoryNotFound,
            VcsError::Damaged { .. } | VcsError::NotAFile { .. } | VcsError::Unreadable { .. } => {
                Code::RepositoryDamaged
            }
            VcsError::NoRemote { .. } => Code::NoRemote,
            VcsError::NoRemoteBranch { .. } => Code::NoRemoteBranch,
            VcsError::Detached { .. } => Code::DetachedHead,
            VcsError::Unborn { .. } => Code::UnbornBranch,
            VcsError::InProgress { .. } => Code::MergeInProgress,
            VcsError::Locked { .. } | VcsError::HeadMoved { .. } => Code::RepositoryLocked,
            VcsError::OwnersDiffer { .. } | VcsError::NotTheOwner { .. } => Code::RepositoryOwner,
            VcsError::Dirty { .. } => Code::WorkTreeDirty,
            VcsError::Diverged { .. }
            | VcsError::Rewound { .. }
            | VcsError::Shallow { .. }
            | VcsError::Unrelated { .. } => Code::HistoryDiverged,
            VcsError::Fetch { .. } => Code::FetchFailed,
            VcsError::FetchTimeout { .. } => Code::FetchTimeout,
            VcsError::Timeout { .. } => Code::RepositoryTimeout,
            VcsError::RepositoryTooLarge { .. } => Code::RepositoryTooLarge,
            VcsError::Unsupported { .. } => Code::RepositoryUnsupported,
            VcsError::Unwritable { .. } => Code::RepositoryUnwritable,
            // Whatever had to be undone: what helps is what the cause is.
            VcsError::HalfMoved { failed, .. } => match &**failed {
                // It did not go back, and only the server's end ends a move.
                VcsError::Cancelled => Code::ShuttingDown,
                failed => Self::from(failed).code,
            },
            VcsError::Cancelled => Code::Cancelled,
            VcsError::Busy { .. } | VcsError::NoThread { .. } | VcsError::NoProcess { .. } => {
                return busy(in_one_line(error));
            }
            VcsError::UnknownCommit(_)
            | VcsError::TooLarge { .. }
            | VcsError::Io { .. }
            | VcsError::Program { .. }
            | VcsError::Defect { .. }
            | VcsError::Git { .. } => Code::Internal,
        };
        Self::new(code, in_one_line(error))
    }
}

impl From<&Failure> for ApiError {
    fn from(failure: &Failure) -> Self {
        // No `_` arm, as above.
        let code = match failure {
            Failure::Vcs(error) => return error.into(),
            Failure::Rollout(rollout) => return rollout_failed(rollout, failure),
            Failure::Stop(stop) => return stop_failed(stop, failure),
            Failure::ManifestInvalid(mistakes)
            | Failure::ManifestUnreadable(ReadError::Invalid(mistakes)) => {
                let mistakes: Vec<_> = mistakes.iter().map(wire::Mistake::from).collect();
                return Self::new(Code::ManifestInvalid, in_one_line(failure))
                    .with_field("mistakes", mistakes);
            }
            Failure::UpdateDisabled => Code::UpdateDisabled,
            Failure::WorkTree(_) => Code::RepositoryLocked,
            Failure::ManifestMissing { .. }
            | Failure::ManifestAmbiguous { .. }
            | Failure::ManifestUnreadable(
                ReadError::Io { .. }
                | ReadError::NotFound(_)
                | ReadError::Ambiguous(_)
                | ReadError::NotAFile { .. }
                | ReadError::Outside { .. },
            ) => Code::ManifestInvalid,
            Failure::UnknownService(_) => Code::ServiceNotFound,
            Failure::ShuttingDown => Code::ShuttingDown,
            Failure::Cancelled => Code::Cancelled,
            Failure::Unanswered(unanswered) if unanswered.is_refusal() => return busy(in_one_line(failure)),
            Failure::Unanswered(_) | Failure::Internal(_) => Code::Internal,
        };
        Self::new(code, in_one_line(failure))
    }
}

fn rollout_failed(rollout: &RolloutFailure, failure: &Failure) -> ApiError {
    let mut error = ApiError::new(Code::RolloutFailed, in_one_line(failure));
    if let Some((from, to)) = &rollout.revisions {
        error =
            error.with_field("from", wire::Revision::from(from)).with_field("to", wire::Revision::from(to));
    }
    error = match rollout.restarted {
        Some(count) => error.with_field("count", count),
        None => error.with_field("rolled_back", rollout.rolled_back),
    };
    if let Some(stuck) = stuck(rollout) {
        error = error.with_field("stuck", stuck);
    }
    error.with_field("services", wire::reasons(&rollout.services))
}

fn stop_failed(stop: &StopFailure, failure: &Failure) -> ApiError {
    let processes: Vec<_> = stop
        .services
        .iter()
        .flat_map(|(service, end)| {
            end.survivors.iter().map(|process| wire::SurvivingProcess::of(service, process))
        })
        .collect();
    ApiError::new(Code::StopFailed, in_one_line(failure))
        .with_field("count", stop.count)
        .with_field("services", wire::reasons(&stop.reasons()))
        .with_field("processes", processes)
}

/// What the work tree is called among what could not be brought back: no service has a space in its name.
const WORK_TREE: &str = "work tree";

/// What could not be brought back by a rollout that failed, and why; none where all was.
fn stuck(rollout: &RolloutFailure) -> Option<wire::Named<String>> {
    let services = rollout.stuck.iter().map(|(name, reason)| (name.to_string(), reason.clone()));
    let work_tree = rollout.work_tree.iter().map(|reason| (WORK_TREE.to_owned(), reason.clone()));
    let all: Vec<_> = work_tree.chain(services).collect();
    (!all.is_empty()).then_some(wire::Named(all))
}

impl From<LogReadError> for ApiError {
    fn from(error: LogReadError) -> Self {
        match &error {
            LogReadError::Unanswered(unanswered) => unanswered.into(),
            _ => Self::new(Code::LogUnreadable, in_one_line(&error)),
        }
    }
}

impl From<&Unanswered> for ApiError {
    fn from(error: &Unanswered) -> Self {
        match error {
            Unanswered::Busy { .. }
            | Unanswered::NoThread(_)
            | Unanswered::TimedOut { .. }
            | Unanswered::Stuck { .. } => busy(in_one_line(error)),
            Unanswered::Panicked { .. } | Unanswered::Cancelled => {
                Self::new(Code::Internal, in_one_line(error))
            }
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let refused = |code| Self::new(code, in_one_line(&error));
        match &error {
            SubmitError::Busy => busy(in_one_line(&error)),
            SubmitError::ShuttingDown => refused(Code::ShuttingDown),
            SubmitError::UnknownService(_) => refused(Code::ServiceNotFound),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf, time::Duration};

    use pmesh_node::Failure;
    use pmesh_vcs::VcsError;

    use super::{ApiError, Code};

    #[test]
    fn codes_are_words_of_their_own_and_ordered_by_status() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(Code::ALL.is_sorted_by_key(|code| code.status()));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
    }

    #[test]
    fn what_cannot_be_provoked_with_a_fake_has_its_code_as_well() {
        let path = PathBuf::from("x");
        let full = io::Error::from(io::ErrorKind::StorageFull);
        for (error, code) in [
            (VcsError::FetchTimeout { url: "u".into(), after: Duration::from_mins(1) }, Code::FetchTimeout),
            (
                VcsError::Timeout { root: "/a".into(), after: Duration::from_secs(10) },
                Code::RepositoryTimeout,
            ),
            (
                VcsError::Unwritable { root: "/a".into(), cause: "c".into(), remedy: "r" },
                Code::RepositoryUnwritable,
            ),
            (VcsError::Unsupported { what: "w".into() }, Code::RepositoryUnsupported),
            (VcsError::RepositoryTooLarge { root: "/a".into(), what: "w".into() }, Code::RepositoryTooLarge),
            (VcsError::Cancelled, Code::Cancelled),
            (VcsError::Busy { root: "/a".into() }, Code::Busy),
            (VcsError::NoThread { root: "/a".into(), source: io::ErrorKind::WouldBlock.into() }, Code::Busy),
            (
                VcsError::NoProcess { program: "git".into(), source: io::ErrorKind::WouldBlock.into() },
                Code::Busy,
            ),
            (VcsError::OwnersDiffer { owners: "o".into(), remedy: "r".into() }, Code::RepositoryOwner),
            (
                VcsError::NotTheOwner {
                    root: "/a".into(),
                    owner: "deploy".into(),
                    user: "www".into(),
                    remedy: "r".into(),
                },
                Code::RepositoryOwner,
            ),
            (VcsError::Io { path, source: full }, Code::Internal),
            (VcsError::Git { command: "fetch", message: "m".into() }, Code::Internal),
        ] {
            assert_eq!(ApiError::from(&Failure::Vcs(error)).code, code);
        }
    }

    #[test]
    fn a_cause_is_part_of_the_sentence() {
        let source = io::Error::other("the disk is full");
        let error = ApiError::from(&VcsError::Io { path: "index".into(), source });
        assert!(
            error.message.contains("index") && error.message.contains("the disk is full"),
            "{}",
            error.message
        );
    }
}
