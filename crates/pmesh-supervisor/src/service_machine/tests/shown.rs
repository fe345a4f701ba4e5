//! What a service shows of itself, and what it asks for once.

use super::world::{SEC, World, app, app_plan, failure, in_place, plan, refused, serving};
use crate::{
    AppSpec, Build, Exit, ExternalAddress, ExternalSpec, Monitor, ServiceId, ServiceKind, Status, Wish,
    notice::Notice,
    service_action::{ServiceAction, ServiceAnswer},
    service_event::ServiceEvent,
    unbuilt::Missing,
};

fn builds(world: &World) -> Vec<Build> {
    let shown = world.machine.state(|_| None).builds;
    assert_eq!(shown, world.machine.builds());
    shown
}

/// A service that serves from a build in place, where somebody builds.
fn built() -> World {
    let mut world = built_of(app());
    let done = world.ticket();
    world.tell(ServiceEvent::HoldProduct { done });
    world
}

fn built_of(app: AppSpec) -> World {
    let mut world = World::new(false);
    world.prepare(in_place(1, app));
    world.grow_ready();
    world.commit();
    world
}

fn failed(world: &World) -> Option<String> {
    world.machine.state(|_| None).failure.map(|failure| failure.what)
}

fn stay_unbuilt(world: &mut World, id: u64) {
    let (stops, done) = (world.stops(), world.ticket());
    world.tell(ServiceEvent::StayUnbuilt {
        plan: in_place(id, app()),
        stops,
        missing: Missing::Build,
        failure: failure(),
        done,
    });
}

#[test]
fn a_build_is_shown_once_while_anything_runs_or_is_started_from_it() {
    let mut world = built_of(AppSpec { instances: 2, ..app() });
    assert_eq!(builds(&world), [Build::in_place("a")]);
    let ended = world.ticket();
    world.tell(ServiceEvent::Remake { failure: None, ended });
    world.be_kind();
    // New instances come from the new one, and both old ones live.
    assert_eq!(builds(&world), [Build::in_place("b"), Build::in_place("a")]);
    for upstream in world.processes.keys().copied().collect::<Vec<_>>() {
        world.end_tree(upstream);
    }
    world.grow_ready();
    assert_eq!(builds(&world), [Build::in_place("b")]);
}

#[test]
fn a_start_is_told_as_spawned_when_every_instance_has_been_spawned() {
    let mut world = World::new(false);
    let (stops, spawned, ended) = (world.stops(), world.ticket(), world.ticket());
    let plan = app_plan(1, AppSpec { instances: 2, ..app() });
    world.tell(ServiceEvent::Prepare { plan, stops, spawned, ended });
    let first = world.spawning.pop_first().expect("both start");
    world.spawned(first);
    assert_eq!(world.answer_to(spawned), None);
    let second = world.spawning.pop_first().expect("both start");
    world.spawned(second);
    assert_eq!(world.answer_to(spawned), Some(&ServiceAnswer::Done));
}

#[test]
fn instances_that_take_requests_are_asked_after_as_many_timeouts_as_make_one_unhealthy() {
    let timeouts = |app: AppSpec| serving(app).machine.traffic().timeouts;
    assert_eq!(timeouts(app()), Some(3));
    let monitor = Monitor { unhealthy_threshold: 7, ..Monitor::default() };
    assert_eq!(timeouts(AppSpec { monitor, ..app() }), Some(7));
    assert_eq!(timeouts(AppSpec { background: true, ..app() }), None);
    let mut files = World::new(false);
    files.prepare(plan(1, ServiceKind::Files));
    files.grow_ready();
    files.commit();
    assert_eq!(files.machine.traffic().timeouts, None);
}

#[test]
fn files_that_go_back_are_served_meanwhile_and_not_starting() {
    let mut files = World::new(false);
    files.prepare(plan(1, ServiceKind::Files));
    files.grow_ready();
    files.commit();
    assert_eq!(files.status(), Status::Ok);
    files.prepare(plan(2, ServiceKind::Files));
    assert_eq!(files.status(), Status::Ok);
    let (done, revived) = (files.ticket(), files.ticket());
    files.tell(ServiceEvent::Abandon { done });
    assert_eq!(files.status(), Status::Ok, "another service is built again now");
    files.tell(ServiceEvent::Revive { ended: revived });
    assert_eq!(files.status(), Status::Ok);
}

/// A service whose only instance has died, and is to be started.
fn crashed() -> World {
    let mut world = serving(app());
    let (&only, _) = world.processes.first_key_value().expect("it runs");
    world.end_tree(only);
    assert_eq!((world.processes.len(), world.status()), (0, Status::Down));
    world
}

#[test]
fn a_new_run_starts_beside_what_serves_and_in_the_place_of_what_does_not() {
    for (mut world, beside) in [(serving(app()), true), (crashed(), false)] {
        world.prepare(app_plan(2, app()));
        let told = Notice::RunStarts { id: ServiceId(2), overlaps: beside };
        assert!(world.notes.contains(&told), "{:?}", world.notes);
        // What is in its place takes requests as soon as it can.
        world.grow_ready();
        let serves = world.machine.state(|_| None).id;
        assert_eq!(serves, ServiceId(if beside { 1 } else { 2 }));
    }
}

