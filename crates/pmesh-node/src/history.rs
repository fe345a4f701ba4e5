//! The queue of operations and the records of those that ran: what is shared between the handle,
//! which only looks and asks, and the driver, which works.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use pmesh_supervisor::ServiceName;
use tokio::sync::watch;

use crate::{
    Failure, Operation, OperationId, OperationKind, OperationState, Outcome, Request, Scope, Step, StepName,
    StepState,
};

/// How many operations may wait for their turn.
pub const QUEUE_LIMIT: usize = 64;
/// How many operations are remembered, the waiting ones not counted.
pub const HISTORY_LIMIT: usize = 100;

/// The queue and the history. Short locks only; changes are told through a watch.
#[derive(Debug)]
pub(crate) struct Operations {
    inner: Mutex<Inner>,
    /// Counts changes.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<(OperationId, Request)>,
    /// Oldest first. Queued ones are in it too.
    records: VecDeque<Operation>,
}

/// A step that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepKey(Option<usize>);

impl Operations {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::default(), changes: watch::Sender::new(0) }
    }

    fn change<T>(&self, edit: impl FnOnce(&mut Inner) -> T) -> T {
        let result = edit(&mut self.inner.lock());
        self.changes.send_modify(|count| *count += 1);
        result
    }

    /// Tells of changes from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Puts a request in the queue, or finds the equal one that waits there already – unless it would
    /// pass one whose order to it matters. None: it is full.
    pub(crate) fn enqueue(
        &self,
        request: Request,
        new_id: impl FnOnce() -> OperationId,
    ) -> Option<OperationId> {
        self.change(|inner| {
            let mut behind =
                inner.queue.iter().rev().take_while(|(_, queued)| !queued.is_ordered_with(&request));
            if let Some((id, _)) = behind.find(|(_, queued)| *queued == request) {
                return Some(*id);
            }
            if inner.queue.len() >= QUEUE_LIMIT {
                return None;
            }
            let id = new_id();
            inner.records.push_back(Operation::queued(id, request.kind()));
            inner.queue.push_back((id, request));
            Some(id)
        })
    }

    /// Records an operation that does not queue.
    pub(crate) fn record(&self, id: OperationId, kind: OperationKind) {
        self.change(|inner| inner.records.push_back(Operation::queued(id, kind)));
    }

    /// The same, if it is not recorded yet.
    pub(crate) fn record_once(&self, id: OperationId, kind: OperationKind) {
        if self.one(id).is_none() {
            self.record(id, kind);
        }
    }

    /// Takes the first request that `may_run` and passes none whose order to it matters.
    pub(crate) fn take(&self, may_run: impl Fn(&Request) -> bool) -> Option<(OperationId, Request)> {
        let mut inner = self.inner.lock();
        let position = (0..inner.queue.len()).find(|&position| {
            let request = &inner.queue[position].1;
            may_run(request)
                && !inner.queue.iter().take(position).any(|(_, before)| before.is_ordered_with(request))
        })?;
        inner.queue.remove(position)
    }

    pub(crate) fn begin(&self, id: OperationId) {
        self.edit(id, |operation| {
            operation.state = OperationState::Running;
            operation.started = Some(SystemTime::now());
        });
    }

    pub(crate) fn end(&self, id: OperationId, outcome: Result<Outcome, Arc<Failure>>) {
        self.change(|inner| {
            let now = SystemTime::now();
            if let Some(operation) = inner.find(id) {
                operation.state = match outcome.as_ref().map_err(|failure| &**failure) {
                    Ok(_) => OperationState::Done,
                    Err(Failure::ShuttingDown) => OperationState::Cancelled,
                    Err(_) => OperationState::Failed,
                };
                operation.ended = Some(now);
                for step in operation.steps.iter_mut().filter(|step| step.state == StepState::Running) {
                    step.state = StepState::Failed("it was cut off".to_owned());
                    step.ended = Some(now);
                }
                operation.outcome = Some(outcome);
            }
            inner.forget();
        });
    }

    pub(crate) fn begin_step(
        &self,
        id: OperationId,
        name: StepName,
        service: Option<&ServiceName>,
    ) -> StepKey {
        let mut key = StepKey(None);
        self.edit(id, |operation| {
            if operation.steps.len() < Operation::MAX_STEPS {
                key = StepKey(Some(operation.steps.len()));
                operation.steps.push(Step {
                    name,
                    service: service.cloned(),
                    state: StepState::Running,
                    started: SystemTime::now(),
                    ended: None,
                });
            }
        });
        key
    }

    pub(crate) fn end_step(&self, id: OperationId, key: StepKey, state: StepState) {
        let StepKey(Some(index)) = key else { return };
        self.edit(id, |operation| {
            if let Some(step) = operation.steps.get_mut(index) {
                step.state = state;
                step.ended = Some(SystemTime::now());
            }
        });
    }

    fn edit(&self, id: OperationId, edit: impl FnOnce(&mut Operation)) {
        self.change(|inner| {
            if let Some(operation) = inner.find(id) {
                edit(operation);
            }
        });
    }

    /// Whether nothing of it is still to come; none if there is none of this id.
    pub(crate) fn has_ended(&self, id: OperationId) -> Option<bool> {
        Some(self.inner.lock().find(id)?.state.has_ended())
    }

    pub(crate) fn one(&self, id: OperationId) -> Option<Operation> {
        self.inner.lock().records.iter().find(|operation| operation.id == id).cloned()
    }

    /// The last ones, newest first.
    pub(crate) fn all(&self) -> Vec<Operation> {
        self.inner.lock().records.iter().rev().take(HISTORY_LIMIT).cloned().collect()
    }
}

