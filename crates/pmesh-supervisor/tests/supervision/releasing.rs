//! Commands that run once for a commit and a build, before the first instance.

use pmesh_supervisor::{Exit, Status, rollout::Unity};

use crate::world::{SEC, World, command, reason};

fn runs(world: &World) -> usize {
    world.programs().iter().filter(|program| *program == "migrate").count()
}

#[tokio::test(start_paused = true)]
async fn a_release_runs_once_and_not_at_a_restart() {
    let world = World::new();
    let mut web = world.app("web");
    web.release = vec![command("migrate")];
    world.spawner.exit_at_start("migrate", Exit::Code(0));
    world.up(&[("web", &web)]).await;
    assert_eq!(world.programs(), ["migrate", "web"]);
    for unity in [Unity::Together, Unity::Each, Unity::Regardless] {
        world.roll_out(unity, &[("web", &web)]).await;
        assert_eq!(runs(&world), 1, "{unity:?}");
    }
    web.release.push(command("migrate"));
    world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert_eq!(runs(&world), 1);
    world.roll_out(Unity::Together, &[("web", &web)]).await;
    assert_eq!(runs(&world), 3, "these commands have not run yet");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_leaves_what_serves_and_is_tried_again_where_nothing_does() {
    let world = World::new();
    let mut web = world.app("web");
    world.up(&[("web", &web)]).await;
    web.release = vec![command("migrate")];
    world.spawner.print_at_start("migrate", "no such table\n");
    world.spawner.exit_at_start("migrate", Exit::Code(3));
    let update = world.roll_out(Unity::Together, &[("web", &web)]).await;
    assert!(update.gave_up, "{update:?}");
    assert_eq!(
        reason(&update, "web"),
        "release step `migrate` ended with exit code 3; its last lines:\nno such table"
    );
    assert_eq!((world.serving("web"), world.health("web").status), (vec![0], Status::Ok));
    world.end().await;

    let world = World::new();
    world.spawner.exit_at_start("migrate", Exit::Code(3));
    let mut web = world.app("web");
    web.release = vec![command("migrate")];
    world.start(&[("web", &web)]).await;
    let health = world.health("web");
    let begin = "its release has failed: release step `migrate` ended with exit code 3; the next try is in ";
    assert!(health.error.as_ref().is_some_and(|error| error.starts_with(begin)), "{health:?}");
    world.spawner.exit_at_start("migrate", Exit::Code(0));
    world.pass(60 * SEC).await;
    assert_eq!(world.health("web").status, Status::Ok);
    assert_eq!(world.programs().last().map(String::as_str), Some("web"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_has_the_time_of_a_build_and_ends_with_its_service() {
    let world = World::new();
    let mut web = world.app("web");
    web.release = vec![command("migrate")];
    web.build_timeout = 60 * SEC;
    let began = world.now();
    let end = world.start(&[("web", &web)]).await;
    let late = "release step `migrate` was ended: the release took longer than `build_timeout`, 60s";
    assert_eq!((reason(&end, "web"), world.since(began)), (late, 60 * SEC));
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    let restart = world.begin(Unity::Together, &[("web", &web)]);
    while world.spawner.running().is_empty() {
        world.pass(SEC).await;
    }
    world.service("web").stop().await;
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    assert!(restart.await.unwrap().failed.is_empty());
    assert_eq!(world.health("web").status, Status::Stopped);
    world.end().await;
}
