//! From nothing to healthy, or not.

use std::time::Duration;

use pmesh_supervisor::{Exit, Signal, StartOrder, Status, StepName, rollout::Unity};

use crate::world::{MS, READY, SEC, Seen, World, reason, service_name};

#[tokio::test(start_paused = true)]
async fn all_instances_are_started_at_once_take_traffic_when_they_answer_and_make_the_service_ok() {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 3;
    world.prober.hold(true);
    let start = world.begin(Unity::Regardless, &[("web", &web)]);
    world.see(Seen::Spawned(2)).await;
    assert_eq!(world.starts(), [Duration::ZERO; 3]);
    assert_eq!(world.health("web").status, Status::Starting);

    world.prober.hold(false);
    let end = start.await.unwrap();
    assert_eq!(end.switched.len(), 1);
    assert_eq!(world.serving("web"), [0, 1, 2]);
    assert_eq!((world.health("web").healthy, world.health("web").total), (3, 3));
    assert_eq!(world.health("web").status, Status::Ok);
    let numbers: Vec<u32> = world.service("web").state().instances.iter().map(|view| view.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_service_takes_traffic_with_its_first_ready_instance() {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 2;
    web.start = StartOrder::OneByOne;
    world.up(&[("web", &web)]).await;
    assert_eq!(world.starts(), [Duration::ZERO, READY], "the second starts when the first is ready");
    assert_eq!(world.when(&Seen::Serving("web", vec![0])), Some(READY));
    assert_eq!(world.when(&Seen::Serving("web", vec![0, 1])), Some(2 * READY));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_never_becomes_ready_fails_at_ready_timeout_and_goes_on_trying() {
    let world = World::new();
    let mut web = world.app("web");
    web.ready_timeout = 7 * SEC;
    world.prober.fail(&service_name("web"));
    let end = world.start(&[("web", &web)]).await;
    assert_eq!(world.now(), 7 * SEC);
    let reason = reason(&end, "web");
    assert!(
        reason.starts_with("instance 1: it was not ready within 7s: check tcp: cannot connect"),
        "{reason}"
    );
    assert_eq!(world.when(&Seen::Failed("web", StepName::Ready, reason.to_owned())), Some(7 * SEC));
    assert_eq!(world.when(&Seen::Signalled(0, Signal::Terminate)), Some(7 * SEC));
    assert_eq!(world.health("web").status, Status::Down);

    world.prober.pass(&service_name("web"));
    world.pass(SEC).await;
    assert_eq!(world.serving("web"), [1], "the try after the failed one");
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_ends_three_times_before_it_is_ready_fails_at_once() {
    let world = World::new();
    let web = world.app("web");
    world.spawner.print_at_start("web", "no such table: users\n");
    world.spawner.exit_at_start("web", Exit::Code(3));
    let end = world.start(&[("web", &web)]).await;
    let reason = reason(&end, "web");
    assert_eq!(
        reason,
        "instance 1: it ended with exit code 3 after 0.0 s; its last lines: no such table: users"
    );
    assert!(
        (100 * MS..=115 * MS).contains(&world.now()),
        "two retries, the second after 100 ms: {:?}",
        world.now()
    );
    assert_eq!(world.starts().len(), 3);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn two_ends_before_it_is_ready_are_forgiven() {
    let world = World::new();
    let web = world.app("web");
    let start = world.begin(Unity::Regardless, &[("web", &web)]);
    for process in 0..2 {
        world.see(Seen::Spawned(process)).await;
        world.spawner.crash(process, Exit::Code(1));
    }
    assert!(start.await.unwrap().failed.is_empty());
    assert_eq!(world.serving("web"), [2]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_background_service_has_no_port_no_probes_and_is_ready_when_it_has_lived_a_second() {
    let world = World::new();
    let job = world.background("job");
    world.up(&[("job", &job)]).await;
    assert_eq!(world.now(), SEC);
    assert_eq!(world.prober.probes(), []);
    assert_eq!(world.port(0), None);
    assert_eq!(world.health("job").status, Status::Ok);
    assert_eq!(world.serving("job"), []);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_not_there_is_named_and_tried_again_with_growing_pauses() {
    let world = World::new();
    let web = world.app("web");
    world.spawner.fail_spawn("web", 2);
    let end = world.start(&[("web", &web)]).await;
    let reason = reason(&end, "web");
    let folder = web.folder.display();
    assert_eq!(
        reason,
        format!("instance 1: cannot start \"web\" in {folder}: No such file or directory (os error 2)")
    );
    world.pass(2 * SEC).await;
    let tries: Vec<_> =
        world.journal().into_iter().filter(|(_, seen)| *seen == Seen::NotSpawned("web".into())).collect();
    let pauses: Vec<u128> = tries.windows(2).map(|pair| pair[1].0.abs_diff(pair[0].0).as_millis()).collect();
    assert_eq!(pauses.len(), 5, "{pauses:?}");
    assert!(pauses[0] <= 1, "{pauses:?}");
    for (pause, plain) in pauses[1..].iter().zip([100, 200, 400, 800]) {
        assert!((plain..=plain + plain / 10 + 1).contains(pause), "{pauses:?}");
    }
    assert_eq!(world.health("web").status, Status::Down);

    world.spawner.start_normally("web");
    world.see(Seen::Serving("web", vec![0])).await;
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lack_of_descriptors_costs_a_start_nothing_but_its_pauses_and_is_no_failure_of_the_service() {
    let world = World::new();
    let web = world.app("web");
    world.spawner.fail_spawn("web", 24);
    let start = world.begin(Unity::Regardless, &[("web", &web)]);
    world.spawner.wait_for_failures(9).await;
    assert!(world.health("web").error.unwrap().contains("Too many open files"), "{:?}", world.health("web"));
    world.spawner.start_normally("web");
    assert!(start.await.unwrap().failed.is_empty());
    assert_eq!(world.serving("web"), [0]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_gets_no_process_in_its_time_fails_with_what_helps_and_comes_by_itself_when_there_is_one()
 {
    let world = World::new();
    let web = world.app("web");
    world.spawner.fail_spawn("web", 11);
    let begin = world.now();
    let end = world.start(&[("web", &web)]).await;
    let folder = web.folder.display();
    assert_eq!(
        reason(&end, "web"),
        format!(
            "instance 1: cannot start \"web\" in {folder}: Resource temporarily unavailable (os error 11); raise the \
             limit of processes and threads (TasksMax= of systemd, pids.max, ulimit -u)"
        )
    );
    assert_eq!(world.since(begin).as_secs(), web.ready_timeout.as_secs());
    assert_eq!(world.health("web").status, Status::Down);
    world.spawner.start_normally("web");
    world.see(Seen::Serving("web", vec![0])).await;
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_gets_no_process_leaves_the_old_instances_and_the_turn() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.spawner.fail_spawn("web", 11);
    let end = world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert!(reason(&end, "web").contains("ulimit -u") && end.switched.is_empty(), "{end:?}");
    assert_eq!((world.serving("web"), world.health("web").status), (vec![0], Status::Ok));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_gets_its_process_late_has_its_whole_time_to_become_ready() {
    let world = World::new();
    let web = world.app("web");
    world.spawner.fail_spawn("web", 11);
    let start = world.begin(Unity::Each, &[("web", &web)]);
    world.pass(web.ready_timeout.saturating_sub(SEC)).await;
    world.spawner.start_normally("web");
    world.see(Seen::Spawned(0)).await;
    let end = start.await.unwrap();
    assert!(end.failed.is_empty(), "{end:?}");
    world.end().await;
}
