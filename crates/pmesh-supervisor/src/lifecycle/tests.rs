//! The life of one instance, event by event and in any order.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Action, Event, Grace, Lifecycle, Phase};

const SEC: Duration = Duration::from_secs(1);
const GRACE: Grace = Grace {
    ready: Duration::from_secs(30),
    drain: Duration::from_secs(20),
    stop: Duration::from_secs(10),
    unhealthy: Duration::from_secs(10),
};

fn starting() -> (Lifecycle, Instant) {
    let (mut instance, now) = (Lifecycle::new(GRACE, 1), Instant::now());
    assert_eq!(instance.on_event(Event::Start, now), [Action::Spawn]);
    (instance, now)
}

fn ready() -> (Lifecycle, Instant) {
    let (mut instance, now) = starting();
    assert_eq!(instance.on_event(Event::Ready, now), []);
    (instance, now)
}

#[test]
fn an_instance_leaves_the_balancer_and_drains_before_it_is_signalled() {
    let (mut instance, now) = ready();
    assert_eq!(instance.on_event(Event::Stop, now), [Action::Drain]);
    assert_eq!(instance.on_event(Event::Tick, now + 19 * SEC), []);
    assert_eq!(instance.on_event(Event::Drained, now + 19 * SEC), [Action::Terminate]);
    assert_eq!(instance.on_event(Event::Exited, now + 20 * SEC), []);
    assert_eq!(instance.on_event(Event::TreeEnded, now + 20 * SEC), []);
    assert!(instance.is_stopped());
}

#[test]
fn a_start_after_the_first_restart_has_failed_is_one_again() {
    let (mut instance, mut now) = starting();
    let mut failed = Vec::new();
    for _ in 0..3 {
        instance.on_event(Event::SpawnFailed, now);
        failed.push(instance.has_failed_again());
        now += 60 * SEC;
        assert_eq!(instance.on_event(Event::Tick, now), [Action::Spawn]);
    }
    assert_eq!(failed, [false, true, true]);
}

#[test]
fn a_drain_that_takes_too_long_ends_with_sigterm() {
    let (mut instance, now) = ready();
    instance.on_event(Event::Stop, now);
    assert_eq!(instance.deadline(), Some(now + GRACE.drain));
    assert_eq!(instance.on_event(Event::Tick, now + GRACE.drain), [Action::Terminate]);
    assert_eq!(instance.on_event(Event::Drained, now + GRACE.drain), []);
}

#[test]
fn an_instance_that_ignores_sigterm_is_killed_once_when_its_grace_ends() {
    let (mut instance, now) = starting();
    assert_eq!(instance.on_event(Event::Stop, now), [Action::Terminate]);
    assert_eq!(instance.on_event(Event::Tick, now + 9 * SEC), []);
    assert_eq!(instance.on_event(Event::Tick, now + 10 * SEC), [Action::Kill]);
    assert_eq!(instance.on_event(Event::Tick, now + 11 * SEC), []);
}

#[test]
fn what_sigkill_does_not_end_is_looked_at_once_and_then_waited_for() {
    let (mut instance, now) = starting();
    instance.on_event(Event::Stop, now);
    instance.on_event(Event::Tick, now + 10 * SEC);
    assert_eq!(instance.deadline(), Some(now + 15 * SEC));
    assert_eq!(instance.on_event(Event::Tick, now + 14 * SEC), []);
    assert_eq!(instance.on_event(Event::Tick, now + 15 * SEC), [Action::LookAtSurvivors]);
    assert_eq!(instance.deadline(), Some(now + 20 * SEC), "nothing was seen");
    assert_eq!(instance.on_event(Event::Outlives, now + 15 * SEC), []);
    assert_eq!((instance.deadline(), instance.is_stopped()), (None, false));
    assert_eq!(instance.on_event(Event::Kill, now + 16 * SEC), [Action::Kill]);
    assert_eq!(instance.on_event(Event::TreeEnded, now + 600 * SEC), []);
    assert!(instance.is_stopped());
}

#[test]
fn what_is_left_of_a_crashed_instance_keeps_it_from_starting_until_it_is_gone() {
    let (mut instance, now) = ready();
    instance.on_event(Event::Exited, now);
    instance.on_event(Event::Tick, now + 10 * SEC);
    instance.on_event(Event::Tick, now + 15 * SEC);
    instance.on_event(Event::Outlives, now + 15 * SEC);
    assert_eq!(instance.on_event(Event::Tick, now + 50 * SEC), []);
    assert_eq!(instance.on_event(Event::TreeEnded, now + 60 * SEC), [Action::Spawn]);
}

