//! From which commit each instance was started.
//!
//! Where a service runs in place, an instance that is started anew has the files that are there then, whoever has put them
//! there. So the head is read when an instance is seen for the first time.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use pmesh_supervisor::{ServiceId, ServiceName};

use crate::View;

/// The commits by instance, as balancers know it.
#[derive(Debug, Default)]
pub(crate) struct InstanceCommits(Mutex<BTreeMap<u64, Seen>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    run: ServiceId,
    commit: Option<String>,
}

/// An instance that is there, or is seen for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct New {
    upstream: u64,
    run: ServiceId,
    has_build: bool,
}

impl InstanceCommits {
    /// The commit of an instance, if it is known.
    pub(crate) fn of(&self, upstream: u64) -> Option<String> {
        self.0.lock().get(&upstream)?.commit.clone()
    }

    /// Forgets the instances that are gone, and answers with those that are new.
    pub(crate) fn sort_out(&self, view: &View, has_build: impl Fn(&ServiceName) -> bool) -> Vec<New> {
        let services = view.services.iter().map(|service| (has_build(&service.name), &service.state));
        let instances = services.flat_map(|(has_build, state)| {
            let run = state.id;
            state.instances.iter().map(move |it| New { upstream: it.upstream, run, has_build })
        });
        self.sort(instances.collect())
    }

    fn sort(&self, mut there: Vec<New>) -> Vec<New> {
        let mut known = self.0.lock();
        let before = std::mem::take(&mut *known);
        // One that replaces another of its run and its build has the commit of that.
        let of_run = |run| before.values().find(|seen| seen.run == run).cloned();
        there.retain(|new| {
            let replaced = if new.has_build { of_run(new.run) } else { None };
            let seen = before.get(&new.upstream).cloned().or(replaced);
            let is_new = seen.is_none();
            known.extend(seen.map(|seen| (new.upstream, seen)));
            is_new
        });
        there
    }

    pub(crate) fn add(&self, new: &[New], commit: Option<&str>) {
        let seen = |new: &New| Seen { run: new.run, commit: commit.map(str::to_owned) };
        self.0.lock().extend(new.iter().map(|new| (new.upstream, seen(new))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(upstream: u64, run: u64, has_build: bool) -> New {
        New { upstream, run: ServiceId(run), has_build }
    }

    #[test]
    fn the_commit_of_an_instance_is_what_was_there_when_it_was_seen_first() {
        let commits = InstanceCommits::default();
        assert_eq!(
            commits.sort(vec![new(1, 1, false), new(2, 1, false)]),
            [new(1, 1, false), new(2, 1, false)]
        );
        commits.add(&[new(1, 1, false), new(2, 1, false)], Some("old"));
        // Somebody moves the work tree, and then the second instance is started anew.
        assert_eq!(commits.sort(vec![new(1, 1, false), new(3, 1, false)]), [new(3, 1, false)]);
        commits.add(&[new(3, 1, false)], Some("new"));
        assert_eq!([1, 2, 3].map(|n| commits.of(n)), [Some("old".to_owned()), None, Some("new".to_owned())]);
    }

    #[test]
    fn an_instance_of_a_build_has_the_commit_of_the_build() {
        let commits = InstanceCommits::default();
        let first = commits.sort(vec![new(1, 1, true)]);
        commits.add(&first, Some("old"));
        assert_eq!(commits.sort(vec![new(2, 1, true)]), []);
        assert_eq!(commits.of(2).as_deref(), Some("old"));
        assert_eq!(commits.sort(vec![new(3, 2, true)]), [new(3, 2, true)], "another run has another build");
    }
}
