//! What the server's log says of a service.

use std::time::Duration;

use tracing::{error, info, warn};

use crate::{Exit, ExternalAddress, ProbeFailure, ServiceId, spans::instance_span};

/// Something that people may want to read in the log. The span around it names the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A new run is prepared; `overlaps`: beside the one before it.
    RunStarts { id: ServiceId, overlaps: bool },
    /// A run starts that was waiting for its build, or for other services.
    BuiltRunStarts { id: ServiceId },
    /// What was made in place for a run is there again.
    BuiltAgain { id: ServiceId },
    /// A new run does not become ready.
    RunFails { reason: String },
    /// The service is stopped on request.
    Stops,
    /// A run of a job is due, and the one before it still goes on.
    RunIsSkipped,
    /// Something about an instance.
    Instance { number: u32, what: InstanceNotice },
    /// An external address has become healthy, or unhealthy with this failure.
    Address { address: ExternalAddress, failure: Option<ProbeFailure> },
}

/// Something about an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InstanceNotice {
    /// Its process could not be started.
    CannotStart { reason: String },
    /// It is ready for traffic.
    IsReady { pid: u32 },
    /// It ended without having been asked to.
    EndedByItself { exit: Exit },
    /// It ended by itself, and is not started again.
    Finished { exit: Exit },
    /// A run of a job takes longer than it may.
    Overruns { limit: Duration },
    /// It ended, as it was asked to.
    Ended { exit: Exit },
    /// Files have changed while it started, so it is started anew.
    IsReplaced,
    /// Its first answer is an error of the server (5xx).
    AnswersWithError { status: u16 },
    /// So many requests in a row have had no answer from it.
    Silent { times: u32 },
    /// Its probes pass again.
    HealthyAgain,
    /// It has been unhealthy for so long that another one takes its place.
    TooLongUnhealthy { limit: Duration },
    /// Its probes fail.
    Unhealthy { failure: ProbeFailure },
    /// It is killed because its grace, of this length, is over.
    GraceIsOver { limit: Duration },
    /// It is killed without grace.
    NoGrace,
    /// SIGKILL has not ended all of its processes.
    Outlives { outlives: String },
    /// The processes that had outlived SIGKILL are gone.
    GoneAtLast,
}

impl Notice {
    /// Writes it into the log.
    pub(crate) fn log(&self) {
        match self {
            Self::RunStarts { id, overlaps } => info!(%id, overlaps, "a new run starts"),
            Self::BuiltRunStarts { id } => info!(%id, "what it was waiting for is there, and it starts"),
            Self::BuiltAgain { id } => info!(%id, "what it was built from is built again in its folder"),
            Self::RunFails { reason } => warn!(reason, "a new run does not become ready"),
            Self::RunIsSkipped => warn!("a run is due, and left out: the one before it still goes on"),
            Self::Stops => info!("it stops on request"),
            Self::Instance { number, what } => what.log(*number),
            Self::Address { address, failure: None } => info!(%address, "it is healthy"),
            Self::Address { address, failure: Some(failure) } => warn!(%address, %failure, "it is unhealthy"),
        }
    }
}

impl InstanceNotice {
    fn log(&self, number: u32) {
        instance_span(number).in_scope(|| match self {
            Self::CannotStart { reason } => warn!(reason, "it cannot be started"),
            Self::IsReady { pid } => info!(pid, "it is ready"),
            Self::EndedByItself { exit } => warn!(%exit, "it ended by itself"),
            Self::Overruns { limit } => warn!(?limit, "it takes longer than `timeout`, and is ended"),
            Self::Finished { exit: exit @ Exit::Code(0) } => info!(%exit, "it is done"),
            Self::Finished { exit } => warn!(%exit, "it ended by itself, and is not started again"),
            Self::TooLongUnhealthy { limit } => warn!(?limit, "it has been unhealthy for `unhealthy_timeout`: it is replaced"),
            Self::Ended { exit } => info!(%exit, "it has ended"),
            Self::IsReplaced => info!("files have changed under its start: it is started anew"),
            Self::AnswersWithError { status } => {
                warn!(
                    status,
                    "its first answer, to `GET /`, is an error of its own; it takes requests all the same"
                );
            }
            Self::Silent { times } => {
                warn!(
                    times,
                    "requests to it have had no answer in a row; it is asked, and takes no new ones meanwhile where another can"
                );
            }
            Self::HealthyAgain => info!("it is healthy again"),
            Self::Unhealthy { failure } => warn!(%failure, "it is unhealthy"),
            Self::GraceIsOver { limit } => warn!("it did not end within stop_timeout {limit:?}, killed"),
            Self::NoGrace => info!("no grace is left to it: SIGKILL"),
            Self::Outlives { outlives } => error!("{outlives}"),
            Self::GoneAtLast => info!("what had outlived SIGKILL is gone"),
        });
    }
}
