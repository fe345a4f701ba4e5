//! The requests that wait for their turn, and the stops that run beside others. A plain type.

use std::collections::VecDeque;

use pmesh_supervisor::ServiceName;

use crate::{OperationId, OperationKind, Request, Scope};

/// How many operations may wait for their turn, stops that run beside others counted.
pub const QUEUE_LIMIT: usize = 64;

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("{QUEUE_LIMIT} operations wait already; try again when some have ended")]
    Busy,
    /// The server is about to end.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// No service of this name.
    #[error("no service \"{0}\" in the manifest")]
    UnknownService(ServiceName),
}

/// What waits, and which stops run.
#[derive(Debug, Default)]
pub(crate) struct OperationQueue {
    waiting: VecDeque<(OperationId, Request)>,
    /// The stops that have begun and not ended.
    stops: Vec<(OperationId, Request)>,
    is_closed: bool,
}

/// Which operation a request has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// One of its own.
    Anew(OperationId),
    /// An equal one that waits already, or a stop that runs already.
    Joined(OperationId),
}

impl OperationQueue {
    /// Puts a request at the end of the queue, or joins it to an equal one that waits. It does not join where it would
    /// overtake a request by that with which its order matters.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]; nothing is queued then.
    pub(crate) fn submit(
        &mut self,
        request: Request,
        new_id: impl FnOnce() -> OperationId,
    ) -> Result<Submitted, SubmitError> {
        if self.is_closed {
            return Err(SubmitError::ShuttingDown);
        }
        // What runs is before what waits.
        let before = self.stops.iter().chain(&self.waiting).rev();
        let mut behind = before.take_while(|(_, queued)| !queued.is_ordered_with(&request));
        if let Some((id, _)) = behind.find(|(_, queued)| *queued == request) {
            return Ok(Submitted::Joined(*id));
        }
        if self.waiting.len() + self.stops.len() >= QUEUE_LIMIT {
            return Err(SubmitError::Busy);
        }
        let id = new_id();
        self.waiting.push_back((id, request));
        Ok(Submitted::Anew(id))
    }

    /// Takes a request out that waits; whether it did.
    pub(crate) fn withdraw(&mut self, id: OperationId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != id);
        self.waiting.len() < before
    }

    /// Takes the request whose turn is next, if that restarts one service that `may_restart`: it can run beside restarts
    /// of others.
    pub(crate) fn take_restart(
        &mut self,
        may_restart: impl Fn(&ServiceName) -> bool,
    ) -> Option<(OperationId, Request)> {
        let (_, next) = self.waiting.front()?;
        let Request::Restart(Scope::One(name), _) = next else { return None };
        if may_restart(name) { self.waiting.pop_front() } else { None }
    }

    /// Nothing is taken into the queue any more; what waits there can still be taken out.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Takes the first request that `may_run`, unless one with which its order matters waits before it.
    pub(crate) fn take(&mut self, may_run: impl Fn(&Request) -> bool) -> Option<(OperationId, Request)> {
        let position = (0..self.waiting.len()).find(|&position| {
            let request = &self.waiting[position].1;
            may_run(request)
                && !self.waiting.iter().take(position).any(|(_, before)| before.is_ordered_with(request))
        })?;
        let taken = self.waiting.remove(position)?;
        if matches!(taken.1, Request::Stop(_)) {
            self.stops.push(taken.clone());
        }
        Some(taken)
    }

    /// An operation has ended.
    pub(crate) fn on_end(&mut self, id: OperationId) {
        self.stops.retain(|(stop, _)| *stop != id);
    }
}

impl Request {
    /// Whether it matters which of the two runs first: it does where they are about the same service, unless they are of
    /// one kind, which come to the same in either order.
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

