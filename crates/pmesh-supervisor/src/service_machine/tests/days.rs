//! Days of any kind: what callers, processes, probes and builds may do.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::world::{SEC, World, app, app_plan, failure, in_place, plan, refused, unmade};
use crate::{
    AppSpec, Build, Command, ExternalAddress, ExternalSpec, Overlap, Plan, ServiceKind, StartOrder, Status,
    service_event::{NoBuild, ServiceEvent},
    unbuilt::Missing,
};

/// What happens, with a number that says to which one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Prepare(u8),
    Commit,
    Switch,
    LookAgain,
    Abandon,
    Revive,
    AwaitReady,
    StayUnbuilt(Missing),
    Stop,
    Kill,
    Hold,
    Release,
    HoldProduct,
    ProductIsWhole,
    Remake(bool),
    Spawned(usize),
    SpawnFailed(usize),
    SpawnPutOff(usize),
    Exit(usize),
    TreeEnd(usize),
    ProbePasses(usize),
    ProbeFails(usize),
    ProbeUnmade(usize),
    Drained(usize),
    CommandsEnd(usize),
    Built(usize, u8),
    OutputEnds(usize),
    LookedAt(usize),
    Pass(u64),
    Kind,
    BreakDown,
}

pub(super) fn deed() -> impl Strategy<Value = Deed> {
    let which = 0..4_usize;
    prop_oneof![
        4 => any::<u8>().prop_map(Deed::Prepare),
        3 => Just(Deed::Commit),
        2 => Just(Deed::Switch),
        1 => Just(Deed::LookAgain),
        1 => Just(Deed::Abandon),
        1 => Just(Deed::Revive),
        1 => Just(Deed::AwaitReady),
        1 => Just(Deed::StayUnbuilt(Missing::Build)),
        1 => Just(Deed::StayUnbuilt(Missing::Others)),
        1 => Just(Deed::Stop),
        1 => Just(Deed::Kill),
        1 => Just(Deed::Hold),
        1 => Just(Deed::Release),
        1 => Just(Deed::HoldProduct),
        1 => Just(Deed::ProductIsWhole),
        2 => any::<bool>().prop_map(Deed::Remake),
        6 => which.clone().prop_map(Deed::Spawned),
        1 => which.clone().prop_map(Deed::SpawnFailed),
        1 => which.clone().prop_map(Deed::SpawnPutOff),
        2 => which.clone().prop_map(Deed::Exit),
        2 => which.clone().prop_map(Deed::TreeEnd),
        6 => which.clone().prop_map(Deed::ProbePasses),
        2 => which.clone().prop_map(Deed::ProbeFails),
        1 => which.clone().prop_map(Deed::ProbeUnmade),
        2 => which.clone().prop_map(Deed::Drained),
        1 => which.clone().prop_map(Deed::CommandsEnd),
        1 => (which.clone(), any::<u8>()).prop_map(|(which, how)| Deed::Built(which, how)),
        1 => which.clone().prop_map(Deed::OutputEnds),
        2 => which.prop_map(Deed::LookedAt),
        4 => (0..400_u64).prop_map(Deed::Pass),
        2 => (0..40_000_u64).prop_map(Deed::Pass),
        2 => Just(Deed::Kind),
        1 => Just(Deed::BreakDown),
    ]
}

/// A plan of any kind; of one process at a time where that is asked for.
pub(super) fn any_plan(id: u64, how: u8, exclusive: bool) -> Arc<Plan> {
    let bit = |bit: u8| how & 1 << bit != 0;
    if exclusive {
        let shutdown = if bit(0) { vec![Command::default()] } else { Vec::new() };
        let spec = AppSpec { overlap: Overlap::No, background: bit(1), shutdown, ..app() };
        return if bit(2) { in_place(id, spec) } else { app_plan(id, spec) };
    }
    match how % 8 {
        0 => plan(id, ServiceKind::Files),
        1 => {
            let addresses = vec![ExternalAddress { host: "db".to_owned(), port: 1 }; 2];
            plan(id, ServiceKind::External(ExternalSpec { addresses, ..ExternalSpec::default() }))
        }
        _ => {
            let start = if bit(3) { StartOrder::OneByOne } else { StartOrder::SideBySide };
            let shutdown = if bit(4) { vec![Command::default()] } else { Vec::new() };
            let instances = 1 + u32::from(how >> 6);
            let spec = AppSpec { instances, start, shutdown, background: bit(5), ..app() };
            if how % 8 > 4 { in_place(id, spec) } else { app_plan(id, spec) }
        }
    }
}

fn nth(set: &BTreeSet<u64>, which: usize) -> Option<u64> {
    set.iter().nth(which).copied()
}

