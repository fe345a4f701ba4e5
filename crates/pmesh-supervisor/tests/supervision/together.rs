//! Rollouts of several services that switch together or not at all.

use std::sync::Arc;

use parking_lot::Mutex;
use pmesh_supervisor::{
    Exit, Overlap, Prepared, RolloutEnd, Status, StepName as Step, StepState, Switched, rollout::Unity,
};

use crate::world::{SEC, Seen, World, command, reason, service_name};

#[tokio::test(start_paused = true)]
async fn when_the_second_service_fails_the_old_instances_of_both_serve_throughout_under_their_ids() {
    let world = World::new();
    let (web, mut api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    let ids = (world.id("web"), world.id("api"));
    api.run.as_mut().unwrap().program = "broken".to_owned();
    world.spawner.exit_at_start("broken", Exit::Code(1));
    let end = world.roll_out(Unity::Together, &[("web", &web), ("api", &api)]).await;
    assert!(end.gave_up && end.switched.is_empty(), "{end:?}");
    assert_eq!(end.failed.keys().collect::<Vec<_>>(), [&service_name("api")]);
    assert_eq!(world.spawner.running(), [0, 1]);
    let touched = |seen: &Seen| matches!(seen, Seen::Withdrawn(0 | 1) | Seen::Signalled(0 | 1, _));
    assert_eq!(world.order(touched), []);
    assert_eq!((world.serving("web"), world.serving("api")), (vec![0], vec![1]));
    assert_eq!((world.id("web"), world.id("api")), ids);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_switches_before_the_slowest_is_ready_and_then_everything_does() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    world.prober.fail(&service_name("api"));
    let update = world.begin(Unity::Together, &[("web", &web), ("api", &api)]);
    world.pass(20 * SEC).await;
    assert_eq!((world.serving("web"), world.serving("api")), (vec![0], vec![1]));
    world.prober.pass(&service_name("api"));
    let end = update.await.unwrap();
    assert_eq!(end.switched.len(), 2);
    assert_eq!((world.serving("web"), world.serving("api")), (vec![2], vec![3]));
    assert_eq!(world.spawner.running(), [2, 3]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn services_that_cannot_overlap_are_stopped_last_when_all_others_are_ready() {
    let world = World::new();
    let (job, mut solo, web) = (world.background("job"), world.app("solo"), world.app("web"));
    solo.overlap = Overlap::No;
    let all = [("job", &job), ("solo", &solo), ("web", &web)];
    world.up(&all).await;
    world.prober.fail(&service_name("web"));
    let update = world.begin(Unity::Together, &all);
    world.pass(20 * SEC).await;
    assert_eq!(world.spawner.running(), [0, 1, 2, 3], "only web has started anew");
    world.prober.pass(&service_name("web"));
    assert_eq!(update.await.unwrap().switched.len(), 3);
    assert_eq!(world.spawner.running(), [3, 4, 5]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn services_that_cannot_overlap_are_not_touched_when_one_that_can_fails() {
    let world = World::new();
    let (job, mut web) = (world.background("job"), world.app("web"));
    world.up(&[("job", &job), ("web", &web)]).await;
    web.run.as_mut().unwrap().program = "broken".to_owned();
    world.spawner.exit_at_start("broken", Exit::Code(1));
    let end = world.roll_out(Unity::Together, &[("job", &job), ("web", &web)]).await;
    assert!(end.gave_up);
    assert_eq!((world.spawner.running(), world.spawner.signals(0)), (vec![0, 1], vec![]));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_stopped_to_make_room_comes_back_as_it_was_when_the_caller_revives_it() {
    let world = World::new();
    let (mut job, web) = (world.background("job"), world.app("web"));
    world.up(&[("job", &job), ("web", &web)]).await;
    let id = world.id("job");
    job.run.as_mut().unwrap().program = "broken".to_owned();
    world.spawner.exit_at_start("broken", Exit::Code(1));
    let end = world.roll_out(Unity::Together, &[("job", &job), ("web", &web)]).await;
    assert!(end.gave_up && reason(&end, "job").contains("exit code 1"), "{end:?}");
    world.pass(10 * SEC).await;
    assert_eq!(world.spawner.running(), [1], "the caller puts its files back first");

    world.supervisor.revive([service_name("job"), service_name("web")]).await;
    assert_eq!(world.programs().last().unwrap(), "job");
    assert_eq!((world.health("job").status, world.id("job")), (Status::Ok, id));
    assert_eq!(world.serving("web"), [1]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_down_before_does_not_hold_back_the_others() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.spawner.exit_at_start("api", Exit::Code(1));
    world.start(&[("web", &web), ("api", &api)]).await;
    let end = world.roll_out(Unity::Together, &[("web", &web), ("api", &api)]).await;
    assert!(!end.gave_up);
    assert_eq!(end.failed.keys().collect::<Vec<_>>(), [&service_name("api")]);
    assert_eq!(world.health("web").status, Status::Ok);
    assert_eq!(world.health("api").status, Status::Down);
    world.spawner.start_normally("api");
    world.pass(60 * SEC).await;
    assert_eq!(world.health("api").status, Status::Ok, "the new run went on trying");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_service_that_fails_takes_the_rollout_back_and_itself_away() {
    let world = World::new();
    let web = world.app("web");
    world.up(&[("web", &web)]).await;
    world.spawner.exit_at_start("api", Exit::Code(1));
    let end = world.roll_out(Unity::Together, &[("web", &web), ("api", &world.app("api"))]).await;
    assert!(end.gave_up);
    assert_eq!(world.spawner.running(), [0]);
    assert_eq!(world.health("api").status, Status::Stopped);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_given_up_goes_back_at_once() {
    let world = World::new();
    let (job, web) = (world.background("job"), world.app("web"));
    world.up(&[("job", &job), ("web", &web)]).await;
    world.prober.hold(true);
    let update = world.begin(Unity::Together, &[("job", &job), ("web", &web)]);
    world.see(Seen::Spawned(2)).await;
    let began = world.now();
    world.cancel();
    let end = update.await.unwrap();
    assert!(end.gave_up && end.failed.is_empty() && end.switched.is_empty(), "{end:?}");
    assert_eq!(world.now(), began);
    assert_eq!((world.spawner.running(), world.serving("web")), (vec![0, 1], vec![1]));
    assert_eq!(world.when(&Seen::Done("web", Step::RollBack)), Some(began));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_stopped_meanwhile_leaves_the_rollout_to_the_others() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    world.prober.hold(true);
    let update = world.begin(Unity::Together, &[("web", &web), ("api", &api)]);
    world.see(Seen::Spawned(3)).await;
    world.service("web").stop().await;
    let stopped = Seen::Failed("web", Step::Ready, "it was stopped".to_owned());
    world.see(stopped).await;
    world.prober.hold(false);
    let end = update.await.unwrap();
    assert_eq!((end.gave_up, end.switched), (false, vec![service_name("api")]));
    assert_eq!(world.spawner.running(), [3]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_goes_back_with_the_rollout_is_not_reported_as_stopped() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    world.prober.fail(&service_name("web"));
    let update = world.begin(Unity::Together, &[("web", &web), ("api", &api)]);
    world.see(Seen::Spawned(3)).await;
    for process in 3..6 {
        world.see(Seen::Spawned(process)).await;
        world.spawner.crash(process, Exit::Code(1));
    }
    assert!(update.await.unwrap().gave_up);
    let said = world.order(|seen| matches!(seen, Seen::Failed("web", ..)));
    assert_eq!(said, [Seen::Failed("web", Step::Ready, "the rollout was given up".to_owned())]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_dies_while_the_others_get_ready_is_ready_again_before_anything_switches() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    world.prober.hold(true);
    let update = world.begin(Unity::Together, &[("web", &web), ("api", &api)]);
    world.see(Seen::Spawned(3)).await;
    let new_of = |program: &str| world.programs().iter().rposition(|name| name == program).unwrap();
    let (new_web, new_api) = (new_of("web"), new_of("api"));
    world.prober.fail_port(world.port(new_api).unwrap());
    world.prober.hold(false);
    world.pass(SEC).await;
    world.prober.hold(true);
    world.spawner.crash(new_web, Exit::Code(1));
    world.see(Seen::Spawned(4)).await;
    let again = world.port(4).unwrap();
    world.prober.fail_port(again);
    world.prober.pass_port(world.port(new_api).unwrap());
    world.prober.hold(false);
    world.pass(5 * SEC).await;
    assert_eq!((world.serving("web"), world.serving("api")), (vec![0], vec![1]));
    world.prober.pass_port(again);
    assert_eq!(update.await.unwrap().switched.len(), 2);
    assert_eq!((world.serving("web"), world.serving("api")), (vec![4], vec![new_api]));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_ready_and_cannot_be_again_takes_the_rollout_back() {
    let world = World::new();
    let (mut web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    web.run.as_mut().unwrap().program = "new".to_owned();
    world.prober.fail(&service_name("api"));
    let update = world.begin(Unity::Together, &[("web", &web), ("api", &api)]);
    world.pass(SEC).await;
    let new_web = world.programs().iter().position(|program| program == "new").unwrap();
    world.spawner.exit_at_start("new", Exit::Code(7));
    world.spawner.crash(new_web, Exit::Code(7));
    world.settle().await;
    world.prober.pass(&service_name("api"));
    let end = update.await.unwrap();
    assert!(end.gave_up && reason(&end, "web").contains("exit code 7"), "{end:?}");
    assert_eq!((world.serving("web"), world.serving("api")), (vec![0], vec![1]));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_took_requests_has_its_shutdown_commands_run_when_it_goes_back() {
    let world = World::new();
    let (mut solo, mut job) = (world.app("solo"), world.background("job"));
    (solo.overlap, solo.shutdown) = (Overlap::No, vec![command("flush")]);
    world.spawner.exit_at_start("flush", Exit::Code(0));
    world.up(&[("solo", &solo), ("job", &job)]).await;
    solo.run.as_mut().unwrap().program = "newer".to_owned();
    job.run.as_mut().unwrap().program = "broken".to_owned();
    world.spawner.fail_spawn("broken", 2);
    world.roll_out(Unity::Together, &[("solo", &solo), ("job", &job)]).await;
    assert_eq!(world.programs(), ["solo", "job", "flush", "newer", "flush"]);
    world.supervisor.revive([service_name("solo"), service_name("job")]).await;
    assert_eq!(world.programs()[5..], ["solo", "job"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_has_recovered_before_its_turn_came_holds_the_others_back_again() {
    let world = World::new();
    let (web, mut api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    // The rollout begins in the moment in which it restarts after a crash.
    world.spawner.crash(1, Exit::Code(1));
    world.see(Seen::Spawned(2)).await;
    api.build = vec![command("make")];
    api.run.as_mut().unwrap().program = "broken".to_owned();
    world.spawner.exit_at_start("broken", Exit::Code(1));
    let update = world.begin(Unity::Together, &[("web", &web), ("api", &api)]);
    world.see(Seen::Spawned(3)).await;
    world.pass(SEC).await;
    assert_eq!((world.programs()[3].as_str(), world.serving("api")), ("make", vec![2]));
    world.spawner.crash(3, Exit::Code(0));
    let end = update.await.unwrap();
    assert!(end.gave_up, "{end:?}");
    assert_eq!((world.serving("web"), world.serving("api")), (vec![0], vec![2]));
    world.end().await;
}

/// An update of two services, of which the second one's new instance dies when this step begins.
async fn dies_at(world: &World, moment: Step) -> RolloutEnd {
    let (web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    let api = api.with(|app| app.run = Some(command("new")));
    let spawner = world.spawner.clone();
    let services = [("web", &web), ("api", &api)];
    let update = world.begin_and(Unity::Together, &services, move |name, step, report| {
        if (name.as_str(), step, report) == ("api", moment, &StepState::Running) {
            let new = spawner.launches().iter().position(|launch| launch.program == "new");
            spawner.crash(new.expect("nothing switches before it is ready"), Exit::Code(1));
        }
    });
    update.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_dies_in_the_moment_of_the_switch_takes_all_back_to_the_old_ones() {
    // Whether its driver learns first of the end or of the switch is chance.
    for _ in 0..16 {
        let world = World::new();
        let end = dies_at(&world, Step::Switch).await;
        assert!(end.gave_up && end.switched.is_empty(), "{end:?}");
        assert!(reason(&end, "api").contains("exit code 1"), "{end:?}");
        assert_eq!((world.serving("web"), world.serving("api")), (vec![0], vec![1]));
        assert_eq!((world.id("web"), world.id("api")), (1, 2));
        assert_eq!(world.order(|seen| matches!(seen, Seen::Gone(_))), [], "requests wait");
        assert_eq!(world.spawner.running(), [0, 1]);
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_dies_when_the_old_ones_drain_holds_nothing_back_and_is_started_again() {
    let world = World::new();
    let end = dies_at(&world, Step::Drain).await;
    assert!(!end.gave_up && end.failed.is_empty() && end.switched.len() == 2, "{end:?}");
    world.pass(SEC).await;
    assert_eq!((world.serving("api"), world.health("api").status), (vec![4], Status::Ok));
    assert_eq!(world.spawner.running().len(), 2, "{:?}", world.spawner.running());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_switches_to_a_run_that_is_not_ready_any_more_is_told() {
    let world = World::new();
    let mut web = world.app("web");
    web.instances = 2;
    world.up(&[("web", &web)]).await;
    let service = world.service("web");
    let preparation = service.prepare(world.plan("web", &web)).await;
    assert_eq!(preparation.ended().await, Prepared::Ready);
    world.prober.hold(true);
    world.spawner.crash(3, Exit::Code(1));
    world.settle().await;
    let mut switch = service.commit().await;
    assert_eq!(switch.switched().await, Switched::Partly { ready: 1, wanted: 2 });
    assert_eq!(world.serving("web"), [2]);
    world.prober.hold(false);
    world.pass(SEC).await;
    assert_eq!(world.serving("web"), [2, 4]);
    drop(service);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_step_of_a_switch_says_what_is_not_ready() {
    let world = World::new();
    world.spawner.exit_at_start("api", Exit::Code(1));
    let (web, api) = (world.app("web"), world.app("api"));
    let details = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&details);
    let start =
        world.begin_and(Unity::Regardless, &[("web", &web), ("api", &api)], move |name, step, report| {
            if let (Step::Switch, StepState::Done(detail)) = (step, report) {
                noted.lock().push((name.to_string(), detail.clone()));
            }
        });
    start.await.unwrap();
    let said = "0 of 1 instances are ready; the others are started again".to_owned();
    assert_eq!(*details.lock(), [("web".to_owned(), None), ("api".to_owned(), Some(said))]);
    world.end().await;
}
