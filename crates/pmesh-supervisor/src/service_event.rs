//! What happens to a service.

use std::sync::Arc;

use crate::{
    Basis, Exit, FirstAnswer, Plan, ProbeFailure, ServiceFailure, Survivor, saved::saved, unbuilt::Missing,
};

/// Stands for a caller who waits for an answer. The driver knows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

saved!(newtype Ticket);

/// What happens to a service: what callers ask of it, and what its processes, addresses, commands and
/// builds do. Each of these is named by the number that the machine gave it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ServiceEvent {
    /// A new run is to be prepared, unless the service was stopped since it had been `stops` times.
    Prepare { plan: Arc<Plan>, stops: u64, spawned: Ticket, ended: Ticket },
    /// A run that lacks what it needs to start is to be the service, on the same condition.
    StayUnbuilt { plan: Arc<Plan>, stops: u64, missing: Missing, failure: ServiceFailure, done: Ticket },
    /// The prepared run is waited for once more.
    AwaitReady { ended: Ticket },
    /// Every instance of the new run is to be looked at once more.
    LookAgain { ended: Ticket },
    /// The prepared run is to take the traffic, and the old one is kept.
    Switch { switched: Ticket },
    /// The prepared run, or that which has taken over, is to be the service for good.
    Commit { switched: Ticket, drained: Ticket, stopped: Ticket },
    /// The prepared run is to end.
    Abandon { done: Ticket },
    /// What had to make room for an abandoned run is to come back.
    Revive { ended: Ticket },
    /// The service is to stop.
    Stop { done: Ticket },
    /// The service is to stop without any grace.
    Kill,
    /// Nothing may be started from the files in the work tree.
    Hold { done: Ticket },
    /// It may again.
    Release,
    /// Somebody is about to build, and maybe in place.
    HoldProduct { done: Ticket },
    /// The folder holds what the run's build has made in place.
    ProductIsWhole,
    /// It does not, and it is to be built again: now, or some time after this failure.
    Remake { failure: Option<ServiceFailure>, ended: Ticket },
    /// The time of a job has come.
    JobIsDue,
    /// A run of a job is wanted now.
    RunNow { begun: Ticket },
    /// The server is about to end: nothing is started or built any more.
    EndBegins,
    /// Nobody can ask for anything any more.
    Orphaned,

    /// A process was started.
    Spawned { upstream: u64, leader: u32, port: Option<u16> },
    /// A process could not be started.
    SpawnFailed { upstream: u64, reason: String },
    /// The same, because the server itself has nothing left to start it with.
    SpawnPutOff { upstream: u64, reason: Option<String> },
    /// The leader of a tree has ended.
    Exited { upstream: u64, exit: Exit },
    /// No process of a tree lives. Says once more how the leader ended, what it wrote last, and, where it wrote that a port was
    /// taken, by whom.
    TreeEnded { upstream: u64, exit: Exit, last_lines: Vec<String>, taken: Option<ProbeFailure> },
    /// What a process wrote last, as it was asked for.
    LastLines { upstream: u64, last_lines: Vec<String> },
    /// What of a tree SIGKILL has not ended, as it was asked for.
    LookedAt { upstream: u64, survivors: Vec<Survivor> },
    /// The output of a process is in the log.
    OutputEnded { upstream: u64 },
    /// A probe has a result.
    Probed { upstream: u64, result: Result<FirstAnswer, ProbeFailure> },
    /// Requests to an upstream have had no answer in their time, as often in a row as its plan tolerates.
    TimedOut { upstream: u64 },
    /// An upstream of which [`TimedOut`](Self::TimedOut) was told has answered a request after all.
    Answered { upstream: u64 },
    /// Nothing is under way to an upstream any more.
    Drained { upstream: u64 },
    /// The commands before the stop of a run have ended.
    ShutdownCommandsEnded { run: u64 },
    /// A try to build has ended.
    Built { attempt: u64, built: Result<Basis, NoBuild> },
    /// A deadline of the machine may have passed.
    Tick,
}

