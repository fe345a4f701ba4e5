//! Runs whose build in place is not what the folder holds.

use super::world::{SEC, World, app, app_plan, failure, in_place, serving};
use crate::{
    AppSpec, Build, Overlap, Prepared, Remade, Status,
    service_action::ServiceAnswer,
    service_event::{NoBuild, ServiceEvent, Ticket},
    unbuilt::Missing,
};

/// A service that serves from a build in place.
fn built(app: AppSpec) -> World {
    let mut world = World::new(app.overlap == Overlap::No);
    world.prepare(in_place(1, app));
    world.grow_ready();
    world.commit();
    assert_eq!(world.status(), Status::Ok);
    world
}

fn hold_product(world: &mut World) {
    let done = world.ticket();
    world.tell(ServiceEvent::HoldProduct { done });
    assert_eq!(world.answer_to(done), Some(&ServiceAnswer::Done));
}

fn remake(world: &mut World) -> Ticket {
    let ended = world.ticket();
    world.tell(ServiceEvent::Remake { failure: None, ended });
    ended
}

fn only(world: &World) -> u64 {
    *world.processes.first_key_value().expect("it runs").0
}

fn end_build(world: &mut World, built: Result<Option<Build>, NoBuild>) {
    let (attempt, _) = world.builds.pop_first().expect("it builds");
    let built = built.map(|build| crate::Basis { build, machine: None });
    world.tell(ServiceEvent::Built { attempt, built });
}

fn is_held(world: &mut World) -> bool {
    let process = only(world);
    world.end_tree(process);
    world.pass(60 * SEC);
    world.spawning.is_empty()
}

#[test]
fn an_instance_that_dies_while_somebody_builds_in_place_waits_until_the_product_is_whole() {
    let mut world = built(app());
    hold_product(&mut world);
    assert!(is_held(&mut world));
    world.tell(ServiceEvent::ProductIsWhole);
    assert_eq!(world.spawning.len(), 1);
    let mut plain = serving(app());
    hold_product(&mut plain);
    assert!(!is_held(&mut plain), "it needs no build");
}

#[test]
fn nothing_is_made_again_when_the_server_is_about_to_end() {
    let mut world = built(app());
    hold_product(&mut world);
    world.tell(ServiceEvent::EndBegins);
    let ended = remake(&mut world);
    assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Remade(Remade::Left)));
    assert!(world.builds.is_empty());
}

#[test]
fn what_is_made_again_is_what_instances_are_started_from() {
    let mut world = built(app());
    hold_product(&mut world);
    let ended = remake(&mut world);
    assert!(is_held(&mut world));
    assert_eq!(world.answer_to(ended), None);
    end_build(&mut world, Ok(Some(Build::in_place("b"))));
    let made = Remade::Made(Some(Build::in_place("b").id().clone()));
    assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Remade(made)));
    world.grow_ready();
    let state = world.machine.state(|_| None);
    assert_eq!((world.status(), state.relies_on), (Status::Ok, Some(Build::in_place("b"))));
}

#[test]
fn what_cannot_be_made_again_is_tried_after_pauses_while_what_lives_serves() {
    let mut world = built(AppSpec { instances: 2, ..app() });
    let before = world.machine.traffic();
    let ended = remake(&mut world);
    for (pause, longest) in [(5, 6), (10, 11), (20, 22)] {
        end_build(&mut world, Err(NoBuild::Failed(Missing::Build, failure())));
        let health = world.machine.state(|_| None).health(world.now);
        assert_eq!((health.status, health.healthy, health.total), (Status::Degraded, 2, 2));
        assert_eq!(health.reason.as_deref(), Some("it is not built: no build"));
        assert!(
            health.next_try.is_some_and(|wait| wait >= pause * SEC && wait <= longest * SEC),
            "{health:?}"
        );
        world.pass((pause - 1) * SEC);
        assert!(world.builds.is_empty());
        world.pass((longest - pause + 1) * SEC);
    }
    assert!(
        matches!(world.answer_to(ended), Some(ServiceAnswer::Remade(Remade::Failed(why))) if why.contains("no build"))
    );
    assert_eq!(world.machine.traffic(), before);
    assert!(is_held(&mut world));
    end_build(&mut world, Ok(Some(Build::in_place("a"))));
    world.grow_ready();
    assert_eq!(world.status(), Status::Ok, "it is whole again");
}

#[test]
fn a_first_try_is_made_although_the_files_are_held_and_the_others_wait_for_them() {
    let mut world = built(app());
    let done = world.ticket();
    world.tell(ServiceEvent::Hold { done });
    remake(&mut world);
    end_build(&mut world, Err(NoBuild::Failed(Missing::Build, failure())));
    world.pass(60 * SEC);
    assert!(world.builds.is_empty());
    world.tell(ServiceEvent::Release);
    assert_eq!(world.builds.len(), 1);
    assert!(is_held(&mut world), "the files are released, and the product is not there");
}

#[test]
fn what_had_to_stop_for_a_run_that_failed_starts_when_its_build_is_made_again() {
    let alone = || AppSpec { overlap: Overlap::No, ..app() };
    for first_try_succeeds in [true, false] {
        let mut world = built(alone());
        hold_product(&mut world);
        world.prepare(in_place(2, alone()));
        world.grow_ready();
        let done = world.ticket();
        world.tell(ServiceEvent::Abandon { done });
        world.grow_ready();
        let ended = remake(&mut world);
        let made = if first_try_succeeds {
            Ok(Some(Build::in_place("a")))
        } else {
            Err(NoBuild::Failed(Missing::Build, failure()))
        };
        end_build(&mut world, made);
        assert!(world.answer_to(ended).is_some() && world.spawning.is_empty());
        let revived = world.ticket();
        world.tell(ServiceEvent::Revive { ended: revived });
        if !first_try_succeeds {
            assert!(matches!(
                world.answer_to(revived),
                Some(ServiceAnswer::Prepared(Prepared::Failed(why))) if why.contains("no build")
            ));
            assert!(world.spawning.is_empty());
            world.pass(10 * SEC);
        }
        world.grow_ready();
        assert_eq!((world.status(), world.processes.len()), (Status::Ok, 1));
        assert_eq!(world.machine.state(|_| None).id.0, 1);
    }
}

