//! The task that changes the node: one operation at a time, but for stops beside a rollout, and restarts of several services.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use pmesh_supervisor::{Service, ServiceName};
use tracing::{Instrument, Span, error, info, info_span, warn};

use crate::{
    Failure, OperationId, OperationKind, Outcome, Request, Scope, course::Aim, interpreter::Interpreter,
    node_shared::NodeShared, stop_report::StopReport,
};

/// How many restarts run beside each other.
const SIDE_BY_SIDE: usize = 32;

/// Owns the changes of a node.
pub(crate) struct NodeDriver {
    shared: Arc<NodeShared>,
    start: OperationId,
    shutdown: OperationId,
}

impl NodeDriver {
    pub(crate) fn new(shared: Arc<NodeShared>, start: OperationId, shutdown: OperationId) -> Self {
        Self { shared, start, shutdown }
    }

    /// Starts the services, then does what is asked until the server ends.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut next = Some((self.start, OperationKind::Start, Aim::Start));
        loop {
            let (id, kind, aim) = match next.take() {
                Some(start) => start,
                None => tokio::select! {
                    biased;
                    () = shared.ending.cancelled() => break,
                    (id, request) = shared.next(|_| true) => (id, request.kind(), Aim::from(request)),
                },
            };
            if shared.ending.is_cancelled() {
                shared.publisher.end(id, Err(Arc::new(Failure::ShuttingDown)));
                break;
            }
            self.run_one(id, kind, aim).await;
        }
        self.shut_down().await;
    }

    /// Runs an operation, and beside it the stops that are asked for: a stop ends its services' part of
    /// a rollout, so it cannot wait for it. Beside the restart of a service run those of others that are next in the
    /// queue.
    async fn run_one(&mut self, id: OperationId, kind: OperationKind, aim: Aim) {
        let shared = Arc::clone(&self.shared);
        let is_stop = matches!(aim, Aim::Stop(_));
        let (mut is_ending, mut is_hurried) = (false, false);
        let mut restarting: Vec<ServiceName> = Vec::new();
        let is_restart = match &aim {
            Aim::Restart(Scope::One(name), _) => {
                restarting.push(name.clone());
                true
            }
            _ => false,
        };
        let mut cut_off = Vec::new();
        let (mut rollouts, mut stops) = (FuturesUnordered::new(), FuturesUnordered::new());
        rollouts.push(work(Arc::clone(&shared), id, aim).instrument(span(id, kind)));
        while !rollouts.is_empty() || !stops.is_empty() {
            let (takes_stops, takes_restarts) = (
                !is_stop && !rollouts.is_empty(),
                is_restart && !is_ending && stops.is_empty() && rollouts.len() < SIDE_BY_SIDE,
            );
            tokio::select! {
                // The operation begins before a stop beside it does: so it knows which stops came later.
                biased;
                Some(end) = rollouts.next(), if !rollouts.is_empty() => cut_off.extend(end),
                Some(()) = stops.next(), if !stops.is_empty() => {}
                (id, request) = shared.next_beside(takes_restarts, &restarting), if takes_stops => match request {
                    Request::Stop(scope) => {
                        let span = span(id, OperationKind::Stop);
                        stops.push(stop_beside(&shared, id, scope).instrument(span));
                    }
                    restart => {
                        if let Request::Restart(Scope::One(name), _) = &restart {
                            restarting.push(name.clone());
                        }
                        let span = span(id, restart.kind());
                        rollouts.push(work(Arc::clone(&shared), id, Aim::from(restart)).instrument(span));
                    }
                },
                () = shared.ending.cancelled(), if !is_ending => {
                    is_ending = true;
                    shared.cancellations.cancel_all();
                    // What crashes from now on stays as it is: requests end, and then everything is stopped.
                    shared.supervisor.begin_end().await;
                }
                () = shared.hurrying.cancelled(), if !is_hurried => {
                    is_hurried = true;
                    kill_all(&shared).await;
                }
            }
        }
        for (id, failure) in cut_off {
            let interpreter = Interpreter::new(Arc::clone(&shared), id, shared.ending.clone());
            if let Err(failure) = or_panic(interpreter.mend()).await {
                error!(%failure, "what a defect has cut off in the middle could not be mended");
            }
            finish(&shared, id, Err(failure));
        }
    }

    /// Ends what waits, and every service.
    async fn shut_down(self) {
        let Self { shared, shutdown, .. } = self;
        shared.supervisor.begin_end().await;
        while let Some((id, _)) = shared.publisher.take(|_| true) {
            shared.publisher.end(id, Err(Arc::new(Failure::ShuttingDown)));
        }
        shared.closed.cancelled().await;
        shared.maintenance.end(&shared.hurrying).await;
        let services = shared.supervisor.services();
        stop_everything(&shared, shutdown, &services)
            .instrument(span(shutdown, OperationKind::Shutdown))
            .await;
        let names: Vec<ServiceName> = services.iter().map(|service| service.name().clone()).collect();
        shared.supervisor.remove(&names).await;
    }
}

