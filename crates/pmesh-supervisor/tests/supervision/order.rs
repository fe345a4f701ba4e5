//! Services that start after others, and stop before them.

use pmesh_supervisor::{Exit, Signal, Status, rollout::Unity};

use crate::world::{SEC, Seen, World, reason, service_name};

#[tokio::test(start_paused = true)]
async fn who_starts_after_one_that_fails_is_down_and_starts_by_itself_when_that_is_ready() {
    let world = World::new();
    let (db, mut web) = (world.app("db"), world.app("web"));
    web.after = vec![service_name("db")];
    world.spawner.exit_at_start("db", Exit::Code(1));
    let end = world.start(&[("web", &web), ("db", &db)]).await;
    assert_eq!(reason(&end, "web"), "it starts after `db`, which is not ready");
    let health = world.health("web");
    assert_eq!((health.status, health.total), (Status::Down, 1));
    assert_eq!(health.error.unwrap(), "it starts after `db`, which is not ready");
    world.pass(600 * SEC).await;
    assert!(!world.programs().contains(&"web".to_owned()));

    world.spawner.start_normally("db");
    world.see(Seen::Spawned(world.starts().len())).await;
    world.pass(60 * SEC).await;
    assert_eq!((world.health("db").status, world.health("web").status), (Status::Ok, Status::Ok));
    assert_eq!(world.programs().iter().filter(|program| *program == "web").count(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_others_can_be_stopped_updated_and_held() {
    let world = World::new();
    let (db, mut web) = (world.app("db"), world.app("web"));
    web.after = vec![service_name("db")];
    world.spawner.exit_at_start("db", Exit::Code(1));
    world.start(&[("db", &db), ("web", &web)]).await;
    world.service("web").hold().await;
    world.spawner.start_normally("db");
    world.pass(60 * SEC).await;
    assert_eq!((world.health("db").status, world.health("web").status), (Status::Ok, Status::Down));
    world.service("web").release().await;
    world.pass(SEC).await;
    assert_eq!(world.health("web").status, Status::Ok);

    world.spawner.exit_at_start("db", Exit::Code(1));
    world.service("db").stop().await;
    world.service("web").stop().await;
    let end = world.roll_out(Unity::Each, &[("db", &db), ("web", &web)]).await;
    assert!(end.failed.contains_key(&service_name("db")), "{end:?}");
    world.service("web").stop().await;
    assert_eq!(world.health("web").status, Status::Stopped);
    world.spawner.start_normally("db");
    world.pass(60 * SEC).await;
    assert_eq!(world.health("web").status, Status::Stopped, "it stays stopped");
    let end = world.roll_out(Unity::Together, &[("web", &web), ("db", &db)]).await;
    assert!(end.failed.is_empty(), "{end:?}");
    assert_eq!((world.health("db").status, world.health("web").status), (Status::Ok, Status::Ok));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_starts_after_others_stops_before_them_and_they_serve_meanwhile() {
    let world = World::new();
    let (db, mut api, mut web) = (world.app("db"), world.app("api"), world.app("web"));
    api.after = vec![service_name("db")];
    web.after = vec![service_name("api"), service_name("db")];
    world.up(&[("db", &db), ("api", &api), ("web", &web)]).await;
    world.spawner.ignore_terminate(true);
    let began = world.now();
    let services = world.supervisor.services();
    let stop = world.supervisor.stop(&services);
    let seen = async {
        world.pass(9 * SEC).await;
        assert_eq!(
            (world.serving("db").len(), world.serving("api").len(), world.serving("web")),
            (1, 1, vec![])
        );
    };
    let (ends, ()) = tokio::join!(stop, seen);
    assert_eq!(ends.len(), 3);
    assert_eq!(world.since(began), web.stop_timeout + api.stop_timeout + db.stop_timeout);
    let killed = world.order(|seen| matches!(seen, Seen::Signalled(_, Signal::Kill)));
    assert_eq!(killed, [2, 1, 0].map(|process| Seen::Signalled(process, Signal::Kill)));
    drop(services);
    world.end().await;
}
