//! Jobs: services that are started at set times, and end by themselves.

use std::sync::atomic::Ordering;

use pmesh_supervisor::{AppSpec, Exit, RestartPolicy, RunBegun, Schedule, Status, rollout::Unity};

use crate::world::{SEC, World};

const MINUTE: std::time::Duration = std::time::Duration::from_mins(1);

/// A job that runs 10 minutes after each full hour.
fn hourly(world: &World) -> AppSpec {
    world
        .background("job")
        .with(|job| job.schedule = Some(Schedule::cron("10 * * * *", Some("UTC")).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_at_its_times_and_waits_between_them() {
    let world = World::new();
    let job = hourly(&world);
    world.up(&[("job", &job)]).await;
    let health = world.health("job");
    assert_eq!((health.status, health.total, health.next_try), (Status::Ok, 0, Some(10 * MINUTE)));
    assert_eq!(health.reason.as_deref(), Some("it waits for its time"));
    world.pass(9 * MINUTE).await;
    assert_eq!(world.starts().len(), 0);
    for run in 0..3 {
        world.pass(90 * SEC).await;
        assert_eq!((world.starts().len(), world.health("job").status), (run + 1, Status::Ok));
        assert_eq!((world.health("job").healthy, world.health("job").total), (1, 1), "it runs");
        world.spawner.crash(run, Exit::Code(0));
        world.pass(58 * MINUTE + 30 * SEC).await;
        assert_eq!((world.health("job").total, world.health("job").next_try), (0, Some(MINUTE)));
    }
    let runs = world.service("job").state().job_runs;
    assert_eq!(runs.iter().map(|run| run.exit).collect::<Vec<_>>(), [Some(Exit::Code(0)); 3]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_is_not_doubled_and_one_that_fails_is_told_until_the_next() {
    let world = World::new();
    let job = hourly(&world).with(|job| job.run_timeout = 1000 * MINUTE);
    world.up(&[("job", &job)]).await;
    world.pass(100 * MINUTE).await;
    assert_eq!(world.starts().len(), 1);
    world.spawner.crash(0, Exit::Code(3));
    world.pass(SEC).await;
    let health = world.health("job");
    assert_eq!((health.status, health.healthy, health.total), (Status::Degraded, 0, 0));
    assert!(health.error.unwrap().contains("it ended with exit code 3 after "));
    assert!(health.next_try.is_some_and(|next| next < 30 * MINUTE));
    world.pass(30 * MINUTE + 5 * SEC).await;
    assert_eq!((world.starts().len(), world.health("job").status), (2, Status::Ok));
    world.spawner.crash(1, Exit::Code(0));
    world.pass(SEC).await;
    assert_eq!(world.health("job").status, Status::Ok);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_longer_than_it_may_is_ended() {
    let world = World::new();
    let job = hourly(&world).with(|job| job.run_timeout = 5 * MINUTE);
    world.up(&[("job", &job)]).await;
    world.pass(14 * MINUTE).await;
    assert_eq!(world.spawner.running(), [0]);
    world.pass(2 * MINUTE).await;
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    let health = world.health("job");
    assert_eq!(health.status, Status::Degraded);
    assert!(health.error.as_ref().unwrap().contains("it took longer than `timeout`, 300s"), "{health:?}");
    world.pass(60 * MINUTE).await;
    assert_eq!(world.starts().len(), 2);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_lets_a_run_go_on_and_does_not_begin_the_period_anew() {
    let world = World::new();
    let job = world.background("job").with(|job| job.schedule = Some(Schedule::every(10 * MINUTE)));
    world.up(&[("job", &job)]).await;
    for unity in [Unity::Together, Unity::Each] {
        world.pass(6 * MINUTE).await;
        let began = world.now();
        assert!(world.roll_out(unity, &[("job", &job)]).await.failed.is_empty());
        assert!(world.since(began) < SEC, "nobody waits for it");
    }
    assert_eq!((world.starts().len(), world.spawner.running()), (1, vec![0]));
    world.pass(10 * MINUTE).await;
    assert_eq!(world.spawner.running(), [0], "it is not doubled by the new one either");
    world.spawner.crash(0, Exit::Code(0));
    world.pass(10 * MINUTE).await;
    assert_eq!(world.starts().len(), 2);
    let ends: Vec<_> = world.service("job").state().job_runs.iter().map(|run| run.exit).collect();
    assert_eq!(ends, [Some(Exit::Code(0)), None]);
    let other = world.background("job");
    assert!(world.roll_out(Unity::Together, &[("job", &other)]).await.failed.is_empty());
    assert_eq!(world.spawner.running(), [2], "another kind of service takes its place");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_run_also_one_that_an_older_plan_began_and_nothing_runs_after_it() {
    let world = World::new();
    let job = world.background("job").with(|job| job.schedule = Some(Schedule::every(10 * MINUTE)));
    world.up(&[("job", &job)]).await;
    world.pass(11 * MINUTE).await;
    world.roll_out(Unity::Together, &[("job", &job)]).await;
    assert_eq!(world.spawner.running(), [0]);
    assert!(world.service("job").stop().await.was_up);
    assert_eq!(world.spawner.running(), [] as [usize; 0]);
    world.pass(60 * MINUTE).await;
    assert_eq!((world.starts().len(), world.health("job").status), (1, Status::Stopped));
    assert_eq!(world.service("job").run_now().await, RunBegun::Nothing);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_had_now_of_a_job_and_of_one_that_is_done_and_of_nothing_else() {
    let world = World::new();
    let (job, mut once) = (hourly(&world), world.background("once"));
    once.restart = RestartPolicy::OnFailure;
    world.up(&[("job", &job), ("once", &once), ("web", &world.app("web"))]).await;
    let run_now = async |name: &str| world.service(name).run_now().await;
    assert_eq!(run_now("web").await, RunBegun::NoJob);
    assert_eq!(run_now("once").await, RunBegun::RunsAlready);
    let once = world.programs().iter().position(|program| program == "once").unwrap();
    world.spawner.crash(once, Exit::Code(0));
    world.pass(SEC).await;
    assert_eq!(run_now("once").await, RunBegun::Begun);
    assert_eq!(run_now("job").await, RunBegun::Begun);
    assert_eq!(run_now("job").await, RunBegun::RunsAlready);
    world.pass(2 * SEC).await;
    assert_eq!((world.health("once").healthy, world.health("job").healthy), (1, 1));
    assert_eq!(world.starts().len(), 4);
    world.supervisor.begin_end().await;
    assert_eq!(run_now("once").await, RunBegun::Nothing);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_time_that_the_clock_was_put_past_is_not_made_up() {
    let world = World::new();
    world.up(&[("job", &hourly(&world))]).await;
    world.clock_ahead.store(30 * 60, Ordering::Relaxed);
    world.pass(39 * MINUTE).await;
    assert_eq!(world.starts().len(), 0, "12:10 is over, and it is 13:09");
    world.pass(2 * MINUTE).await;
    assert_eq!(world.starts().len(), 1);
    world.end().await;
}
