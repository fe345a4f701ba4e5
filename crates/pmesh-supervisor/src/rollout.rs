//! The order of a rollout: what builds, starts, switches and goes back when. A plain type: it takes
//! what happened to which service, and answers with what to do.
//!
//! Builds come first, at most one per core at a time. Then the services whose old instances serve
//! until the new ones are ready start, side by side, within [`Limits::starts`]; when all of them are
//! ready, those follow that have to stop their old instances first. Nothing is switched before
//! everything is ready, so that a service that fails costs nobody more than the new instances.

use std::thread;

/// How many services may be in a phase at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Between spawn and ready. A background service counts only until it is spawned.
    pub starts: usize,
    /// In a build.
    pub builds: usize,
}

impl Limits {
    /// 4 × `cores` starts and one build per core.
    pub fn of_cores(cores: usize) -> Self {
        Self { starts: (4 * cores).max(1), builds: cores.max(1) }
    }
}

impl Default for Limits {
    /// Those of this machine.
    fn default() -> Self {
        Self::of_cores(thread::available_parallelism().map_or(1, usize::from))
    }
}

/// Whether services succeed and fail on their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unity {
    /// All of them switch, or none does: update and reload.
    Together,
    /// Each switches when it is ready, and goes back alone: restart.
    Each,
    /// Each switches whether it is ready or not, and goes on trying: the server's start.
    Regardless,
}

/// A service that is to be rolled over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Whether it need not wait for the others before it starts, as its old instances serve until the
    /// new ones are ready. True also where there is nothing to stop.
    pub overlaps: bool,
    /// Whether it is out of the count of starts as soon as it is spawned.
    pub background: bool,
    /// Whether its failure is one of the rollout: it had a ready instance before, or is new.
    pub vital: bool,
}

/// What happened to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its build is there (or it needs none).
    Built,
    /// Its new instances have been spawned.
    Spawned,
    /// All its new instances are ready.
    Ready,
    /// Some of its new instances, all of which were ready, are not any more. They get another chance.
    Lost,
    /// It was not built, or not all its new instances became ready.
    Failed,
    /// It was stopped on request meanwhile: its part of the rollout is over.
    Left,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Build this service.
    Build(usize),
    /// Start the new instances of this one.
    Start(usize),
    /// The new instances of this one take over from the old ones, which end.
    Switch(usize),
    /// The new instances of this one end, and the old ones go on.
    GoBack(usize),
    /// This one has no build, and that is no reason to go back: it is built and started later.
    StayUnbuilt(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Building,
    Built,
    Starting,
    Spawned,
    Ready,
    /// Not built, and that is no reason to go back.
    Unbuilt,
    /// Not ready, and that is no reason to go back.
    Tolerated,
    /// Not ready, and to go back alone.
    Failed,
    /// Its new run is in force, built or not.
    Switched,
    WentBack,
    Left,
}

/// A rollout under way.
#[derive(Clone, Debug)]
pub struct Rollout {
    items: Vec<(Item, Stage)>,
    limits: Limits,
    unity: Unity,
    failed: bool,
}

impl Rollout {
    /// A rollout of these services. Nothing happens before [`advance`](Self::advance).
    pub fn new(items: &[Item], unity: Unity, limits: Limits) -> Self {
        Self {
            items: items.iter().map(|&item| (item, Stage::Waiting)).collect(),
            limits,
            unity,
            failed: false,
        }
    }

    /// Whether nothing more will be done.
    pub fn has_ended(&self) -> bool {
        self.items.iter().all(|(_, stage)| matches!(stage, Stage::Switched | Stage::WentBack | Stage::Left))
    }

    /// Whether this service is ready and waits for the others.
    pub fn is_ready(&self, index: usize) -> bool {
        self.items[index].1 == Stage::Ready
    }

    /// Whether it went back, all of it.
    pub fn went_back(&self) -> bool {
        self.failed
    }

    /// The service `index` has a ready instance after all by now: its failure is one of the rollout.
    pub fn make_vital(&mut self, index: usize) {
        self.items[index].0.vital = true;
    }

    /// Gives the rollout up: everything that is not switched goes back.
    pub fn cancel(&mut self) {
        self.failed = true;
    }

