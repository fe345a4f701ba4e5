//! Processes that SIGKILL does not end.

use super::world::{SEC, World, app, app_plan, serving, survivor};
use crate::{
    AppSpec, Overlap, Prepared, RunEnd, Status, StopEnd, Survivor,
    service_action::ServiceAnswer,
    service_event::{ServiceEvent, Ticket},
};

/// A service that serves, and from now on nothing of it ends by SIGKILL; with the process of it.
fn stubborn(app: AppSpec) -> (World, u64) {
    let mut world = serving(app);
    world.outlives = true;
    let (&process, _) = world.processes.first_key_value().expect("it runs");
    (world, process)
}

/// Everything goes as it can until all grace is over, 5 s more, and the moment for the output.
fn wait(world: &mut World) {
    world.be_kind();
    world.pass(20 * SEC);
    world.be_kind();
    world.pass(SEC);
    world.check_written();
}

/// The tree of a process ends at last.
fn ends_at_last(world: &mut World, process: u64) {
    world.outlives = false;
    world.end_tree(process);
    world.check_written();
}

fn stop_end(world: &World, stop: Ticket) -> Option<StopEnd> {
    match world.answer_to(stop)? {
        ServiceAnswer::Stopped(end) => Some(end.clone()),
        other => panic!("{other:?}"),
    }
}

fn failed(world: &World, ended: Ticket) -> String {
    match world.answer_to(ended) {
        Some(ServiceAnswer::Prepared(Prepared::Failed(reason))) => reason.clone(),
        other => panic!("{other:?}"),
    }
}

fn reason(world: &World) -> String {
    world.machine.state(|_| None).failure.expect("there is a reason").what
}

#[test]
fn a_stop_of_what_sigkill_does_not_end_names_it_and_the_service_is_down_until_it_is_gone() {
    let (mut world, process) = stubborn(app());
    let stop = world.stop();
    world.be_kind();
    world.pass(14 * SEC);
    assert_eq!((world.answer_to(stop), world.status()), (None, Status::Stopped), "its time is not over");
    wait(&mut world);
    let end = stop_end(&world, stop).expect("nobody waits for ever");
    assert!(end.was_up && end.end.survivors == [survivor(process)], "{end:?}");
    assert_eq!(end.end.notes, ["instance 1 did not end within stop_timeout 10s, killed"]);
    assert_eq!(world.status(), Status::Down);
    assert!(reason(&world).contains("state D (disk sleep)"), "{}", reason(&world));
    assert_eq!(world.machine.deadline(), None, "nothing ticks");

    let again = world.stop();
    world.pass(SEC);
    assert!(stop_end(&world, again).is_some_and(|end| !end.was_up && end.end.survivors.len() == 1));
    ends_at_last(&mut world, process);
    assert_eq!(world.status(), Status::Stopped);
    let last = world.stop();
    world.pass(SEC);
    assert_eq!(stop_end(&world, last), Some(StopEnd::default()));
}

#[test]
fn a_stop_that_needed_sigkill_says_so_and_one_that_did_not_says_nothing() {
    let mut world = serving(app());
    let stop = world.stop();
    world.be_kind();
    assert_eq!(stop_end(&world, stop), Some(StopEnd { was_up: true, ..StopEnd::default() }));

    let (mut world, process) = stubborn(app());
    let stop = world.stop();
    world.be_kind();
    world.pass(11 * SEC);
    ends_at_last(&mut world, process);
    world.be_kind();
    let end = stop_end(&world, stop).expect("it ends");
    assert_eq!((end.end.notes.len(), end.end.survivors), (1, Vec::<Survivor>::new()), "killed, and gone");
}

#[test]
fn a_new_run_that_may_run_beside_others_takes_over_from_what_sigkill_does_not_end() {
    let (mut world, process) = stubborn(app());
    world.prepare(app_plan(2, app()));
    world.grow_ready();
    let (switched, drained, stopped) = (world.ticket(), world.ticket(), world.ticket());
    world.tell(ServiceEvent::Commit { switched, drained, stopped });
    wait(&mut world);
    let Some(ServiceAnswer::Ended(RunEnd { survivors, .. })) = world.answer_to(stopped) else {
        panic!("the rollout does not wait for ever: {:?}", world.answers)
    };
    assert_eq!(*survivors, [survivor(process)]);
    assert_eq!((world.status(), world.processes.len()), (Status::Ok, 2));
    ends_at_last(&mut world, process);
    assert_eq!(world.processes.len(), 1);
}

