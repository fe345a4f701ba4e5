//! Operations that are asked to go back.

use pmesh_supervisor::rollout::RolloutAct::{AwaitReady, Drain, EndBuild, GoBack, Switch, Unlink};

use super::{Act, Aim, RELOAD, Run, UPDATE, WEB, assert_goes_back, revision};
use crate::{Failure, Outcome, Rebuild, Scope, comparison::Comparison};

/// Whether it is done only where something goes back.
fn goes_back(act: &Act) -> bool {
    match act {
        // What has been started is waited for until it is gone, and the first switch was decided before its manifest.
        Act::Service(AwaitReady(_) | EndBuild(_) | GoBack(_) | Switch(_) | Unlink(_)) => true,
        Act::GoBack { .. } | Act::FindLacking | Act::Release | Act::Forget(_) | Act::Remember { .. } => true,
        // The old one.
        Act::PutInForce(_) | Act::ServeFrom(_) => true,
        _ => false,
    }
}

#[test]
fn an_operation_that_is_cancelled_before_it_drains_begins_nothing_more_goes_back_and_says_so() {
    let mut ends = [0, 0];
    for (aim, moment) in [UPDATE, RELOAD].into_iter().flat_map(|aim| (0..18).map(move |at| (aim.clone(), at)))
    {
        let mut run = Run::of(aim, &[WEB]);
        run.elsewhere = true;
        for _ in 0..moment {
            if run.ask() {
                run.end(0, false);
            }
        }
        run.ask();
        assert!(!run.course.is_cancelled());
        run.course.cancel();
        assert!(run.course.is_cancelled(), "it need not be asked again");
        let (begun, is_late) = (run.acts.len(), run.acts.contains(&Act::Service(Drain(0))));
        run.go(|_| false);
        assert_goes_back(&run);
        let words = run.words();
        match run.course.end() {
            Ok(_) => assert!(is_late, "cancelled at {moment}"),
            Err(failure) => {
                assert!(matches!(failure, Failure::ShuttingDown) && !is_late, "{failure}");
                let more = &run.acts[begun..];
                assert!(more.iter().all(goes_back), "cancelled at {moment}: {words:?}");
                assert!(!more.contains(&Act::Revive), "everything is about to be stopped");
            }
        }
        ends[usize::from(is_late)] += 1;
    }
    assert!(ends.iter().all(|&count| count > 3), "{ends:?}");
}

#[test]
fn a_start_or_restart_that_is_cancelled_says_that_the_server_ends_and_a_stop_goes_on() {
    for aim in [Aim::Start, Aim::Restart(Scope::All, Rebuild::Changed)] {
        for moment in 0..3 {
            let mut run = Run::of(aim.clone(), &[WEB]);
            for _ in 0..moment {
                run.ask();
                run.end(0, false);
            }
            run.ask();
            run.course.cancel();
            run.go(|_| false);
            assert!(matches!(run.course.end(), Err(Failure::ShuttingDown)), "{aim:?} at {moment}");
        }
    }
    let mut stop = Run::of(Aim::Stop(Scope::All), &[WEB]);
    stop.course.cancel();
    stop.go(|_| false);
    assert!(matches!(stop.course.end(), Ok(Outcome::Stopped { count: 1 })));
}

#[test]
fn a_cancelled_update_whose_work_tree_cannot_go_back_says_that_and_not_only_that_the_server_ends() {
    let mut run = Run::of(UPDATE, &[WEB]);
    while !run.acts.iter().any(|act| matches!(act, Act::Service(_))) {
        run.ask();
        if !run.acts.iter().any(|act| matches!(act, Act::Service(_))) {
            run.end(0, false);
        }
    }
    run.course.cancel();
    run.go(|act| matches!(act, Act::GoBack { .. }));
    let Err(Failure::Rollout(failure)) = run.course.end() else { panic!("it is stuck") };
    assert!(!failure.rolled_back && failure.work_tree.is_some(), "{failure:?}");
}

#[test]
fn a_cancelled_update_leaves_files_alone_that_somebody_else_has_moved() {
    let mut run = Run::of(UPDATE, &[WEB]);
    run.fetched = Comparison { head: revision("b2"), relation: pmesh_vcs::Relation::Same, ..super::behind() };
    while !run.acts.iter().any(|act| matches!(act, Act::Survey(_))) {
        run.ask();
        if !run.acts.iter().any(|act| matches!(act, Act::Survey(_))) {
            run.end(0, false);
        }
    }
    run.course.cancel();
    run.go(|_| false);
    assert!(!run.words().iter().any(|act| act == "return"), "{:?}", run.words());
}
