//! How operations go back to what was, and build it in place again.

use pmesh_supervisor::{
    StepName,
    rollout::RolloutAct::{AwaitReady, Build, GoBack, LookAgain, Switch},
};
use pmesh_vcs::Relation;

use super::{Act, RELOAD, Run, UPDATE, WEB, behind, pulled, revision, run, word};
use crate::{Failure, Outcome, comparison::Comparison, in_one_line};

#[test]
fn what_was_built_in_place_is_built_again_side_by_side_from_the_files_that_are_back_before_anything_starts() {
    for fails in [false, true] {
        let mut update = Run::of(UPDATE, &[WEB, WEB]);
        update.lacking = ["s0", "s1"].map(|name| name.parse().unwrap()).to_vec();
        update.go(|act| match act {
            Act::Service(AwaitReady(0)) => true,
            Act::Remake(name) => fails && name.as_str() == "s1",
            _ => false,
        });
        let back = update.acts.iter().position(|act| matches!(act, Act::GoBack { .. })).unwrap();
        let wanted = ["go back", "find lacking", "remake s0", "remake s1", "release", "revive", "forget"];
        assert_eq!(update.words()[back..], wanted);
        let told = update.told.iter().filter(|(name, ..)| *name == Some("s1".parse().unwrap()));
        let told: Vec<_> = told.rev().take(2).map(|&(_, step, state)| (step, state)).collect();
        assert_eq!(
            told,
            [(StepName::Build, if fails { "failed" } else { "done" }), (StepName::Build, "running")]
        );
        let end = update.course.end().unwrap_err();
        let sentence = in_one_line(&end);
        let Failure::Rollout(failure) = end else { panic!("one failed") };
        assert_eq!((failure.rolled_back, failure.stuck.len()), (!fails, usize::from(fails)));
        assert_eq!(
            sentence.contains("service s1 serves on, but it could not be built again"),
            fails,
            "{sentence}"
        );
        assert_eq!(failure.work_tree, None);
    }
}

#[test]
fn nothing_is_released_before_every_build_in_place_is_made_again() {
    let mut update = Run::of(UPDATE, &[WEB, WEB]);
    update.lacking = ["s0", "s1"].map(|name| name.parse().unwrap()).into();
    let builds = |run: &Run| run.under_way.iter().filter(|act| matches!(act, Act::Remake(_))).count();
    while update.ask() && builds(&update) == 0 {
        let fails = update.under_way[0] == Act::Service(Build(0));
        update.end(0, fails);
    }
    for left in [2, 1] {
        assert_eq!(builds(&update), left);
        assert_eq!(update.under_way.len(), left, "{:?}", update.words());
        update.end(0, false);
        assert!(update.ask());
    }
    assert_eq!(update.words().last().unwrap(), "release");
}

#[test]
fn a_reload_that_goes_back_builds_again_too_and_a_server_that_ends_does_not() {
    let mut reload = Run::of(RELOAD, &[WEB]);
    reload.lacking = vec!["s0".parse().unwrap()];
    reload.go(|act| *act == Act::Service(Build(0)));
    let last = ["find lacking", "remake s0", "remember ManifestFailed", "revive", "forget"];
    assert_eq!(reload.words()[reload.acts.len() - 5..], last);
    let mut ended = Run::of(RELOAD, &[WEB]);
    ended.lacking = vec!["s0".parse().unwrap()];
    ended.course.cancel();
    ended.go(|_| false);
    assert!(!ended.words().iter().any(|act| act.starts_with("remake")));
}

#[test]
fn a_work_tree_that_cannot_go_back_is_remembered_and_said_and_the_rest_goes_back_all_the_same() {
    let fails = |act: &Act| matches!(act, Act::GoBack { .. } | Act::Service(AwaitReady(0)));
    let update = run(UPDATE, &[WEB], fails);
    let back = update.acts.iter().position(|act| matches!(act, Act::GoBack { .. })).unwrap();
    assert_eq!(
        update.words()[back..],
        ["go back", "remember Failed", "find lacking", "release", "revive", "forget"]
    );
    let Err(Failure::Rollout(failure)) = update.course.end() else { panic!("it failed") };
    assert!(!failure.rolled_back && failure.work_tree.is_some(), "{failure:?}");
}

