//! The steps of an operation as they are told: by a rollout, in records, on the wire, in the log.

/// The steps there are, in the order in which an update takes them. A rollout of services takes those from
/// [`Build`](Self::Build) on; the others are its caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StepName {
    /// The remote is asked.
    Fetch,
    /// The manifest is read, and searched for mistakes.
    Check,
    /// The work tree is moved.
    CheckOut,
    /// A service's build is made, or found.
    Build,
    /// Its release commands run.
    Release,
    /// Its instances are spawned.
    Start,
    /// They become ready.
    Ready,
    /// They take over.
    Switch,
    /// What is under way to the old instances ends.
    Drain,
    /// Instances end.
    Stop,
    /// What was done is undone: of a service, of the work tree.
    RollBack,
}

impl StepName {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Check => "check",
            Self::CheckOut => "check_out",
            Self::Build => "build",
            Self::Release => "release",
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Switch => "switch",
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::RollBack => "roll_back",
        }
    }
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepState {
    /// It has begun.
    Running,
    /// It has ended well, with what a person may want to know of it: a build, a commit.
    Done(Option<String>),
    /// It has failed, and why.
    Failed(String),
}

impl StepState {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done(_) => "done",
            Self::Failed(_) => "failed",
        }
    }

    /// What a person may want to know of it.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Running => None,
            Self::Done(detail) => detail.as_deref(),
            Self::Failed(reason) => Some(reason),
        }
    }
}
