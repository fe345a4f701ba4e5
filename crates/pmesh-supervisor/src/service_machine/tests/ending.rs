//! The server is about to end.

use super::world::{SEC, World, app, app_plan, failure, serving};
use crate::{
    AppSpec, Prepared, Remade, StartOrder, Status, service_action::ServiceAnswer,
    service_event::ServiceEvent, unbuilt::Missing,
};

/// Nothing has been started, and nothing is about to be.
fn starts_nothing(world: &mut World) -> bool {
    world.pass(1000 * SEC);
    world.spawning.is_empty() && world.builds.is_empty()
}

#[test]
fn what_crashes_then_is_not_started_again_though_it_is_let_go_and_what_runs_serves_on() {
    let mut world = serving(AppSpec { instances: 2, ..app() });
    world.tell(ServiceEvent::EndBegins);
    let (&first, _) = world.processes.first_key_value().expect("it runs");
    world.end_tree(first);
    let done = world.ticket();
    world.tell(ServiceEvent::Hold { done });
    world.tell(ServiceEvent::Release);
    assert!(starts_nothing(&mut world));
    assert_eq!((world.processes.len(), world.machine.traffic().upstreams.len()), (1, 1));
    assert_eq!(world.status(), Status::Degraded);
}

#[test]
fn what_waits_for_its_next_try_or_its_turn_then_is_not_started() {
    let mut crashed = serving(app());
    let (&only, _) = crashed.processes.first_key_value().expect("it runs");
    crashed.end_tree(only);
    let again = crashed.spawning.pop_first().expect("the first time at once");
    crashed.tell(ServiceEvent::SpawnFailed { upstream: again, reason: "no memory".to_owned() });
    let mut one_by_one = World::new(false);
    one_by_one.prepare(app_plan(1, AppSpec { instances: 2, start: StartOrder::OneByOne, ..app() }));
    let upstream = one_by_one.spawning.pop_first().expect("the first starts");
    let mut unbuilt = World::new(false);
    let (stops, done) = (unbuilt.stops(), unbuilt.ticket());
    unbuilt.tell(ServiceEvent::StayUnbuilt {
        plan: app_plan(1, app()),
        stops,
        missing: Missing::Build,
        failure: failure(),
        done,
    });
    for world in [&mut crashed, &mut one_by_one, &mut unbuilt] {
        world.tell(ServiceEvent::EndBegins);
    }
    one_by_one.tell(ServiceEvent::SpawnFailed { upstream, reason: "no memory".to_owned() });
    for world in [&mut crashed, &mut one_by_one, &mut unbuilt] {
        assert!(starts_nothing(world));
    }
    // And one whose build fails only now.
    let (stops, done) = (unbuilt.stops(), unbuilt.ticket());
    unbuilt.tell(ServiceEvent::StayUnbuilt {
        plan: app_plan(2, app()),
        stops,
        missing: Missing::Build,
        failure: failure(),
        done,
    });
    assert!(starts_nothing(&mut unbuilt));
}

#[test]
fn who_wants_a_start_then_is_answered_as_where_a_stop_came_before() {
    let mut world = serving(app());
    world.tell(ServiceEvent::EndBegins);
    let (stops, spawned, ended) = (world.stops(), world.ticket(), world.ticket());
    world.tell(ServiceEvent::Prepare { plan: app_plan(2, app()), stops, spawned, ended });
    assert_eq!(world.answer_to(spawned), Some(&ServiceAnswer::Done));
    assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Prepared(Prepared::Left)));
    let ended = world.ticket();
    world.tell(ServiceEvent::Revive { ended });
    assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Prepared(Prepared::Left)));
    let ended = world.ticket();
    world.tell(ServiceEvent::Remake { failure: None, ended });
    assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Remade(Remade::Left)));
    assert!(starts_nothing(&mut world));
    assert_eq!(world.status(), Status::Ok);
}