    /// Takes what happened to the service `index`. What can no longer be (it went back meanwhile)
    /// is left aside.
    pub fn on_event(&mut self, index: usize, event: Event) {
        let (item, stage) = &mut self.items[index];
        *stage = match (event, *stage) {
            (Event::Built, Stage::Building) => Stage::Built,
            (Event::Spawned, Stage::Starting) => Stage::Spawned,
            (Event::Ready, Stage::Starting | Stage::Spawned) => Stage::Ready,
            (Event::Lost, Stage::Ready) => Stage::Spawned,
            (Event::Failed, Stage::Building | Stage::Starting | Stage::Spawned) => match self.unity {
                Unity::Together if item.vital => {
                    self.failed = true;
                    return;
                }
                Unity::Regardless | Unity::Together if *stage == Stage::Building => Stage::Unbuilt,
                Unity::Regardless | Unity::Together => Stage::Tolerated,
                Unity::Each => Stage::Failed,
            },
            (Event::Left, Stage::Switched | Stage::WentBack) => return,
            (Event::Left, _) => Stage::Left,
            (Event::Built | Event::Spawned | Event::Ready | Event::Lost | Event::Failed, _) => return,
        };
    }

    /// What is to be done now. Each action is answered once.
    pub fn advance(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.failed {
            for (index, (_, stage)) in self.items.iter_mut().enumerate() {
                if !matches!(stage, Stage::Switched | Stage::WentBack | Stage::Left) {
                    *stage = Stage::WentBack;
                    actions.push(Action::GoBack(index));
                }
            }
            return actions;
        }
        let mut building = self.count(|_, stage| stage == Stage::Building);
        for (index, (_, stage)) in self.items.iter_mut().enumerate() {
            if *stage == Stage::Waiting && building < self.limits.builds {
                building += 1;
                *stage = Stage::Building;
                actions.push(Action::Build(index));
            }
        }

        let overlapping_settled = self.unity != Unity::Together
            || self.count(|item, stage| item.overlaps && !Self::is_settled(stage)) == 0;
        let mut starting = self
            .count(|item, stage| stage == Stage::Starting || (stage == Stage::Spawned && !item.background));
        let all_built = self.unity != Unity::Together
            || self.count(|_, stage| matches!(stage, Stage::Waiting | Stage::Building)) == 0;
        for (index, (item, stage)) in self.items.iter_mut().enumerate() {
            let turn = all_built && (item.overlaps || overlapping_settled);
            if *stage == Stage::Built && turn && starting < self.limits.starts {
                starting += 1;
                *stage = Stage::Starting;
                actions.push(Action::Start(index));
            }
        }

        let may_switch =
            self.unity != Unity::Together || self.count(|_, stage| !Self::is_settled(stage)) == 0;
        for (index, (_, stage)) in self.items.iter_mut().enumerate() {
            let (next, action) = match stage {
                Stage::Failed => (Stage::WentBack, Action::GoBack(index)),
                Stage::Ready | Stage::Tolerated if may_switch => (Stage::Switched, Action::Switch(index)),
                Stage::Unbuilt if may_switch => (Stage::Switched, Action::StayUnbuilt(index)),
                _ => continue,
            };
            *stage = next;
            actions.push(action);
        }
        actions
    }

    fn is_settled(stage: Stage) -> bool {
        match stage {
            Stage::Ready | Stage::Unbuilt | Stage::Tolerated => true,
            Stage::Failed | Stage::Switched | Stage::WentBack | Stage::Left => true,
            Stage::Waiting | Stage::Building | Stage::Built | Stage::Starting | Stage::Spawned => false,
        }
    }

    fn count(&self, which: impl Fn(&Item, Stage) -> bool) -> usize {
        self.items.iter().filter(|(item, stage)| which(item, *stage)).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Action::{self, Build, GoBack, Start, StayUnbuilt, Switch},
        Event, Item, Limits, Rollout, Unity,
    };

    const WEB: Item = Item { overlaps: true, background: false, vital: true };
    const JOB: Item = Item { overlaps: false, background: true, vital: true };
    const WIDE: Limits = Limits { starts: 99, builds: 99 };

