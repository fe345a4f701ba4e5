//! Instances that end by themselves.

use std::time::Duration;

use pmesh_supervisor::{Exit, StartOrder, Status};
use tokio::time::Instant;

use crate::world::{MS, SEC, Seen, World, reason, service_name};

/// Ends a process; answers how long after that the next one is started.
async fn pause_after_crash(world: &World, process: usize) -> Duration {
    let (next, crashed) = (world.spawner.launches().len(), world.now());
    world.spawner.crash(process, Exit::Code(1));
    world.see(Seen::Spawned(next)).await.abs_diff(crashed)
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_is_started_again_at_once_and_then_after_pauses_that_double() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    assert_eq!(pause_after_crash(&world, 0).await, Duration::ZERO);
    for (process, plain) in
        (1..).zip([100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000])
    {
        world.see(Seen::Serving("web", vec![process])).await;
        let pause = pause_after_crash(&world, process).await.as_millis();
        assert!((plain..=plain + plain / 10 + 1).contains(&pause), "{pause} for {plain}");
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_try_is_told_and_comes_to_the_millisecond() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    pause_after_crash(&world, 0).await;
    world.see(Seen::Serving("web", vec![1])).await;
    world.spawner.crash(1, Exit::Signal(11));
    world.settle().await;
    let failure = world.service("web").state().failure.unwrap();
    assert_eq!(failure.what, "instance 1: it ended with SIGSEGV after 0.0 s");
    let due = failure.retry_at.expect("it is tried again") - Instant::now().into_std() + world.now();
    let started = world.see(Seen::Spawned(2)).await;
    assert!(started >= due && started.abs_diff(due) <= MS, "{started:?} for {due:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn half_a_minute_of_readiness_makes_the_next_restart_immediate_again() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    for process in 0..4 {
        pause_after_crash(&world, process).await;
        world.see(Seen::Serving("web", vec![process + 1])).await;
    }
    world.pass(29 * SEC).await;
    assert!(pause_after_crash(&world, 4).await >= 800 * MS, "29 s are not enough");
    world.see(Seen::Serving("web", vec![5])).await;
    world.pass(30 * SEC).await;
    assert_eq!(pause_after_crash(&world, 5).await, Duration::ZERO);
    world.see(Seen::Serving("web", vec![6])).await;
    assert!((100 * MS..=111 * MS).contains(&pause_after_crash(&world, 6).await), "it counts from one again");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_others_serve_while_one_is_down_and_the_service_says_why_it_is_degraded() {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 2;
    world.up(&[("web", &web)]).await;
    let id = world.id("web");
    pause_after_crash(&world, 0).await;
    world.see(Seen::Serving("web", vec![1, 2])).await;
    world.spawner.crash(2, Exit::Code(9));
    world.settle().await;
    assert_eq!(world.serving("web"), [1]);
    let health = world.health("web");
    assert_eq!((health.status, health.healthy, health.total), (Status::Degraded, 1, 2));
    assert!(
        health.error.unwrap().starts_with("instance 1: it ended with exit code 9 after 0.0 s; the next try")
    );
    world.see(Seen::Serving("web", vec![1, 3])).await;
    assert_eq!(world.health("web").status, Status::Ok);
    assert_eq!(world.id("web"), id, "a restart after a crash is no new run");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_instance_gets_another_port_and_another_id_with_the_balancer() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    let before = world.service("web").state().instances[0].clone();
    pause_after_crash(&world, 0).await;
    world.see(Seen::Serving("web", vec![1])).await;
    let after = world.service("web").state().instances[0].clone();
    assert_ne!(before.address, after.address);
    assert_ne!(before.upstream, after.upstream);
    assert_eq!(before.number, after.number);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_background_service_that_dies_within_its_first_second_was_never_ready() {
    let world = World::new();
    world.spawner.exit_at_start("job", Exit::Code(0));
    let end = world.start(&[("job", &world.background("job"))]).await;
    assert!(reason(&end, "job").contains("it ended with exit code 0"), "{:?}", end.failed);
    world.spawner.start_normally("job");
    world.spawner.wait_for_running(1).await;
    world.pass(990 * MS).await;
    assert_eq!(world.health("job").status, Status::Down);
    world.pass(20 * MS).await;
    assert_eq!(world.health("job").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_held_instance_that_dies_waits_for_the_release() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    world.service("web").hold().await;
    world.spawner.crash(0, Exit::Code(1));
    world.pass(60 * SEC).await;
    assert_eq!(world.starts().len(), 1);
    world.service("web").release().await;
    world.see(Seen::Serving("web", vec![1])).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_turn_comes_while_its_service_is_held_waits_for_the_release() {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 2;
    web.start = StartOrder::OneByOne;
    // The first instance fails for so long that the start has ended without the second one.
    world.prober.fail(&service_name("web"));
    world.start(&[("web", &web)]).await;
    world.service("web").hold().await;
    world.prober.pass(&service_name("web"));
    world.pass(60 * SEC).await;
    let held = world.starts().len();
    assert_eq!(world.spawner.running().len(), 1);
    world.service("web").release().await;
    world.settle().await;
    // The second one; and the first one anew, for it was starting when the hold began.
    assert_eq!((world.starts().len(), world.spawner.running().len()), (held + 2, 2));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_many_fail_together_their_restarts_take_turns_but_for_the_first_of_each() {
    const MANY: usize = 60;
    let world = World::new();
    let mut web = world.app("web");
    web.instances = u32::try_from(MANY).unwrap();
    world.up(&[("web", &web)]).await;
    let before = world.spawner.launches().len();
    world.spawner.exit_at_start("web", Exit::Code(1));
    for process in 0..MANY {
        world.spawner.crash(process, Exit::Code(1));
    }
    world.settle().await;
    let starts = |world: &World| world.spawner.launches().len() - before;
    assert_eq!(starts(&world), MANY, "the first restart of each is at once");
    world.pass(2 * SEC).await;
    // Each alone would have been tried four times more by now.
    let cores = std::thread::available_parallelism().unwrap().get();
    let budget = MANY + 50 + 2 * (10 + 2 * cores);
    assert!((MANY + 50..=budget).contains(&starts(&world)), "{} of {budget}", starts(&world));
    let failure = world.service("web").state().failure.unwrap();
    assert!(failure.what.contains("it ended with exit code 1"), "{failure:?}");
    world.spawner.start_normally("web");
    world.pass(20 * SEC).await;
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}
