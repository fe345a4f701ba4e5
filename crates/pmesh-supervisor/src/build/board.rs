//! Which builds are under way, and where each stands: told when a step begins, at no other time.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use tokio::sync::watch;

use crate::ServiceName;

/// A build under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildProgress {
    /// When it was asked for.
    pub started: SystemTime,
    /// The step that runs; none while the build waits for other builds, or looks whether a build of this
    /// content exists.
    pub step: Option<BuildStep>,
}

/// The step that a build is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildStep {
    /// Which one, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// Its command, as a person reads it.
    pub command: String,
}

/// The builds under way, by service. Bounded by the services: each has one entry at most.
pub type BuildsUnderWay = Arc<BTreeMap<ServiceName, BuildProgress>>;

/// Where builds say how far they are. Clones are the same board.
#[derive(Clone, Debug)]
pub(crate) struct BuildBoard(watch::Sender<BuildsUnderWay>);

impl BuildBoard {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }

    /// Follows what stands on the board.
    pub(crate) fn follow(&self) -> watch::Receiver<BuildsUnderWay> {
        self.0.subscribe()
    }

    /// A build begins; it is taken off the board when the returned value is dropped.
    pub(crate) fn begin(&self, service: &ServiceName) -> BuildSign {
        let progress = BuildProgress { started: SystemTime::now(), step: None };
        let sign = BuildSign { board: self.clone(), service: service.clone(), started: progress.started };
        sign.edit(|builds| drop(builds.insert(service.clone(), progress)));
        sign
    }
}

/// One build's place on the board.
#[derive(Debug)]
pub(crate) struct BuildSign {
    board: BuildBoard,
    service: ServiceName,
    started: SystemTime,
}

impl BuildSign {
    /// A step begins.
    pub(crate) fn step(&self, step: BuildStep) {
        let progress = BuildProgress { started: self.started, step: Some(step) };
        self.edit(|builds| drop(builds.insert(self.service.clone(), progress)));
    }

    fn edit(&self, edit: impl FnOnce(&mut BTreeMap<ServiceName, BuildProgress>)) {
        self.board.0.send_modify(|builds| edit(Arc::make_mut(builds)));
    }
}

impl Drop for BuildSign {
    fn drop(&mut self) {
        // Another build of the service may have replaced this one's entry: then that entry stays.
        let is_own = |builds: &BTreeMap<ServiceName, BuildProgress>| {
            builds.get(&self.service).is_some_and(|progress| progress.started == self.started)
        };
        self.board.0.send_if_modified(|builds| {
            let is_own = is_own(builds);
            if is_own {
                Arc::make_mut(builds).remove(&self.service);
            }
            is_own
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_stands_there_from_its_begin_to_its_end() {
        let board = BuildBoard::new();
        let (web, builds) = ("web".parse().unwrap(), board.follow());
        let sign = board.begin(&web);
        assert_eq!(builds.borrow()[&web].step, None);
        let step = BuildStep { number: 1, of: 2, command: "npm ci".to_owned() };
        sign.step(step.clone());
        assert_eq!(builds.borrow()[&web].step, Some(step));
        drop(sign);
        assert!(builds.borrow().is_empty());
    }
}