#[test]
fn whoever_builds_next_ends_the_tries_and_a_new_run_needs_them_no_more() {
    let mut world = built(app());
    remake(&mut world);
    let (&attempt, _) = world.builds.first_key_value().expect("it builds");
    let done = world.ticket();
    world.tell(ServiceEvent::HoldProduct { done });
    assert_eq!((world.answer_to(done), world.builds[&attempt]), (None, crate::Wish::End));
    end_build(&mut world, Err(NoBuild::Cancelled));
    assert_eq!(world.answer_to(done), Some(&ServiceAnswer::Done));
    world.pass(60 * SEC);
    assert!(world.builds.is_empty());
    world.prepare(in_place(2, app()));
    world.grow_ready();
    world.commit();
    world.grow_ready();
    world.pass(60 * SEC);
    assert_eq!((world.status(), world.builds.len()), (Status::Ok, 0));
    assert!(!is_held(&mut world));
}

#[test]
fn a_run_that_has_taken_over_is_not_replaced_by_the_one_whose_build_was_waited_for() {
    let mut world = built(app());
    remake(&mut world);
    end_build(&mut world, Err(NoBuild::Failed(Missing::Build, failure())));
    world.prepare(app_plan(2, app()));
    world.grow_ready();
    let switched = world.ticket();
    world.tell(ServiceEvent::Switch { switched });
    world.pass(60 * SEC);
    assert_eq!((world.builds.len(), world.machine.state(|_| None).id.0), (0, 2));
}

#[test]
fn a_service_that_recovered_while_its_rollout_failed_waits_for_its_product_too() {
    let mut world = built(app());
    hold_product(&mut world);
    let (stops, done) = (world.stops(), world.ticket());
    world.tell(ServiceEvent::StayUnbuilt {
        plan: app_plan(2, app()),
        stops,
        missing: Missing::Build,
        failure: failure(),
        done,
    });
    assert_eq!(world.status(), Status::Degraded);
    world.pass(6 * SEC);
    end_build(&mut world, Ok(Some(Build::in_place("a"))));
    assert_eq!((world.status(), world.machine.state(|_| None).id.0), (Status::Ok, 1));
}

#[test]
fn a_stop_ends_the_try_and_whoever_waits_for_it_learns_so() {
    let mut world = built(app());
    let ended = remake(&mut world);
    world.end();
    assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Remade(Remade::Left)));
}

/// Two instances, one ready and one starting.
fn one_starts(plan: impl Fn(u64, AppSpec) -> std::sync::Arc<crate::Plan>) -> (World, u64, u64) {
    let mut world = World::new(false);
    world.prepare(plan(1, AppSpec { instances: 2, ..app() }));
    world.grow_ready();
    world.commit();
    let crashed = only(&world);
    world.end_tree(crashed);
    let starting = world.spawning.pop_first().expect("it is started again");
    world.spawned(starting);
    let ready = *world.processes.keys().find(|&&process| process != starting).expect("the other one");
    (world, ready, starting)
}

#[test]
fn an_instance_that_was_starting_when_the_files_changed_is_started_anew_when_they_are_back() {
    for becomes_ready in [false, true] {
        let (mut world, ready, starting) = one_starts(app_plan);
        let done = world.ticket();
        world.tell(ServiceEvent::Hold { done });
        if becomes_ready {
            world.grow_ready();
            assert_eq!(world.machine.traffic().upstreams.len(), 2, "it serves meanwhile");
        }
        world.tell(ServiceEvent::Release);
        let takes_traffic =
            |world: &World, process| world.machine.traffic().upstreams.iter().any(|it| it.id == process);
        assert!(!takes_traffic(&world, starting), "it leaves first");
        world.grow_ready();
        assert!(!world.processes.contains_key(&starting));
        assert!(world.processes.contains_key(&ready), "what was ready before is left alone");
        assert_eq!((world.status(), world.processes.len()), (Status::Ok, 2));
    }
}

#[test]
fn an_instance_that_is_started_after_that_is_left_alone() {
    let (mut world, _, starting) = one_starts(app_plan);
    let done = world.ticket();
    world.tell(ServiceEvent::Hold { done });
    world.end_tree(starting);
    world.tell(ServiceEvent::Release);
    world.grow_ready();
    let there = world.processes.keys().copied().collect::<Vec<_>>();
    world.tell(ServiceEvent::Release);
    world.grow_ready();
    assert_eq!(world.processes.keys().copied().collect::<Vec<_>>(), there);
}

#[test]
fn an_instance_that_needs_nothing_but_its_build_is_left_alone() {
    let own = |id, mut app: AppSpec| {
        app.run.as_mut().expect("it runs").program = ".run/server".to_owned();
        let plan = in_place(id, app);
        let build = Build::in_place("a").alone();
        std::sync::Arc::new(crate::Plan { build: Some(build), ..crate::Plan::clone(&plan) })
    };
    let (mut world, _, starting) = one_starts(own);
    let done = world.ticket();
    world.tell(ServiceEvent::Hold { done });
    world.tell(ServiceEvent::Release);
    world.grow_ready();
    assert!(world.processes.contains_key(&starting));
    let done = world.ticket();
    world.tell(ServiceEvent::Hold { done });
    assert!(!is_held(&mut world));
}
