//! Services that may end by themselves.

use pmesh_supervisor::{Exit, RestartPolicy, Signal, Status, rollout::Unity};

use crate::world::{SEC, World, reason, service_name};

#[tokio::test(start_paused = true)]
async fn who_ends_as_it_should_is_done_and_stays_so() {
    for policy in [RestartPolicy::OnFailure, RestartPolicy::Never] {
        for lived in [0, 100] {
            let world = World::new();
            let mut job = world.background("job");
            (job.restart, job.instances) = (policy, 2);
            world.begin(Unity::Regardless, &[("job", &job)]);
            world.settle().await;
            world.pass(lived * SEC).await;
            world.spawner.crash(0, Exit::Code(0));
            world.pass(2 * SEC).await;
            let health = world.health("job");
            assert_eq!((health.status, health.healthy, health.total), (Status::Ok, 1, 1), "{policy:?}");
            world.spawner.crash(1, Exit::Code(0));
            world.pass(600 * SEC).await;
            let health = world.health("job");
            assert_eq!((health.status, health.healthy, health.total), (Status::Ok, 0, 0), "{policy:?}");
            assert_eq!((health.reason.as_deref(), health.error), (Some("done"), None));
            assert_eq!(world.starts().len(), 2);
            world.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_is_well_where_its_job_is_done_before_it_would_be_ready_and_who_starts_after_it_starts() {
    let world = World::new();
    let (mut job, mut web) = (world.background("job"), world.app("web"));
    job.restart = RestartPolicy::Never;
    web.after = vec![service_name("job")];
    world.spawner.exit_at_start("job", Exit::Code(0));
    for unity in [Unity::Regardless, Unity::Together, Unity::Each] {
        let end = world.roll_out(unity, &[("web", &web), ("job", &job)]).await;
        assert_eq!((end.failed.len(), end.switched.len(), end.gave_up), (0, 2, false), "{unity:?} {end:?}");
    }
    let jobs = world.programs().iter().filter(|program| *program == "job").count();
    assert_eq!(jobs, 3, "one run for each rollout");
    assert_eq!(world.health("job").reason.as_deref(), Some("done"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_never_starts_again_and_ends_otherwise_is_down_without_a_next_try() {
    for exit in [Exit::Code(3), Exit::Signal(9)] {
        let world = World::new();
        let mut job = world.background("job");
        job.restart = RestartPolicy::Never;
        world.up(&[("job", &job)]).await;
        world.spawner.crash(0, exit);
        world.pass(600 * SEC).await;
        let health = world.health("job");
        assert_eq!((health.status, health.total, health.next_try), (Status::Down, 1, None), "{exit:?}");
        assert!(health.error.unwrap().contains(&format!("it ended with {exit} after ")));
        assert_eq!(world.starts().len(), 1);
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_at_once_where_its_job_fails_for_good() {
    let world = World::new();
    let mut job = world.background("job");
    job.restart = RestartPolicy::Never;
    world.spawner.exit_at_start("job", Exit::Code(3));
    let began = world.now();
    let end = world.roll_out(Unity::Together, &[("job", &job)]).await;
    assert!(end.gave_up && reason(&end, "job").contains("exit code 3"), "{end:?}");
    assert_eq!((world.starts().len(), world.now()), (1, began));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_starts_again_on_failure_does_so_until_it_ends_well() {
    let world = World::new();
    let mut job = world.background("job");
    job.restart = RestartPolicy::OnFailure;
    world.up(&[("job", &job)]).await;
    world.spawner.crash(0, Exit::Code(1));
    world.pass(2 * SEC).await;
    assert_eq!((world.starts().len(), world.health("job").status), (2, Status::Ok));
    world.spawner.crash(1, Exit::Code(0));
    world.pass(600 * SEC).await;
    assert_eq!((world.starts().len(), world.health("job").total), (2, 0));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_done_can_be_stopped_and_restarted_and_one_that_is_stopped_is_not_done() {
    let world = World::new();
    let mut job = world.background("job");
    job.restart = RestartPolicy::Never;
    world.up(&[("job", &job)]).await;
    world.spawner.crash(0, Exit::Code(0));
    world.pass(SEC).await;
    assert_eq!(world.health("job").reason.as_deref(), Some("done"));
    assert!(world.roll_out(Unity::Each, &[("job", &job)]).await.failed.is_empty());
    assert_eq!((world.starts().len(), world.health("job").total), (2, 1), "it runs once more");
    world.service("job").stop().await;
    assert_eq!((world.health("job").status, world.health("job").reason), (Status::Stopped, None));
    world.up(&[("job", &job)]).await;
    world.spawner.crash(2, Exit::Code(0));
    world.pass(SEC).await;
    world.service("job").stop().await;
    assert_eq!((world.health("job").status, world.health("job").reason), (Status::Stopped, None));
    assert!(
        !world.journal().iter().any(|(_, seen)| format!("{seen:?}").contains(&format!("{:?}", Signal::Kill)))
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_begins_while_files_change_is_not_run_twice() {
    let world = World::new();
    let mut job = world.background("job");
    job.restart = RestartPolicy::Never;
    world.begin(Unity::Regardless, &[("job", &job)]);
    world.settle().await;
    world.service("job").hold().await;
    world.service("job").release().await;
    world.pass(5 * SEC).await;
    assert_eq!((world.starts().len(), world.health("job").status), (1, Status::Ok));
    world.end().await;
}
