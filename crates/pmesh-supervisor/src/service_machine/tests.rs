//! The machine among events of any order, and a world that does what it likes.

mod days;
mod ending;
mod outliving;
mod ports;
mod probing;
mod products;
mod replacing;
mod shown;
mod silent;
mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::{
    days::deed,
    world::{SEC, World, app, app_plan, failure, refused, serving},
};
use super::ServiceMachine;
use crate::{
    AppSpec, Command, Exit, Overlap, Prepared, RunEnd, ServiceId, Signal, StartOrder, Status, StopEnd,
    Switched, Wish,
    notice::Notice,
    saved,
    service_action::ServiceAnswer,
    service_event::{NoBuild, ServiceEvent, Ticket},
    unbuilt::Missing,
};

#[test]
fn a_run_that_recovered_is_not_replaced_by_one_that_waits_for_its_build() {
    let mut world = serving(app());
    let before = world.machine.traffic();
    let (stops, done) = (world.stops(), world.ticket());
    world.tell(ServiceEvent::StayUnbuilt {
        plan: app_plan(2, app()),
        stops,
        missing: Missing::Build,
        failure: failure(),
        done,
    });
    world.grow_ready();
    assert_eq!((world.machine.traffic(), world.status()), (before, Status::Ok));
    assert_eq!(world.machine.state(|_| None).id, ServiceId(1));
    assert_eq!(world.answer_to(done), Some(&ServiceAnswer::Done));
}

#[test]
fn what_is_still_to_start_wants_something_and_what_was_stopped_wants_nothing() {
    let mut world = World::new(false);
    let wanted = |world: &World| world.machine.state(|_| None).wanted;
    assert_eq!(wanted(&world), 1);
    let (stops, done) = (world.stops(), world.ticket());
    let plan = app_plan(7, AppSpec { instances: 3, ..app() });
    world.tell(ServiceEvent::StayUnbuilt { plan, stops, missing: Missing::Build, failure: failure(), done });
    let state = world.machine.state(|_| None);
    assert_eq!((state.id, state.wanted), (ServiceId(7), 3));
    assert!(state.failure.expect("it has no build").what.contains("no build"));
    world.stop();
    assert_eq!(wanted(&world), 0);
}

#[test]
fn a_start_that_was_asked_for_before_a_stop_comes_to_nothing() {
    let mut world = World::new(false);
    let (stops, spawned, ended) = (world.stops(), world.ticket(), world.ticket());
    world.stop();
    world.tell(ServiceEvent::Prepare { plan: app_plan(1, app()), stops, spawned, ended });
    assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Prepared(Prepared::Left)));
    assert!(world.answer_to(spawned).is_some() && world.spawning.is_empty());
}

#[test]
fn who_waits_once_more_for_a_prepared_run_is_told_when_it_is_ready_and_nobody_is_of_one_that_comes_back() {
    let mut world = World::new(false);
    let first = world.prepare(app_plan(1, app()));
    let again = world.ticket();
    world.tell(ServiceEvent::AwaitReady { ended: again });
    let left = Some(ServiceAnswer::Prepared(Prepared::Left));
    assert_eq!((world.answer_to(first), world.answer_to(again)), (left.as_ref(), None));
    world.grow_ready();
    assert_eq!(world.answer_to(again), Some(&ServiceAnswer::Prepared(Prepared::Ready)));

    let alone = AppSpec { overlap: Overlap::No, ..app() };
    let mut world = serving(alone.clone());
    world.prepare(app_plan(2, alone));
    let (done, back, again) = (world.ticket(), world.ticket(), world.ticket());
    world.tell(ServiceEvent::Abandon { done });
    world.tell(ServiceEvent::Revive { ended: back });
    world.tell(ServiceEvent::AwaitReady { ended: again });
    assert_eq!((world.answer_to(back), world.answer_to(again)), (None, left.as_ref()));
}

/// A service whose new run of two has just become ready, and one of the two.
fn about_to_switch() -> (World, u64) {
    let mut world = serving(app());
    world.prepare(app_plan(2, AppSpec { instances: 2, ..app() }));
    world.grow_ready();
    let (&new, _) = world.processes.last_key_value().expect("it runs");
    (world, new)
}