#[test]
fn an_update_after_a_pull_by_hand_goes_back_to_what_the_services_run() {
    for (fetched, files) in [
        (pulled(), vec!["return"]),
        (Comparison { head: revision("b1"), ..behind() }, vec!["go back", "return"]),
        (behind(), vec!["go back"]),
    ] {
        let mut run = Run::of(UPDATE, &[WEB]);
        run.fetched = fetched;
        run.go(|act| *act == Act::Service(AwaitReady(0)));
        let words = run.words();
        let moved: Vec<_> =
            words.iter().filter(|act| ["go back", "return"].contains(&act.as_str())).collect();
        assert_eq!(moved, files);
        let place = |word: &str| words.iter().position(|act| act == word);
        assert!(place("release").is_none_or(|release| release > place(files[files.len() - 1]).unwrap()));
        let Err(Failure::Rollout(failure)) = run.course.end() else { panic!("one failed") };
        assert!(failure.rolled_back);
        assert_eq!(failure.revisions.unwrap().0, revision("a1"));
    }
}

#[test]
fn what_was_committed_by_hand_stays_where_it_is_and_the_failure_says_so() {
    let mut run = Run::of(UPDATE, &[WEB]);
    run.fetched =
        Comparison { relation: Relation::Ahead { by: 1 }, local: 1, remote: revision("a1"), ..pulled() };
    run.go(|act| *act == Act::Service(AwaitReady(0)));
    assert!(!run.words().iter().any(|act| act == "return"));
    let Err(Failure::Rollout(failure)) = run.course.end() else { panic!("one failed") };
    assert!(!failure.rolled_back && failure.work_tree.unwrap().contains("has a commit that no remote has"));
}

/// What stands in for the manifest and the files, behind the last act of the rollout.
fn taken_back(run: &Run) -> Vec<String> {
    let words = run.words().into_iter().skip_while(|act| act != "GoBack(0)");
    words.filter(|act| ["put in force", "go back", "return", "release"].contains(&act.as_str())).collect()
}

#[test]
fn a_switch_that_is_taken_back_after_a_pull_by_hand_takes_the_manifest_back_before_the_files() {
    for (fetched, expected) in [
        (pulled(), &["put in force", "return"][..]),
        (Comparison { head: revision("b1"), ..behind() }, &["put in force", "go back", "return", "release"]),
        (behind(), &["put in force", "go back", "release"]),
    ] {
        let mut run = Run::of(UPDATE, &[WEB]);
        run.fetched = fetched;
        let mut has_switched = false;
        run.go(|act| {
            has_switched |= *act == Act::Service(Switch(0));
            has_switched && *act == Act::Service(LookAgain(0))
        });
        assert_eq!(taken_back(&run), expected);
        let Err(Failure::Rollout(failure)) = run.course.end() else { panic!("one failed") };
        assert!(failure.rolled_back);
    }
}

#[test]
fn a_switch_that_fails_after_a_pull_by_hand_leaves_the_manifest_in_force_and_the_files_where_they_are() {
    let mut run = Run::of(UPDATE, &[WEB]);
    run.fetched = pulled();
    run.go(|act| *act == Act::Service(Switch(0)));
    assert_eq!(taken_back(&run), Vec::<String>::new());
    let Ok(Outcome::Updated(update)) = run.course.end() else { panic!("the others have switched") };
    assert_eq!((update.to, update.failed.len()), (revision("b2"), 1));
}

/// What fails the second look, after the switch.
fn second_look() -> impl FnMut(&Act) -> bool {
    let mut looks = 0;
    move |act| {
        looks += usize::from(*act == Act::Service(LookAgain(0)));
        *act == Act::Service(LookAgain(0)) && looks == 2
    }
}

#[test]
fn whatever_fails_on_the_way_back_the_rest_of_it_is_done_and_it_is_said() {
    let way_back = |words: &[String]| words.iter().position(|act| act == "Unlink(0)").unwrap() + 1;
    let mut whole = Run::of(UPDATE, &[WEB]);
    whole.go(second_look());
    let (whole, from) = (whole.words(), way_back(&whole.words()));
    for failing in whole[from..].iter().filter(|act| *act != "go back") {
        let mut run = Run::of(UPDATE, &[WEB]);
        let (mut look, mut goes_back) = (second_look(), false);
        run.go(|act| {
            goes_back |= *act == Act::Service(GoBack(0));
            look(act) || (goes_back && word(act) == *failing)
        });
        assert_eq!(run.words(), whole, "{failing}");
        let Err(Failure::Rollout(failure)) = run.course.end() else { panic!("{failing}") };
        assert!(!failure.rolled_back && failure.work_tree.is_some() && !failure.services.is_empty());
    }
}

#[test]
fn what_fails_when_all_is_rolled_over_keeps_nothing_from_being_released() {
    let whole = run(UPDATE, &[WEB], |_| false).words();
    let update = run(UPDATE, &[WEB], |act| matches!(act, Act::Forget(_)));
    assert_eq!(update.words(), whole);
    assert!(update.course.end().is_err());
}
