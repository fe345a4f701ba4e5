//! Rollouts with builds.

use pmesh_supervisor::{AppSpec, Exit, Status, StepName as Step, rollout::Unity};

use crate::world::{SEC, Seen, World, command, reason, service_name};

/// An app that is made by `make`, which succeeds at once.
fn built(world: &World, name: &str) -> AppSpec {
    world.spawner.exit_at_start("make", Exit::Code(0));
    world.app(name).with(|app| app.build = vec![command("make")])
}

/// From now on every build finds other content.
fn change(app: &AppSpec) {
    std::fs::write(app.folder.join("source"), "changed").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_service_is_built_before_it_starts_and_not_again_from_the_same_content() {
    let world = World::new();
    let web = built(&world, "web");
    world.up(&[("web", &web)]).await;
    world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert_eq!(world.programs(), ["make", "web", "web"]);
    change(&web);
    world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert_eq!(world.programs()[3..], ["make", "web"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_server_keeps_in_a_services_folder_is_no_reason_to_build_it_again() {
    let world = World::new();
    let web = built(&world, "web");
    world.up(&[("web", &web)]).await;
    std::fs::create_dir(web.folder.join("state")).unwrap();
    std::fs::write(web.folder.join("state/lock"), "1234\n").unwrap();
    world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert_eq!(world.programs(), ["make", "web", "web"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_leaves_the_old_instances_of_all_services_alone() {
    let world = World::new();
    let (web, api) = (built(&world, "web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    let running = world.spawner.running();
    change(&web);
    world.spawner.print_at_start("make", "syntax error\n");
    world.spawner.exit_at_start("make", Exit::Code(2));
    let end = world.roll_out(Unity::Together, &[("web", &web), ("api", &api)]).await;
    assert!(end.gave_up);
    let reason = reason(&end, "web");
    assert_eq!(reason, "build step `make` ended with exit code 2; its last lines:\nsyntax error");
    assert_eq!(world.when(&Seen::Failed("web", Step::Build, reason.to_owned())), Some(world.now()));
    assert_eq!(world.spawner.running(), running, "and api was not even started anew");
    assert_eq!(world.programs().iter().filter(|program| *program == "api").count(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_whose_build_fails_keeps_the_old_run() {
    let world = World::new();
    let web = built(&world, "web");
    world.up(&[("web", &web)]).await;
    let (running, id) = (world.spawner.running(), world.id("web"));
    change(&web);
    world.spawner.exit_at_start("make", Exit::Code(2));
    let end = world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert!(reason(&end, "web").contains("exit code 2") && end.switched.is_empty(), "{end:?}");
    assert_eq!((world.spawner.running(), world.id("web")), (running, id));
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_build_that_cannot_be_started_is_reported_with_its_command_and_the_reason() {
    let world = World::new();
    let web = world.app("web").with(|app| app.build = vec![command("cc")]);
    world.spawner.fail_spawn("cc", 13);
    let end = world.start(&[("web", &web)]).await;
    let reason = reason(&end, "web");
    assert!(reason.starts_with("build step `cc` cannot be started: cannot start \"cc\" in"), "{reason}");
    assert!(reason.ends_with("Permission denied (os error 13)"), "{reason}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_build_waits_for_descriptors_of_the_server() {
    let world = World::new();
    let web = world.app("web").with(|app| app.build = vec![command("cc")]);
    world.spawner.fail_spawn("cc", 24);
    let start = world.begin(Unity::Each, &[("web", &web)]);
    world.spawner.wait_for_failures(3).await;
    world.spawner.start_normally("cc");
    world.spawner.exit_at_start("cc", Exit::Code(0));
    let end = start.await.unwrap();
    assert!(end.failed.is_empty(), "{end:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_build_that_gets_no_process_for_half_a_minute_fails_with_what_helps() {
    for (errno, limit, helps) in [
        (11, 30, "(TasksMax= of systemd, pids.max, ulimit -u)"),
        (24, 7, "(LimitNOFILE= of systemd, ulimit -Hn)"),
    ] {
        let world = World::new();
        let build_timeout = if limit == 30 { 600 * SEC } else { limit * SEC };
        let web = world.app("web").with(|app| {
            app.build = vec![command("cc")];
            app.build_timeout = build_timeout;
        });
        world.spawner.fail_spawn("cc", errno);
        let begin = world.now();
        let end = world.roll_out(Unity::Each, &[("web", &web)]).await;
        let reason = reason(&end, "web");
        assert!(reason.starts_with("build step `cc` cannot be started: cannot start \"cc\" in"), "{reason}");
        assert!(reason.ends_with(helps), "{reason}");
        assert_eq!(world.since(begin).as_secs(), u64::from(limit));
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn giving_up_ends_builds_that_are_under_way_whatever_the_rollout() {
    for unity in [Unity::Each, Unity::Together, Unity::Regardless] {
        let world = World::new();
        let web = world.app("web").with(|app| app.build = vec![command("hangs")]);
        let rollout = world.begin(unity, &[("web", &web)]);
        world.see(Seen::Spawned(0)).await;
        let began = world.now();
        world.cancel();
        let end = rollout.await.unwrap();
        assert!(end.gave_up && end.failed.is_empty(), "{end:?}");
        assert!(world.since(began) < SEC, "{:?} for {unity:?}", world.since(began));
        assert_eq!(world.spawner.running(), [] as [usize; 0]);
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_where_nothing_ran_does_not_end_the_builds_of_others() {
    let world = World::new();
    let (web, mut api) = (built(&world, "web"), world.app("api"));
    world.spawner.exit_at_start("make", Exit::Code(2));
    world.start(&[("web", &web), ("api", &api)]).await;
    api.build = vec![command("compile")];
    let update = world.begin(Unity::Together, &[("web", &web), ("api", &api)]);
    while !world.programs().iter().any(|program| program == "compile") {
        world.settle().await;
    }
    world.pass(SEC).await;
    let compile = world.programs().iter().position(|program| program == "compile").unwrap();
    world.spawner.crash(compile, Exit::Code(0));
    let end = update.await.unwrap();
    assert_eq!((end.gave_up, end.switched), (false, vec![service_name("api")]));
    assert_eq!(end.failed.keys().collect::<Vec<_>>(), [&service_name("web")]);
    assert_eq!(world.health("web").status, Status::Down);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_first_build_fails_is_down_and_says_why() {
    let world = World::new();
    let (web, api) = (built(&world, "web"), world.app("api"));
    world.spawner.exit_at_start("make", Exit::Code(2));
    let end = world.start(&[("web", &web), ("api", &api)]).await;
    assert!(reason(&end, "web").contains("exit code 2"), "{end:?}");
    assert_eq!(end.switched, [service_name("api")]);
    assert_eq!(world.order(|seen| matches!(seen, Seen::Done("web", _))), []);
    let health = world.health("web");
    assert_eq!((health.status, health.healthy, health.total), (Status::Down, 0, 1));
    let error = health.error.unwrap();
    assert!(error.starts_with("it is not built: build step `make` ended with exit code 2;"), "{error}");
    assert_eq!(world.health("api").status, Status::Ok);

    world.spawner.exit_at_start("make", Exit::Code(0));
    world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_for_a_service_that_just_restarted_takes_the_rollout_back() {
    let world = World::new();
    let (web, mut api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    world.spawner.crash(1, Exit::Code(1));
    world.see(Seen::Spawned(2)).await;
    api.build = vec![command("make")];
    let update = world.begin(Unity::Together, &[("web", &web), ("api", &api)]);
    world.see(Seen::Spawned(3)).await;
    world.pass(SEC).await;
    world.spawner.crash(3, Exit::Code(2));
    assert!(update.await.unwrap().gave_up);
    assert_eq!(world.spawner.running(), [0, 2]);
    world.end().await;
}