fn look_again(world: &mut World) -> Ticket {
    let ended = world.ticket();
    world.tell(ServiceEvent::LookAgain { ended });
    ended
}

#[test]
fn a_look_passes_when_every_new_instance_passes_a_probe_then() {
    let (mut world, new) = about_to_switch();
    let look = look_again(&mut world);
    assert_eq!((world.probes.len(), world.answer_to(look)), (2, None));
    let other = *world.probes.iter().find(|&&upstream| upstream != new).expect("there are two");
    world.probed(other, Ok(()));
    assert_eq!(world.answer_to(look), None);
    world.probed(new, Ok(()));
    assert_eq!(world.answer_to(look), Some(&ServiceAnswer::Prepared(Prepared::Ready)));
}

#[test]
fn who_has_died_or_fails_its_probe_fails_the_look_with_the_reason() {
    let (mut world, new) = about_to_switch();
    let look = look_again(&mut world);
    world.probed(new, Err(refused()));
    let Some(ServiceAnswer::Prepared(Prepared::Failed(reason))) = world.answer_to(look) else {
        panic!("it fails")
    };
    assert!(reason.contains("cannot connect"), "{reason}");

    let (mut world, new) = about_to_switch();
    world.exit(new);
    let look = look_again(&mut world);
    assert_eq!(world.answer_to(look), None, "its last lines are to come");
    world.end_tree(new);
    let Some(ServiceAnswer::Prepared(Prepared::Failed(reason))) = world.answer_to(look) else {
        panic!("it fails")
    };
    assert!(reason.contains("exit code 1"), "{reason}");
}

#[test]
fn a_run_that_comes_back_takes_over_from_nobody_and_is_not_looked_at() {
    let alone = AppSpec { overlap: Overlap::No, ..app() };
    let mut world = serving(alone.clone());
    world.prepare(app_plan(2, alone));
    let (done, ended) = (world.ticket(), world.ticket());
    world.tell(ServiceEvent::Abandon { done });
    world.tell(ServiceEvent::Revive { ended });
    let look = look_again(&mut world);
    assert_eq!(world.answer_to(look), Some(&ServiceAnswer::Prepared(Prepared::Left)));
}

#[test]
fn a_run_that_has_taken_over_can_be_taken_back_until_the_old_one_is_told_to_end() {
    let (mut world, new) = about_to_switch();
    let before = world.machine.state(|_| None).id;
    let switched = world.ticket();
    world.tell(ServiceEvent::Switch { switched });
    assert_eq!(world.answer_to(switched), Some(&ServiceAnswer::Switched(Switched::Ready)));
    assert!(world.machine.traffic().upstreams.iter().any(|upstream| upstream.id == new));
    assert_eq!(world.processes.len(), 3, "the old one goes on");
    let done = world.ticket();
    world.tell(ServiceEvent::Abandon { done });
    assert_eq!(world.machine.state(|_| None).id, before);
    world.be_kind();
    assert_eq!((world.answer_to(done), world.processes.len()), (Some(&ended()), 1));
    assert_eq!(world.status(), Status::Ok);
}

/// The answer that a run has ended, and there is nothing to tell of it.
fn ended() -> ServiceAnswer {
    ServiceAnswer::Ended(RunEnd::default())
}

#[test]
fn a_run_that_is_abandoned_before_it_has_taken_over_ends_and_the_old_one_stays() {
    let (mut world, _) = about_to_switch();
    let before = world.machine.traffic();
    let done = world.ticket();
    world.tell(ServiceEvent::Abandon { done });
    world.be_kind();
    assert!(world.answer_to(done).is_some());
    assert_eq!((world.machine.traffic(), world.processes.len()), (before, 1));
}

