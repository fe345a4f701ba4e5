//! What the driver of a service holds and cannot be written down: processes, what is waited for, and
//! who waits.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{oneshot, watch};
use tracing::{Instrument, Span, error, trace};

use crate::{
    Exit, Port, Prepared, ProbeFailure, Prober, ProcessTree, Remade, RunBegun, RunEnd, ServiceLog, StopEnd,
    Switched, Tail, Wish,
    ending::KillOnDrop,
    port_taken,
    service_action::{ServiceAction, ServiceAnswer},
    service_event::{ANSWERED, BUILT, EventKey, SHUTDOWN_COMMANDS_ENDED, ServiceEvent, TREE_ENDED, Ticket},
};

/// How long the last lines of an ended tree may take to be read, so that they are in the reason.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Who has the port that a process wanted, if its last lines say that somebody has; without a name where they do not say which.
async fn taken(last_lines: &[String], own: Option<u16>, prober: &dyn Prober) -> Option<ProbeFailure> {
    for port in port_taken::named(last_lines)?.into_iter().chain(own) {
        if let Some(holder) = prober.holder(port).await {
            return Some(ProbeFailure::PortTaken { port, own, holder });
        }
    }
    Some(ProbeFailure::AddressInUse { own })
}

/// What a driver holds. It outlives a step that panics, and the driver itself.
#[derive(Default)]
pub(crate) struct Pending {
    /// What will happen. Everything that is waited for is here; there is no other task for it.
    pub(crate) coming: FuturesUnordered<BoxFuture<'static, ServiceEvent>>,
    /// What has happened, and was not told to the machine yet.
    pub(crate) events: VecDeque<ServiceEvent>,
    /// What the machine has asked for, and was not done yet.
    pub(crate) actions: VecDeque<ServiceAction>,
    /// The processes that run, by their numbers.
    pub(crate) processes: BTreeMap<u64, HeldProcess>,
    /// What is wished of the shutdown commands that run, by their run.
    pub(crate) shutdowns: BTreeMap<u64, watch::Sender<Wish>>,
    /// What is wished of the tries to build that are under way, by their numbers.
    pub(crate) builds: BTreeMap<u64, watch::Sender<Wish>>,
    /// The log that was written to last, so that it stays the same between two processes.
    pub(crate) log: Option<(String, ServiceLog)>,
    callers: BTreeMap<Ticket, Caller>,
    last_ticket: u64,
}

/// A process that runs, until its tree is gone.
pub(crate) struct HeldProcess {
    pub(crate) tree: KillOnDrop,
    /// Held so that nobody else is given it.
    pub(crate) port: Option<Port>,
    /// What its lines in the log are in.
    pub(crate) span: Span,
    pub(crate) tail: Tail,
    pub(crate) output_ended: Option<oneshot::Receiver<()>>,
    /// Whether it is waited for an answer of it to a request.
    pub(crate) awaits_answer: bool,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Caller {
    /// For the end of something.
    Done(oneshot::Sender<()>),
    /// For the end of a preparation.
    Prepared(oneshot::Sender<Prepared>),
    /// For a switch.
    Switched(oneshot::Sender<Switched>),
    /// For a build that is made again.
    Remade(oneshot::Sender<Remade>),
    /// For the end of a run.
    Ended(oneshot::Sender<RunEnd>),
    /// For the begin of a run.
    RunBegun(oneshot::Sender<RunBegun>),
    /// For a stop.
    Stopped(oneshot::Sender<StopEnd>),
}

impl Pending {
    /// Waits for something. Where waiting for it panics, `else_event` has happened.
    pub(crate) fn wait_for(
        &mut self,
        else_event: ServiceEvent,
        event: impl Future<Output = ServiceEvent> + Send + 'static,
    ) {
        let event = AssertUnwindSafe(event).catch_unwind();
        self.coming.push(Box::pin(async move {
            event.await.unwrap_or_else(|panic| {
                error!(event = else_event.key().0, panic = words_of(&*panic), "what is waited for panicked");
                else_event
            })
        }));
    }