#[test]
fn a_new_run_that_may_not_run_beside_others_fails_and_the_service_starts_when_the_old_one_is_gone() {
    let alone = AppSpec { overlap: Overlap::No, ..app() };
    let (mut world, process) = stubborn(alone.clone());
    let ended = world.prepare(app_plan(2, alone));
    assert_eq!(world.answer_to(ended), None);
    wait(&mut world);
    assert!(failed(&world, ended).contains("may not run beside"), "{}", failed(&world, ended));
    let done = world.ticket();
    world.tell(ServiceEvent::Abandon { done });
    wait(&mut world);
    assert_eq!(world.answer_to(done), Some(&super::ended()), "nothing of the new one has run");
    let revived = world.ticket();
    world.tell(ServiceEvent::Revive { ended: revived });
    assert!(failed(&world, revived).contains("still there"), "{}", failed(&world, revived));
    assert_eq!(world.status(), Status::Down);
    assert!(reason(&world).contains("may not run beside"), "{}", reason(&world));
    assert!(world.spawning.is_empty() && world.machine.deadline().is_none());

    ends_at_last(&mut world, process);
    assert_eq!(world.spawning.len(), 1, "by the end of it, without anybody asking");
    world.grow_ready();
    assert_eq!((world.status(), world.processes.len()), (Status::Ok, 1));
}

#[test]
fn what_outlives_a_run_that_was_given_up_is_not_in_the_way_of_the_one_that_serves_on() {
    let mut world = serving(AppSpec { overlap: Overlap::No, ..app() });
    world.prepare(app_plan(2, app()));
    world.grow_ready();
    assert_eq!(world.processes.len(), 2);
    world.outlives = true;
    let done = world.ticket();
    world.tell(ServiceEvent::Abandon { done });
    wait(&mut world);
    assert!(matches!(world.answer_to(done), Some(ServiceAnswer::Ended(end)) if end.survivors.len() == 1));
    assert_eq!((world.status(), world.machine.state(|_| None).failure), (Status::Ok, None));
}

#[test]
fn a_stopped_service_that_cannot_start_beside_what_is_left_of_it_stays_stopped_and_says_so() {
    let alone = AppSpec { overlap: Overlap::No, ..app() };
    let (mut world, process) = stubborn(alone.clone());
    world.stop();
    wait(&mut world);
    let ended = world.prepare(app_plan(2, alone.clone()));
    world.be_kind();
    let reason = failed(&world, ended);
    assert!(
        reason.starts_with("it may not run beside the run before it; still there 5s after SIGKILL: pid ")
    );
    assert!(reason.ends_with("; it stays stopped, restart it when that is gone"), "{reason}");
    let (done, revived) = (world.ticket(), world.ticket());
    world.tell(ServiceEvent::Abandon { done });
    world.tell(ServiceEvent::Revive { ended: revived });
    assert_eq!(world.status(), Status::Down);
    ends_at_last(&mut world, process);
    assert_eq!((world.status(), world.spawning.len()), (Status::Stopped, 0));
    world.prepare(app_plan(3, alone));
    world.grow_ready();
    assert_eq!(world.status(), Status::Ok);
}

#[test]
fn what_a_crash_leaves_behind_keeps_its_instance_down_and_a_restart_starts_beside_it() {
    let (mut world, process) = stubborn(app());
    world.exit(process);
    wait(&mut world);
    assert_eq!(world.status(), Status::Down);
    let told = reason(&world);
    assert!(told.starts_with("instance 1: it ended with exit code 1 after "), "{told}");
    assert!(told.contains(" s; still there 5s after SIGKILL: pid "), "{told}");
    let ended = world.prepare(app_plan(2, app()));
    world.grow_ready();
    assert_eq!(world.answer_to(ended), Some(&ServiceAnswer::Prepared(Prepared::Ready)));
    world.commit();
    assert_eq!(world.status(), Status::Ok);
}

#[test]
fn what_broke_down_and_outlives_sigkill_holds_nobody_up() {
    let (mut world, process) = stubborn(app());
    let actions = world.machine.break_down("it failed".to_owned(), [process], world.now);
    world.take(actions);
    wait(&mut world);
    let stop = world.stop();
    world.pass(SEC);
    let end = stop_end(&world, stop).expect("nobody waits for ever");
    assert_eq!((end.end.survivors.len(), world.status()), (1, Status::Down));
    ends_at_last(&mut world, process);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn a_service_that_nobody_asks_for_any_more_is_over_all_the_same() {
    let (mut world, _) = stubborn(app());
    world.tell(ServiceEvent::Orphaned);
    world.be_kind();
    world.pass(20 * SEC);
    world.be_kind();
    assert!(!world.machine.is_over(world.now), "its output may still be on its way");
    world.now += SEC;
    assert!(world.machine.is_over(world.now));
}

#[test]
fn a_kill_of_what_a_crash_had_left_behind_is_not_told_of_a_later_stop() {
    let (mut world, process) = stubborn(app());
    // So that it is not started again.
    let done = world.ticket();
    world.tell(ServiceEvent::Hold { done });
    world.exit(process);
    world.pass(11 * SEC);
    ends_at_last(&mut world, process);
    world.be_kind();
    let stop = world.stop();
    world.be_kind();
    assert_eq!(stop_end(&world, stop), Some(StopEnd { was_up: true, ..StopEnd::default() }));
}