#[test]
fn a_commit_says_how_ready_the_run_is_that_has_taken_over_and_when_the_old_one_has_drained() {
    let (mut world, _) = about_to_switch();
    let (&old, _) = world.processes.first_key_value().expect("it runs");
    let switched = world.ticket();
    world.tell(ServiceEvent::Switch { switched });
    let (switched, drained, stopped) = (world.ticket(), world.ticket(), world.ticket());
    world.tell(ServiceEvent::Commit { switched, drained, stopped });
    assert_eq!(world.answer_to(switched), Some(&ServiceAnswer::Switched(Switched::Ready)));
    assert_eq!((world.drains.clone(), world.answer_to(drained)), (BTreeSet::from([old]), None));
    world.drains.clear();
    world.tell(ServiceEvent::Drained { upstream: old });
    assert_eq!((world.answer_to(drained), world.answer_to(stopped)), (Some(&ServiceAnswer::Done), None));
    world.be_kind();
    assert!(world.answer_to(stopped).is_some());
}

#[test]
fn a_run_that_may_overlap_starts_while_an_older_one_is_still_on_its_way_out() {
    let (mut world, _) = about_to_switch();
    world.commit();
    assert_eq!(world.drains.len(), 1, "the first run drains");
    world.prepare(app_plan(3, app()));
    assert_eq!(world.spawning.len(), 1);
}

#[test]
fn who_waits_for_the_drain_waits_for_the_commands_before_the_stop_also_where_no_instance_is_ready() {
    let mut world = serving(AppSpec { shutdown: vec![Command::default()], ..app() });
    world.prepare(app_plan(2, app()));
    world.grow_ready();
    let (&old, _) = world.processes.first_key_value().expect("it runs");
    world.end_tree(old);
    let (switched, drained, stopped) = (world.ticket(), world.ticket(), world.ticket());
    world.tell(ServiceEvent::Commit { switched, drained, stopped });
    assert_eq!((world.shutdowns.len(), world.answer_to(drained)), (1, None));
    world.be_kind();
    assert_eq!(world.answer_to(drained), Some(&ServiceAnswer::Done));
}

#[test]
fn a_hold_is_answered_when_the_try_to_build_that_was_under_way_has_ended() {
    let mut world = World::new(false);
    let (stops, done) = (world.stops(), world.ticket());
    world.tell(ServiceEvent::StayUnbuilt {
        plan: app_plan(1, app()),
        stops,
        missing: Missing::Build,
        failure: failure(),
        done,
    });
    world.pass(10 * SEC);
    let (&attempt, _) = world.builds.first_key_value().expect("it is tried again");
    let done = world.ticket();
    world.tell(ServiceEvent::Hold { done });
    assert_eq!((world.builds[&attempt], world.answer_to(done)), (Wish::End, None));
    world.builds.clear();
    world.tell(ServiceEvent::Built { attempt, built: Err(NoBuild::Cancelled) });
    assert_eq!(world.answer_to(done), Some(&ServiceAnswer::Done));
}

#[test]
fn what_env_files_say_is_not_in_what_is_written_down_and_comes_back_all_the_same() {
    let mut world = World::new(false);
    world.prepare(app_plan(1, app()));
    world.prepare(app_plan(2, app()));
    let written = saved::write(&world.machine, world.now);
    assert!(!written.bytes.windows(7).any(|bytes| bytes == b"hunter2"));
    assert_eq!(written.beside.len(), 1, "the same secret is there once");
    assert_eq!(saved::read(&written, world.now).as_ref(), Ok(&world.machine));
    let alone = saved::SavedForm { beside: Vec::new(), ..written };
    assert!(saved::read::<ServiceMachine>(&alone, world.now).is_err());
    assert!(!format!("{:?}", world.machine).contains("hunter2"));
}

#[test]
fn a_run_that_was_built_later_and_does_not_become_ready_is_told_once_though_nobody_waits_for_it() {
    let mut world = World::new(false);
    let (stops, done) = (world.stops(), world.ticket());
    world.tell(ServiceEvent::StayUnbuilt {
        plan: app_plan(1, app()),
        stops,
        missing: Missing::Build,
        failure: failure(),
        done,
    });
    world.pass(10 * SEC);
    let (attempt, _) = world.builds.pop_first().expect("it is tried again");
    world.tell(ServiceEvent::Built { attempt, built: Ok(crate::Basis::default()) });
    for _ in 0..5 {
        let upstream = world.spawning.pop_first().expect("it is tried again");
        world.tell(ServiceEvent::SpawnFailed { upstream, reason: "no memory".to_owned() });
        world.pass(SEC);
    }
    let fails =
        |notice: &&Notice| matches!(notice, Notice::RunFails { reason } if reason.contains("no memory"));
    assert_eq!(world.notes.iter().filter(fails).count(), 1, "{:?}", world.notes);
}

