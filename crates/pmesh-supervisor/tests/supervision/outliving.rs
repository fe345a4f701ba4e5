//! What SIGKILL does not end: nobody waits for it for ever, and everybody is told.

use std::sync::Arc;

use parking_lot::Mutex;
use pmesh_supervisor::{Exit, Overlap, ServiceName, Signal, Status, StepName, StepState, rollout::Unity};

use crate::world::{MS, SEC, World, command, reason, service_name};

type Details = Arc<Mutex<Vec<String>>>;

/// What is told with the end of a stop, and who takes it down.
fn noted() -> (Details, impl Fn(&ServiceName, StepName, &StepState) + Send + Sync + 'static) {
    let details = Details::default();
    let notes = Arc::clone(&details);
    let note = move |_: &ServiceName, step: StepName, state: &StepState| {
        if let (StepName::Stop, StepState::Done(Some(detail))) = (step, state) {
            notes.lock().push(detail.clone());
        }
    };
    (details, note)
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_5_s_after_sigkill_and_the_service_is_down_until_the_process_is_gone() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.spawner.outlive_kill(true);
    let began = world.now();
    let end = world.service("web").stop().await;
    // The output of what lives is waited for as ever.
    assert_eq!(world.since(began), 10 * SEC + 5 * SEC + SEC);
    let [survivor] = &end.end.survivors[..] else { panic!("{end:?}") };
    assert_eq!((survivor.pid, survivor.wait_channel.as_str()), (world.spawner.pid(0), "fake_wait"));
    let health = world.health("web");
    assert_eq!((health.status, health.total), (Status::Down, 0));
    assert!(health.reason.is_some_and(|reason| reason.contains("state D")));

    world.spawner.outlive_kill(false);
    world.spawner.crash(0, Exit::Signal(9));
    world.settle().await;
    assert_eq!(world.health("web").status, Status::Stopped);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_on_beside_what_sigkill_does_not_end_and_its_step_names_it() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.spawner.outlive_kill(true);
    let (details, note) = noted();
    let end = world.begin_and(Unity::Together, &[("web", &web)], note).await.unwrap();
    let stop = details.lock().last().cloned().expect("the old run was stopped");
    assert!(
        stop.contains("did not end within") && stop.contains(&format!("pid {} ", world.spawner.pid(0))),
        "{stop}"
    );
    assert!(end.failed.is_empty() && !end.gave_up, "{end:?}");
    assert_eq!((world.serving("web"), world.health("web").status), (vec![1], Status::Ok));
    assert_ne!(world.port(0), world.port(1), "what lives has its port");
    world.spawner.outlive_kill(false);
    world.spawner.crash(0, Exit::Signal(9));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_needs_the_old_one_gone_goes_back_and_the_service_starts_when_it_is() {
    let world = World::new();
    let mut web = world.app("web");
    web.overlap = Overlap::No;
    world.up(&[("web", &web)]).await;
    world.spawner.outlive_kill(true);
    let end = world.roll_out(Unity::Each, &[("web", &web)]).await;
    let reason = reason(&end, "web");
    assert!(reason.contains("may not run beside") && reason.contains("state D"), "{reason}");
    assert_eq!((world.spawner.launches().len(), world.health("web").status), (1, Status::Down));
    world.spawner.outlive_kill(false);
    world.spawner.crash(0, Exit::Signal(9));
    world.spawner.wait_for_launches(2).await;
    world.pass(100 * MS).await;
    assert_eq!((world.serving("web"), world.health("web").status), (vec![1], Status::Ok));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_way_back_does_not_wait_for_a_new_instance_that_sigkill_does_not_end() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.prober.fail(&service_name("web"));
    world.spawner.outlive_kill(true);
    let end = world.roll_out(Unity::Together, &[("web", &web)]).await;
    let told = reason(&end, "web");
    assert!(end.gave_up && told.starts_with("instance 1: it was not ready within 30s: "), "{end:?}");
    assert!(told.contains("; still there 5s after SIGKILL: "), "{told}");
    assert_eq!(world.serving("web"), [0], "the old one serves");
    world.prober.pass(&service_name("web"));
    world.spawner.outlive_kill(false);
    world.spawner.crash(1, Exit::Signal(9));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_build_that_sigkill_does_not_end_is_waited_for_no_longer() {
    let world = World::new();
    let web = world.app("web").with(|app| app.build = vec![command("make")]);
    world.spawner.outlive_kill(true);
    let rollout = world.begin_and(Unity::Regardless, &[("web", &web)], |_, _, _| {});
    world.spawner.wait_for_launches(1).await;
    let began = world.now();
    assert!(world.service("web").stop().await.was_up);
    rollout.await.unwrap();
    assert!(world.since(began) < 20 * SEC, "{:?}", world.since(began));
    world.spawner.outlive_kill(false);
    world.spawner.crash(0, Exit::Signal(9));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_dropped_ends_all_the_same() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.spawner.outlive_kill(true);
    world.end_with(&[0]).await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_needed_sigkill_says_so() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.spawner.ignore_terminate(true);
    let (details, note) = noted();
    world.begin_and(Unity::Each, &[("web", &web)], note).await.unwrap();
    assert_eq!(world.spawner.signals(0), [Signal::Terminate, Signal::Kill]);
    assert_eq!(*details.lock(), ["instance 1 did not end within stop_timeout 10s, killed"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_service_tells_of_what_outlives_sigkill_until_that_is_gone() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    world.spawner.outlive_kill(true);
    let name = service_name("web");
    let ends = world.supervisor.remove(std::slice::from_ref(&name)).await;
    assert_eq!(ends[&name].end.survivors.len(), 1);
    assert!(!world.supervisor.forget_gone());
    let health = world.health("web");
    assert_eq!((health.status, health.total), (Status::Down, 0));
    assert!(health.reason.is_some_and(|reason| reason.contains("state D")));

    world.spawner.outlive_kill(false);
    world.spawner.crash(0, Exit::Signal(9));
    world.settle().await;
    assert!(world.supervisor.forget_gone(), "it is gone");
    assert!(world.supervisor.service(&name).is_none() && !world.supervisor.forget_gone());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_service_that_comes_back_does_not_run_beside_what_is_left_of_it_where_it_may_not() {
    let world = World::new();
    let mut web = world.app("web");
    web.overlap = Overlap::No;
    world.up(&[("web", &web)]).await;
    world.spawner.outlive_kill(true);
    world.supervisor.remove(&[service_name("web")]).await;
    let end = world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert!(reason(&end, "web").contains("may not run beside the run before it"), "{end:?}");
    world.spawner.outlive_kill(false);
    world.spawner.crash(0, Exit::Signal(9));
    world.settle().await;
    assert!(!world.supervisor.forget_gone(), "it is not removed any more");
    assert_eq!(world.health("web").status, Status::Stopped);
    world.up(&[("web", &web)]).await;
    assert_eq!(world.serving("web"), [1]);
    world.end().await;
}
