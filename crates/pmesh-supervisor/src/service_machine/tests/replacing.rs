//! Instances that are unhealthy for too long.

use std::time::Duration;

use super::world::{SEC, World, app, app_plan, refused, serving};
use crate::{
    AppSpec, Monitor, Overlap, Signal, Status,
    notice::{InstanceNotice, Notice},
    service_event::ServiceEvent,
};

/// A service of so many instances, with checks, of which each failure counts.
fn service(instances: u32, overlap: Overlap) -> World {
    let monitor = Monitor { unhealthy_threshold: 1, ..Monitor::default() };
    serving(AppSpec { instances, monitor, overlap, unhealthy_timeout: 10 * SEC, ..app() })
}

fn first(world: &World) -> u64 {
    *world.processes.first_key_value().expect("it runs").0
}

fn takes(world: &World) -> Vec<u64> {
    world.machine.traffic().upstreams.iter().map(|one| one.id).collect()
}

fn drained(world: &mut World, upstream: u64) {
    assert!(world.drains.remove(&upstream), "it was waited for");
    world.tell(ServiceEvent::Drained { upstream });
}

/// Lets time pass, in which probes of this one fail and others pass.
fn fail(world: &mut World, upstream: u64, time: Duration) {
    for _ in 0..(time.as_millis() / 250) {
        world.pass(Duration::from_millis(250));
        for probed in world.probes.clone() {
            world.probed(probed, if probed == upstream { Err(refused()) } else { Ok(()) });
        }
    }
}

fn count_of_replacements(world: &World) -> usize {
    let limit = 10 * SEC;
    world
        .notes
        .iter()
        .filter(|note| {
            **note == Notice::Instance { number: 1, what: InstanceNotice::TooLongUnhealthy { limit } }
        })
        .count()
}

#[test]
fn one_that_is_unhealthy_for_too_long_serves_until_another_one_is_ready_and_then_ends_with_all_its_grace() {
    let mut world = service(1, Overlap::Yes);
    let old = first(&world);
    // The probe that fails comes within 5 s.
    fail(&mut world, old, 11 * SEC);
    assert_eq!((world.spawning.len(), world.status(), takes(&world)), (0, Status::Down, vec![old]));
    world.check_written();
    fail(&mut world, old, 5 * SEC);
    let new = world.spawning.pop_first().expect("another one starts");
    assert_eq!(
        (takes(&world), count_of_replacements(&world)),
        (vec![old], 1),
        "the last one is never taken out before"
    );
    world.spawned(new);
    assert_eq!(takes(&world), [old]);
    world.check_written();
    world.pass(SEC / 20);
    world.probed(new, Ok(()));
    assert_eq!((takes(&world), world.status()), (vec![new], Status::Ok));
    assert!(world.drains.contains(&old), "it drains");
    world.check_written();
    drained(&mut world, old);
    assert_eq!(world.processes[&old].asked, Some(Signal::Terminate));
    world.pass(11 * SEC);
    assert_eq!(world.processes[&old].asked, Some(Signal::Kill));
    world.end_tree(old);
    assert!(world.spawning.is_empty(), "it is not started again");
    fail(&mut world, old, 30 * SEC);
    assert_eq!((takes(&world), world.processes.len(), count_of_replacements(&world)), (vec![new], 1, 1));
}

#[test]
fn one_that_gets_well_before_another_one_is_ready_stays() {
    let mut world = service(1, Overlap::Yes);
    let old = first(&world);
    fail(&mut world, old, 16 * SEC);
    let new = world.spawning.pop_first().expect("another one starts");
    world.spawned(new);
    // Both are probed; the old one passes.
    for _ in 0..40 {
        world.pass(SEC / 4);
        for probed in world.probes.clone() {
            world.probed(probed, if probed == new { Err(refused()) } else { Ok(()) });
        }
    }
    assert_eq!((takes(&world), world.status()), (vec![old], Status::Ok));
    assert_eq!(world.processes[&new].asked, Some(Signal::Terminate), "it is not wanted any more");
    world.end_tree(new);
    world.pass(60 * SEC);
    assert!(world.spawning.is_empty());
}

#[test]
fn one_that_ends_by_itself_meanwhile_has_its_place_taken_and_one_that_cannot_start_is_tried_again() {
    let mut world = service(1, Overlap::Yes);
    let old = first(&world);
    fail(&mut world, old, 16 * SEC);
    let new = world.spawning.pop_first().expect("another one starts");
    world.spawned(new);
    world.end_tree(new);
    assert_eq!(takes(&world), [old], "it serves on");
    world.pass(SEC);
    let next = world.spawning.pop_first().expect("it is tried again");
    world.end_tree(old);
    world.spawned(next);
    world.pass(SEC / 20);
    world.probed(next, Ok(()));
    assert_eq!((takes(&world), world.spawning.len(), world.processes.len()), (vec![next], 0, 1));
}

#[test]
fn of_several_one_is_replaced_at_a_time() {
    let mut world = service(3, Overlap::Yes);
    for _ in 0..80 {
        world.pass(SEC / 4);
        for probed in world.probes.clone() {
            world.probed(probed, Err(refused()));
        }
    }
    assert_eq!(
        (world.spawning.len(), takes(&world).len()),
        (1, 3),
        "what makes all unhealthy may be elsewhere"
    );
    let state = world.machine.state(|_| None);
    assert_eq!((state.wanted, state.ready), (3, 3));
}

#[test]
fn where_two_may_not_run_side_by_side_it_is_stopped_first() {
    let mut world = service(1, Overlap::No);
    world.exclusive = true;
    let old = first(&world);
    fail(&mut world, old, 16 * SEC);
    assert!(world.drains.contains(&old) && world.spawning.is_empty());
    drained(&mut world, old);
    world.end_tree(old);
    world.pass(SEC / 4);
    assert_eq!(world.spawning.len(), 1, "and starts again at once");
}

#[test]
fn a_rollout_replaces_all_of_them_and_a_stop_ends_both() {
    let mut world = service(1, Overlap::Yes);
    let old = first(&world);
    fail(&mut world, old, 12 * SEC);
    world.prepare(app_plan(2, AppSpec { unhealthy_timeout: 10 * SEC, ..app() }));
    let next = world.spawning.pop_first().expect("the next run");
    fail(&mut world, old, 12 * SEC);
    assert!(world.spawning.is_empty(), "nothing is replaced in a rollout");
    assert!(world.machine.deadline().is_none_or(|at| at >= world.now), "and nothing is due for ever");
    world.spawned(next);
    let mut world = service(1, Overlap::Yes);
    let old = first(&world);
    fail(&mut world, old, 16 * SEC);
    let new = world.spawning.pop_first().expect("another one starts");
    world.spawned(new);
    let done = world.stop();
    drained(&mut world, old);
    world.end_tree(old);
    assert_eq!(world.answer_to(done), None, "the other one lives");
    world.end_tree(new);
    world.be_kind();
    assert!(world.answer_to(done).is_some());
}
