//! What probes say of an instance, and what they are to look at.

use super::world::{SEC, World, app, app_plan, refused, serving};
use crate::{
    AppSpec, FirstAnswer, Monitor, Prepared, Readiness,
    notice::{InstanceNotice, Notice},
    service_action::ServiceAnswer,
    service_event::ServiceEvent,
};

/// A service whose only instance has just been started, and has to answer a request.
fn starting() -> (World, u64) {
    let mut world = World::new(false);
    let monitor = Monitor { readiness: Readiness::Answer, ..Monitor::default() };
    world.prepare(app_plan(1, AppSpec { monitor, ..app() }));
    let upstream = start(&mut world);
    (world, upstream)
}

fn start(world: &mut World) -> u64 {
    let upstream = world.spawning.pop_first().expect("it starts");
    world.spawned(upstream);
    world.pass(SEC / 10);
    upstream
}

fn answer(world: &mut World, status: u16) {
    let upstream = world.probes.pop_first().expect("it is probed");
    world.tell(ServiceEvent::Probed { upstream, result: Ok(FirstAnswer { status: Some(status) }) });
}

fn notes(world: &World, which: fn(&InstanceNotice) -> bool) -> usize {
    let is_such = |note: &&Notice| matches!(note, Notice::Instance { what, .. } if which(what));
    world.notes.iter().filter(is_such).count()
}

fn reason(world: &World) -> Option<String> {
    world.machine.state(|_| None).failure.map(|failure| failure.what)
}

#[test]
fn a_request_that_says_whether_it_is_ready_waits_as_long_as_the_start_may_take() {
    let (mut world, upstream) = starting();
    let whole = app().ready_timeout;
    let limit = world.limits[&upstream].expect("it is a request");
    assert!(limit > whole.saturating_sub(SEC) && limit <= whole, "{limit:?}");
    world.pass(3 * SEC);
    world.probed(upstream, Err(refused()));
    world.pass(SEC / 2);
    let limit = world.limits[&upstream].expect("it is a request");
    assert!(limit > whole.saturating_sub(4 * SEC) && limit < whole.saturating_sub(2 * SEC), "{limit:?}");
}

#[test]
fn whose_the_socket_is_has_to_be_seen_until_a_probe_has_passed_and_again_of_the_next_process() {
    let (mut world, first) = starting();
    world.probed(first, Err(refused()));
    world.pass(SEC);
    assert!(world.proofs[&first], "nothing was there to be seen");
    world.probed(first, Ok(()));
    world.pass(6 * SEC);
    assert!(world.probes.contains(&first) && !world.proofs[&first]);
    world.probed(first, Err(refused()));
    world.pass(6 * SEC);
    assert!(world.probes.contains(&first) && !world.proofs[&first], "it was seen once");
    world.commit();
    world.probes.clear();
    world.end_tree(first);
    let second = start(&mut world);
    assert!(world.proofs[&second]);
}

#[test]
fn a_first_answer_from_500_on_is_told_and_no_later_one() {
    for (status, told) in [(200, 0), (499, 0), (500, 1), (503, 1)] {
        let (mut world, _) = starting();
        answer(&mut world, status);
        let is_told = |note: &InstanceNotice| matches!(note, InstanceNotice::AnswersWithError { .. });
        assert_eq!(notes(&world, is_told), told, "{status}");
        let remark = world.machine.state(|_| None).next_remark;
        assert_eq!(remark.is_some(), told == 1, "{status}: {remark:?}");
        world.pass(6 * SEC);
        answer(&mut world, 500);
        assert_eq!(notes(&world, is_told), told, "it is ready: {status}");
        assert_eq!(world.machine.state(|_| None).next_remark, remark);
    }
}

