//! The commands before the first new instance.

use super::{DONE, Run, WEB, failed, run};
use crate::{
    StepName,
    rollout::{
        ActEnd, Item, Look,
        RolloutAct::{AwaitReady, Build, EndBuild, GoBack, Link, Release, Start, StayUnbuilt, Switch},
        RolloutLimits, Unity,
    },
};

const MIGRATES: Item =
    Item { builds: true, releases: true, overlaps: true, background: false, vital: true, after: Vec::new() };

#[test]
fn a_release_comes_after_all_builds_and_before_the_link_and_the_start() {
    let mut run = Run::of(&[MIGRATES, WEB], Unity::Together);
    run.go(|act| (act != Build(1)).then_some(DONE));
    assert!(!run.acts.contains(&Release(0)), "the other may not be built yet");
    run.go(|_| Some(DONE));
    let of_it: Vec<_> = run.acts.iter().filter(|act| act.service() == 0).take(4).copied().collect();
    assert_eq!(of_it, [Build(0), Release(0), Link(0), Start(0)]);
    assert_eq!(run.steps_of(0)[2..4], [(StepName::Release, "running"), (StepName::Release, "done")]);
}

#[test]
fn a_release_waits_for_those_that_its_service_starts_after() {
    let mut run = Run::of(&[Item { after: vec![1], ..MIGRATES }, WEB], Unity::Together);
    run.go(|act| (act != AwaitReady(1)).then_some(DONE));
    assert!(!run.acts.contains(&Release(0)));
    run.go(|_| Some(DONE));
    assert!(run.acts.contains(&Release(0)) && run.acts.contains(&Switch(0)));
}

#[test]
fn a_release_that_fails_fails_the_rollout_and_at_the_servers_start_its_service_alone() {
    let fails = |act| if act == Release(0) { failed() } else { DONE };
    let update = run(&[MIGRATES, WEB], Unity::Together, fails);
    assert!(update.rollout.went_back() && !update.acts.contains(&Start(0)), "{:?}", update.acts);
    assert_eq!(update.rollout.failures()[&0], "broken");
    let start = run(&[MIGRATES, WEB], Unity::Regardless, fails);
    assert_eq!(start.moves(), [StayUnbuilt(0), Start(1), Switch(1)]);
}

#[test]
fn a_release_under_way_ends_when_all_goes_back_or_its_service_is_stopped() {
    let mut back = Run::of(&[MIGRATES, WEB], Unity::Together);
    back.go(|act| (act != Release(0)).then_some(if act == AwaitReady(1) { failed() } else { DONE }));
    assert!(back.acts.contains(&EndBuild(0)) && back.acts.contains(&GoBack(0)), "{:?}", back.acts);
    back.end(Release(0), ActEnd::CutOff);
    back.go(|_| Some(DONE));
    assert_eq!(back.rollout.failures().keys().collect::<Vec<_>>(), [&1]);

    let mut stopped = Run::of(&[MIGRATES, WEB], Unity::Together);
    stopped.go(|act| (act != Release(0)).then_some(DONE));
    stopped.rollout.look(0, Look { has_left: true, serves: false, next_is_ready: false });
    stopped.end(Release(0), ActEnd::CutOff);
    stopped.go(|_| Some(DONE));
    assert_eq!((stopped.moves(), stopped.rollout.failures().len()), (vec![Start(1), Switch(1)], 0));
}

#[test]
fn no_more_releases_run_at_a_time_than_builds() {
    let limits = RolloutLimits { starts: 99, builds: 2 };
    let mut run = Run::within(&[MIGRATES, MIGRATES, MIGRATES], Unity::Together, limits);
    run.go(|act| (!matches!(act, Release(_))).then_some(DONE));
    assert_eq!(run.under_way, [Release(0), Release(1)]);
    run.end(Release(0), DONE);
    run.go(|act| (!matches!(act, Release(_))).then_some(DONE));
    assert_eq!(run.under_way, [Release(1), Release(2)]);
    run.go(|_| Some(DONE));
    assert_eq!(run.rollout.switched().count(), 3);
}
