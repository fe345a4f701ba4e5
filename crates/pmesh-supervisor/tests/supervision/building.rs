//! Builds as a part of rollouts.

use pmesh_supervisor::{Signal, rollout::Unity};

use crate::world::{SEC, Seen, World, command};

#[tokio::test(start_paused = true)]
async fn a_restart_that_is_given_up_ends_its_builds_and_what_runs_goes_on() {
    let world = World::new();
    let mut web = world.app("web");
    world.up(&[("web", &web)]).await;
    web.build = vec![command("make")];
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Spawned(1)).await;
    let began = world.now();
    world.give_up();
    let end = restart.await.unwrap();
    assert!(end.gave_up && end.failed.is_empty(), "{end:?}");
    assert_eq!((world.now(), world.spawner.signals(1)), (began, vec![Signal::Terminate]));
    assert_eq!(world.serving("web"), [0]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_does_not_leave_a_build_its_grace() {
    let world = World::new();
    let mut web = world.app("web");
    world.up(&[("web", &web)]).await;
    web.build = vec![command("make")];
    world.spawner.ignore_terminate(true);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Spawned(1)).await;
    world.give_up();
    world.pass(SEC).await;
    assert_eq!(world.spawner.running(), [0, 1]);
    let began = world.now();
    world.service("web").kill().await;
    restart.await.unwrap();
    assert_eq!((world.now(), world.spawner.running()), (began, vec![]));
    world.end().await;
}