#[test]
fn probes_that_go_on_passing_tell_nothing_and_one_that_passes_again_says_so_once() {
    let is_told = |note: &InstanceNotice| matches!(note, InstanceNotice::HealthyAgain);
    let is_ready = |note: &InstanceNotice| matches!(note, InstanceNotice::IsReady { .. });
    let mut world = serving(app());
    let (&upstream, _) = world.processes.first_key_value().expect("it runs");
    let pass = |world: &mut World, passes: bool| {
        world.pass(6 * SEC);
        world.probed(upstream, if passes { Ok(()) } else { Err(refused()) });
    };
    for _ in 0..3 {
        pass(&mut world, true);
    }
    assert_eq!((notes(&world, is_told), notes(&world, is_ready), reason(&world)), (0, 1, None));
    for _ in 0..Monitor::default().unhealthy_threshold {
        pass(&mut world, false);
    }
    assert!(reason(&world).is_some_and(|reason| reason.contains("cannot connect")));
    for _ in 0..3 {
        pass(&mut world, true);
    }
    assert_eq!((notes(&world, is_told), notes(&world, is_ready), reason(&world)), (1, 1, None));
}

#[test]
fn while_it_starts_a_probe_that_meets_nobody_is_no_reason_and_an_end_before_stays_one() {
    let (mut world, first) = starting();
    world.probed(first, Err(refused()));
    assert_eq!(reason(&world), None);
    world.end_tree(first);
    world.pass(SEC);
    let second = start(&mut world);
    world.probed(second, Err(refused()));
    assert!(reason(&world).is_some_and(|reason| reason.contains("exit code 1")), "{:?}", reason(&world));
}

#[test]
fn one_that_is_late_says_that_its_request_has_no_answer_unless_that_has_only_begun_after_another_failed() {
    for (last_failure, expected) in [(None, true), (Some(5), true), (Some(29), false)] {
        let (mut world, upstream) = starting();
        // Nobody has listened so far; then a request is taken and not answered.
        for _ in 0..last_failure.unwrap_or(0) {
            if world.probes.contains(&upstream) {
                world.probed(upstream, Err(refused()));
            }
            world.pass(SEC);
        }
        if last_failure == Some(29) {
            world.probed(upstream, Err(refused()));
            world.pass(SEC / 2);
        }
        while world.processes.values().all(|process| process.asked.is_none()) {
            world.pass(SEC / 10);
        }
        world.be_kind_to_the_dying();
        let reason = reason(&world).expect("it is late");
        assert_eq!(reason.contains("it has said nothing for"), expected, "{reason}");
    }
}

#[test]
fn one_that_gets_its_process_late_has_all_of_its_time_from_then_on() {
    let mut world = World::new(false);
    let monitor = Monitor { readiness: Readiness::Answer, ..Monitor::default() };
    let ended = world.prepare(app_plan(1, AppSpec { monitor, ..app() }));
    let whole = app().ready_timeout;
    let late = world.now + whole.saturating_sub(SEC);
    while world.now < late {
        if let Some(upstream) = world.spawning.pop_first() {
            world.tell(ServiceEvent::SpawnPutOff { upstream, reason: Some("no process".to_owned()) });
        }
        world.pass(SEC / 2);
    }
    let upstream = world.spawning.pop_first().expect("it is tried again");
    world.spawned(upstream);
    world.pass(whole.saturating_sub(2 * SEC));
    assert_eq!(world.answer_to(ended), None);
    world.probed(upstream, Ok(()));
    assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Prepared(Prepared::Ready)));
}

#[test]
fn the_last_lines_of_one_that_is_late_are_told_though_it_does_not_end() {
    let (mut world, upstream) = starting();
    while world.processes.values().all(|process| process.asked.is_none()) {
        world.pass(SEC / 10);
    }
    let last_lines = vec!["waiting for the database".to_owned()];
    world.tell(ServiceEvent::LastLines { upstream, last_lines: last_lines.clone() });
    assert_eq!(world.machine.state(|_| None).failure.expect("it is late").last_lines, last_lines);
}
