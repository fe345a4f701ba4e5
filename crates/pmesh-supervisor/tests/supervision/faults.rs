//! What survives a fault in whoever looks after a service.

use pmesh_supervisor::{Exit, Prepared, Signal, Status, StopEnd, rollout::Unity, testing::Fault};

use crate::world::{MS, SEC, Seen, World, command, reason};

/// The steps of this event panic, so many times.
fn step(event: &'static str, times: u32) -> Fault {
    Fault::Step { event, times }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_panics_loses_no_process_no_event_and_no_stop() {
    for event in ["exited", "tree ended", "spawned", "probed", "tick", "drained", "output ended", "stop"] {
        let world = World::new();
        world.up(&[("web", &world.app("web"))]).await;
        world.service("web").fail(step(event, 1)).await;
        world.pass(10 * SEC).await;
        assert_eq!(world.health("web").status, Status::Ok, "{event}");
        world.spawner.crash(0, Exit::Code(1));
        world.see(Seen::Serving("web", vec![1])).await;
        world.pass(10 * SEC).await;
        assert_eq!((world.spawner.running(), world.health("web").status), (vec![1], Status::Ok), "{event}");
        assert!(world.service("web").stop().await.was_up, "{event}");
        assert_eq!(world.spawner.running(), [] as [usize; 0], "{event}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_panic_on_the_same_event_makes_the_service_down_with_the_reason_and_ends_what_runs() {
    for event in ["exited", "tree ended", "probed", "tick"] {
        let world = World::new();
        let mut web = world.app("web");
        web.instances = 2;
        world.up(&[("web", &web)]).await;
        let request = world.request(1);
        world.service("web").fail(step(event, 2)).await;
        world.spawner.crash(0, Exit::Code(1));
        world.see_serving("web", &[]).await;
        world.pass(SEC).await;
        let health = world.health("web");
        assert_eq!((health.status, health.healthy, health.total), (Status::Down, 0, 2), "{event}");
        let error = health.error.unwrap();
        let begin = format!("pmesh failed twice in looking after it (at the event `{event}`: the test lets");
        assert!(error.starts_with(&begin), "{error}");
        let starts = world.starts().len();
        assert_eq!(world.spawner.signals(1), [], "{event}: what is under way is waited for");
        drop(request);
        world.see(Seen::Signalled(1, Signal::Terminate)).await;
        world.pass(600 * SEC).await;
        assert_eq!(
            (world.starts().len(), world.health("web").status),
            (starts, Status::Down),
            "{event}: no loop"
        );
        assert_eq!(world.spawner.running(), [] as [usize; 0], "{event}");

        assert!(world.roll_out(Unity::Each, &[("web", &web)]).await.failed.is_empty());
        let new = vec![starts, starts + 1];
        assert_eq!((world.serving("web"), world.health("web").status), (new, Status::Ok), "{event}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_broke_down_comes_back_after_a_restart_that_fails_and_can_be_stopped_and_killed() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.spawner.ignore_terminate(true);
    world.service("web").fail(step("probed", 2)).await;
    world.see(Seen::Signalled(0, Signal::Terminate)).await;
    let mut broken = world.app("web");
    broken.run = Some(command("broken"));
    world.spawner.exit_at_start("broken", Exit::Code(1));
    let restart = world.begin(Unity::Each, &[("web", &broken)]);
    world.pass(SEC).await;
    assert_eq!(world.spawner.running(), [0], "nothing starts beside what is left");
    assert!(reason(&restart.await.unwrap(), "web").contains("exit code 1"));
    assert_eq!(world.programs().last().unwrap(), "web");
    assert_eq!(world.health("web").status, Status::Ok);

    world.service("web").fail(step("probed", 2)).await;
    world.pass(6 * SEC).await;
    assert_eq!(world.health("web").status, Status::Down);
    let service = world.service("web");
    let stop = tokio::spawn(async move { service.stop().await });
    world.settle().await;
    assert!(!stop.is_finished(), "it ends when nothing lives");
    world.service("web").kill().await;
    assert!(stop.await.unwrap().was_up);
    assert_eq!((world.spawner.running(), world.health("web").status), (vec![], Status::Stopped));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_whose_step_panics_every_time_ends_everything_all_the_same() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    world.service("web").fail(step("stop", 2)).await;
    assert!(world.service("web").stop().await.was_up);
    assert_eq!((world.spawner.running(), world.health("web").status), (vec![], Status::Stopped));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_step_panics_fails_and_says_so_and_the_next_one_succeeds() {
    for event in ["prepare", "switch"] {
        let world = World::new();
        let web = world.app("web");
        world.up(&[("web", &web)]).await;
        world.service("web").fail(step(event, 1)).await;
        let end = world.roll_out(Unity::Each, &[("web", &web)]).await;
        assert_eq!(end.switched, [], "{event}");
        let said = world
            .order(|seen| matches!(seen, Seen::Failed(.., reason) if reason.contains("pmesh has failed")));
        assert_eq!(said.len(), 1, "{event}: {:#?}", world.journal());
        assert_eq!((world.serving("web"), world.health("web").status), (vec![0], Status::Ok), "{event}");
        assert_eq!(world.spawner.running(), [0], "{event}: what was prepared has ended");
        assert!(reason(&end, "web").contains("pmesh has failed in looking after it"), "{event}: {end:?}");
        assert!(world.roll_out(Unity::Each, &[("web", &web)]).await.failed.is_empty());
        assert_eq!(world.spawner.running().len(), 1, "{event}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_spawner_that_panics_is_a_start_that_fails() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.spawner.panic_at_start("web");
    let end = world.start(&[("web", &web), ("api", &api)]).await;
    assert!(reason(&end, "web").contains("starting it panicked"), "{end:?}");
    assert_eq!((world.health("web").status, world.health("api").status), (Status::Down, Status::Ok));
    world.spawner.start_normally("web");
    world.pass(10 * SEC).await;
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_task_ends_is_run_again_within_a_second_and_its_service_is_not_ok_meanwhile() {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 2;
    world.up(&[("web", &web)]).await;
    world.service("web").fail(Fault::Task).await;
    world.settle().await;
    let health = world.health("web");
    assert_eq!((health.status, health.healthy), (Status::Down, 0));
    assert!(health.error.unwrap().contains("tries again within a second"));
    assert_eq!(world.serving("web"), [0, 1], "its instances serve on");
    // One of them ends while nobody looks.
    world.spawner.crash(0, Exit::Code(7));
    world.pass(SEC).await;
    assert_eq!((world.health("web").status, world.serving("web")), (Status::Ok, vec![1, 2]));
    assert!(world.service("web").stop().await.was_up);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_meets_a_dead_driver_fails_and_says_so_and_a_stop_is_done_by_the_next_one() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.prober.hold(true);
    let under_way = world.service("web").prepare(world.plan("web", &web)).await;
    world.settle().await;
    world.service("web").fail(Fault::Task).await;
    let Prepared::Failed(words) = under_way.ended().await else { panic!("nobody knows whether it starts") };
    assert!(words.contains("pmesh has failed in looking after it"), "{words}");

    let began = world.now();
    let end = world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert!(reason(&end, "web").contains("pmesh has failed in looking after it"), "{end:?}");
    assert!(world.since(began) < SEC);

    world.service("web").fail(Fault::Task).await;
    world.settle().await;
    let stop = world.service("web").stop().await;
    assert!(stop.was_up);
    assert_eq!(stop.end.notes, ["pmesh had failed in looking after it, and began anew to stop it"]);
    assert_eq!((world.spawner.running(), world.health("web").status), (vec![], Status::Stopped));
    assert_eq!(world.service("web").stop().await, StopEnd::default(), "it is told once");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_dies_again_and_again_rests_each_time_and_the_end_comes_all_the_same() {
    let world = World::new();
    world.up(&[("web", &world.app("web"))]).await;
    for _ in 0..20 {
        world.service("web").fail(Fault::Task).await;
        world.pass(499 * MS).await;
        assert_eq!(world.health("web").status, Status::Down);
        world.pass(2 * MS).await;
        assert_eq!(world.health("web").status, Status::Ok);
    }
    assert_eq!((world.spawner.running(), world.health("web").status), (vec![0], Status::Ok));
    world.service("web").fail(Fault::Task).await;
    world.end().await;
}
