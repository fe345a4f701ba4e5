//! What a rollout does, as sentences over the plain type.

mod order;
mod releasing;

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{
    ActEnd, Instruction, Item, Look, Rollout,
    RolloutAct::{
        self, AwaitReady, Build, Drain, EndBuild, GoBack, Link, LookAgain, LookAtProduct, Prune, Release,
        Remake, Revive, Start, StayUnbuilt, Stop, Switch, Unlink,
    },
    RolloutLimits, Unity,
};
use crate::{StepName, StepState, precedence::Precedence};

const WEB: Item =
    Item { builds: true, releases: false, overlaps: true, background: false, vital: true, after: Vec::new() };
const JOB: Item =
    Item { builds: true, releases: false, overlaps: false, background: true, vital: true, after: Vec::new() };
const WIDE: RolloutLimits = RolloutLimits { starts: 99, builds: 99 };

const DONE: ActEnd = ActEnd::Done(None);

fn failed() -> ActEnd {
    ActEnd::Failed("broken".to_owned())
}

/// A rollout, and everything that it asked for and told.
struct Run {
    rollout: Rollout,
    under_way: VecDeque<RolloutAct>,
    acts: Vec<RolloutAct>,
    told: Vec<(usize, StepName, StepState)>,
}

impl Run {
    fn of(items: &[Item], unity: Unity) -> Self {
        Self::within(items, unity, WIDE)
    }

    fn within(items: &[Item], unity: Unity, limits: RolloutLimits) -> Self {
        let rollout = Rollout::new(items, unity, limits);
        Self { rollout, under_way: VecDeque::new(), acts: Vec::new(), told: Vec::new() }
    }

    /// Takes what is asked for now; answers whether there is more to come.
    fn ask(&mut self) -> bool {
        loop {
            assert!(self.acts.len() + self.told.len() < 10_000, "it goes round in circles");
            match self.rollout.advance() {
                Some(Instruction::Do(act)) => {
                    self.under_way.push_back(act);
                    self.acts.push(act);
                }
                Some(Instruction::Tell(index, step, state)) => self.told.push((index, step, state)),
                Some(Instruction::Wait) => return true,
                None => return false,
            }
        }
    }

    /// Ends an act that is under way.
    fn end(&mut self, act: RolloutAct, end: ActEnd) {
        let place = self.under_way.iter().position(|&other| other == act);
        self.under_way.remove(place.expect("it is under way"));
        self.rollout.on_end(act, end);
    }

    /// Carries everything out, the oldest first, but for what has no fate.
    fn go(&mut self, mut fate: impl FnMut(RolloutAct) -> Option<ActEnd>) {
        while self.ask() {
            let next = self.under_way.iter().find_map(|&act| Some((act, fate(act)?)));
            let Some((act, end)) = next else { return };
            self.end(act, end);
        }
    }

    /// The acts that move a service.
    fn moves(&self) -> Vec<RolloutAct> {
        let moves = |act: &&RolloutAct| matches!(act, Start(_) | Switch(_) | GoBack(_) | StayUnbuilt(_));
        self.acts.iter().filter(moves).copied().collect()
    }

    fn steps_of(&self, index: usize) -> Vec<(StepName, &'static str)> {
        let told = self.told.iter().filter(|told| told.0 == index);
        told.map(|(_, step, state)| (*step, state.as_str())).collect()
    }
}

/// A whole rollout in which this comes of each act.
fn run(items: &[Item], unity: Unity, mut fate: impl FnMut(RolloutAct) -> ActEnd) -> Run {
    let mut run = Run::of(items, unity);
    run.go(|act| Some(fate(act)));
    assert_eq!(run.rollout.advance(), None);
    run
}

/// The same where one service does not become ready.
fn one_fails(items: &[Item], unity: Unity, which: usize) -> Run {
    run(items, unity, |act| if act == AwaitReady(which) { failed() } else { DONE })
}