#[test]
fn the_leaders_end_does_not_spare_the_rest_of_the_tree_the_kill() {
    let (mut instance, now) = starting();
    instance.on_event(Event::Stop, now);
    assert_eq!(instance.on_event(Event::Exited, now + SEC), []);
    assert!(!instance.is_stopped());
    assert_eq!(instance.on_event(Event::Tick, now + 10 * SEC), [Action::Kill]);
    instance.on_event(Event::TreeEnded, now + 10 * SEC);
    assert!(instance.is_stopped());
}

#[test]
fn a_crash_of_a_ready_instance_is_told_to_the_balancer_and_restarts_at_once() {
    let (mut instance, now) = ready();
    assert_eq!(instance.on_event(Event::Exited, now + SEC), [Action::Drain, Action::Terminate]);
    assert_eq!(instance.on_event(Event::TreeEnded, now + SEC), [Action::Spawn]);
}

#[test]
fn each_crash_in_a_row_doubles_the_wait() {
    let (mut instance, mut now) = starting();
    instance.on_event(Event::Exited, now);
    assert_eq!(instance.on_event(Event::TreeEnded, now), [Action::Spawn]);
    for wait in [100, 200, 400, 800] {
        instance.on_event(Event::Exited, now);
        assert_eq!(instance.on_event(Event::TreeEnded, now), []);
        let due = instance.deadline().expect("it backs off");
        let pause = (due - now).as_millis();
        assert!((wait..=wait + wait / 10).contains(&pause), "{pause} for {wait}");
        now = due;
        assert_eq!(instance.on_event(Event::Tick, now), [Action::Spawn]);
    }
    assert_eq!(instance.failed_starts(), 5);
}

#[test]
fn an_instance_that_is_not_ready_in_time_is_stopped_and_tried_again() {
    let (mut instance, now) = starting();
    assert_eq!(instance.on_event(Event::Tick, now + 29 * SEC), [], "its time is not over");
    assert_eq!(instance.on_event(Event::Tick, now + GRACE.ready), [Action::Terminate]);
    instance.on_event(Event::Exited, now + GRACE.ready);
    assert_eq!(instance.on_event(Event::TreeEnded, now + GRACE.ready), [Action::Spawn]);
    assert_eq!(instance.failed_starts(), 1);
}

#[test]
fn a_spawn_that_fails_is_tried_again() {
    let (mut instance, now) = starting();
    instance.on_event(Event::SpawnFailed, now);
    assert_eq!(instance.on_event(Event::Tick, now), [Action::Spawn]);
    instance.on_event(Event::SpawnFailed, now);
    assert_eq!(instance.on_event(Event::Tick, now), [], "the second time after a pause");
    let due = instance.deadline().unwrap();
    assert_eq!(instance.on_event(Event::Tick, due), [Action::Spawn]);
}

#[test]
fn a_spawn_that_is_put_off_comes_again_soon_and_is_no_failed_start() {
    let (mut instance, mut now) = starting();
    for _ in 0..5 {
        assert_eq!(instance.on_event(Event::SpawnPutOff, now), []);
        assert_eq!(instance.on_event(Event::Tick, now), [], "not at once");
        now = instance.deadline().unwrap();
        assert_eq!(instance.on_event(Event::Tick, now), [Action::Spawn]);
    }
    assert_eq!(instance.failed_starts(), 0);
    instance.on_event(Event::SpawnFailed, now);
    assert_eq!(instance.deadline(), Some(now), "its own first failure costs no pause");
}

#[test]
fn a_stop_while_backing_off_is_done_at_once() {
    let (mut instance, now) = starting();
    instance.on_event(Event::SpawnFailed, now);
    assert_eq!(instance.on_event(Event::Stop, now), []);
    assert!(instance.is_stopped());
    assert_eq!(instance.on_event(Event::Tick, now + 60 * SEC), []);
}

#[test]
fn a_held_instance_that_dies_is_not_started_before_it_is_released() {
    let (mut instance, now) = ready();
    instance.on_event(Event::Hold, now);
    instance.on_event(Event::Exited, now);
    assert_eq!(instance.on_event(Event::TreeEnded, now), []);
    assert_eq!(instance.on_event(Event::Tick, now + 60 * SEC), []);
    assert_eq!(instance.deadline(), None);
    assert_eq!(instance.on_event(Event::Release, now + 60 * SEC), [Action::Spawn]);
}

#[test]
fn a_held_instance_whose_turn_comes_is_started_when_it_is_released() {
    let (mut instance, now) = (Lifecycle::new(GRACE, 1), Instant::now());
    instance.on_event(Event::Hold, now);
    assert_eq!(instance.on_event(Event::Start, now), []);
    assert_eq!((instance.on_event(Event::Tick, now + SEC), instance.deadline()), (vec![], None));
    assert_eq!(instance.on_event(Event::Release, now + SEC), [Action::Spawn]);
    assert_eq!(instance.failed_starts(), 0);
}