impl World {
    pub(super) fn live(&mut self, deed: Deed) {
        let living: BTreeSet<u64> = self.processes.keys().copied().collect();
        match deed {
            Deed::Prepare(how) => {
                let plan = any_plan(self.tickets + 1, how, self.exclusive);
                self.prepare(plan);
            }
            Deed::Commit => self.commit(),
            Deed::Switch => {
                let switched = self.ticket();
                self.tell(ServiceEvent::Switch { switched });
            }
            Deed::LookAgain => {
                let ended = self.ticket();
                self.tell(ServiceEvent::LookAgain { ended });
            }
            Deed::Abandon => {
                let done = self.ticket();
                self.tell(ServiceEvent::Abandon { done });
            }
            Deed::Revive => {
                let ended = self.ticket();
                self.tell(ServiceEvent::Revive { ended });
            }
            Deed::AwaitReady => {
                let ended = self.ticket();
                self.tell(ServiceEvent::AwaitReady { ended });
            }
            Deed::StayUnbuilt(missing) => {
                let (stops, done) = (self.stops(), self.ticket());
                let plan = any_plan(self.tickets, 2, self.exclusive);
                self.tell(ServiceEvent::StayUnbuilt { plan, stops, missing, failure: failure(), done });
            }
            Deed::Stop => drop(self.stop()),
            Deed::Kill => self.tell(ServiceEvent::Kill),
            Deed::Hold => {
                let done = self.ticket();
                self.tell(ServiceEvent::Hold { done });
            }
            Deed::Release => self.tell(ServiceEvent::Release),
            Deed::HoldProduct => {
                let done = self.ticket();
                self.tell(ServiceEvent::HoldProduct { done });
            }
            Deed::ProductIsWhole => self.tell(ServiceEvent::ProductIsWhole),
            Deed::Remake(later) => {
                let ended = self.ticket();
                self.tell(ServiceEvent::Remake { failure: later.then(failure), ended });
            }
            Deed::Pass(millis) => self.pass(Duration::from_millis(millis)),
            Deed::Kind => self.be_kind(),
            // Its driver does so between two steps only, when nothing is being spawned.
            Deed::BreakDown if !self.spawning.is_empty() => {}
            Deed::BreakDown => {
                let actions = self.machine.break_down("it failed".to_owned(), living, self.now);
                self.take(actions);
                self.tell(ServiceEvent::Tick);
            }
            deed => self.happen(deed, &living),
        }
        self.check_written();
    }

    pub(super) fn happen(&mut self, deed: Deed, living: &BTreeSet<u64>) {
        match deed {
            Deed::Spawned(which) => {
                if let Some(upstream) = nth(&self.spawning, which) {
                    self.spawned(upstream);
                }
            }
            Deed::SpawnFailed(which) => {
                if let Some(upstream) = nth(&self.spawning, which) {
                    self.spawning.remove(&upstream);
                    self.tell(ServiceEvent::SpawnFailed { upstream, reason: "no memory".to_owned() });
                }
            }
            Deed::SpawnPutOff(which) => {
                if let Some(upstream) = nth(&self.spawning, which) {
                    self.spawning.remove(&upstream);
                    self.tell(ServiceEvent::SpawnPutOff {
                        upstream,
                        reason: Some("no descriptors".to_owned()),
                    });
                }
            }
            Deed::Exit(which) => _ = nth(living, which).map(|upstream| self.exit(upstream)),
            Deed::TreeEnd(which) => _ = nth(living, which).map(|upstream| self.end_tree(upstream)),
            Deed::ProbePasses(which) => {
                _ = nth(&self.probes, which).map(|upstream| self.probed(upstream, Ok(())));
            }
            Deed::ProbeFails(which) => {
                _ = nth(&self.probes, which).map(|upstream| self.probed(upstream, Err(refused())));
            }
            Deed::ProbeUnmade(which) => {
                _ = nth(&self.probes, which).map(|upstream| self.probed(upstream, Err(unmade())));
            }
            Deed::Drained(which) => {
                if let Some(upstream) = nth(&self.drains, which) {
                    self.drains.remove(&upstream);
                    self.tell(ServiceEvent::Drained { upstream });
                }
            }
            Deed::CommandsEnd(which) => {
                if let Some(run) = nth(&self.shutdowns, which) {
                    self.shutdowns.remove(&run);
                    self.tell(ServiceEvent::ShutdownCommandsEnded { run });
                }
            }
            Deed::LookedAt(which) => _ = nth(&self.looks, which).map(|upstream| self.looked_at(upstream)),
            Deed::Built(which, how) => {
                if let Some(attempt) = self.builds.keys().nth(which).copied() {
                    self.builds.remove(&attempt);
                    let built = match how % 3 {
                        0 => Ok(Some(Build::in_place("c"))),
                        1 => Err(NoBuild::Cancelled),
                        _ => Err(NoBuild::Failed(Missing::Build, failure())),
                    };
                    let built = built.map(|build| crate::Basis { build, machine: None });
                    self.tell(ServiceEvent::Built { attempt, built });
                }
            }
            Deed::OutputEnds(which) => {
                if let Some(upstream) = nth(&self.outputs, which) {
                    self.outputs.remove(&upstream);
                    self.tell(ServiceEvent::OutputEnded { upstream });
                }
            }
            _ => {}
        }
    }

    /// A stop, in a world that does what it is told: everything ends, and everybody is answered.
    pub(super) fn end(&mut self) {
        let stop = self.stop();
        self.be_kind();
        self.pass(120 * SEC);
        self.be_kind();
        assert!(self.answer_to(stop).is_some(), "the stop ends");
        assert!(self.processes.is_empty() && self.spawning.is_empty(), "nothing lives after it");
        assert_eq!(self.status(), Status::Stopped);
        let done = self.ticket();
        self.tell(ServiceEvent::Release);
        self.tell(ServiceEvent::Hold { done });
        assert_eq!(self.waiting, BTreeSet::new(), "everybody is answered");
        assert_eq!(self.machine.deadline(), None, "nothing is planned");
        self.tell(ServiceEvent::Orphaned);
        assert!(self.machine.is_over(self.now));
    }
}
