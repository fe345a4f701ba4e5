//! Probes that fail after an instance was ready.

use pmesh_supervisor::{
    AppSpec, ExternalAddress, ExternalSpec, Monitor, Status, StepName, StepState, rollout::Unity,
};

use tokio::time::timeout;

use crate::world::{MS, READY, SEC, Seen, World, reason, service_name};

/// An app that is probed each second, falls after three failures and rises after two passes.
fn watched(world: &World, instances: u32) -> AppSpec {
    let monitor = Monitor::default().with(|monitor| {
        monitor.healthy_interval = SEC;
        monitor.unhealthy_interval = SEC;
        monitor.unhealthy_threshold = 3;
        monitor.healthy_threshold = 2;
    });
    world.app("web").with(|app| {
        app.monitor = monitor;
        app.instances = instances;
    })
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_probes_fail_takes_no_requests_until_it_has_recovered_and_is_not_restarted() {
    let world = World::new();
    world.up(&[("web", &watched(&world, 2))]).await;
    world.prober.fail_port(world.port(1).unwrap());
    let fell = world.see_serving("web", &[0]).await;
    assert_eq!(fell, READY + 3 * SEC, "two failures are not enough");
    let health = world.health("web");
    assert_eq!((health.status, health.healthy, health.total), (Status::Degraded, 1, 2));
    assert!(health.error.unwrap().starts_with("instance 2: check tcp: cannot connect to 127.0.0.1:"));

    world.prober.pass_port(world.port(1).unwrap());
    world.pass(SEC + MS).await;
    assert_eq!(world.serving("web"), [0], "one pass is not enough");
    world.pass(SEC).await;
    assert_eq!(world.serving("web"), [0, 1]);
    assert_eq!(world.health("web").status, Status::Ok);
    assert_eq!(world.starts().len(), 2);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn when_every_probe_fails_all_instances_keep_the_requests_and_the_service_is_down() {
    let world = World::new();
    world.up(&[("web", &watched(&world, 2))]).await;
    world.prober.fail(&service_name("web"));
    world.pass(5 * SEC).await;
    assert_eq!(world.serving("web"), [0, 1]);
    let health = world.health("web");
    assert_eq!((health.status, health.healthy), (Status::Down, 0));
    assert!(health.error.unwrap().contains("the test says so"));
    world.prober.pass(&service_name("web"));
    world.pass(3 * SEC).await;
    assert_eq!(world.health("web").status, Status::Ok);
    assert_eq!(world.order(|seen| matches!(seen, Seen::Withdrawn(_) | Seen::Signalled(..))), []);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_the_server_has_no_descriptor_for_is_no_failed_one_and_comes_again() {
    let world = World::new();
    world.up(&[("web", &watched(&world, 2))]).await;
    world.external("db", &others(&world, &[1])).await;
    world.pass(SEC).await;
    world.prober.cannot_probe(true);
    let probes = world.prober.probes().len();
    world.pass(20 * SEC).await;
    assert!(world.prober.probes().len() > probes + 3 * 30, "they are tried again");
    for service in ["web", "db"] {
        assert_eq!((world.health(service).status, world.health(service).error), (Status::Ok, None));
    }
    assert_eq!((world.serving("web"), world.externals("db")), (vec![0, 1], vec![1]));
    world.prober.cannot_probe(false);
    world.prober.fail(&service_name("web"));
    world.pass(5 * SEC).await;
    assert_eq!(world.health("web").status, Status::Down, "a failed one is");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_becomes_ready_once_it_can_be_probed() {
    let world = World::new();
    world.prober.cannot_probe(true);
    let start = world.begin(Unity::Regardless, &[("web", &world.app("web"))]);
    world.pass(5 * SEC).await;
    assert_eq!(world.health("web").status, Status::Starting);
    world.prober.cannot_probe(false);
    assert!(start.await.unwrap().failed.is_empty());
    assert_eq!(world.starts().len(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn failures_that_are_not_in_a_row_change_nothing() {
    let world = World::new();
    world.up(&[("web", &watched(&world, 2))]).await;
    let told = |world: &World| world.order(|seen| matches!(seen, Seen::Serving(..))).len();
    let before = told(&world);
    for _ in 0..4 {
        world.prober.fail(&service_name("web"));
        world.pass(2 * SEC).await;
        world.prober.pass(&service_name("web"));
        world.pass(SEC).await;
    }
    assert_eq!(told(&world), before);
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn probes_that_change_nothing_wake_nobody_who_waits_for_a_change() {
    let world = World::new();
    world.up(&[("web", &watched(&world, 2))]).await;
    let mut service = world.service("web");
    world.settle().await;
    // What was published before it looked counts as news once.
    assert!(timeout(60 * SEC, service.changed()).await.is_ok());
    let probes = world.prober.probes().len();
    assert!(timeout(60 * SEC, service.changed()).await.is_err(), "{:?}", service.state());
    assert!(world.prober.probes().len() > probes + 50);

    world.prober.fail_port(world.port(1).unwrap());
    assert!(timeout(4 * SEC, service.changed()).await.is_ok(), "its health is news");
    drop(service);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_never_probed_twice_at_a_time() {
    let world = World::new();
    world.up(&[("web", &watched(&world, 1))]).await;
    world.prober.hold(true);
    world.pass(60 * SEC).await;
    assert_eq!(world.prober.probes().len(), 2, "the one that made it ready, and one that hangs");
    world.prober.hold(false);
    world.pass(10 * SEC).await;
    assert!(world.prober.probes().len() >= 11);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_leaves_is_probed_no_more() {
    let world = World::new();
    world.up(&[("web", &watched(&world, 1))]).await;
    let request = world.request(0);
    let service = world.service("web");
    let stop = tokio::spawn(async move { service.stop().await });
    world.settle().await;
    let probes = world.prober.probes().len();
    world.pass(20 * SEC).await;
    assert_eq!(world.prober.probes().len(), probes);
    drop(request);
    stop.await.unwrap();
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ready_but_unhealthy_serves_until_its_restart_is_ready_and_drains_then() {
    let world = World::new();
    let web = watched(&world, 1);
    world.up(&[("web", &web)]).await;
    world.prober.fail(&service_name("web"));
    world.pass(5 * SEC).await;
    let request = world.request(0);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.pass(5 * SEC).await;
    assert_eq!((world.spawner.running(), world.serving("web")), (vec![0, 1], vec![0]));
    world.prober.pass(&service_name("web"));
    world.see(Seen::Withdrawn(0)).await;
    world.pass(SEC).await;
    assert_eq!((world.serving("web"), world.spawner.signals(0)), (vec![1], vec![]));
    drop(request);
    assert!(restart.await.unwrap().failed.is_empty());
    assert_eq!(world.spawner.running(), [1]);
    world.end().await;
}

/// Addresses of somebody else's, on these ports.
fn others(world: &World, ports: &[u16]) -> ExternalSpec {
    let address = |&port| ExternalAddress::new("db", port);
    ExternalSpec::new(ports.iter().map(address).collect())
        .with(|external| external.monitor = watched(world, 1).monitor)
}

#[tokio::test(start_paused = true)]
async fn external_addresses_are_probed_and_never_all_taken_out() {
    let world = World::new();
    world.external("db", &others(&world, &[1, 2])).await;
    let healthy = |world: &World| {
        let views = world.service("db").state().addresses;
        views.into_iter().filter(|view| view.healthy).map(|view| view.address.port).collect::<Vec<_>>()
    };
    world.pass(SEC).await;
    assert_eq!(healthy(&world), [1, 2]);
    world.prober.fail_port(2);
    world.pass(4 * SEC).await;
    assert_eq!((healthy(&world), world.externals("db")), (vec![1], vec![1]));
    world.prober.fail_port(1);
    world.pass(4 * SEC).await;
    assert_eq!((healthy(&world), world.externals("db")), (vec![], vec![1, 2]));
    assert_eq!(world.health("db").status, Status::Down);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_external_address_that_never_answered_takes_no_requests_and_they_wait_for_it() {
    let world = World::new();
    world.prober.fail_port(2);
    world.external("db", &others(&world, &[1, 2])).await;
    assert_eq!(world.externals("db"), [1]);
    world.prober.fail_port(1);
    world.pass(5 * SEC).await;
    assert_eq!(world.externals("db"), [1], "the one that has answered is better than none");
    assert_eq!((world.service("db").state().ready, world.health("db").status), (1, Status::Down));

    world.external("cache", &others(&world, &[2])).await;
    world.pass(5 * SEC).await;
    assert_eq!((world.externals("cache"), world.service("cache").state().ready), (vec![], 0));
    assert_eq!(world.order(|seen| *seen == Seen::Gone("cache")), [], "it is wanted");
    assert_eq!(world.health("cache").status, Status::Down);
    world.prober.pass_port(2);
    world.pass(SEC).await;
    assert_eq!((world.externals("cache"), world.health("cache").status), (vec![2], Status::Ok));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn new_external_addresses_take_over_when_they_were_probed_and_the_old_ones_serve_until_then() {
    let world = World::new();
    world.external("db", &others(&world, &[1])).await;
    assert_eq!(world.externals("db"), [1]);
    world.prober.hold(true);
    let (old, new) = (world.id("db"), others(&world, &[2, 3]));
    let update = world.external("db", &new);
    let hold = async {
        world.pass(SEC).await;
        assert_eq!((world.externals("db"), world.id("db")), (vec![1], old));
        world.prober.fail_port(2);
        world.prober.hold(false);
    };
    tokio::join!(update, hold);
    assert_eq!(world.externals("db"), [3]);
    assert_ne!(world.id("db"), old);

    world.prober.fail(&service_name("db"));
    world.external("db", &new).await;
    assert_eq!(world.externals("db"), [], "what others keep running is not waited for");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_external_address_that_never_answered_is_probed_at_its_interval_in_the_end() {
    let world = World::new();
    world.prober.fail(&service_name("db"));
    let mut db = others(&world, &[1]);
    db.monitor.unhealthy_interval = 20 * SEC;
    world.external("db", &db).await;
    world.pass(25 * SEC).await;
    let probes = world.prober.probes().len();
    world.pass(200 * SEC).await;
    assert_eq!(world.prober.probes().len(), probes + 10);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_accepts_connections_is_ready_when_it_has_answered_one_request() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    assert_eq!(world.prober.asked().len(), 1);
    world.prober.silence(true);
    let restart = world.roll_out(Unity::Each, &[("web", &web)]).await;
    let reason = reason(&restart, "web");
    assert!(reason.contains("accepts connections, and does not answer `GET /`"), "{reason}");
    assert_eq!(world.serving("web"), [0], "the old one serves");
    assert_eq!(world.prober.asked().len(), 2, "one request, kept open until the end");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_page_is_no_failure_and_later_probes_are_connections_alone() {
    let world = World::new();
    let web = world.app("web");
    world.prober.silence(true);
    let start = world.begin(Unity::Regardless, &[("web", &web)]);
    world.pass(25 * SEC).await;
    assert_eq!(world.serving("web"), []);
    world.prober.silence(false);
    assert!(start.await.unwrap().failed.is_empty());
    world.pass(60 * SEC).await;
    assert_eq!((world.prober.asked().len(), world.health("web").status), (1, Status::Ok));
    assert!(world.prober.probes().len() > 5);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn with_checks_that_are_written_connecting_is_enough() {
    let world = World::new();
    let web = world.app("web").with(|app| app.monitor = Monitor::default());
    world.prober.silence(true);
    world.up(&[("web", &web)]).await;
    assert_eq!(world.prober.asked(), []);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_first_answer_that_is_an_error_is_told_with_the_step() {
    let world = World::new();
    world.prober.answer_with(500);
    let (web, told) = (world.app("web"), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
    let tell = std::sync::Arc::clone(&told);
    let start = world.begin_and(Unity::Regardless, &[("web", &web)], move |_, step, state| {
        if let (StepName::Ready, StepState::Done(detail)) = (step, state) {
            tell.lock().unwrap().push(detail.clone());
        }
    });
    start.await.unwrap();
    let expected = "instance 1: its first answer, to `GET /`, has status 500";
    assert_eq!(*told.lock().unwrap(), [Some(expected.to_owned())]);
    world.end().await;
}