    /// Waits until the tree of a process whose leader has ended is empty, and then a moment for its
    /// output.
    pub(crate) fn wait_for_tree(&mut self, upstream: u64, exit: Exit, prober: &Arc<dyn Prober>) {
        let Some(process) = self.processes.get_mut(&upstream) else { return };
        let (tree, tail, span) = (Arc::clone(&process.tree.0), process.tail.clone(), process.span.clone());
        let output_ended = process.output_ended.take();
        let else_event = ServiceEvent::TreeEnded { upstream, exit, last_lines: Vec::new(), taken: None };
        let (own, prober) = (process.port.as_ref().map(Port::number), Arc::clone(prober));
        let ended = async move {
            tree.ended().await;
            if let Some(ended) = output_ended {
                // Time over, or the pump gone: the reason goes without the last lines then.
                drop(tokio::time::timeout(LAST_LINES, ended).await);
            }
            let last_lines = tail.lines();
            let taken = taken(&last_lines, own, &*prober).await;
            ServiceEvent::TreeEnded { upstream, exit, last_lines, taken }
        };
        self.wait_for(else_event, ended.instrument(span));
    }

    /// Lets go of what has ended with this event, if it is the end of something.
    pub(crate) fn let_go(&mut self, (kind, number): EventKey) {
        match kind {
            TREE_ENDED => drop(self.processes.remove(&number)),
            SHUTDOWN_COMMANDS_ENDED => drop(self.shutdowns.remove(&number)),
            ANSWERED => {
                if let Some(process) = self.processes.get_mut(&number) {
                    process.awaits_answer = false;
                }
            }
            BUILT => drop(self.builds.remove(&number)),
            _ => {}
        }
    }

    /// The tree of a process.
    pub(crate) fn tree(&self, upstream: u64) -> Option<Arc<dyn ProcessTree>> {
        Some(Arc::clone(&self.processes.get(&upstream)?.tree.0))
    }

    /// A ticket that stands for this caller.
    pub(crate) fn ticket(&mut self, caller: Caller) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.callers.insert(ticket, caller);
        ticket
    }

    /// Answers a caller. One that has gone away meanwhile does not want to know: what it asked for goes
    /// on without it.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: ServiceAnswer) {
        let is_heard = match (self.callers.remove(&ticket), answer) {
            (Some(Caller::Done(caller)), ServiceAnswer::Done) => caller.send(()).is_ok(),
            (Some(Caller::Prepared(caller)), ServiceAnswer::Prepared(end)) => caller.send(end).is_ok(),
            (Some(Caller::Switched(caller)), ServiceAnswer::Switched(what)) => caller.send(what).is_ok(),
            (Some(Caller::Remade(caller)), ServiceAnswer::Remade(what)) => caller.send(what).is_ok(),
            (Some(Caller::Ended(caller)), ServiceAnswer::Ended(end)) => caller.send(end).is_ok(),
            (Some(Caller::RunBegun(caller)), ServiceAnswer::RunBegun(what)) => caller.send(what).is_ok(),
            (Some(Caller::Stopped(caller)), ServiceAnswer::Stopped(end)) => caller.send(end).is_ok(),
            (None, _) => false,
            (Some(caller), answer) => {
                error!(?caller, ?answer, "an answer does not fit its question");
                false
            }
        };
        if !is_heard {
            trace!("nobody waits for this answer any more");
        }
    }

    /// Leaves callers without an answer, by which they learn that the driver has failed.
    pub(crate) fn fail(&mut self, tickets: &[Ticket]) {
        self.callers.retain(|ticket, _| !tickets.contains(ticket));
    }

    /// Fails the callers who wait for a start. Who waits for an end goes on to wait, for that comes; and
    /// a switch has been answered, or will be, when it has happened.
    pub(crate) fn fail_starts(&mut self) {
        self.callers.retain(|_, caller| !matches!(caller, Caller::Prepared(_) | Caller::Remade(_)));
    }
}

/// The words of a panic.
pub(crate) fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it has no words")
}

/// The present, on tokio's clock, which tests pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
