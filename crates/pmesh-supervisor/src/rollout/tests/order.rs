//! Who starts after whom.

use super::{DONE, JOB, Run, WEB, failed, run};
use crate::rollout::{
    ActEnd, Item, Look,
    RolloutAct::{AwaitReady, Build, GoBack, Start, StayUnbuilt, Switch},
    Unity,
};

const SERVES: Look = Look { has_left: false, serves: true, next_is_ready: true };

fn after(item: &Item, others: &[usize]) -> Item {
    Item { after: others.to_vec(), ..item.clone() }
}

#[test]
fn who_starts_after_others_starts_when_they_are_ready() {
    for unity in [Unity::Together, Unity::Each, Unity::Regardless] {
        let mut run = Run::of(&[after(&WEB, &[1, 2]), WEB, after(&WEB, &[1])], unity);
        run.go(|act| (!matches!(act, AwaitReady(1))).then_some(DONE));
        assert_eq!(run.moves(), [Start(1)], "{unity:?}");
        run.go(|act| (!matches!(act, AwaitReady(2))).then_some(DONE));
        let started: Vec<_> = run.moves().into_iter().filter(|act| matches!(act, Start(_))).collect();
        assert_eq!(started, [Start(1), Start(2)], "{unity:?}");
        run.go(|_| Some(DONE));
        assert!(run.moves().contains(&Switch(0)) && run.rollout.failures().is_empty(), "{unity:?}");
    }
}

#[test]
fn who_has_to_stop_first_does_not_wait_for_those_that_start_after_it() {
    let run = run(&[after(&WEB, &[1]), JOB, WEB], Unity::Together, |_| DONE);
    assert_eq!(run.moves(), [Start(2), Start(1), Start(0), Switch(0), Switch(1), Switch(2)]);
}

#[test]
fn at_the_servers_start_who_starts_after_one_that_fails_waits_for_it_and_says_so() {
    for fails in [AwaitReady(0), Build(0)] {
        let run = run(&[WEB, after(&WEB, &[0]), after(&WEB, &[1])], Unity::Regardless, |act| match act {
            act if act == fails => failed(),
            StayUnbuilt(1 | 2) => ActEnd::Failed("it waits".to_owned()),
            _ => DONE,
        });
        assert!(run.moves().ends_with(&[StayUnbuilt(1), StayUnbuilt(2)]), "{:?}", run.moves());
        assert!(!run.acts.contains(&Start(1)) && !run.acts.contains(&Start(2)));
        let failures: Vec<_> = run.rollout.failures().into_iter().collect();
        assert_eq!(failures, [(0, "broken"), (1, "it waits"), (2, "it waits")]);
        let start = crate::StepName::Start;
        assert_eq!(run.steps_of(1)[2..], [(start, "running"), (start, "failed")]);
    }
}

#[test]
fn an_update_replaces_what_serves_also_where_something_before_it_is_down() {
    let down = Item { vital: false, ..WEB };
    for (serves, moves) in [
        (true, [Start(0), Start(1), Switch(0), Switch(1)]),
        (false, [Start(0), Switch(0), StayUnbuilt(1), StayUnbuilt(1)]),
    ] {
        let mut run = Run::of(&[down.clone(), after(&WEB, &[0])], Unity::Together);
        run.rollout.look(1, Look { serves, ..SERVES });
        run.rollout.look(0, Look { serves: false, ..SERVES });
        run.go(|act| Some(if act == AwaitReady(0) { failed() } else { DONE }));
        assert_eq!(run.moves(), moves[..run.moves().len()], "{serves}");
        assert_eq!(run.moves().len(), if serves { 4 } else { 3 });
    }
}

#[test]
fn one_that_recovers_after_its_failure_is_waited_for_no_longer() {
    let mut run = Run::of(&[WEB, after(&WEB, &[0])], Unity::Regardless);
    run.go(|act| (act != AwaitReady(0)).then_some(DONE));
    run.rollout.look(0, SERVES);
    run.end(AwaitReady(0), failed());
    run.go(|_| Some(DONE));
    assert!(run.moves().contains(&Start(1)), "{:?}", run.moves());
}

#[test]
fn a_failure_takes_back_who_started_before_and_who_was_to_come_never_starts() {
    let run =
        run(
            &[after(&WEB, &[1]), WEB],
            Unity::Together,
            |act| {
                if act == AwaitReady(1) { failed() } else { DONE }
            },
        );
    assert_eq!(run.moves(), [Start(1), GoBack(0), GoBack(1)]);
}

#[test]
fn a_circle_holds_nobody_up() {
    let run = run(&[after(&WEB, &[1]), after(&WEB, &[0]), after(&WEB, &[7])], Unity::Together, |_| DONE);
    assert_eq!(run.rollout.switched().count(), 3);
}
