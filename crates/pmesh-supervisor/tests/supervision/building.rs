//! Builds as a part of rollouts.

use pmesh_supervisor::{Build, Exit, RolloutStep, Signal, Status, rollout::Unity};

use crate::world::{SEC, Seen, World, command, reason, service_name};

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

#[tokio::test(start_paused = true)]
async fn a_stop_during_its_build_ends_a_services_part_of_the_rollout_and_the_build() {
    // Together, nothing starts before all is built.
    for (unity, launches) in [(Unity::Together, 3), (Unity::Each, 4)] {
        let world = World::new();
        let (mut web, api) = (world.app("web"), world.app("api"));
        world.up(&[("web", &web), ("api", &api)]).await;
        web.build = vec![command("make")];
        let rollout = world.begin(unity, &[("web", &web), ("api", &api)]);
        world.spawner.wait_for_launches(launches).await;
        let make = world.spawner.launches().iter().position(|launch| launch.program == "make").unwrap();
        assert!(world.service("web").stop().await);
        let end = rollout.await.unwrap();
        assert_eq!((end.failed.len(), end.gave_up, end.switched), (0, false, vec![service_name("api")]));
        assert_eq!(world.spawner.signals(make), [Signal::Terminate]);
        let left = Seen::Failed("web", RolloutStep::Build, "the service was stopped".to_owned());
        assert!(world.when(&left).is_some(), "{:#?}", world.journal());
        assert_eq!(world.health("web").status, Status::Stopped);
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_link_goes_back_to_the_build_before_when_the_service_is_stopped_on_its_way() {
    let world = World::new();
    let mut web = world.app("web");
    web.build = vec![command("make")];
    world.spawner.exit_at_start("make", Exit::Code(0));
    world.up(&[("web", &web)]).await;
    let before = Build::active(&web.folder).unwrap();
    std::fs::write(web.folder.join("source"), "changed").unwrap();
    world.prober.hold(true);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Spawned(3)).await;
    assert_ne!(Build::active(&web.folder), Some(before.clone()));
    world.service("web").stop().await;
    restart.await.unwrap();
    assert_eq!(Build::active(&web.folder), Some(before));
    let left = Seen::Failed("web", RolloutStep::Ready, "the service was stopped".to_owned());
    assert!(world.when(&left).is_some(), "{:#?}", world.journal());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_given_up_with_the_others_is_not_said_to_be_stopped() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    world.prober.hold(true);
    let rollout = world.begin(Unity::Together, &[("web", &web), ("api", &api)]);
    world.see(Seen::Spawned(3)).await;
    world.give_up();
    rollout.await.unwrap();
    let given_up = Seen::Failed("web", RolloutStep::Ready, "the rollout was given up".to_owned());
    assert!(world.when(&given_up).is_some(), "{:#?}", world.journal());
    world.prober.hold(false);
    world.end().await;
}

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
    assert!(world.service("web").stop().await);
    assert_eq!(world.since(began), web.stop_timeout, "a stop is done when nothing lives");
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    world.pass(600 * SEC).await;
    assert_eq!(world.starts().len(), 2);
    assert_eq!(world.health("web").status, Status::Stopped);
    world.end().await;
}
