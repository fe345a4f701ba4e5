//! The end of instances, services, and the supervisor.

use std::collections::BTreeMap;

use pmesh_supervisor::{Exit, Prepared, ServiceName, Signal, Status, StopEnd, rollout::Unity};

use crate::world::{MS, SEC, Seen, World, command, service_name};

/// How many of the services were not stopped before.
fn stopped(ends: &BTreeMap<ServiceName, StopEnd>) -> usize {
    ends.values().filter(|end| end.was_up).count()
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_instances_out_of_the_balancer_drains_them_and_then_sends_sigterm() {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 2;
    world.up(&[("web", &web)]).await;
    let request = world.request(1);
    let service = world.service("web");
    let stop = tokio::spawn(async move { service.stop().await });
    world.pass(5 * SEC).await;
    assert_eq!((world.serving("web"), world.spawner.running()), (vec![], vec![1]));
    assert_eq!(world.health("web").status, Status::Stopped);
    assert_eq!((world.spawner.signals(0), world.spawner.signals(1)), (vec![Signal::Terminate], vec![]));
    assert!(!stop.is_finished());
    drop(request);
    assert!(stop.await.unwrap().was_up);
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    assert!(!world.service("web").stop().await.was_up, "it was stopped before");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ignores_sigterm_gets_sigkill_after_exactly_stop_timeout() {
    let world = World::new();
    let mut web = world.app("web");
    web.stop_timeout = 3 * SEC;
    world.up(&[("web", &web)]).await;
    world.spawner.ignore_terminate(true);
    assert!(world.service("web").stop().await.was_up);
    let asked = world.when(&Seen::Signalled(0, Signal::Terminate)).unwrap();
    assert_eq!(world.when(&Seen::Signalled(0, Signal::Kill)), Some(asked + 3 * SEC));
    assert_eq!(world.spawner.signals(0), [Signal::Terminate, Signal::Kill]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_it_backs_off_is_at_once_and_for_good() {
    let world = World::new();
    world.spawner.exit_at_start("web", Exit::Code(1));
    world.start(&[("web", &world.app("web"))]).await;
    let began = world.now();
    assert!(world.service("web").stop().await.was_up);
    assert_eq!(world.now(), began);
    let starts = world.starts().len();
    world.pass(600 * SEC).await;
    assert_eq!(world.starts().len(), starts);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_service_starts_with_the_next_restart() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.service("web").stop().await;
    assert_eq!(world.journal().last().unwrap().1, Seen::Signalled(0, Signal::Terminate));
    world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert_eq!(world.serving("web"), [1]);
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn services_stop_side_by_side_in_the_time_of_the_slowest() {
    let world = World::new();
    let (mut web, mut api, job) = (world.app("web"), world.app("api"), world.background("job"));
    (web.stop_timeout, api.stop_timeout) = (3 * SEC, 8 * SEC);
    world.up(&[("web", &web), ("api", &api), ("job", &job)]).await;
    world.spawner.ignore_terminate(true);
    let began = world.now();
    assert_eq!(stopped(&world.supervisor.stop(&world.supervisor.services()).await), 3);
    assert_eq!(world.since(began), 10 * SEC, "the job's stop_timeout, the default");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_cuts_drain_and_grace_short() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    world.spawner.ignore_terminate(true);
    let request = world.request(0);
    let supervisor = world.supervisor.clone();
    let stop = tokio::spawn(async move { supervisor.stop(&supervisor.services()).await });
    world.pass(2 * SEC).await;
    assert_eq!(world.spawner.running(), [0, 1], "one drains, one ignores SIGTERM");
    for service in world.supervisor.services() {
        service.kill().await;
    }
    let began = world.now();
    assert_eq!(stopped(&stop.await.unwrap()), 2);
    assert_eq!(world.now(), began);
    assert_eq!(world.spawner.signals(0), [Signal::Kill]);
    drop(request);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_service_that_serves_or_starts_at_once() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    world.prober.hold(true);
    let start = world.begin(Unity::Each, &[("api", &world.app("api"))]);
    world.see(Seen::Spawned(1)).await;
    world.spawner.ignore_terminate(true);
    world.service("web").kill().await;
    world.service("api").kill().await;
    start.await.unwrap();
    world.settle().await;
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_last_handle_stops_everything_with_its_grace() {
    let world = World::new();
    world.up(&[("web", &world.app("web")), ("job", &world.background("job"))]).await;
    world.spawner.ignore_terminate(true);
    let (spawner, began) = (world.spawner.clone(), tokio::time::Instant::now());
    world.end().await;
    assert_eq!(began.elapsed(), 10 * SEC);
    assert_eq!(spawner.signals(0), [Signal::Terminate, Signal::Kill]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_service_is_stopped_and_forgotten() {
    let world = World::new();
    world.up(&[("web", &world.app("web")), ("api", &world.app("api"))]).await;
    world.supervisor.remove(&[service_name("web")]).await;
    assert!(world.supervisor.service(&service_name("web")).is_none());
    assert_eq!(world.spawner.running(), [1]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_nobody_waits_for_goes_on() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    world.spawner.ignore_terminate(true);
    let service = world.service("web");
    assert!(tokio::time::timeout(SEC, service.stop()).await.is_err());
    world.pass(10 * SEC).await;
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    drop(service);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_restart_ends_old_and_new_and_the_restarts_part_in_it() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    world.prober.hold(true);
    let restart = world.begin(Unity::Each, &[("web", &web), ("api", &api)]);
    world.see(Seen::Spawned(3)).await;
    assert!(world.service("web").stop().await.was_up);
    assert_eq!(world.spawner.running(), [1, 3]);
    world.prober.hold(false);
    let end = restart.await.unwrap();
    assert_eq!((end.failed.len(), end.switched), (0, vec![service_name("api")]));
    assert_eq!(world.spawner.running(), [3]);
    assert_eq!(world.health("web").status, Status::Stopped);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_commands_run_before_the_instances_are_told_to_end() {
    let world = World::new();
    let mut web = world.app("web");
    web.shutdown = vec![command("flush"), command("announce")];
    world.up(&[("web", &web)]).await;
    world.spawner.exit_at_start("announce", Exit::Code(1));
    let service = world.service("web");
    let stop = tokio::spawn(async move { service.stop().await });
    world.see(Seen::Spawned(1)).await;
    world.pass(SEC).await;
    assert_eq!(world.spawner.signals(0), []);
    assert_eq!(world.serving("web"), []);
    world.spawner.crash(1, Exit::Code(0));
    stop.await.unwrap();
    assert_eq!(world.programs(), ["web", "flush", "announce"]);
    assert_eq!(world.spawner.signals(0), [Signal::Terminate]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_command_that_gets_no_process_is_tried_again_until_stop_timeout() {
    for comes in [true, false] {
        let world = World::new();
        let web = world.app("web").with(|app| app.shutdown = vec![command("flush"), command("announce")]);
        world.up(&[("web", &web)]).await;
        world.spawner.exit_at_start("flush", Exit::Code(0));
        world.spawner.exit_at_start("announce", Exit::Code(0));
        world.spawner.fail_spawn("flush", 11);
        let begin = world.now();
        let service = world.service("web");
        let stop = tokio::spawn(async move { service.stop().await });
        world.pass(3 * SEC).await;
        assert_eq!(world.spawner.running(), [0], "it waits for it");
        if comes {
            world.spawner.start_normally("flush");
            world.spawner.exit_at_start("flush", Exit::Code(0));
        }
        stop.await.unwrap();
        assert_eq!(world.spawner.running(), []);
        assert_eq!(world.since(begin) < 5 * SEC, comes);
        assert_eq!(world.programs().contains(&"flush".to_owned()), comes);
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_commands_have_stop_timeout_in_all_and_are_killed_then() {
    let world = World::new();
    let mut web = world.app("web");
    web.stop_timeout = 3 * SEC;
    web.shutdown = vec![command("hangs"), command("never")];
    world.up(&[("web", &web)]).await;
    let began = world.now();
    world.service("web").stop().await;
    assert_eq!(world.when(&Seen::Signalled(1, Signal::Kill)), Some(began + 3 * SEC));
    assert_eq!(world.when(&Seen::Signalled(0, Signal::Terminate)), Some(began + 3 * SEC));
    assert_eq!(world.starts().len(), 2);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_commands_of_a_run_that_never_served_are_left_out() {
    let world = World::new();
    let mut web = world.app("web");
    web.shutdown = vec![command("flush")];
    world.prober.fail(&service_name("web"));
    let start = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Spawned(0)).await;
    world.service("web").stop().await;
    start.await.unwrap();
    assert_eq!(world.starts().len(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_preparation_learns_that_the_service_was_stopped() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    world.prober.hold(true);
    let service = world.service("web");
    let mut preparation = service.prepare(world.plan("web", &world.app("web"))).await;
    preparation.spawned().await;
    service.stop().await;
    assert_eq!(preparation.ended().await, Prepared::Left);
    assert!(world.now() < 100 * MS, "{:?}", world.now());
    drop(service);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_by_its_shutdown_command_is_not_started_again() {
    let world = World::new();
    let mut web = world.app("web");
    web.shutdown = vec![command("quit")];
    world.up(&[("web", &web)]).await;
    let service = world.service("web");
    let stop = tokio::spawn(async move { service.stop().await });
    world.see(Seen::Spawned(1)).await;
    world.spawner.crash(0, Exit::Code(0));
    world.settle().await;
    world.spawner.crash(1, Exit::Code(0));
    stop.await.unwrap();
    assert_eq!(world.starts().len(), 2, "the instance and the command");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_shutdown_commands_too() {
    let world = World::new();
    let mut web = world.app("web");
    web.shutdown = vec![command("hangs")];
    world.up(&[("web", &web)]).await;
    let service = world.service("web");
    let stop = tokio::spawn(async move { service.stop().await });
    world.see(Seen::Spawned(1)).await;
    let began = world.now();
    world.service("web").kill().await;
    stop.await.unwrap();
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    assert_eq!(world.now(), began);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_does_not_begin_with_shutdown_commands() {
    let world = World::new();
    let mut web = world.app("web");
    web.shutdown = vec![command("flush")];
    world.up(&[("web", &web)]).await;
    world.service("web").kill().await;
    world.settle().await;
    assert_eq!((world.starts().len(), world.spawner.running()), (1, vec![]));
    world.end().await;
}