#[test]
fn what_serves_is_not_given_up_for_a_build_that_failed_and_what_does_not_is() {
    for (mut world, stays) in [(built(), true), (crashed(), false)] {
        stay_unbuilt(&mut world, 2);
        let state = world.machine.state(|_| None);
        assert_eq!(state.id, ServiceId(if stays { 1 } else { 2 }));
        assert_eq!(failed(&world).as_deref(), Some("it is not built: no build"));
        world.be_kind();
        assert_eq!(world.processes.len(), usize::from(stays));
    }
}

#[test]
fn what_is_not_built_is_told_of_what_serves_and_not_of_the_run_that_starts_in_its_place() {
    let mut world = built();
    stay_unbuilt(&mut world, 2);
    assert!(world.machine.state(|_| None).lacks_product);
    // Beside it nothing is different.
    world.prepare(app_plan(9, app()));
    let state = world.machine.state(|_| None);
    assert_eq!((state.id, state.lacks_product), (ServiceId(1), true));
    let done = world.ticket();
    world.tell(ServiceEvent::Abandon { done });
    let (&only, _) = world.processes.first_key_value().expect("it runs");
    world.tell(ServiceEvent::Exited { upstream: only, exit: Exit::Code(1) });
    world.prepare(app_plan(3, app()));
    let state = world.machine.state(|_| None);
    assert_eq!((state.id, state.lacks_product), (ServiceId(3), false));
    assert!(failed(&world).is_none_or(|failure| !failure.contains("no build")), "{:?}", failed(&world));
}

#[test]
fn a_build_that_nobody_waits_for_any_more_is_told_to_end_once() {
    let mut world = World::new(false);
    stay_unbuilt(&mut world, 1);
    while world.builds.is_empty() {
        world.pass(SEC);
    }
    let ends = |world: &mut World, event: ServiceEvent| {
        let actions = world.machine.on_event(event, world.now);
        let is_end =
            |action: &&ServiceAction| matches!(action, ServiceAction::EndBuild { wish: Wish::End, .. });
        actions.iter().filter(is_end).count()
    };
    let done = world.ticket();
    assert_eq!(ends(&mut world, ServiceEvent::Stop { done }), 1);
    let done = world.ticket();
    assert_eq!(ends(&mut world, ServiceEvent::Stop { done }), 0);
}

#[test]
fn the_newest_failure_of_its_instances_is_told_and_a_probe_that_goes_on_failing_is_no_newer_one() {
    let monitor = Monitor { unhealthy_threshold: 2, ..Monitor::default() };
    let mut world = serving(AppSpec { instances: 3, monitor, ..app() });
    let all: Vec<u64> = world.processes.keys().copied().collect();
    let told = |world: &World| {
        failed(world).unwrap_or_default().chars().take("instance 1".len()).collect::<String>()
    };
    let probed = |world: &mut World, failing: &[u64]| {
        world.pass(6 * SEC);
        for &upstream in &all {
            world.probed(upstream, if failing.contains(&upstream) { Err(refused()) } else { Ok(()) });
        }
    };
    // Of the last one a failure that is overcome.
    probed(&mut world, &all[2..]);
    probed(&mut world, &[]);
    let order = [all[1], all[0], all[2]];
    for (count, number) in [(1, 2), (2, 1), (3, 3)] {
        probed(&mut world, &order[..count]);
        probed(&mut world, &order[..count]);
        assert_eq!(told(&world), format!("instance {number}"));
    }
    world.pass(SEC);
    world.end_tree(all[1]);
    assert_eq!(told(&world), "instance 2");
    world.check_written();
}

#[test]
fn of_external_addresses_too_the_newest_failure_is_told() {
    let mut world = World::new(false);
    let addresses = ["a", "b"].map(|host| ExternalAddress { host: host.to_owned(), port: 80 });
    let monitor = Monitor { unhealthy_threshold: 1, ..Monitor::default() };
    let spec = ExternalSpec { monitor, ..ExternalSpec::new(addresses.to_vec()) };
    world.prepare(plan(1, ServiceKind::External(spec)));
    world.pass(SEC);
    let all: Vec<u64> = world.probes.iter().copied().collect();
    assert_eq!(all.len(), 2);
    world.be_kind();
    world.commit();
    for (fails, told) in
        [([false, true], "b:80"), ([true, true], "a:80"), ([true, true], "a:80"), ([false, true], "b:80")]
    {
        world.pass(6 * SEC);
        for (&upstream, fails) in all.iter().zip(fails) {
            world.probed(upstream, if fails { Err(refused()) } else { Ok(()) });
        }
        let failure = failed(&world).unwrap_or_default();
        assert!(failure.starts_with(told), "{failure}");
    }
}
