//! Callers that go away, and what they leave.

use futures_util::FutureExt;
use pmesh_supervisor::{Exit, Status, rollout::Unity};

use crate::world::{MS, SEC, Seen, World, command, service_name};

#[tokio::test(start_paused = true)]
async fn what_a_dropped_rollout_prepared_ends_with_the_next_one() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.prober.hold(true);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Spawned(1)).await;
    restart.abort();
    world.prober.hold(false);
    world.pass(SEC).await;
    assert_eq!((world.serving("web"), world.spawner.running()), (vec![0], vec![0, 1]));
    world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert_eq!((world.serving("web"), world.spawner.running()), (vec![2], vec![2]));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_dropped_at_any_moment_loses_no_process() {
    for moment in (0..60).map(|step| step * 50 * MS) {
        let world = World::new();
        let (web, job, mut api) = (world.app("web"), world.background("job"), world.app("api"));
        api.shutdown = vec![command("flush")];
        let all = [("web", &web), ("job", &job), ("api", &api)];
        world.up(&all).await;
        let request = world.request(0);
        let update = world.begin(Unity::Together, &all);
        world.pass(moment).await;
        update.abort();
        world.settle().await;
        drop(request);
        if let Some(flush) = world.programs().iter().position(|program| program == "flush") {
            world.spawner.crash(flush, Exit::Code(0));
        }
        let end = world.roll_out(Unity::Together, &all).await;
        assert!(!end.gave_up, "dropped after {moment:?}: {end:?}");
        world.pass(60 * SEC).await;
        assert_eq!(world.spawner.running().len(), 3, "dropped after {moment:?}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_rollout_that_made_room_can_still_be_taken_back() {
    let world = World::new();
    let mut job = world.background("job");
    world.up(&[("job", &job)]).await;
    let id = world.id("job");
    job.run.as_mut().unwrap().program = "other".to_owned();
    let restart = world.begin(Unity::Each, &[("job", &job)]);
    world.see(Seen::Spawned(1)).await;
    restart.abort();
    world.supervisor.revive([service_name("job")]).await;
    world.pass(SEC).await;
    assert_eq!(world.programs(), ["job", "other", "job"]);
    assert_eq!((world.spawner.running(), world.id("job")), (vec![2], id));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_coming_back_comes_back_after_the_next_failure_too() {
    let world = World::new();
    let good = world.background("job");
    world.up(&[("job", &good)]).await;
    let id = world.id("job");
    let mut broken = world.background("job");
    broken.run.as_mut().unwrap().program = "broken".to_owned();
    world.spawner.exit_at_start("broken", Exit::Code(1));
    let restart = world.begin(Unity::Each, &[("job", &broken)]);
    // The job again, not yet ready.
    world.see(Seen::Spawned(4)).await;
    assert_eq!(world.programs()[4], "job");
    restart.abort();
    world.roll_out(Unity::Each, &[("job", &broken)]).await;
    assert_eq!(world.programs().last().unwrap(), "job");
    assert_eq!((world.health("job").status, world.id("job")), (Status::Ok, id));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_comes_just_before_the_start_is_not_overtaken_by_it() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    let end = world.restart_and_stop_at_its_start("web", &web).await;
    assert_eq!((end.switched, end.failed.len(), end.gave_up), (vec![], 0, false));
    world.pass(SEC).await;
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    assert_eq!(world.health("web").status, Status::Stopped);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_supervisor_at_any_moment_of_a_rollout_ends_old_and_new() {
    for moment in (0..30).map(|step| step * 100 * MS) {
        let world = World::new();
        let (web, job, mut api) = (world.app("web"), world.background("job"), world.app("api"));
        api.shutdown = vec![command("hangs")];
        let all = [("web", &web), ("job", &job), ("api", &api)];
        world.up(&all).await;
        let update = world.begin(Unity::Together, &all);
        world.pass(moment).await;
        update.abort();
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_supervisors_own_task_kills_every_process_whatever_it_is_at() {
    let world = World::new();
    let (mut web, drains, ignores, mut cleans) =
        (world.app("web"), world.app("drains"), world.app("ignores"), world.app("cleans"));
    web.instances = 2;
    cleans.shutdown = vec![command("flush")];
    world.up(&[("web", &web), ("job", &world.background("job"))]).await;
    world.up(&[("drains", &drains)]).await;
    world.up(&[("ignores", &ignores)]).await;
    world.up(&[("cleans", &cleans)]).await;
    let request = world.request(3);
    world.spawner.exit_at_start("make", Exit::Code(1));
    let built = world.app("built").with(|app| app.build = vec![command("make")]);
    world.start(&[("built", &built)]).await;
    world.spawner.start_normally("make");
    world.pass(10 * SEC).await;
    world.prober.hold(true);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.spawner.ignore_terminate(true);
    for name in ["drains", "ignores", "cleans"] {
        assert!(world.service(name).stop().now_or_never().is_none(), "a stop takes its time");
    }
    world.pass(SEC).await;
    let programs = world.programs();
    let mut running: Vec<&str> = world.spawner.running().iter().map(|&nth| programs[nth].as_str()).collect();
    running.sort_unstable();
    let all = ["cleans", "drains", "flush", "ignores", "job", "make", "web", "web", "web", "web"];
    assert_eq!(running, all);

    world.abort().await;
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    assert!(restart.await.unwrap().switched.is_empty(), "and who waits for it learns of its end");
    drop(request);
}
