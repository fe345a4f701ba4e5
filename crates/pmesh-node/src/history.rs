//! The records of operations. A plain type.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use pmesh_supervisor::{ServiceName, StepName, StepState};

use crate::{Failure, Operation, OperationId, OperationKind, OperationState, Outcome, Step};

/// How many operations are remembered; those that have not ended are remembered beyond it.
pub const HISTORY_LIMIT: usize = 100;

/// The operations that wait, run and have ended.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Oldest first.
    records: VecDeque<Arc<Operation>>,
}

/// A step that has begun: its place in its operation.
pub(crate) type StepKey = usize;

impl History {
    /// A new operation waits for its turn.
    pub(crate) fn record(&mut self, id: OperationId, kind: OperationKind) {
        self.records.push_back(Arc::new(Operation {
            id,
            kind,
            state: OperationState::Queued,
            started: None,
            ended: None,
            steps: Vec::new(),
            outcome: None,
        }));
    }

    pub(crate) fn begin(&mut self, id: OperationId, now: SystemTime) {
        if let Some(operation) = self.edit(id) {
            operation.state = OperationState::Running;
            operation.started = Some(now);
        }
    }

    /// Answers with what became of the operation; none if there is none of this id.
    pub(crate) fn end(
        &mut self,
        id: OperationId,
        outcome: Result<Outcome, Arc<Failure>>,
        now: SystemTime,
    ) -> Option<Arc<Operation>> {
        let operation = self.edit(id)?;
        operation.state = match outcome.as_ref().map_err(|failure| &**failure) {
            Ok(_) => OperationState::Done,
            Err(Failure::ShuttingDown | Failure::Cancelled) => OperationState::Cancelled,
            Err(_) => OperationState::Failed,
        };
        operation.ended = Some(now);
        for step in operation.steps.iter_mut().filter(|step| step.state == StepState::Running) {
            let step = Arc::make_mut(step);
            step.state = StepState::Failed("it was cut off".to_owned());
            step.ended = Some(now);
        }
        operation.outcome = Some(outcome);
        let ended = self.one(id).cloned();
        self.forget();
        ended
    }

    /// None where the operation has as many steps as are kept.
    pub(crate) fn begin_step(
        &mut self,
        id: OperationId,
        name: StepName,
        service: Option<ServiceName>,
        now: SystemTime,
    ) -> Option<StepKey> {
        let operation = self.edit(id).filter(|operation| operation.steps.len() < Operation::MAX_STEPS)?;
        let state = StepState::Running;
        operation.steps.push(Arc::new(Step { name, service, state, started: now, ended: None }));
        Some(operation.steps.len() - 1)
    }

    pub(crate) fn end_step(&mut self, id: OperationId, key: StepKey, state: StepState, now: SystemTime) {
        if let Some(step) = self.edit(id).and_then(|operation| operation.steps.get_mut(key)) {
            let step = Arc::make_mut(step);
            step.state = state;
            step.ended = Some(now);
        }
    }

    pub(crate) fn one(&self, id: OperationId) -> Option<&Arc<Operation>> {
        self.records.iter().rev().find(|operation| operation.id == id)
    }

