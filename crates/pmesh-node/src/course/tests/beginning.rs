//! What is begun, and what is refused before anything is done.

use super::{Act, Aim, RELOAD, Run, UPDATE, WEB, parsed, run};
use crate::{Failure, Rebuild, Scope, course::Course};

fn restart(scope: Scope) -> Aim {
    Aim::Restart(scope, Rebuild::Changed)
}

#[test]
fn a_service_that_is_not_there_is_refused_without_an_act_and_one_that_is_there_is_not() {
    let one = |name: &str| Scope::One(name.parse().unwrap());
    for aim in [restart(one("nobody")), Aim::Stop(one("nobody"))] {
        let run = run(aim, &[WEB], |_| false);
        assert!(run.acts.is_empty());
        assert!(matches!(run.course.end(), Err(Failure::UnknownService(_))));
    }
    for (aim, first) in [(restart(one("s0")), "survey"), (Aim::Stop(one("s0")), "stop")] {
        let run = run(aim, &[WEB], |_| false);
        assert_eq!(run.words()[0], first);
        assert!(run.course.end().is_ok());
    }
}

#[test]
fn a_service_that_the_manifest_has_lost_can_be_stopped_and_not_be_restarted() {
    for (aim, is_begun) in [
        (restart(Scope::One("left".parse().unwrap())), false),
        (Aim::Stop(Scope::One("left".parse().unwrap())), true),
    ] {
        let mut situation = Run::of(aim.clone(), &[WEB]).course.situation;
        situation.services.push("left".parse().unwrap());
        let mut course = Course::new(aim, situation);
        assert_eq!(course.advance().is_some(), is_begun);
    }
}

#[test]
fn an_update_that_the_manifest_forbids_is_refused_without_an_act_but_where_no_repository_is_that_is_said() {
    for (has_repository, text, is_refused) in [
        (true, "repo: {update: false}\n", true),
        (true, "repo: {update: true}\n", false),
        // The fetch says what is missing.
        (false, "repo: {update: false}\n", false),
    ] {
        let mut situation = Run::of(UPDATE, &[WEB]).course.situation;
        situation.has_repository = has_repository;
        situation.manifest = parsed(&format!("{text}services:\n  s0: !App\n    run: work\n"));
        let mut run = Run::of(UPDATE, &[WEB]);
        run.course = Course::new(UPDATE, situation);
        run.go(|_| false);
        assert_eq!(run.acts.is_empty(), is_refused);
        assert_eq!(matches!(run.course.end(), Err(Failure::UpdateDisabled)), is_refused);
    }
}

#[test]
fn the_step_of_what_fails_before_anything_is_touched_says_that_it_has_failed() {
    for (aim, which) in [(UPDATE, "fetch"), (UPDATE, "check the commit"), (RELOAD, "locate")] {
        let run = run(aim, &[WEB], |act: &Act| super::word(act) == which);
        let (_, step, state) = run.told.last().unwrap();
        assert_eq!(*state, "failed", "{which}: {step:?}");
        assert_eq!(run.told.iter().filter(|(_, _, state)| *state == "failed").count(), 1);
        assert_eq!(run.words().last().unwrap(), which);
    }
}
