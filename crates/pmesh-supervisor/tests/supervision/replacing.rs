//! A restart: new instances for old ones.

use pmesh_supervisor::{Exit, Overlap, Signal, Status, StepName as Step, rollout::Unity};

use crate::world::{MS, READY, SEC, Seen, World, reason, service_name};

fn is_of_traffic(seen: &Seen) -> bool {
    !matches!(seen, Seen::Done(..) | Seen::Failed(..))
}

#[tokio::test(start_paused = true)]
async fn every_new_instance_is_ready_before_any_old_one_is_told_to_leave_and_none_is_signalled_before_it_left()
 {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 2;
    world.up(&[("web", &web)]).await;
    let id = world.id("web");
    let end = world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert_eq!(end.switched, [service_name("web")]);
    assert_ne!(world.id("web"), id, "a restart is a new run");
    let order = world.order(is_of_traffic);
    let restart = order.iter().position(|seen| *seen == Seen::Spawned(2)).unwrap();
    assert_eq!(
        order[restart..],
        [
            Seen::Spawned(2),
            Seen::Spawned(3),
            Seen::Serving("web", vec![2, 3]),
            Seen::Withdrawn(0),
            Seen::Withdrawn(1),
            Seen::Signalled(0, Signal::Terminate),
            Seen::Signalled(1, Signal::Terminate),
        ]
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_old_instances_keep_the_traffic_alone_while_one_new_instance_is_not_ready() {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 2;
    world.up(&[("web", &web)]).await;
    world.prober.hold(true);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Spawned(3)).await;
    world.prober.fail_port(world.port(3).unwrap());
    world.prober.hold(false);
    world.pass(20 * SEC).await;
    assert_eq!(world.serving("web"), [0, 1]);
    assert_eq!(world.health("web").status, Status::Ok, "what serves is healthy");

    world.prober.pass_port(world.port(3).unwrap());
    assert!(restart.await.unwrap().failed.is_empty());
    assert_eq!(world.serving("web"), [2, 3]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_under_way_are_waited_for_and_a_new_one_never_meets_the_old_instance() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    let request = world.request(0);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Withdrawn(0)).await;
    assert_eq!(world.serving("web"), [1]);
    world.pass(29 * SEC).await;
    assert_eq!(world.spawner.signals(0), []);
    drop(request);
    world.settle().await;
    assert_eq!(world.spawner.signals(0), [Signal::Terminate]);
    restart.await.unwrap();
    let steps = world.order(|seen| matches!(seen, Seen::Done(..)));
    let restart = steps.iter().rposition(|seen| *seen == Seen::Done("web", Step::Start)).unwrap();
    let of_web = |step| Seen::Done("web", step);
    assert_eq!(
        steps[restart..],
        [Step::Start, Step::Ready, Step::Switch, Step::Drain, Step::Stop].map(of_web)
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_lasts_as_long_as_drain_timeout_and_not_longer() {
    let world = World::new();
    let mut web = world.app("web");
    web.drain_timeout = 4 * SEC;
    world.up(&[("web", &web)]).await;
    let request = world.request(0);
    world.roll_out(Unity::Each, &[("web", &web)]).await;
    let left = world.when(&Seen::Withdrawn(0)).unwrap();
    assert_eq!(world.when(&Seen::Signalled(0, Signal::Terminate)), Some(left + 4 * SEC));
    drop(request);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_while_it_drains_is_not_started_again() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    let request = world.request(0);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Withdrawn(0)).await;
    world.spawner.crash(0, Exit::Code(0));
    drop(request);
    restart.await.unwrap();
    assert_eq!(world.starts().len(), 2);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_whose_new_instances_fail_leaves_the_old_ones_serving_with_their_id() {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 2;
    world.up(&[("web", &web)]).await;
    let id = world.id("web");
    world.spawner.exit_at_start("web", Exit::Code(1));
    let end = world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert!(reason(&end, "web").contains("it ended with exit code 1"), "{end:?}");
    assert_eq!((end.switched, end.gave_up), (vec![], false));
    assert_eq!(world.spawner.running(), [0, 1]);
    assert_eq!(world.order(|seen| matches!(seen, Seen::Withdrawn(_) | Seen::Signalled(..))), []);
    assert_eq!((world.serving("web"), world.id("web")), (vec![0, 1], id));
    assert_eq!(world.health("web").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_overlap_the_old_instances_are_gone_before_the_new_ones_start() {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 2;
    web.overlap = Overlap::No;
    world.up(&[("web", &web)]).await;
    world.spawner.ignore_terminate(true);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    let killed = world.see(Seen::Signalled(1, Signal::Kill)).await;
    world.spawner.ignore_terminate(false);
    assert!(restart.await.unwrap().failed.is_empty());
    assert_eq!(world.when(&Seen::Spawned(2)), Some(killed));
    assert_eq!(world.spawner.running(), [2, 3]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_overlap_a_restart_that_fails_starts_the_old_run_again_under_its_old_id() {
    let world = World::new();
    let mut job = world.background("job");
    world.up(&[("job", &job)]).await;
    let id = world.id("job");
    job.run.as_mut().unwrap().program = "broken".to_owned();
    world.spawner.exit_at_start("broken", Exit::Code(1));
    let end = world.roll_out(Unity::Each, &[("job", &job)]).await;
    assert!(reason(&end, "job").contains("exit code 1"), "{end:?}");
    assert_eq!(world.programs(), ["job", "broken", "broken", "broken", "job"]);
    assert_eq!(world.health("job").status, Status::Ok);
    assert_eq!(world.id("job"), id);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn when_nothing_of_the_old_run_is_healthy_it_makes_room_first() {
    let world = World::new();
    let mut web = world.app("web");
    world.spawner.exit_at_start("web", Exit::Code(1));
    world.start(&[("web", &web)]).await;
    web.run.as_mut().unwrap().program = "mended".to_owned();
    let end = world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert!(end.failed.is_empty(), "{end:?}");
    assert_eq!(world.spawner.launches()[*world.serving("web").first().unwrap()].program, "mended");
    world.pass(60 * SEC).await;
    assert_eq!(world.spawner.running().len(), 1, "nobody tries the old run any more");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_without_anything_under_way_takes_no_longer_than_the_new_start() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    let began = world.now();
    world.roll_out(Unity::Each, &[("web", &web)]).await;
    assert!(world.since(began) <= READY + MS, "{:?}", world.since(began));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_end_of_the_old_run_does_not_count_as_the_new_ones_time_to_become_ready() {
    let world = World::new();
    let mut job = world.background("job");
    (job.ready_timeout, job.stop_timeout) = (5 * SEC, 10 * SEC);
    world.up(&[("job", &job)]).await;
    world.spawner.ignore_terminate(true);
    let restart = world.begin(Unity::Each, &[("job", &job)]);
    world.see(Seen::Spawned(1)).await;
    world.spawner.crash(1, Exit::Code(1));
    assert!(restart.await.unwrap().failed.is_empty(), "one end before it is ready is forgiven");
    assert_eq!(world.spawner.running(), [2]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_but_fails_its_probes_serves_until_the_new_run_is_ready_and_counts_as_up() {
    for unity in [Unity::Each, Unity::Together] {
        let world = World::new();
        let (mut web, api) = (world.app("web"), world.app("api"));
        // Nothing is to take its place by itself.
        web.unhealthy_timeout = 60 * 60 * SEC;
        world.up(&[("web", &web), ("api", &api)]).await;
        world.prober.fail_port(world.port(0).unwrap());
        world.pass(60 * SEC).await;
        assert_eq!((world.health("web").status, world.serving("web")), (Status::Down, vec![0]));
        let began = world.now();
        world.roll_out(unity, &[("web", &web), ("api", &api)]).await;
        let of_web = |entry: &(_, Seen)| matches!(&entry.1, Seen::Serving("web", _)) && entry.0 >= began;
        let serving: Vec<Seen> = world.journal().into_iter().filter(of_web).map(|(_, seen)| seen).collect();
        assert!(matches!(&serving[..], [Seen::Serving("web", new)] if new.len() == 1), "{serving:?}");

        // And what is up does not go down for a revision that fails.
        world.prober.fail_port(world.port(world.serving("web")[0]).unwrap());
        world.pass(60 * SEC).await;
        let before = world.serving("web");
        web.run.as_mut().unwrap().program = "broken".to_owned();
        world.spawner.exit_at_start("broken", Exit::Code(1));
        let end = world.roll_out(Unity::Together, &[("web", &web), ("api", &api)]).await;
        assert!(end.gave_up, "{end:?}");
        assert_eq!(world.serving("web"), before);
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_run_that_does_not_come_back_goes_on_trying_and_is_down_meanwhile() {
    let world = World::new();
    let mut job = world.background("job");
    world.up(&[("job", &job)]).await;
    job.run.as_mut().unwrap().program = "broken".to_owned();
    for program in ["broken", "job"] {
        world.spawner.exit_at_start(program, Exit::Code(1));
    }
    world.roll_out(Unity::Each, &[("job", &job)]).await;
    assert_eq!(world.health("job").status, Status::Down);
    world.spawner.start_normally("job");
    world.pass(10 * SEC).await;
    assert_eq!(world.health("job").status, Status::Ok);
    world.end().await;
}
