//! What is to be done for a service.

use std::{sync::Arc, time::Duration};

use crate::{
    ExternalAddress, Plan, Prepared, Remade, RunBegun, RunEnd, Signal, StopEnd, Switched, Wish,
    notice::Notice, service_event::Ticket,
};

/// What a `ServiceMachine` asks its driver for. What has an
/// outcome is answered by an event, sooner or later.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ServiceAction {
    /// Start the process of an instance.
    Spawn { upstream: u64, number: u32, plan: Arc<Plan>, is_repeated: bool },
    /// Signal every process of a tree.
    Signal { upstream: u64, signal: Signal },
    /// Wait for what is under way to an upstream that takes no new traffic.
    Drain { upstream: u64 },
    /// See what of a tree SIGKILL has not ended.
    LookAtSurvivors { upstream: u64 },
    /// Wait until an upstream answers a request, whenever that was sent.
    AwaitAnswer { upstream: u64 },
    /// Read what a process wrote last.
    ReadLastLines { upstream: u64 },
    /// Probe an instance, or an address of somebody else's; `seek`: look where it listens, if not there; `ask`: send it
    /// a request, and wait so long for the answer.
    Probe {
        upstream: u64,
        address: ExternalAddress,
        prove_owner: bool,
        seek: bool,
        ask: Option<Duration>,
        plan: Arc<Plan>,
    },
    /// End a tree of which the machine knows nothing any more, with the grace of its plan.
    EndRemnant { upstream: u64, plan: Option<Arc<Plan>> },
    /// Run the commands before the stop of a run.
    RunShutdownCommands { run: u64, plan: Arc<Plan> },
    /// Kill what runs of them.
    KillShutdownCommands { run: u64 },
    /// Try to build.
    Build { attempt: u64, plan: Arc<Plan> },
    /// Wish the end of a try that is under way.
    EndBuild { attempt: u64, wish: Wish },
    /// Compare the limit of open descriptors that a service wants with the one that it can have.
    CheckDescriptorLimit { wanted: u64 },
    /// Answer a caller.
    Answer(Ticket, ServiceAnswer),
    /// Write something into the server's log.
    Note(Notice),
}

/// An answer to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceAnswer {
    /// It is done, or will not come about any more.
    Done,
    /// How a preparation ended.
    Prepared(Prepared),
    /// What has taken over.
    Switched(Switched),
    /// What has come of making a build again.
    Remade(Remade),
    /// How a run has ended.
    Ended(RunEnd),
    /// It is stopped.
    Stopped(StopEnd),
    /// What has come of a run that was wanted now.
    RunBegun(RunBegun),
}