#[test]
fn a_process_that_comes_to_be_after_its_stop_is_signalled_then() {
    let mut world = World::new(false);
    world.prepare(app_plan(1, app()));
    let upstream = world.spawning.pop_first().expect("it starts");
    let stop = world.stop();
    assert_eq!(world.answer_to(stop), None, "nobody knows yet whether something runs");
    world.spawned(upstream);
    assert_eq!(world.processes[&upstream].asked, Some(Signal::Terminate));
    world.be_kind();
    assert_eq!(
        world.answer_to(stop),
        Some(&ServiceAnswer::Stopped(StopEnd { was_up: true, ..StopEnd::default() }))
    );
}

#[test]
fn a_start_that_fails_after_its_stop_is_the_end_of_it() {
    let mut world = World::new(false);
    world.prepare(app_plan(1, app()));
    let upstream = world.spawning.pop_first().expect("it starts");
    let stop = world.stop();
    world.tell(ServiceEvent::SpawnFailed { upstream, reason: "no memory".to_owned() });
    assert_eq!(
        world.answer_to(stop),
        Some(&ServiceAnswer::Stopped(StopEnd { was_up: true, ..StopEnd::default() }))
    );
    world.pass(60 * SEC);
    assert!(world.spawning.is_empty(), "and for good");
}

#[test]
fn the_end_of_a_tree_whose_leaders_end_was_never_told_counts_as_both() {
    let mut world = serving(app());
    let (&upstream, _) = world.processes.first_key_value().expect("it runs");
    world.processes.clear();
    world.tell(ServiceEvent::TreeEnded {
        upstream,
        exit: Exit::Signal(9),
        last_lines: Vec::new(),
        taken: None,
    });
    assert_eq!(world.spawning.len(), 1, "it is started again");
    let failure = world.machine.state(|_| None).failure.expect("it has failed");
    assert!(failure.what.contains("SIGKILL"), "{failure:?}");
}

#[test]
fn with_slow_start_the_time_of_each_instance_counts_from_its_own_spawn() {
    let slow = AppSpec { instances: 2, start: StartOrder::OneByOne, ..app() };
    let mut world = World::new(false);
    let ended = world.prepare(app_plan(1, slow));
    let upstream = world.spawning.pop_first().expect("the first one starts");
    world.spawned(upstream);
    // The first takes most of its 30 s.
    world.pass(25 * SEC);
    world.probed(upstream, Ok(()));
    let upstream = world.spawning.pop_first().expect("the second one starts");
    world.spawned(upstream);
    world.pass(10 * SEC);
    world.end_tree(upstream);
    let upstream = world.spawning.pop_first().expect("it is started again");
    world.spawned(upstream);
    assert_eq!(world.answer_to(ended), None, "its own time is not over");
    world.pass(19 * SEC);
    assert_eq!(world.answer_to(ended), None);
    world.pass(2 * SEC);
    let Some(ServiceAnswer::Prepared(Prepared::Failed(reason))) = world.answer_to(ended) else {
        panic!("its time is over: {:?}", world.answers)
    };
    assert!(reason.starts_with("instance 2: "), "{reason}");
}

#[test]
fn what_broke_down_is_down_shows_nothing_and_starts_when_nothing_is_left_of_it() {
    let mut world = serving(AppSpec { instances: 2, ..app() });
    let held: Vec<u64> = world.processes.keys().copied().collect();
    assert!(!world.machine.is_broken());
    let actions = world.machine.break_down("it failed".to_owned(), held, world.now);
    world.take(actions);
    let state = world.machine.state(|_| None);
    assert_eq!((world.status(), state.wanted, state.ready), (Status::Down, 2, 0));
    assert_eq!(state.failure.expect("there is a reason").what, "it failed");
    assert!(world.machine.is_broken());
    let ended = world.prepare(app_plan(2, app()));
    assert!(!world.machine.is_broken(), "it is started");
    assert!(world.spawning.is_empty(), "what is left may be in its way");
    world.grow_ready();
    assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Prepared(Prepared::Ready)));
}

