//! Services that wait for their build.

use pmesh_supervisor::{Build, Exit, Status, rollout::Unity};

use crate::world::{SEC, Seen, World, command, reason, service_name};

#[tokio::test(start_paused = true)]
async fn a_service_whose_build_fails_at_the_start_is_down_with_the_reason_and_is_built_later() {
    let world = World::new();
    let mut web = world.app("web");
    web.build = vec![command("make")];
    web.instances = 2;
    world.spawner.print_at_start("make", "no network\n");
    world.spawner.exit_at_start("make", Exit::Code(2));
    let end = world.start(&[("web", &web)]).await;
    assert!(reason(&end, "web").contains("ended with exit code 2"), "{end:?}");
    assert_eq!((end.switched, end.gave_up), (vec![], false));
    let done = world.order(|seen| matches!(seen, Seen::Done(..)));
    assert_eq!(done, [], "nothing was switched, drained or stopped");
    let health = world.health("web");
    assert_eq!((health.status, health.healthy, health.total), (Status::Down, 0, 2));
    let error = health.error.unwrap();
    let begin = "it is not built: build step `make` ended with exit code 2; the next try is in ";
    assert!(error.starts_with(begin) && error.ends_with("; its last lines: no network"), "{error}");

    world.pass(60 * SEC).await;
    let tries = world.starts();
    assert!((3..8).contains(&tries.len()), "{tries:?}");
    assert!(tries.windows(2).all(|pair| pair[1].abs_diff(pair[0]) >= 5 * SEC), "{tries:?}");
    world.spawner.exit_at_start("make", Exit::Code(0));
    world.see(Seen::Serving("web", vec![tries.len() + 1, tries.len() + 2])).await;
    assert_eq!(world.health("web").status, Status::Ok);
    assert!(Build::active(&web.folder).is_some());
    assert_eq!(world.id("web"), 1, "it is the run that was asked for");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_never_built_does_not_fail_the_others_update() {
    let world = World::new();
    let (mut web, api) = (world.app("web"), world.app("api"));
    web.build = vec![command("make")];
    world.spawner.exit_at_start("make", Exit::Code(1));
    world.start(&[("web", &web), ("api", &api)]).await;
    let update = world.roll_out(Unity::Together, &[("web", &web), ("api", &api)]).await;
    assert!(!update.gave_up && reason(&update, "web").contains("exit code 1"), "{update:?}");
    assert_eq!(update.switched, [service_name("api")]);
    assert_eq!((world.health("web").status, world.id("web")), (Status::Down, 3));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_service_whose_build_fails_fails_the_update_each_time() {
    let world = World::new();
    let (mut web, api) = (world.app("web"), world.app("api"));
    world.up(&[("api", &api)]).await;
    web.build = vec![command("make")];
    world.spawner.exit_at_start("make", Exit::Code(1));
    for _ in 0..2 {
        let update = world.roll_out(Unity::Together, &[("web", &web), ("api", &api)]).await;
        assert!(update.gave_up, "{update:?}");
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_a_service_that_waits_for_its_build_leaves_it_waiting_when_it_fails() {
    let world = World::new();
    let mut web = world.app("web");
    web.build = vec![command("make")];
    world.spawner.exit_at_start("make", Exit::Code(1));
    world.start(&[("web", &web)]).await;
    let restart = world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert!(reason(&restart, "web").contains("exit code 1"), "{restart:?}");
    assert_eq!(world.health("web").status, Status::Down);

    // It is built now, but its instances fail.
    let unbuilt = world.id("web");
    world.spawner.exit_at_start("make", Exit::Code(0));
    world.spawner.exit_at_start("web", Exit::Code(3));
    let restart = world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert!(reason(&restart, "web").contains("exit code 3"), "{restart:?}");
    assert_eq!((world.health("web").status, world.id("web")), (Status::Down, unbuilt));
    world.spawner.start_normally("web");
    world.pass(60 * SEC).await;
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_a_service_that_waits_for_its_build_is_for_good_and_ends_the_try_under_way() {
    let world = World::new();
    let mut web = world.app("web");
    web.build = vec![command("make")];
    world.spawner.exit_at_start("make", Exit::Code(1));
    world.start(&[("web", &web)]).await;
    world.spawner.start_normally("make");
    world.see(Seen::Spawned(1)).await;
    world.spawner.ignore_terminate(true);
    let began = world.now();
    assert!(world.service("web").stop().await.was_up);
    assert_eq!(world.since(began), web.stop_timeout, "a stop is done when nothing lives");
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    world.pass(600 * SEC).await;
    assert_eq!(world.starts().len(), 2);
    assert_eq!(world.health("web").status, Status::Stopped);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_a_try_to_build_and_the_release_begins_another() {
    let world = World::new();
    let mut web = world.app("web");
    web.build = vec![command("make")];
    world.spawner.exit_at_start("make", Exit::Code(1));
    world.start(&[("web", &web)]).await;
    world.spawner.start_normally("make");
    world.see(Seen::Spawned(1)).await;
    world.service("web").hold().await;
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    world.pass(600 * SEC).await;
    assert_eq!(world.starts().len(), 2);
    world.spawner.exit_at_start("make", Exit::Code(0));
    world.service("web").release().await;
    world.see(Seen::Serving("web", vec![3])).await;
    world.end().await;
}
