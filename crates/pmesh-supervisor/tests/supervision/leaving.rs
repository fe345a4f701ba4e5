//! Services that leave a rollout, and rollouts that are given up: what becomes of builds and links.

use std::fs;

use futures_util::FutureExt;
use pmesh_supervisor::{
    AppSpec, Build, Exit, ServiceId, Signal, Status, StepName, StepState, rollout::Unity,
};

use crate::world::{SEC, Seen, World, command, service_name};

#[tokio::test(start_paused = true)]
async fn a_restart_that_is_given_up_ends_its_builds_and_what_runs_goes_on() {
    let world = World::new();
    let mut web = world.app("web");
    world.up(&[("web", &web)]).await;
    web.build = vec![command("make")];
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Spawned(1)).await;
    let began = world.now();
    world.cancel();
    let end = restart.await.unwrap();
    assert!(end.gave_up && end.failed.is_empty(), "{end:?}");
    assert_eq!((world.now(), world.spawner.signals(1)), (began, vec![Signal::Terminate]));
    assert_eq!(world.serving("web"), [0]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_does_not_leave_a_build_its_grace() {
    let world = World::new();
    let mut web = world.app("web");
    world.up(&[("web", &web)]).await;
    web.build = vec![command("make")];
    world.spawner.ignore_terminate(true);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Spawned(1)).await;
    world.cancel();
    world.pass(SEC).await;
    assert_eq!(world.spawner.running(), [0, 1]);
    let began = world.now();
    world.service("web").kill().await;
    restart.await.unwrap();
    assert_eq!((world.now(), world.spawner.running()), (began, vec![]));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_its_build_ends_a_services_part_of_the_rollout_and_the_build() {
    // Together, nothing starts before all is built.
    for (unity, launches) in [(Unity::Together, 3), (Unity::Each, 4)] {
        let world = World::new();
        let (mut web, api) = (world.app("web"), world.app("api"));
        world.up(&[("web", &web), ("api", &api)]).await;
        web.build = vec![command("make")];
        let rollout = world.begin(unity, &[("web", &web), ("api", &api)]);
        world.spawner.wait_for_launches(launches).await;
        let make = world.spawner.launches().iter().position(|launch| launch.program == "make").unwrap();
        assert!(world.service("web").stop().await.was_up);
        let end = rollout.await.unwrap();
        assert_eq!((end.failed.len(), end.gave_up, end.switched), (0, false, vec![service_name("api")]));
        assert_eq!(world.spawner.signals(make), [Signal::Terminate]);
        let left = Seen::Failed("web", StepName::Build, "it was stopped".to_owned());
        assert!(world.when(&left).is_some(), "{:#?}", world.journal());
        assert_eq!(world.health("web").status, Status::Stopped);
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_link_goes_back_to_the_build_before_when_the_service_is_stopped_on_its_way() {
    let world = World::new();
    let mut web = world.app("web");
    web.build = vec![command("make")];
    world.spawner.exit_at_start("make", Exit::Code(0));
    world.up(&[("web", &web)]).await;
    let before = Build::active(&web.folder).unwrap();
    fs::write(web.folder.join("source"), "changed").unwrap();
    world.prober.hold(true);
    let restart = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Spawned(3)).await;
    assert_ne!(Build::active(&web.folder), Some(before.clone()));
    world.service("web").stop().await;
    restart.await.unwrap();
    assert_eq!(Build::active(&web.folder), Some(before));
    let left = Seen::Failed("web", StepName::Ready, "it was stopped".to_owned());
    assert!(world.when(&left).is_some(), "{:#?}", world.journal());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_given_up_with_the_others_is_not_said_to_be_stopped() {
    let world = World::new();
    let (web, api) = (world.app("web"), world.app("api"));
    world.up(&[("web", &web), ("api", &api)]).await;
    world.prober.hold(true);
    let rollout = world.begin(Unity::Together, &[("web", &web), ("api", &api)]);
    world.see(Seen::Spawned(3)).await;
    world.cancel();
    rollout.await.unwrap();
    let given_up = Seen::Failed("web", StepName::Ready, "the rollout was given up".to_owned());
    assert!(world.when(&given_up).is_some(), "{:#?}", world.journal());
    world.prober.hold(false);
    world.end().await;
}

/// What builds have left in a service's folder, finished products and their marks not among it.
fn left_by_builds(web: &AppSpec) -> Vec<String> {
    let names = fs::read_dir(&web.folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    let finished: Vec<String> =
        names.iter().filter_map(|name| name.strip_suffix(".ok")).map(str::to_owned).collect();
    names.retain(|name| name.starts_with('.') && !finished.iter().any(|build| name.starts_with(build)));
    names
}

/// A first rollout of a service that is stopped when this step of it begins; answers with its programs.
async fn stopped_at(step: StepName, unity: Unity) -> Vec<String> {
    let world = World::new();
    let mut web = world.app("web");
    web.build = vec![command("make")];
    world.spawner.exit_at_start("make", Exit::Code(0));
    let service = world.supervisor.add(&service_name("web"), ServiceId(99));
    let end = world.begin_and(unity, &[("web", &web)], move |_, now, report| {
        if (now, report) == (step, &StepState::Running) {
            // Polled once, it has asked.
            assert!(service.stop().now_or_never().is_none(), "a stop takes its time");
        }
    });
    let end = end.await.unwrap();
    assert_eq!((end.failed.len(), end.gave_up, end.switched), (0, false, vec![]), "at {step:?}");
    world.pass(60 * SEC).await;
    assert_eq!(left_by_builds(&web), [] as [&str; 0], "at {step:?}");
    assert_eq!((world.health("web").status, world.spawner.running()), (Status::Stopped, vec![]));
    let programs = world.programs();
    world.end().await;
    programs
}

#[tokio::test(start_paused = true)]
async fn a_stop_at_any_step_of_a_services_first_rollout_leaves_no_link_no_build_and_no_process() {
    for unity in [Unity::Together, Unity::Each, Unity::Regardless] {
        assert_eq!(stopped_at(StepName::Build, unity).await, [] as [&str; 0]);
        assert_eq!(stopped_at(StepName::Start, unity).await, ["make"]);
        assert_eq!(stopped_at(StepName::Ready, unity).await, ["make", "web"]);
        assert_eq!(stopped_at(StepName::Switch, unity).await, ["make", "web"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_moment_of_the_switch_leads_the_link_back_to_the_build_before() {
    let world = World::new();
    let mut web = world.app("web");
    web.build = vec![command("make")];
    world.spawner.exit_at_start("make", Exit::Code(0));
    world.up(&[("web", &web)]).await;
    let before = Build::active(&web.folder).unwrap();
    fs::write(web.folder.join("source"), "changed").unwrap();
    let service = world.service("web");
    let restart = world.begin_and(Unity::Each, &[("web", &web)], move |_, step, report| {
        if (step, report) == (StepName::Switch, &StepState::Running) {
            assert!(service.stop().now_or_never().is_none(), "a stop takes its time");
        }
    });
    assert_eq!(restart.await.unwrap().switched, []);
    assert_eq!(Build::active(&web.folder), Some(before));
    let stopped = Seen::Failed("web", StepName::Switch, "it was stopped".to_owned());
    assert!(world.when(&stopped).is_some(), "{:#?}", world.journal());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_build_that_takes_its_time_removes_what_it_has_made() {
    let world = World::new();
    let mut web = world.app("web");
    web.build = vec![command("make")];
    let start = world.begin(Unity::Each, &[("web", &web)]);
    world.see(Seen::Spawned(0)).await;
    assert_eq!(
        left_by_builds(&web).len(),
        3,
        "the product on its way, the link to it, and that the folder is nobody's"
    );
    world.service("web").stop().await;
    start.await.unwrap();
    assert_eq!(left_by_builds(&web), [] as [&str; 0]);
    assert_eq!(world.spawner.signals(0), [Signal::Terminate]);
    world.end().await;
}
