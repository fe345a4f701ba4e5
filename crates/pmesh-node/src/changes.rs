//! The stream of changes: what of the view is not as before. A plain type.

use std::collections::VecDeque;

use pmesh_supervisor::ServiceName;

use crate::OperationId;

/// How many changes are remembered: those of a rollout of 200 services.
pub const CHANGES_LIMIT: usize = 4096;

/// Something is not as it was. How it is now is in the [`View`](crate::View).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Its id: greater than that of every change before it, also of an earlier server of this machine.
    pub id: u64,
    /// What is not as it was.
    pub kind: ChangeKind,
}

/// What is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// Which services there are, their order or their kinds.
    Services,
    /// A service: its state, or that of an instance.
    Service(ServiceName),
    /// An operation waits, has begun, or has ended.
    Operation(OperationId),
    /// A step of an operation, by its place, has begun or has ended.
    Step(OperationId, usize),
    /// The revision that the services run.
    Deployed,
}

/// What has changed since a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangesSince {
    /// These, oldest first.
    Changes(Vec<Change>),
    /// More than is remembered: look at the view as a whole.
    Gap,
}

/// The last changes.
#[derive(Debug)]
pub(crate) struct Changes {
    ring: VecDeque<Change>,
    last: u64,
}

impl Changes {
    /// Ids begin behind this one.
    pub(crate) fn new(first: u64) -> Self {
        Self { ring: VecDeque::new(), last: first }
    }

    /// The id of the last change.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn push(&mut self, kind: ChangeKind) {
        if self.ring.len() >= CHANGES_LIMIT {
            self.ring.pop_front();
        }
        self.last += 1;
        self.ring.push_back(Change { id: self.last, kind });
    }

    /// What has changed since the change `after`. An id that is not among the remembered ones, forgotten or never given, is
    /// answered with a gap.
    pub(crate) fn since(&self, after: u64) -> ChangesSince {
        let oldest = self.ring.front().map_or(self.last + 1, |change| change.id);
        if after > self.last || after + 1 < oldest {
            return ChangesSince::Gap;
        }
        ChangesSince::Changes(self.ring.iter().filter(|change| change.id > after).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{CHANGES_LIMIT, ChangeKind, Changes, ChangesSince};
    use crate::OperationId;

    fn ids(since: ChangesSince) -> Vec<u64> {
        let ChangesSince::Changes(changes) = since else { panic!("there is a gap") };
        changes.into_iter().map(|change| change.id).collect()
    }

    #[test]
    fn who_knows_a_change_gets_those_behind_it() {
        let mut changes = Changes::new(10);
        assert_eq!(ids(changes.since(10)), [] as [u64; 0]);
        changes.push(ChangeKind::Deployed);
        changes.push(ChangeKind::Operation(OperationId(1)));
        assert_eq!(ids(changes.since(10)), [11, 12]);
        assert_eq!(ids(changes.since(11)), [12]);
        assert_eq!(ids(changes.since(changes.last())), [] as [u64; 0]);
    }

    #[test]
    fn who_is_too_late_or_was_never_here_learns_of_the_gap() {
        let mut changes = Changes::new(10);
        for _ in 0..=CHANGES_LIMIT {
            changes.push(ChangeKind::Services);
        }
        assert_eq!(changes.since(10), ChangesSince::Gap, "the first change is forgotten");
        assert_eq!(ids(changes.since(11)).len(), CHANGES_LIMIT);
        assert_eq!(changes.since(9), ChangesSince::Gap);
        assert_eq!(changes.since(changes.last() + 1), ChangesSince::Gap);
    }
}
