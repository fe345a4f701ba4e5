//! What is told of an instance whose port somebody else has, or that listens elsewhere.

use super::world::{SEC, World, app, app_plan, refused};
use crate::{AppSpec, ExternalAddress, Holder, ProbeFailure};

fn held() -> ProbeFailure {
    let holder = Holder { pid: 77, command: "nginx".to_owned() };
    ProbeFailure::ForeignPort { port: 20_012, holder: Some(holder) }
}

fn elsewhere() -> ProbeFailure {
    let address = ExternalAddress { host: "127.0.0.1".to_owned(), port: 20_012 };
    ProbeFailure::Elsewhere { address, listens: vec!["127.0.0.1:3000".to_owned()] }
}

/// A service whose first instance starts for the first time.
fn starting() -> World {
    let mut world = World::new(false);
    world.prepare(app_plan(1, app()));
    start(&mut world);
    world
}

/// The process that is to be started is started, and probed once.
fn start(world: &mut World) -> u64 {
    let upstream = world.spawning.pop_first().expect("it starts");
    world.spawned(upstream);
    world.pass(SEC);
    upstream
}

fn probe(world: &mut World, failure: &ProbeFailure) {
    let upstream = *world.probes.first().expect("it is probed");
    world.probed(upstream, Err(failure.clone()));
}

fn reason(world: &World) -> String {
    world.machine.state(|_| None).failure.expect("there is a reason").what
}

/// Probes fail until the instance counts as late, ends, and is started once more.
fn be_late(world: &mut World, failure: &ProbeFailure) {
    while world.processes.values().all(|process| process.asked.is_none()) {
        if !world.probes.is_empty() {
            probe(world, failure);
        }
        world.pass(SEC / 5);
    }
    world.be_kind_to_the_dying();
    world.pass(SEC);
    start(world);
}

#[test]
fn who_holds_a_port_is_named_at_every_try_and_not_only_at_the_first() {
    let mut world = starting();
    for _ in 0..3 {
        be_late(&mut world, &held());
        assert_eq!(
            reason(&world),
            "instance 1: it was not ready within 30s: port 20012 is held by pid 77 `nginx`; end it, or set \
             `port_owner: any` if it serves for the instance"
        );
    }
}

#[test]
fn an_instance_that_ends_because_somebody_holds_its_port_says_who() {
    let mut world = starting();
    for _ in 0..2 {
        let upstream = *world.processes.keys().next().expect("it runs");
        probe(&mut world, &held());
        world.end_tree(upstream);
        assert!(
            reason(&world).starts_with("instance 1: it ended with exit code 1 after "),
            "{}",
            reason(&world)
        );
        assert!(reason(&world).contains("s; port 20012 is held by pid 77 `nginx`"), "{}", reason(&world));
        world.pass(SEC);
        start(&mut world);
    }
    // The end alone says nothing of a port that nobody held.
    let upstream = *world.processes.keys().next().expect("it runs");
    probe(&mut world, &refused());
    world.end_tree(upstream);
    assert_eq!(reason(&world), "instance 1: it ended with exit code 1 after 1.0 s");
}

#[test]
fn an_instance_that_ends_because_a_port_was_taken_says_by_whom_at_every_try() {
    let taken = |port, own| {
        let holder = Holder { pid: 77, command: "nginx".to_owned() };
        ProbeFailure::PortTaken { port, own, holder }
    };
    let mut world = starting();
    for (failure, told) in [
        (
            taken(3000, Some(20_012)),
            "s; port 3000 is held by pid 77 `nginx`; it must listen on $PORT, 20012 in that try",
        ),
        (
            taken(20_012, Some(20_012)),
            "s; port 20012 is held by pid 77 `nginx`; it is given another one at the next try",
        ),
        (taken(3000, None), "s; port 3000 is held by pid 77 `nginx`; end that, or have it listen elsewhere"),
        (
            ProbeFailure::AddressInUse { own: Some(20_012) },
            "s; an address that it wanted is in use; it must listen on $PORT, 20012 in that try",
        ),
        (ProbeFailure::AddressInUse { own: None }, "s; an address that it wanted is in use"),
    ] {
        let upstream = *world.processes.keys().next().expect("it runs");
        world.end_tree_that_wanted(Some(failure), upstream);
        assert!(reason(&world).contains("ended with exit code 1 after "), "{}", reason(&world));
        assert!(reason(&world).ends_with(told), "{}", reason(&world));
        world.pass(20 * SEC);
        start(&mut world);
    }
}

#[test]
fn one_that_has_little_time_is_looked_for_after_a_quarter_of_it() {
    let mut world = World::new(false);
    world.prepare(app_plan(1, AppSpec { ready_timeout: 8 * SEC, ..app() }));
    start(&mut world);
    for (tenths, looks) in [(7, 0), (6, 1)] {
        for _ in 0..tenths {
            if !world.probes.is_empty() {
                probe(&mut world, &refused());
            }
            world.pass(SEC / 10);
        }
        assert_eq!(world.seeks, looks);
    }
}

#[test]
fn where_an_instance_listens_is_looked_up_now_and_then_and_told_when_it_is_late() {
    let mut world = starting();
    assert_eq!(world.seeks, 0, "it has just been started");
    let mut looks = Vec::new();
    for second in 1..28 {
        let before = world.seeks;
        let failure = if second < 6 { elsewhere() } else { refused() };
        if !world.probes.is_empty() {
            probe(&mut world, &failure);
        }
        world.pass(SEC);
        if world.seeks > before {
            looks.push(second);
        }
    }
    assert!((4..=6).contains(&looks.len()), "{looks:?}");
    be_late(&mut world, &refused());
    assert_eq!(
        reason(&world),
        "instance 1: it was not ready within 30s: it listens on 127.0.0.1:3000; it must be $PORT, 20012 in that try"
    );
}