#[test]
fn the_acts_of_a_rollout_that_succeeds_are_these() {
    let plain = Item { builds: false, releases: false, ..WEB };
    assert_eq!(
        run(&[WEB], Unity::Together, |_| DONE).acts,
        [
            Build(0),
            Link(0),
            Start(0),
            AwaitReady(0),
            LookAgain(0),
            Switch(0),
            LookAgain(0),
            Drain(0),
            Stop(0),
            Prune(0)
        ]
    );
    assert_eq!(
        run(&[plain], Unity::Each, |_| DONE).acts,
        [Start(0), AwaitReady(0), LookAgain(0), Switch(0), LookAgain(0), Drain(0), Stop(0)]
    );
}

#[test]
fn a_failure_at_any_act_undoes_what_was_done_in_reverse() {
    for (fails, unity, undone) in [
        (Build(0), Unity::Together, &[GoBack(0)][..]),
        (Build(0), Unity::Each, &[GoBack(0), LookAtProduct(0), Revive(0)]),
        (AwaitReady(0), Unity::Together, &[GoBack(0), Unlink(0)]),
        (AwaitReady(0), Unity::Each, &[GoBack(0), Unlink(0), LookAtProduct(0), Revive(0)]),
    ] {
        let run = run(&[WEB], unity, |act| if act == fails { failed() } else { DONE });
        let failed_at = run.acts.iter().position(|&act| act == fails).unwrap();
        assert_eq!(run.acts[failed_at + 1..], *undone, "{fails:?} {unity:?}");
        assert_eq!(run.rollout.failures()[&0], "broken");
    }
}

#[test]
fn a_service_that_goes_back_alone_is_built_again_where_its_folder_does_not_hold_its_build_any_more() {
    for (remade, state) in [(DONE, "done"), (failed(), "failed")] {
        let run = run(&[WEB], Unity::Each, |act| match act {
            AwaitReady(_) | LookAtProduct(_) => failed(),
            Remake(_) => remade.clone(),
            _ => DONE,
        });
        let back = run.acts.iter().position(|&act| act == GoBack(0)).unwrap();
        assert_eq!(run.acts[back..], [GoBack(0), Unlink(0), LookAtProduct(0), Remake(0), Revive(0)]);
        let told = run.steps_of(0);
        let last = [
            (StepName::RollBack, "running"),
            (StepName::Build, "running"),
            (StepName::Build, state),
            (StepName::RollBack, "done"),
        ];
        assert_eq!(told[told.len() - 4..], last);
        assert_eq!(run.rollout.failures()[&0], "broken");
    }
    let plain = run(&[Item { builds: false, releases: false, ..WEB }], Unity::Each, |act| {
        if act == AwaitReady(0) { failed() } else { DONE }
    });
    assert_eq!(plain.acts.last(), Some(&Revive(0)));
    assert!(!plain.acts.contains(&LookAtProduct(0)), "nobody has built in its folder");
}

#[test]
fn a_link_that_did_not_move_is_not_moved_back() {
    let run = run(&[WEB], Unity::Together, |act| match act {
        Link(_) | AwaitReady(_) => failed(),
        _ => DONE,
    });
    assert_eq!(run.acts, [Build(0), Link(0), Start(0), AwaitReady(0), GoBack(0)]);
}

#[test]
fn what_is_told_are_the_steps_with_their_ends() {
    use StepName::{Build, Drain, Ready, RollBack, Start, Stop, Switch};
    let plain = Item { builds: false, releases: false, ..WEB };
    let two = [WEB, plain];
    let good = run(&two, Unity::Together, |_| DONE);
    let begun_and = |steps: &[StepName], end| -> Vec<_> {
        steps.iter().flat_map(|&step| [(step, "running"), (step, end)]).collect()
    };
    assert_eq!(good.steps_of(0), begun_and(&[Build, Start, Ready, Switch, Drain, Stop], "done"));
    assert_eq!(good.steps_of(1), begun_and(&[Start, Ready, Switch, Drain, Stop], "done"));
    let bad = one_fails(&two, Unity::Together, 0);
    let went_back = [(Ready, "running"), (Ready, "failed"), (RollBack, "running"), (RollBack, "done")];
    assert_eq!(bad.steps_of(0)[4..], went_back);
    assert_eq!(bad.steps_of(1), begun_and(&[Start, Ready, RollBack], "done"));
}