    /// Builds and starts everything that the rollout asks for, and answers with the other actions.
    fn run(rollout: &mut Rollout, mut fate: impl FnMut(usize) -> Event) -> Vec<Action> {
        let mut done = Vec::new();
        loop {
            let actions = rollout.advance();
            if actions.is_empty() {
                return done;
            }
            for action in actions {
                match action {
                    Build(index) => rollout.on_event(index, Event::Built),
                    Start(index) => {
                        rollout.on_event(index, Event::Spawned);
                        rollout.on_event(index, fate(index));
                        done.push(action);
                    }
                    Switch(_) | GoBack(_) | StayUnbuilt(_) => done.push(action),
                }
            }
        }
    }

    #[test]
    fn nothing_is_switched_before_everything_is_ready() {
        let mut rollout = Rollout::new(&[JOB, WEB, WEB], Unity::Together, WIDE);
        let done = run(&mut rollout, |_| Event::Ready);
        assert_eq!(done, [Start(1), Start(2), Start(0), Switch(0), Switch(1), Switch(2)]);
        assert!(rollout.has_ended() && !rollout.went_back());
    }

    #[test]
    fn when_one_fails_everything_goes_back_and_the_old_background_services_were_never_stopped() {
        let mut rollout = Rollout::new(&[WEB, WEB, JOB], Unity::Together, WIDE);
        let done = run(&mut rollout, |index| if index == 1 { Event::Failed } else { Event::Ready });
        assert_eq!(done, [Start(0), Start(1), GoBack(0), GoBack(1), GoBack(2)]);
        assert!(rollout.has_ended() && rollout.went_back());
    }

    #[test]
    fn a_service_that_was_down_before_does_not_fail_the_rollout() {
        let down = Item { vital: false, overlaps: false, ..WEB };
        let mut rollout = Rollout::new(&[WEB, down], Unity::Together, WIDE);
        let done = run(&mut rollout, |index| if index == 1 { Event::Failed } else { Event::Ready });
        assert_eq!(done, [Start(0), Start(1), Switch(0), Switch(1)]);
    }

    #[test]
    fn a_restart_switches_each_service_on_its_own() {
        let mut rollout = Rollout::new(&[WEB, WEB], Unity::Each, WIDE);
        let done = run(&mut rollout, |index| if index == 0 { Event::Failed } else { Event::Ready });
        assert_eq!(done, [Start(0), Start(1), GoBack(0), Switch(1)]);
        assert!(rollout.has_ended() && !rollout.went_back());
    }

    #[test]
    fn the_servers_start_goes_back_on_nothing() {
        let mut rollout = Rollout::new(&[WEB, JOB], Unity::Regardless, WIDE);
        let done = run(&mut rollout, |_| Event::Failed);
        assert_eq!(done, [Start(0), Start(1), Switch(0), Switch(1)]);
    }

    #[test]
    fn who_is_ready_no_more_is_waited_for_again_and_can_fail_yet() {
        for (fate, end) in [(Event::Ready, [Switch(0), Switch(1)]), (Event::Failed, [GoBack(0), GoBack(1)])] {
            let mut rollout = Rollout::new(&[WEB, WEB], Unity::Together, WIDE);
            let first = |index| if index == 0 { Event::Ready } else { Event::Spawned };
            assert_eq!(run(&mut rollout, first), [Start(0), Start(1)]);
            assert!(rollout.is_ready(0));
            rollout.on_event(0, Event::Lost);
            rollout.on_event(1, Event::Ready);
            assert_eq!(rollout.advance(), [], "nothing switches meanwhile");
            rollout.on_event(0, fate);
            assert_eq!(rollout.advance(), end);
        }
    }

    #[test]
    fn who_has_switched_is_out_of_the_rollouts_hands() {
        let mut rollout = Rollout::new(&[WEB], Unity::Each, WIDE);
        assert_eq!(run(&mut rollout, |_| Event::Ready), [Start(0), Switch(0)]);
        rollout.on_event(0, Event::Lost);
        assert_eq!((rollout.advance(), rollout.has_ended()), (vec![], true));
    }

    /// A rollout of two, whose second one is not built.
    fn one_is_not_built(second: Item, unity: Unity) -> Vec<Action> {
        let mut rollout = Rollout::new(&[WEB, second], unity, WIDE);
        assert_eq!(rollout.advance(), [Build(0), Build(1)]);
        rollout.on_event(0, Event::Built);
        rollout.on_event(1, Event::Failed);
        let done = run(&mut rollout, |_| Event::Ready);
        assert!(rollout.has_ended());
        done
    }