/// Runs an operation; what a defect has cut off is told its caller, and has still to be mended.
async fn work(shared: Arc<NodeShared>, id: OperationId, aim: Aim) -> Option<(OperationId, Failure)> {
    shared.publisher.begin(id);
    let cancel = shared.cancellations.of(id);
    if shared.ending.is_cancelled() {
        cancel.cancel();
    }
    let interpreter = Interpreter::new(Arc::clone(&shared), id, cancel);
    let outcome = or_panic(interpreter.run(aim)).await;
    let was_cancelled = shared.cancellations.of(id).is_cancelled();
    match outcome {
        Err(failure) => Some((id, failure)),
        // It went back because somebody wished so, not because the server ends.
        Ok(Err(Failure::ShuttingDown)) if was_cancelled && !shared.ending.is_cancelled() => {
            finish(&shared, id, Err(Failure::Cancelled));
            None
        }
        Ok(outcome) => {
            finish(&shared, id, outcome);
            None
        }
    }
}

async fn stop_everything(shared: &NodeShared, shutdown: OperationId, services: &[Service]) {
    shared.publisher.begin(shutdown);
    info!(services = services.len(), "stopping every service");
    let mut stopping = pin!(shared.supervisor.stop(services));
    let ends = tokio::select! {
        ends = &mut stopping => ends,
        () = shared.hurrying.cancelled() => {
            kill_all(shared).await;
            stopping.await
        }
    };
    finish(shared, shutdown, StopReport(ends).outcome().map(|_| Outcome::ShutDown));
}

/// What the lines of an operation have in common.
fn span(id: OperationId, kind: OperationKind) -> Span {
    info_span!("operation", %id, kind = kind.as_str())
}

impl From<Request> for Aim {
    fn from(request: Request) -> Self {
        match request {
            Request::Update(rebuild) => Self::Update(rebuild),
            Request::Reload(rebuild) => Self::Reload(rebuild),
            Request::Restart(scope, rebuild) => Self::Restart(scope, rebuild),
            Request::Stop(scope) => Self::Stop(scope),
        }
    }
}

impl NodeShared {
    /// The next stop, or the restart that is next in the queue where such are taken and its service is not among those that
    /// are restarted. Cancel-safe.
    async fn next_beside(&self, takes_restarts: bool, restarting: &[ServiceName]) -> (OperationId, Request) {
        loop {
            let mut told = pin!(self.requests.notified());
            told.as_mut().enable();
            if let Some(stop) = self.publisher.take(|request| matches!(request, Request::Stop(_))) {
                return stop;
            }
            let may_restart = |name: &ServiceName| takes_restarts && !restarting.contains(name);
            if let Some(restart) = self.publisher.take_restart(may_restart) {
                return restart;
            }
            told.await;
        }
    }

    /// The next request that `may_run`. Cancel-safe.
    async fn next(&self, may_run: impl Fn(&Request) -> bool) -> (OperationId, Request) {
        loop {
            let mut told = pin!(self.requests.notified());
            told.as_mut().enable();
            if let Some(request) = self.publisher.take(&may_run) {
                return request;
            }
            told.await;
        }
    }
}

/// Ends every process of every service, without grace.
async fn kill_all(shared: &NodeShared) {
    warn!("ending every process at once");
    for service in shared.supervisor.services() {
        service.kill().await;
    }
}

/// A stop as an operation of its own, beside the one that runs.
async fn stop_beside(shared: &Arc<NodeShared>, id: OperationId, scope: Scope) {
    shared.publisher.begin(id);
    let interpreter = Interpreter::new(Arc::clone(shared), id, shared.ending.clone());
    let outcome = or_panic(interpreter.run(Aim::Stop(scope))).await.unwrap_or_else(Err);
    finish(shared, id, outcome);
}

/// Runs `work`; its panic is a failure of the operation, and not the end of whoever runs it.
async fn or_panic<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let said = said.unwrap_or("it gave no reason");
        Failure::Internal(format!("the operation ended early: {said}; that is a defect of pmesh"))
    })
}

/// The services that have no ready instance after an operation that ended well.
fn unready(outcome: &Outcome) -> Option<String> {
    let failed = match outcome {
        Outcome::Started { failed } | Outcome::Reloaded { failed } => failed,
        Outcome::Updated(update) => &update.failed,
        Outcome::Restarted { .. } | Outcome::Stopped { .. } | Outcome::Begun | Outcome::ShutDown => {
            return None;
        }
    };
    let names: Vec<_> = failed.keys().map(ServiceName::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn finish(shared: &NodeShared, id: OperationId, outcome: Result<Outcome, Failure>) {
    match &outcome {
        Ok(outcome) => match unready(outcome) {
            Some(services) => warn!(services, "done, but these services are not ready"),
            None => info!("done"),
        },
        Err(Failure::ShuttingDown) => info!("cancelled: the server ends"),
        Err(Failure::Cancelled) => info!("cancelled on request"),
        Err(failure) => warn!(%failure, "failed"),
    }
    shared.publisher.end(id, outcome.map_err(Arc::new));
    shared.cancellations.forget(id);
}

#[cfg(test)]
mod tests {
    use super::or_panic;
    use crate::Failure;

    #[tokio::test]
    async fn a_panic_is_the_failure_of_its_operation() {
        assert_eq!(or_panic(async { 1 }).await.unwrap(), 1);
        for message in ["as it is", "put together"] {
            let failed = or_panic(async { panic!("{message}") }).await;
            match failed {
                Err(Failure::Internal(text)) => assert!(text.contains(message), "{text}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