impl Inner {
    fn find(&mut self, id: OperationId) -> Option<&mut Operation> {
        self.records.iter_mut().rev().find(|operation| operation.id == id)
    }

    /// Drops the oldest ended ones beyond the limit.
    fn forget(&mut self) {
        let mut excess = self
            .records
            .iter()
            .filter(|operation| operation.state.has_ended())
            .count()
            .saturating_sub(HISTORY_LIMIT);
        self.records.retain(|operation| {
            let drop = excess > 0 && operation.state.has_ended();
            excess -= usize::from(drop);
            !drop
        });
    }
}

impl Operation {
    fn queued(id: OperationId, kind: OperationKind) -> Self {
        Self {
            id,
            kind,
            state: OperationState::Queued,
            started: None,
            ended: None,
            steps: Vec::new(),
            outcome: None,
        }
    }
}

impl Request {
    /// Whether it matters which of the two runs first: they are about a service in common. Two of a kind
    /// come to the same in either order.
    fn is_ordered_with(&self, other: &Self) -> bool {
        let about = |request: &Self| match request {
            Self::Update(_) | Self::Reload(_) => Scope::All,
            Self::Restart(scope, _) | Self::Stop(scope) => scope.clone(),
        };
        let have_one_in_common = match (about(self), about(other)) {
            (Scope::One(one), Scope::One(another)) => one == another,
            (Scope::All, _) | (_, Scope::All) => true,
        };
        self.kind() != other.kind() && have_one_in_common
    }

    fn kind(&self) -> OperationKind {
        match self {
            Self::Update(_) => OperationKind::Update,
            Self::Reload(_) => OperationKind::Reload,
            Self::Restart(..) => OperationKind::Restart,
            Self::Stop(_) => OperationKind::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HISTORY_LIMIT, Operations, QUEUE_LIMIT};
    use crate::{OperationId, OperationState, Outcome, Rebuild, Request, Scope};

    fn restart(name: &str) -> Request {
        Request::Restart(Scope::One(name.parse().unwrap()), Rebuild::Changed)
    }

    #[test]
    fn equal_requests_that_wait_share_one_operation() {
        let operations = Operations::new();
        let first = operations.enqueue(restart("a"), || OperationId(1)).unwrap();
        assert_eq!(operations.enqueue(restart("a"), || OperationId(2)), Some(first));
        assert_ne!(operations.enqueue(restart("b"), || OperationId(3)), Some(first));
        operations.take(|_| true).unwrap();
        assert_eq!(
            operations.enqueue(restart("a"), || OperationId(4)),
            Some(OperationId(4)),
            "its turn has come"
        );
    }

    fn stop(name: &str) -> Request {
        Request::Stop(Scope::One(name.parse().unwrap()))
    }

    #[test]
    fn nothing_joins_or_overtakes_past_another_request_for_the_same_service() {
        let all = Request::Restart(Scope::All, Rebuild::Changed);
        let reload = Request::Reload(Rebuild::Changed);
        let rebuild = Request::Reload(Rebuild::Everything);
        for (queued, asked, joins, is_taken) in [
            (vec![stop("a")], stop("a"), true, true),
            (vec![stop("a"), restart("b")], stop("a"), true, true),
            (vec![stop("a"), stop("b")], stop("a"), true, true),
            (vec![restart("a"), all.clone()], restart("a"), true, true),
            (vec![reload.clone(), rebuild], reload.clone(), true, true),
            (vec![stop("a"), restart("a")], stop("a"), false, true),
            (vec![stop("a"), all], stop("a"), false, true),
            (vec![restart("a"), stop("a")], restart("a"), false, true),
            (vec![reload.clone(), restart("a")], reload.clone(), false, true),
            (vec![reload.clone(), stop("b")], reload, false, true),
            (vec![restart("b")], stop("a"), false, true),
            (vec![restart("a")], stop("a"), false, false),
            (vec![restart("a"), stop("b")], stop("a"), false, false),
            (vec![restart("a")], Request::Stop(Scope::All), false, false),
        ] {
            let operations = Operations::new();
            for (request, id) in queued.iter().zip(0..) {
                operations.enqueue(request.clone(), || OperationId(id)).unwrap();
            }
            let id = operations.enqueue(asked.clone(), || OperationId(99)).unwrap();
            assert_eq!(id != OperationId(99), joins, "{asked:?} behind {queued:?}");
            let taken = operations.take(|request| *request == asked);
            assert_eq!(taken.is_some(), is_taken, "{asked:?} out of {queued:?}");
        }
    }

    #[test]
    fn the_queue_is_bounded() {
        let operations = Operations::new();
        let mut id = 0;
        let mut enqueue = || {
            id += 1;
            operations.enqueue(restart(&format!("s{id}")), || OperationId(id))
        };
        for _ in 0..QUEUE_LIMIT {
            assert!(enqueue().is_some());
        }
        assert_eq!(enqueue(), None);
    }

    #[test]
    fn the_last_hundred_ended_operations_are_kept_newest_first() {
        let operations = Operations::new();
        for id in 1..=150 {
            operations.enqueue(restart("a"), || OperationId(id)).unwrap();
            operations.take(|_| true).unwrap();
            operations.begin(OperationId(id));
            operations.end(OperationId(id), Ok(Outcome::Restarted { count: 1 }));
        }
        let all = operations.all();
        assert_eq!(all.len(), HISTORY_LIMIT);
        assert_eq!((all[0].id, all[99].id), (OperationId(150), OperationId(51)));
        assert!(all.iter().all(|operation| operation.state == OperationState::Done));
        assert!(operations.one(OperationId(50)).is_none());
    }
}