#[test]
fn an_instance_that_is_replaced_drains_first_and_is_no_failure() {
    let (mut instance, now) = ready();
    assert_eq!(instance.on_event(Event::Replace, now), [Action::Drain]);
    assert_eq!(instance.on_event(Event::Replace, now), []);
    assert_eq!(instance.on_event(Event::Drained, now + SEC), [Action::Terminate]);
    instance.on_event(Event::Exited, now + SEC);
    assert_eq!(instance.on_event(Event::TreeEnded, now + SEC), [Action::Spawn]);
    let (mut instance, now) = starting();
    assert_eq!(instance.on_event(Event::Replace, now), [Action::Terminate]);
    instance.on_event(Event::Exited, now);
    assert_eq!(instance.on_event(Event::TreeEnded, now), [Action::Spawn]);
    assert_eq!(instance.failed_starts(), 0);
}

#[test]
fn a_stop_of_an_instance_that_is_being_replaced_is_for_good() {
    for drained in [false, true] {
        let (mut instance, now) = ready();
        instance.on_event(Event::Replace, now);
        if drained {
            instance.on_event(Event::Drained, now);
        }
        assert_eq!(instance.on_event(Event::Stop, now), []);
        instance.on_event(Event::Tick, now + 20 * SEC);
        instance.on_event(Event::Exited, now + 20 * SEC);
        assert_eq!(instance.on_event(Event::TreeEnded, now + 20 * SEC), []);
        assert!(instance.is_stopped());
    }
}

#[test]
fn a_stop_during_the_clearing_after_a_crash_prevents_the_restart() {
    let (mut instance, now) = ready();
    instance.on_event(Event::Exited, now);
    assert_eq!(instance.on_event(Event::Stop, now), []);
    assert_eq!(instance.on_event(Event::TreeEnded, now), []);
    assert!(instance.is_stopped());
}

proptest! {
    /// A driver that does what it is asked for, an operating system and an operator that act at random: there
    /// is never a second process, and a stop always leads to `Stopped`.
    #[test]
    fn whatever_happens_there_is_one_process_at_most_and_a_stop_ends(
        script in proptest::collection::vec((0_u8..10, 0_u64..12), 0..120),
    ) {
        let mut now = Instant::now();
        let mut instance = Lifecycle::new(GRACE, 3);
        let (mut alive, mut leader, mut joined) = (false, false, false);
        let apply = |actions: Vec<Action>, alive: &mut bool, leader: &mut bool, joined: &mut bool| {
            for action in actions {
                match action {
                    Action::Spawn => {
                        assert!(!*alive, "a second process");
                        (*alive, *leader) = (true, true);
                    }
                    Action::Drain => {
                        assert!(*joined, "left without having joined");
                        *joined = false;
                    }
                    Action::Terminate | Action::Kill => {
                        assert!(*alive, "a signal to nobody");
                        assert!(!*joined, "signalled before it was told to the balancer");
                    }
                    Action::LookAtSurvivors => assert!(*alive, "a look at nobody"),
                }
            }
        };
        let mut stopped = false;
        for (what, seconds) in script {
            now += Duration::from_secs(seconds);
            let event = match what {
                0 if !stopped => Event::Start,
                1 => Event::Tick,
                2 if leader => Event::Ready,
                3 if leader => { leader = false; Event::Exited }
                4 if alive && !leader => {
                    if !matches!(
                        instance.phase(),
                        Phase::Stopping { .. } | Phase::Killing { .. } | Phase::Outliving { .. }
                    ) { continue }
                    alive = false;
                    Event::TreeEnded
                }
                5 => Event::Drained,
                6 if stopped || what == 6 && seconds == 0 => { stopped = true; Event::Stop }
                7 => if seconds % 2 == 0 { Event::Hold } else { Event::Release },
                8 => Event::Outlives,
                9 => Event::Replace,
                _ => continue,
            };
            if event == Event::Start && !matches!(instance.phase(), Phase::Stopped) { continue }
            let was_ready = instance.is_ready();
            let actions = instance.on_event(event, now);
            apply(actions, &mut alive, &mut leader, &mut joined);
            if instance.is_ready() && !was_ready {
                assert!(leader && !joined);
                joined = true;
            }
            assert_eq!(instance.is_ready(), joined, "who takes traffic is said in one way");
        }
        let actions = instance.on_event(Event::Stop, now);
        apply(actions, &mut alive, &mut leader, &mut joined);
        for _ in 0..4 {
            now += Duration::from_mins(1);
            let actions = instance.on_event(Event::Tick, now);
            apply(actions, &mut alive, &mut leader, &mut joined);
        }
        if alive {
            instance.on_event(Event::Exited, now);
            instance.on_event(Event::TreeEnded, now);
        }
        prop_assert!(instance.is_stopped());
    }
}