#[test]
fn who_waits_for_the_end_of_a_run_is_answered_when_its_service_breaks_down() {
    let (mut world, _) = about_to_switch();
    let (switched, drained, stopped) = (world.ticket(), world.ticket(), world.ticket());
    world.tell(ServiceEvent::Commit { switched, drained, stopped });
    assert_eq!((world.answer_to(drained), world.answer_to(stopped)), (None, None));
    let held: Vec<u64> = world.processes.keys().copied().collect();
    let actions = world.machine.break_down("it failed".to_owned(), held, world.now);
    world.take(actions);
    assert_eq!(world.answer_to(drained), Some(&ServiceAnswer::Done));
    assert_eq!(world.answer_to(stopped), Some(&ServiceAnswer::Ended(RunEnd::default())));
}

#[test]
fn a_commit_before_its_turn_does_not_start_a_run_beside_the_one_that_ends() {
    let alone = AppSpec { overlap: Overlap::No, ..app() };
    let mut world = World::new(true);
    world.prepare(app_plan(1, alone.clone()));
    world.prepare(app_plan(2, alone));
    world.commit();
    assert_eq!(world.spawning.len(), 1, "the first one is still there");
    world.grow_ready();
    assert_eq!((world.status(), world.processes.len()), (Status::Ok, 1));
}

#[test]
fn a_run_that_comes_back_to_wait_for_its_build_ends_what_was_prepared_in_its_place() {
    let mut world = World::new(false);
    let (stops, done) = (world.stops(), world.ticket());
    world.tell(ServiceEvent::StayUnbuilt {
        plan: app_plan(1, app()),
        stops,
        missing: Missing::Build,
        failure: failure(),
        done,
    });
    world.prepare(app_plan(2, app()));
    let ended = world.ticket();
    world.tell(ServiceEvent::Revive { ended });
    world.commit();
    assert!(world.answers.iter().any(|(_, answer)| *answer == ServiceAnswer::Switched(Switched::Left)));
    world.be_kind();
    world.pass(10 * SEC);
    world.grow_ready();
    assert_eq!((world.status(), world.processes.len()), (Status::Ok, 1));
    assert_eq!(world.machine.state(|_| None).id, ServiceId(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Traffic goes to living processes that were not told to end, nothing is signalled that takes
    /// traffic, nobody is answered twice, nothing spins, what is written is what is read; and after a
    /// stop everything that was ever spawned has ended and everybody was answered.
    #[test]
    fn whatever_happens_nothing_is_lost_and_a_stop_ends_everything(
        exclusive: bool,
        deeds in proptest::collection::vec(deed(), 0..80),
    ) {
        let mut world = World::new(exclusive);
        for deed in deeds {
            world.live(deed);
        }
        world.end();
    }

    /// However it went, a restart in a world that is kind again brings the service up.
    #[test]
    fn whatever_happened_a_restart_in_a_kind_world_brings_it_up(
        deeds in proptest::collection::vec(deed(), 0..60),
    ) {
        let mut world = World::new(false);
        for deed in deeds {
            world.live(deed);
        }
        world.tell(ServiceEvent::Release);
        world.grow_ready();
        world.pass(60 * SEC);
        let ended = world.prepare(app_plan(u64::MAX, AppSpec { instances: 2, ..app() }));
        world.grow_ready();
        prop_assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Prepared(Prepared::Ready)));
        world.commit();
        world.grow_ready();
        prop_assert_eq!((world.status(), world.processes.len()), (Status::Ok, 2));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        deeds in proptest::collection::vec(deed(), 0..30),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut world = World::new(false);
        for deed in deeds {
            world.live(deed);
        }
        let saved::SavedForm { mut bytes, beside } = saved::write(&world.machine, world.now);
        let whole = bytes.len();
        for (at, byte) in changes {
            let at = at.index(whole);
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &bytes[..whole / 2], &noise[..]] {
            let written = saved::SavedForm { bytes: bytes.to_vec(), beside: beside.clone() };
            drop(saved::read::<ServiceMachine>(&written, world.now));
        }
    }
}