/// Why a try to build has no build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoBuild {
    /// It was ended on request.
    Cancelled,
    /// It failed, or the release behind it did.
    Failed(Missing, ServiceFailure),
}

/// Which event it is, whatever else it carries: its kind and what it is about.
pub(crate) type EventKey = (&'static str, u64);

pub(crate) const TREE_ENDED: &str = "tree ended";
pub(crate) const SHUTDOWN_COMMANDS_ENDED: &str = "shutdown commands ended";
pub(crate) const ANSWERED: &str = "answered";
pub(crate) const BUILT: &str = "built";

impl ServiceEvent {
    /// Which event it is.
    pub(crate) fn key(&self) -> EventKey {
        match *self {
            Self::Prepare { .. } => ("prepare", 0),
            Self::StayUnbuilt { .. } => ("stay unbuilt", 0),
            Self::AwaitReady { .. } => ("await ready", 0),
            Self::LookAgain { .. } => ("look again", 0),
            Self::Switch { .. } => ("switch", 0),
            Self::Commit { .. } => ("commit", 0),
            Self::Abandon { .. } => ("abandon", 0),
            Self::Revive { .. } => ("revive", 0),
            Self::Stop { .. } => ("stop", 0),
            Self::Kill => ("kill", 0),
            Self::Hold { .. } => ("hold", 0),
            Self::Release => ("release", 0),
            Self::HoldProduct { .. } => ("hold product", 0),
            Self::ProductIsWhole => ("product is whole", 0),
            Self::Remake { .. } => ("remake", 0),
            Self::JobIsDue => ("job is due", 0),
            Self::RunNow { .. } => ("run now", 0),
            Self::EndBegins => ("end begins", 0),
            Self::Orphaned => ("orphaned", 0),
            Self::Spawned { upstream, .. } => ("spawned", upstream),
            Self::SpawnFailed { upstream, .. } => ("spawn failed", upstream),
            Self::SpawnPutOff { upstream, .. } => ("spawn put off", upstream),
            Self::Exited { upstream, .. } => ("exited", upstream),
            Self::TreeEnded { upstream, .. } => (TREE_ENDED, upstream),
            Self::LastLines { upstream, .. } => ("last lines", upstream),
            Self::LookedAt { upstream, .. } => ("looked at", upstream),
            Self::OutputEnded { upstream } => ("output ended", upstream),
            Self::Probed { upstream, .. } => ("probed", upstream),
            Self::TimedOut { upstream } => ("timed out", upstream),
            Self::Answered { upstream } => (ANSWERED, upstream),
            Self::Drained { upstream } => ("drained", upstream),
            Self::ShutdownCommandsEnded { run } => (SHUTDOWN_COMMANDS_ENDED, run),
            Self::Built { attempt, .. } => (BUILT, attempt),
            Self::Tick => ("tick", 0),
        }
    }

    /// Whether somebody wants something to be started or switched.
    pub(crate) fn is_start(&self) -> bool {
        matches!(
            self,
            Self::Prepare { .. }
                | Self::StayUnbuilt { .. }
                | Self::AwaitReady { .. }
                | Self::LookAgain { .. }
                | Self::Switch { .. }
                | Self::Revive { .. }
                | Self::Remake { .. }
                | Self::JobIsDue
                | Self::RunNow { .. }
        )
    }

    /// The callers who wait for what becomes of it.
    pub(crate) fn tickets(&self) -> Vec<Ticket> {
        match *self {
            Self::Prepare { spawned, ended, .. } => vec![spawned, ended],
            Self::Commit { switched, drained, stopped } => vec![switched, drained, stopped],
            Self::AwaitReady { ended } | Self::LookAgain { ended } | Self::Revive { ended } => vec![ended],
            Self::Remake { ended, .. } => vec![ended],
            Self::RunNow { begun } => vec![begun],
            Self::Switch { switched } => vec![switched],
            Self::StayUnbuilt { done, .. }
            | Self::Abandon { done }
            | Self::Stop { done }
            | Self::Hold { done }
            | Self::HoldProduct { done } => vec![done],
            _ => Vec::new(),
        }
    }
}