    #[test]
    fn what_is_not_built_is_not_switched_but_left_to_be_built_later() {
        assert_eq!(one_is_not_built(WEB, Unity::Regardless), [Start(0), StayUnbuilt(1), Switch(0)]);
        let down = Item { vital: false, ..WEB };
        assert_eq!(one_is_not_built(down, Unity::Together), [Start(0), Switch(0), StayUnbuilt(1)]);
    }

    #[test]
    fn what_is_not_built_goes_back_where_it_was_up_before() {
        assert_eq!(one_is_not_built(WEB, Unity::Together), [GoBack(0), GoBack(1)]);
        assert_eq!(one_is_not_built(WEB, Unity::Each), [Start(0), GoBack(1), Switch(0)]);
    }

    #[test]
    fn a_service_that_is_stopped_meanwhile_leaves_the_rollout() {
        let mut rollout = Rollout::new(&[WEB, WEB], Unity::Together, WIDE);
        let done = run(&mut rollout, |index| if index == 0 { Event::Left } else { Event::Ready });
        assert_eq!(done, [Start(0), Start(1), Switch(1)]);
    }

    #[test]
    fn a_service_that_has_recovered_by_its_start_is_vital_again() {
        let down = Item { vital: false, ..WEB };
        let mut rollout = Rollout::new(&[WEB, down], Unity::Together, WIDE);
        rollout.make_vital(1);
        let done = run(&mut rollout, |index| if index == 1 { Event::Failed } else { Event::Ready });
        assert_eq!(done, [Start(0), Start(1), GoBack(0), GoBack(1)]);
    }

    proptest! {
        /// Any services, any limits, any order of events: the limits hold, every service ends in
        /// one way, and together means all or none.
        #[test]
        fn limits_hold_and_every_service_ends_in_exactly_one_way(
            kinds in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..30),
            starts in 1_usize..6,
            builds in 1_usize..4,
            unity in prop_oneof![Just(Unity::Together), Just(Unity::Each), Just(Unity::Regardless)],
            fates in proptest::collection::vec((any::<u16>(), 0_u8..10), 200),
        ) {
            let items: Vec<Item> = kinds
                .iter()
                .map(|&(overlaps, background, vital)| Item { overlaps, background, vital })
                .collect();
            let mut rollout = Rollout::new(&items, unity, Limits { starts, builds });
            let (mut building, mut starting, mut ends) = (vec![], vec![], vec![0; items.len()]);
            let mut fates = fates.into_iter().cycle();
            let (mut switched, mut back) = (0, 0);
            for _ in 0..10_000 {
                for action in rollout.advance() {
                    match action {
                        Build(index) => building.push(index),
                        Start(index) => starting.push((index, false)),
                        Switch(index) | StayUnbuilt(index) => { ends[index] += 1; switched += 1; }
                        GoBack(index) => { ends[index] += 1; back += 1; }
                    }
                }
                prop_assert!(building.len() <= builds);
                let counted = starting
                    .iter()
                    .filter(|(index, spawned)| !(*spawned && items[*index].background))
                    .count();
                prop_assert!(counted <= starts);
                if rollout.has_ended() { break }
                let (which, fate) = fates.next().expect("it cycles");
                let open = building.len() + starting.len();
                prop_assert!(open > 0, "nothing is under way and nothing is asked for");
                let which = usize::from(which) % open;
                if which < building.len() {
                    let index = building.remove(which);
                    if fate == 0 {
                        rollout.on_event(index, Event::Failed);
                    } else {
                        rollout.on_event(index, Event::Built);
                    }
                } else {
                    let (index, spawned) = starting[which - building.len()];
                    if !spawned {
                        starting[which - building.len()].1 = true;
                        rollout.on_event(index, Event::Spawned);
                        continue;
                    }
                    starting.remove(which - building.len());
                    if fate == 0 {
                        rollout.on_event(index, Event::Failed);
                    } else {
                        rollout.on_event(index, Event::Ready);
                    }
                }
            }
            prop_assert!(rollout.has_ended());
            prop_assert!(ends.iter().all(|&times| times == 1), "{ends:?}");
            prop_assert!(unity != Unity::Together || switched == 0 || back == 0);
        }
    }
}