    /// The kind of its operation.
    pub(crate) fn kind(&self) -> OperationKind {
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
    use super::{OperationQueue, QUEUE_LIMIT, SubmitError, Submitted};
    use crate::{OperationId, Rebuild, Request, Scope};

    fn restart(name: &str) -> Request {
        Request::Restart(Scope::One(name.parse().unwrap()), Rebuild::Changed)
    }

    fn stop(name: &str) -> Request {
        Request::Stop(Scope::One(name.parse().unwrap()))
    }

    fn submit(queue: &mut OperationQueue, request: Request, id: u64) -> Submitted {
        queue.submit(request, || OperationId(id)).unwrap()
    }

    #[test]
    fn equal_requests_that_wait_share_one_operation() {
        let mut queue = OperationQueue::default();
        let (one, other) = (OperationId(1), OperationId(3));
        assert_eq!(submit(&mut queue, restart("a"), 1), Submitted::Anew(one));
        assert_eq!(submit(&mut queue, restart("a"), 2), Submitted::Joined(one));
        assert_eq!(submit(&mut queue, restart("b"), 3), Submitted::Anew(other));
        queue.take(|_| true).unwrap();
        assert_eq!(submit(&mut queue, restart("a"), 4), Submitted::Anew(OperationId(4)), "its turn has come");
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
            let mut queue = OperationQueue::default();
            for (request, id) in queued.iter().zip(0..) {
                submit(&mut queue, request.clone(), id);
            }
            let joined = submit(&mut queue, asked.clone(), 99) != Submitted::Anew(OperationId(99));
            assert_eq!(joined, joins, "{asked:?} behind {queued:?}");
            let taken = queue.take(|request| *request == asked);
            assert_eq!(taken.is_some(), is_taken, "{asked:?} out of {queued:?}");
        }
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut queue = OperationQueue::default();
        let mut submit = |number| queue.submit(restart(&format!("s{number}")), || OperationId(number));
        for number in 0..64 {
            assert!(submit(number).is_ok());
        }
        assert_eq!(submit(64), Err(SubmitError::Busy));
    }

    #[test]
    fn stops_that_run_beside_others_count_and_equal_ones_join_them_until_they_end() {
        let mut queue = OperationQueue::default();
        let name = |number: u64| format!("s{number}");
        for number in 0..QUEUE_LIMIT as u64 {
            submit(&mut queue, stop(&name(number)), number);
            queue.take(|_| true).unwrap();
        }
        let more = |queue: &mut OperationQueue, request| queue.submit(request, || OperationId(99));
        assert_eq!(more(&mut queue, stop("another")), Err(SubmitError::Busy));
        assert_eq!(more(&mut queue, stop(&name(7))), Ok(Submitted::Joined(OperationId(7))));
        queue.on_end(OperationId(7));
        assert_eq!(more(&mut queue, stop(&name(7))), Ok(Submitted::Anew(OperationId(99))));
    }

    #[test]
    fn a_stop_does_not_join_one_that_runs_past_a_restart_that_waits() {
        let mut queue = OperationQueue::default();
        submit(&mut queue, stop("a"), 1);
        queue.take(|_| true).unwrap();
        submit(&mut queue, restart("a"), 2);
        assert_eq!(submit(&mut queue, stop("a"), 3), Submitted::Anew(OperationId(3)));
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_gives_what_is_in_it() {
        let mut queue = OperationQueue::default();
        submit(&mut queue, restart("a"), 1);
        queue.close();
        assert_eq!(queue.submit(restart("b"), || OperationId(2)), Err(SubmitError::ShuttingDown));
        assert!(queue.take(|_| true).is_some() && queue.take(|_| true).is_none());
    }

    #[test]
    fn a_request_that_waits_can_be_withdrawn_and_another_one_is_not() {
        let mut queue = OperationQueue::default();
        submit(&mut queue, restart("a"), 1);
        submit(&mut queue, restart("b"), 2);
        assert!(queue.withdraw(OperationId(1)) && !queue.withdraw(OperationId(1)));
        assert_eq!(queue.take(|_| true), Some((OperationId(2), restart("b"))));
        assert!(!queue.withdraw(OperationId(2)), "it runs");
    }

    #[test]
    fn a_restart_runs_beside_others_only_where_nothing_waits_before_it() {
        let mut queue = OperationQueue::default();
        submit(&mut queue, restart("a"), 1);
        submit(&mut queue, Request::Reload(Rebuild::Changed), 2);
        submit(&mut queue, restart("b"), 3);
        assert_eq!(queue.take_restart(|name| name.as_str() != "a"), None);
        assert_eq!(queue.take_restart(|_| true), Some((OperationId(1), restart("a"))));
        assert_eq!(queue.take_restart(|_| true), None, "the reload is before it");
        queue.take(|_| true);
        assert_eq!(queue.take_restart(|_| true), Some((OperationId(3), restart("b"))));
        submit(&mut queue, Request::Restart(Scope::All, Rebuild::Changed), 4);
        assert_eq!(queue.take_restart(|_| true), None, "that of all runs alone");
    }
}