#[test]
fn nothing_is_switched_before_everything_is_ready() {
    let run = run(&[JOB, WEB, WEB], Unity::Together, |_| DONE);
    assert_eq!(run.moves(), [Start(1), Start(2), Start(0), Switch(0), Switch(1), Switch(2)]);
    assert_eq!(run.rollout.switched().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(!run.rollout.went_back());
}

#[test]
fn when_one_fails_everything_goes_back_and_the_old_background_services_were_never_stopped() {
    let run = one_fails(&[WEB, WEB, JOB], Unity::Together, 1);
    assert_eq!(run.moves(), [Start(0), Start(1), GoBack(0), GoBack(1), GoBack(2)]);
    assert!(run.rollout.went_back());
}

#[test]
fn a_service_that_was_down_before_does_not_fail_the_rollout() {
    let down = Item { vital: false, overlaps: false, ..WEB };
    let run = one_fails(&[WEB, down], Unity::Together, 1);
    assert_eq!(run.moves(), [Start(0), Start(1), Switch(0), Switch(1)]);
}

#[test]
fn a_restart_switches_each_service_on_its_own() {
    let run = one_fails(&[WEB, WEB], Unity::Each, 0);
    assert_eq!(run.moves(), [Start(0), Start(1), GoBack(0), Switch(1)]);
    assert!(!run.rollout.went_back());
}

#[test]
fn the_servers_start_goes_back_on_nothing() {
    let run =
        run(&[WEB, JOB], Unity::Regardless, |act| if matches!(act, AwaitReady(_)) { failed() } else { DONE });
    assert_eq!(run.moves(), [Start(0), Start(1), Switch(0), Switch(1)]);
}

#[test]
fn who_is_ready_no_more_is_waited_for_again_and_can_fail_yet() {
    for (fate, end) in [(DONE, [Switch(0), Switch(1)]), (failed(), [GoBack(0), GoBack(1)])] {
        let mut run = Run::of(&[WEB, WEB], Unity::Together);
        run.go(|act| (act != AwaitReady(1)).then_some(DONE));
        assert_eq!(run.under_way, [AwaitReady(1)]);
        let look = Look { has_left: false, serves: true, next_is_ready: false };
        run.rollout.look(0, look);
        run.end(AwaitReady(1), DONE);
        run.ask();
        assert_eq!(run.under_way, [AwaitReady(0)], "nothing switches meanwhile");
        run.rollout.look(0, Look { next_is_ready: true, ..look });
        run.end(AwaitReady(0), fate);
        run.go(|act| (!matches!(act, Drain(_))).then_some(DONE));
        assert_eq!(run.moves()[2..], end);
    }
}

/// A rollout of two in which the second one fails the look that comes after so many.
fn fails_a_look(unity: Unity, looks: usize) -> Run {
    let mut before = 0;
    run(&[WEB, WEB], unity, |act| {
        before += usize::from(act == LookAgain(1));
        if act == LookAgain(1) && before > looks { failed() } else { DONE }
    })
}

#[test]
fn who_fails_the_look_before_the_switch_fails_the_rollout_and_nothing_switches() {
    let run = fails_a_look(Unity::Together, 0);
    assert_eq!(run.moves(), [Start(0), Start(1), GoBack(0), GoBack(1)]);
    assert_eq!(run.rollout.failures()[&1], "broken");
    let run = fails_a_look(Unity::Each, 0);
    assert_eq!(run.moves(), [Start(0), Start(1), Switch(0), GoBack(1)]);
}

#[test]
fn who_fails_the_look_after_the_switch_takes_all_back_and_no_old_instance_was_drained() {
    let run = fails_a_look(Unity::Together, 1);
    assert_eq!(run.moves(), [Start(0), Start(1), Switch(0), Switch(1), GoBack(0), GoBack(1)]);
    assert!(!run.acts.iter().any(|act| matches!(act, Drain(_))), "{:?}", run.acts);
    assert!(run.acts.contains(&Unlink(0)) && run.acts.contains(&Unlink(1)) && run.rollout.went_back());
    let run = fails_a_look(Unity::Each, 1);
    assert!(run.acts.contains(&Drain(0)) && run.acts.contains(&Revive(1)), "{:?}", run.acts);
}

#[test]
fn a_switch_that_fails_is_the_services_failure_and_its_link_goes_back() {
    let run = run(&[WEB, WEB], Unity::Together, |act| if act == Switch(0) { failed() } else { DONE });
    assert_eq!(run.rollout.failures().keys().collect::<Vec<_>>(), [&0]);
    assert_eq!(run.rollout.switched().collect::<Vec<_>>(), [1]);
    let way_back = [GoBack(0), Unlink(0), Revive(0)];
    let of_the_way: Vec<_> = run.acts.iter().filter(|act| way_back.contains(act)).copied().collect();
    assert_eq!(of_the_way, way_back, "what was prepared ends");
    assert!(!run.acts.contains(&Drain(0)), "{:?}", run.acts);
}

#[test]
fn who_has_switched_is_out_of_the_rollouts_hands() {
    let mut run = Run::of(&[WEB], Unity::Each);
    run.go(|act| (act != Drain(0)).then_some(DONE));
    run.rollout.look(0, Look { has_left: true, serves: false, next_is_ready: false });
    run.rollout.cancel();
    run.go(|_| Some(DONE));
    assert_eq!((run.moves(), run.rollout.went_back()), (vec![Start(0), Switch(0)], false));
}

/// The moves of a rollout of two, whose second one is not built.
fn one_is_not_built(second: Item, unity: Unity) -> Vec<RolloutAct> {
    let mut run = Run::of(&[WEB, second], unity);
    run.go(|act| (!matches!(act, Build(1) | AwaitReady(_))).then_some(DONE));
    run.end(Build(1), failed());
    run.go(|_| Some(DONE));
    run.moves()
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
fn a_service_that_is_stopped_meanwhile_leaves_the_rollout_and_its_link_goes_back() {
    let run =
        run(&[WEB, WEB], Unity::Together, |act| if act == AwaitReady(0) { ActEnd::CutOff } else { DONE });
    assert_eq!(run.moves(), [Start(0), Start(1), Switch(1)]);
    assert!(run.acts.contains(&Unlink(0)) && run.rollout.failures().is_empty());
}

#[test]
fn who_takes_over_though_it_is_not_ready_is_not_looked_at_again_and_neither_is_anybody_at_the_servers_start()
{
    let down = Item { vital: false, ..WEB };
    let looks = |run: &Run| -> Vec<_> {
        run.acts.iter().filter(|act| matches!(act, LookAgain(_))).copied().collect()
    };
    assert_eq!(looks(&one_fails(&[WEB, down], Unity::Together, 1)), [LookAgain(0), LookAgain(0)]);
    assert_eq!(looks(&one_fails(&[WEB, WEB], Unity::Regardless, 1)), []);
}

#[test]
fn a_service_that_is_stopped_while_it_is_built_has_left_and_not_failed() {
    for end in [failed(), ActEnd::CutOff] {
        let mut run = Run::of(&[WEB, WEB], Unity::Together);
        run.ask();
        run.rollout.look(0, Look { has_left: true, serves: false, next_is_ready: false });
        run.end(Build(0), end);
        run.go(|_| Some(DONE));
        assert_eq!((run.moves(), run.rollout.failures().len()), (vec![Start(1), Switch(1)], 0));
    }
}

#[test]
fn the_builds_of_a_service_that_is_stopped_at_its_switch_are_pruned() {
    let run = run(&[WEB], Unity::Together, |act| if act == Switch(0) { ActEnd::CutOff } else { DONE });
    assert_eq!(run.acts[run.acts.len() - 3..], [Switch(0), Unlink(0), Prune(0)]);
    assert_eq!(run.rollout.switched().count(), 0);
}

#[test]
fn a_service_that_is_stopped_before_its_turn_is_not_started() {
    let mut run = Run::of(&[WEB, WEB], Unity::Together);
    run.go(|act| (act != Build(1)).then_some(DONE));
    run.rollout.look(0, Look { has_left: true, serves: false, next_is_ready: false });
    run.go(|_| Some(DONE));
    assert_eq!(run.moves(), [Start(1), Switch(1)]);
}

#[test]
fn who_leaves_before_its_start_is_not_counted_among_the_starts_and_not_waited_for() {
    let plain = Item { builds: false, releases: false, ..WEB };
    let job = Item { builds: false, releases: false, ..JOB };
    let mut run = Run::within(&[plain, job], Unity::Together, RolloutLimits { starts: 1, builds: 1 });
    run.rollout.look(0, Look { has_left: true, serves: false, next_is_ready: false });
    run.go(|_| Some(DONE));
    assert_eq!(run.moves(), [Start(1), Switch(1)]);
}

#[test]
fn a_service_that_has_recovered_by_its_start_is_vital_again() {
    let down = Item { vital: false, ..WEB };
    let mut run = Run::of(&[WEB, down], Unity::Together);
    run.rollout.look(1, Look { has_left: false, serves: true, next_is_ready: true });
    run.go(|act| Some(if act == AwaitReady(1) { failed() } else { DONE }));
    assert_eq!(run.moves(), [Start(0), Start(1), GoBack(0), GoBack(1)]);
}

#[test]
fn a_build_that_is_under_way_when_all_goes_back_is_ended_and_no_reason_of_its_own() {
    let mut run = Run::of(&[WEB, WEB], Unity::Together);
    run.ask();
    run.end(Build(0), failed());
    run.ask();
    assert_eq!(run.under_way, [Build(1), GoBack(0), EndBuild(1), GoBack(1)]);
    run.end(Build(1), ActEnd::CutOff);
    run.go(|_| Some(DONE));
    assert_eq!(run.rollout.failures().keys().collect::<Vec<_>>(), [&0]);
    let given_up = StepState::Failed("the rollout was given up".to_owned());
    assert!(run.told.contains(&(1, StepName::Build, given_up)));
}

#[test]
fn a_link_that_moves_while_all_goes_back_goes_back_too() {
    let mut run = Run::of(&[WEB], Unity::Together);
    run.go(|act| (act != Link(0)).then_some(DONE));
    run.rollout.cancel();
    run.ask();
    assert_eq!(run.under_way, [Link(0)]);
    run.go(|_| Some(DONE));
    assert_eq!(run.acts, [Build(0), Link(0), GoBack(0), Unlink(0)]);
}

proptest! {
    /// Any services, any limits, any order and any fates: the limits hold, every service ends in one way,
    /// together means all or none, nothing switches before everything is ready, and what goes back is
    /// undone in reverse.
    #[test]
    fn limits_hold_and_every_service_ends_in_exactly_one_way(
        kinds in proptest::collection::vec((any::<[bool; 5]>(), proptest::collection::vec(0_usize..20, 0..3)), 1..20),
        starts in 1_usize..6,
        builds in 1_usize..4,
        unity in prop_oneof![Just(Unity::Together), Just(Unity::Each), Just(Unity::Regardless)],
        fates in proptest::collection::vec((any::<u16>(), 0_u8..40), 300),
        cancelled_at in proptest::option::of(0_usize..100),
    ) {
        let items: Vec<Item> = kinds
            .iter()
            .map(|([builds, releases, overlaps, background, vital], after)| Item {
                builds: *builds,
                releases: *releases,
                overlaps: *overlaps,
                background: *background,
                vital: *vital,
                after: after.clone(),
            })
            .collect();
        let precedence = Precedence::new(items.iter().map(|item| item.after.clone()).collect());
        let mut awaited = vec![false; items.len()];
        let mut run = Run::within(&items, unity, RolloutLimits { starts, builds });
        let (mut linked, mut stopped) = (vec![false; items.len()], vec![false; items.len()]);
        let mut fates = fates.into_iter().cycle();
        for turn in 0..10_000 {
            if cancelled_at == Some(turn) {
                run.rollout.cancel();
            }
            let asked = run.acts.len();
            if !run.ask() { break }
            for &act in &run.acts[asked..] {
                if let Start(index) = act {
                    let out = |&other: &usize| awaited[other] || stopped[other] || run.acts.contains(&GoBack(other));
                    let begun = |other| run.acts.contains(&Build(other)) || run.acts.contains(&Release(other));
                    let unbuilt = |&other: &usize| begun(other) && !run.acts.contains(&AwaitReady(other));
                    let mut before = precedence.before(index).iter();
                    prop_assert!(before.all(|other| out(other) || unbuilt(other)), "{index} starts too early: {:?} {:?}", precedence, run.acts);
                }
            }
            let count = |which: &dyn Fn(RolloutAct) -> bool| run.under_way.iter().filter(|&&act| which(act)).count();
            prop_assert!(count(&|act| matches!(act, Build(_))) <= builds);
            prop_assert!(run.rollout.went_back() || count(&|act| matches!(act, Release(_))) <= builds);
            let starting = count(&|act| match act {
                Link(_) | Start(_) => true,
                // Who is waited for again has started long ago.
                AwaitReady(index) => {
                    let times = run.acts.iter().filter(|&&before| before == act).count();
                    times == 1 && !items[index].background
                }
                _ => false,
            });
            prop_assert!(run.rollout.went_back() || starting <= starts);
            let (which, fate) = fates.next().expect("it cycles");
            let act = run.under_way[usize::from(which) % run.under_way.len()];
            stopped[act.service()] |= fate == 1;
            let end = match act {
                AwaitReady(_) | LookAgain(_) | Switch(_) if stopped[act.service()] => ActEnd::CutOff,
                Build(_) | Release(_) | Link(_) | AwaitReady(_) | LookAgain(_) if fate == 0 => failed(),
                _ => DONE,
            };
            if stopped[act.service()] {
                let look = Look { has_left: true, serves: false, next_is_ready: false };
                run.rollout.look(act.service(), look);
            }
            if let AwaitReady(index) = act {
                awaited[index] = true;
            }
            if let Link(index) = act {
                linked[index] = end == DONE;
            }
            run.end(act, end);
        }
        prop_assert_eq!(run.rollout.advance(), None, "nothing is under way, and nothing is asked for");
        let is = |which: fn(usize) -> RolloutAct, index| run.acts.contains(&which(index));
        for (index, &linked) in linked.iter().enumerate() {
            let ways = [is(Drain, index), is(StayUnbuilt, index), is(GoBack, index)];
            let count = ways.iter().filter(|&&way| way).count();
            prop_assert!(count == 1 || stopped[index] && count == 0, "{index}: {:?} {:?}", run.acts, items);
            // The start is undone first, then the link, whether it goes back or was stopped.
            let is_in_force = is(StayUnbuilt, index) || run.rollout.switched().any(|other| other == index);
            let mut expected = Vec::from_iter(is(GoBack, index).then_some(GoBack(index)));
            expected.extend((linked && !is_in_force).then_some(Unlink(index)));
            let of_it = run.acts.iter().copied().filter(|act| act.service() == index);
            let undone: Vec<_> = of_it.filter(|act| matches!(act, GoBack(_) | Unlink(_))).collect();
            prop_assert_eq!(undone, expected, "{:?}", run.acts);
        }
        if unity == Unity::Together {
            let first = run.acts.iter().position(|act| matches!(act, Switch(_) | StayUnbuilt(_)));
            let last = run.acts.iter().rposition(|act| matches!(act, Build(_) | Release(_) | Link(_) | Start(_) | AwaitReady(_)));
            prop_assert!(first.is_none_or(|first| last.is_none_or(|last| last < first)), "{:?}", run.acts);
            let ends = run.acts.iter().any(|act| matches!(act, Drain(_) | StayUnbuilt(_)));
            prop_assert!(!ends || !run.acts.iter().any(|act| matches!(act, GoBack(_))), "{:?}", run.acts);
        }
        for (_, step, state) in &run.told {
            let count = |wanted: bool| {
                let same = run.told.iter().filter(|told| told.1 == *step);
                same.filter(|told| (told.2 == StepState::Running) == wanted).count()
            };
            prop_assert_eq!(count(true), count(false), "each step that begins ends: {:?}", state);
        }
    }
}
