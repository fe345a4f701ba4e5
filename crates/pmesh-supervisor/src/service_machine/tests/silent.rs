//! Instances that leave requests without an answer.

use std::collections::BTreeSet;

use super::world::{SEC, World, app, refused, serving};
use crate::{
    AppSpec, Monitor, Readiness, Status,
    notice::{InstanceNotice, Notice},
    service_event::ServiceEvent,
};

/// A service of two, of which the first leaves requests without an answer.
fn silent() -> (World, u64) {
    let monitor = Monitor { readiness: Readiness::Answer, ..Monitor::default() };
    let mut world = serving(AppSpec { instances: 2, monitor, ..app() });
    world.pass(SEC);
    let (&first, _) = world.processes.first_key_value().expect("it runs");
    assert!(world.probes.is_empty());
    world.tell(ServiceEvent::TimedOut { upstream: first });
    (world, first)
}

fn takes(world: &World, upstream: u64) -> bool {
    world.machine.traffic().upstreams.iter().any(|one| one.id == upstream)
}

#[test]
fn an_instance_that_leaves_requests_without_an_answer_is_asked_at_once_and_takes_none_until_it_answers() {
    let (mut world, first) = silent();
    assert_eq!((world.probes.clone(), takes(&world, first)), (BTreeSet::from([first]), false));
    assert_eq!(world.status(), Status::Ok, "nothing is known of it yet");
    let told = Notice::Instance { number: 1, what: InstanceNotice::Silent { times: 3 } };
    assert!(world.notes.contains(&told), "{:?}", world.notes);
    world.probed(first, Ok(()));
    assert!(takes(&world, first));
    assert_eq!(world.status(), Status::Ok);
}

#[test]
fn one_that_was_healthy_once_is_asked_for_no_longer_than_the_monitors_timeout() {
    let (world, first) = silent();
    assert_eq!(world.limits.get(&first), Some(&Some(Monitor::default().timeout)));
}

#[test]
fn where_checks_are_written_these_are_what_it_has_to_pass() {
    let monitor = Monitor { readiness: Readiness::ChecksPass, ..Monitor::default() };
    for passes in [true, false] {
        let mut world = serving(AppSpec { instances: 2, monitor: monitor.clone(), ..app() });
        world.pass(SEC);
        let (&first, _) = world.processes.first_key_value().expect("it runs");
        world.tell(ServiceEvent::TimedOut { upstream: first });
        assert_eq!((world.limits.get(&first), takes(&world, first)), (Some(&None), false));
        world.probed(first, if passes { Ok(()) } else { Err(refused()) });
        assert_eq!(takes(&world, first), passes);
        assert_eq!(world.status(), if passes { Status::Ok } else { Status::Degraded });
    }
}

#[test]
fn checks_that_were_under_way_then_say_nothing_of_one_that_has_to_answer() {
    let monitor = Monitor { readiness: Readiness::Answer, ..Monitor::default() };
    let mut world = serving(AppSpec { instances: 2, monitor, ..app() });
    world.pass(6 * SEC);
    let (&first, _) = world.processes.first_key_value().expect("it runs");
    assert_eq!((world.probes.contains(&first), world.limits.get(&first)), (true, Some(&None)));
    world.tell(ServiceEvent::TimedOut { upstream: first });
    world.probed(first, Ok(()));
    assert!(!takes(&world, first), "connecting is not answering");
    world.pass(SEC / 10);
    assert!(world.limits[&first].is_some(), "it is asked now");
    world.probed(first, Ok(()));
    assert!(takes(&world, first));
}

#[test]
fn an_answer_to_a_request_brings_it_back_whatever_the_probe_says_that_was_under_way() {
    let (mut world, first) = silent();
    world.tell(ServiceEvent::Answered { upstream: first });
    assert!(takes(&world, first));
    for _ in 0..3 {
        world.probed(first, Err(refused()));
        assert!(takes(&world, first), "it began before the answer");
        world.tell(ServiceEvent::TimedOut { upstream: first });
        world.tell(ServiceEvent::Answered { upstream: first });
    }
    assert_eq!(world.status(), Status::Ok);
}

#[test]
fn an_answer_to_a_request_brings_one_back_that_has_failed_its_probe() {
    let (mut world, first) = silent();
    world.probed(first, Err(refused()));
    assert_eq!((takes(&world, first), world.status()), (false, Status::Degraded));
    world.tell(ServiceEvent::Answered { upstream: first });
    assert_eq!((takes(&world, first), world.status()), (true, Status::Ok));
}

#[test]
fn one_that_is_asked_takes_requests_where_the_other_is_unhealthy_or_asked_too() {
    let (mut world, first) = silent();
    let (&last, _) = world.processes.last_key_value().expect("it runs");
    world.tell(ServiceEvent::TimedOut { upstream: last });
    assert!(takes(&world, first) && takes(&world, last), "nobody knows of either");
    world.probed(last, Err(refused()));
    assert!(takes(&world, first) && !takes(&world, last), "a healthy one that is asked is better");
    world.check_written();
}

#[test]
fn one_that_does_not_answer_then_takes_no_requests_until_it_has_answered_one() {
    let (mut world, first) = silent();
    world.probed(first, Err(refused()));
    assert_eq!((takes(&world, first), world.status()), (false, Status::Degraded));
    world.pass(6 * SEC);
    assert!(world.probes.contains(&first), "it is asked again");
    world.probed(first, Ok(()));
    assert_eq!((takes(&world, first), world.status()), (true, Status::Ok));
}

#[test]
fn the_last_one_takes_requests_though_it_answers_none() {
    let (mut world, first) = silent();
    world.probed(first, Err(refused()));
    let (&last, _) = world.processes.last_key_value().expect("it runs");
    world.tell(ServiceEvent::TimedOut { upstream: last });
    world.probed(last, Err(refused()));
    assert!(takes(&world, last));
}