    /// Those that have not ended and the last that have, newest first.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Arc<Operation>> {
        let has_ended = |operation: &&Arc<Operation>| operation.state.has_ended();
        let open = self.records.len() - self.records.iter().filter(has_ended).count();
        let mut room = HISTORY_LIMIT.saturating_sub(open);
        self.records.iter().rev().filter(move |operation| {
            let has_room = !operation.state.has_ended() || room > 0;
            room -= usize::from(has_room && operation.state.has_ended());
            has_room
        })
    }

    fn edit(&mut self, id: OperationId) -> Option<&mut Operation> {
        self.records.iter_mut().rev().find(|operation| operation.id == id).map(Arc::make_mut)
    }

    /// Drops those beyond the limit, the one that ended first before the others. What has just ended stays, however long
    /// ago it began: somebody may ask for it.
    fn forget(&mut self) {
        let ended = || self.records.iter().enumerate().filter_map(|(at, record)| Some((record.ended?, at)));
        if ended().count() > HISTORY_LIMIT
            && let Some((_, first)) = ended().min()
        {
            self.records.remove(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use pmesh_supervisor::{StepName, StepState};

    use super::{HISTORY_LIMIT, History};
    use crate::{Failure, Operation, OperationId, OperationKind, OperationState, Outcome};

    fn ended(history: &mut History, id: u64) {
        let (id, now) = (OperationId(id), SystemTime::now());
        history.record(id, OperationKind::Restart);
        history.begin(id, now);
        history.end(id, Ok(Outcome::Restarted { count: 1 }), now);
    }

    #[test]
    fn the_last_hundred_ended_operations_are_kept_newest_first() {
        let mut history = History::default();
        for id in 1..=150 {
            ended(&mut history, id);
        }
        let all: Vec<_> = history.shown().collect();
        assert_eq!(all.len(), HISTORY_LIMIT);
        assert_eq!((all[0].id, all[99].id), (OperationId(150), OperationId(51)));
        assert!(all.iter().all(|operation| operation.state == OperationState::Done));
        assert!(history.one(OperationId(50)).is_none());
    }

    #[test]
    fn an_operation_that_has_not_ended_is_neither_forgotten_nor_pushed_out_of_the_list() {
        let mut history = History::default();
        let (runs, waits) = (OperationId(1), OperationId(2));
        history.record(runs, OperationKind::Start);
        history.begin(runs, SystemTime::now());
        history.record(waits, OperationKind::Update);
        for id in 3..300 {
            ended(&mut history, id);
        }
        let all: Vec<_> = history.shown().map(|operation| operation.id).collect();
        assert_eq!((all.len(), all[98], all[99]), (HISTORY_LIMIT, waits, runs));
        assert_eq!(history.one(runs).unwrap().state, OperationState::Running);
        history.end(runs, Ok(Outcome::ShutDown), SystemTime::now());
        assert!(history.one(runs).is_some(), "it has just ended");
    }

    /// An operation that runs, and a later moment.
    fn running() -> (History, OperationId, SystemTime) {
        let (mut history, id, now) = (History::default(), OperationId(7), SystemTime::now());
        history.record(id, OperationKind::Update);
        history.begin(id, now);
        (history, id, now + Duration::from_secs(1))
    }

    #[test]
    fn each_step_has_its_own_end_and_one_that_is_cut_off_ends_with_its_operation() {
        let (mut history, id, now) = running();
        let fetch = history.begin_step(id, StepName::Fetch, None, now).unwrap();
        history.begin_step(id, StepName::Check, None, now).unwrap();
        history.end_step(id, fetch, StepState::Done(None), now);
        let steps = |history: &History| -> Vec<_> {
            let steps = history.one(id).unwrap().steps.iter();
            steps.map(|step| (step.name, step.state.clone(), step.ended)).collect()
        };
        let fetched = (StepName::Fetch, StepState::Done(None), Some(now));
        assert_eq!(steps(&history), [fetched.clone(), (StepName::Check, StepState::Running, None)]);
        let later = now + Duration::from_secs(1);
        let ended = history.end(id, Err(Arc::new(Failure::UpdateDisabled)), later).unwrap();
        assert_eq!((ended.state, ended.ended), (OperationState::Failed, Some(later)));
        let cut_off = StepState::Failed("it was cut off".to_owned());
        assert_eq!(steps(&history), [fetched, (StepName::Check, cut_off, Some(later))]);
    }

    #[test]
    fn the_first_steps_are_kept_and_those_beyond_the_limit_have_no_place() {
        let (mut history, id, now) = running();
        for place in 0..Operation::MAX_STEPS {
            assert_eq!(history.begin_step(id, StepName::Build, None, now), Some(place));
        }
        assert_eq!(history.begin_step(id, StepName::Build, None, now), None);
        assert_eq!(history.begin_step(OperationId(8), StepName::Build, None, now), None, "there is none");
    }

    #[test]
    fn what_the_end_of_the_server_ends_is_cancelled_and_not_failed() {
        let (mut history, id, now) = running();
        let ended = history.end(id, Err(Arc::new(Failure::ShuttingDown)), now).unwrap();
        assert_eq!(ended.state, OperationState::Cancelled);
        assert!(history.end(OperationId(8), Ok(Outcome::ShutDown), now).is_none());
    }
}
