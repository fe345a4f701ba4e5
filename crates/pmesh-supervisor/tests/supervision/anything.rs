//! Random days: callers, apps and probes that do what they like.

use pmesh_supervisor::{Exit, rollout::Unity};
use proptest::prelude::*;

use crate::world::{MS, SEC, World, command, service_name};

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A rollout begins; one that is under way is dropped.
    RollOut(Unity),
    /// The caller of the rollout that is under way goes away.
    Drop,
    /// What was stopped for a new run is to come back.
    Revive,
    /// A service is stopped, and nobody waits.
    Stop(usize),
    Kill(usize),
    Hold(usize),
    Release(usize),
    /// One of the processes that run ends.
    Crash(usize),
    /// Whether a program ends as soon as it is started.
    Breaks(usize, bool),
    /// Whether a program can be started.
    Missing(usize, bool),
    /// Whether the probes of a service pass.
    Sick(usize, bool),
    /// Whether probes get no answer.
    Silent(bool),
    /// Whether processes ignore SIGTERM.
    Stubborn(bool),
    /// A request comes to a process that runs.
    Request(usize),
    /// All requests end.
    Answers,
    /// Time passes, in milliseconds.
    Pass(u16),
}

const NAMES: [&str; 3] = ["web", "job", "api"];

fn deed() -> impl Strategy<Value = Deed> {
    let unity = prop_oneof![Just(Unity::Each), Just(Unity::Together), Just(Unity::Regardless)];
    prop_oneof![
        3 => unity.prop_map(Deed::RollOut),
        1 => Just(Deed::Drop),
        1 => Just(Deed::Revive),
        1 => (0..3_usize).prop_map(Deed::Stop),
        1 => (0..3_usize).prop_map(Deed::Kill),
        1 => (0..3_usize).prop_map(Deed::Hold),
        1 => (0..3_usize).prop_map(Deed::Release),
        3 => (0..9_usize).prop_map(Deed::Crash),
        1 => (0..3_usize, any::<bool>()).prop_map(|(name, breaks)| Deed::Breaks(name, breaks)),
        1 => (0..3_usize, any::<bool>()).prop_map(|(name, missing)| Deed::Missing(name, missing)),
        1 => (0..3_usize, any::<bool>()).prop_map(|(name, sick)| Deed::Sick(name, sick)),
        1 => any::<bool>().prop_map(Deed::Silent),
        1 => any::<bool>().prop_map(Deed::Stubborn),
        2 => (0..9_usize).prop_map(Deed::Request),
        1 => Just(Deed::Answers),
        3 => (0..200_u16).prop_map(Deed::Pass),
        2 => (0..20_000_u16).prop_map(Deed::Pass),
    ]
}

async fn live(deeds: Vec<Deed>) {
    let world = World::new();
    let web = world.app("web").with(|app| app.instances = 2);
    let job = world.background("job");
    let api = world.app("api").with(|app| app.shutdown = vec![command("flush")]);
    let all = [(NAMES[0], &web), (NAMES[1], &job), (NAMES[2], &api)];
    world.never_two("job");
    world.up(&all).await;
    let (mut rollout, mut requests) = (None::<tokio::task::JoinHandle<_>>, Vec::new());
    for deed in deeds {
        match deed {
            Deed::RollOut(unity) => {
                if let Some(before) = rollout.replace(world.begin(unity, &all)) {
                    before.abort();
                }
            }
            Deed::Drop => drop(rollout.take().map(|rollout| rollout.abort())),
            Deed::Revive => {
                let supervisor = world.supervisor.clone();
                tokio::spawn(async move { supervisor.revive(NAMES.map(service_name)).await });
            }
            Deed::Stop(name) => {
                let service = world.service(NAMES[name]);
                tokio::spawn(async move { service.stop().await });
            }
            Deed::Kill(name) => world.service(NAMES[name]).kill().await,
            Deed::Hold(name) => world.service(NAMES[name]).hold().await,
            Deed::Release(name) => world.service(NAMES[name]).release().await,
            Deed::Crash(which) => {
                if let Some(&process) = world.spawner.running().get(which) {
                    world.spawner.crash(process, Exit::Code(1));
                }
            }
            Deed::Breaks(name, true) => world.spawner.exit_at_start(NAMES[name], Exit::Code(1)),
            Deed::Missing(name, true) => world.spawner.fail_spawn(NAMES[name], 2),
            Deed::Breaks(name, false) | Deed::Missing(name, false) => {
                world.spawner.start_normally(NAMES[name]);
            }
            Deed::Sick(name, true) => world.prober.fail(&service_name(NAMES[name])),
            Deed::Sick(name, false) => world.prober.pass(&service_name(NAMES[name])),
            Deed::Silent(silent) => world.prober.hold(silent),
            Deed::Stubborn(stubborn) => world.spawner.ignore_terminate(stubborn),
            Deed::Request(which) => {
                if let Some(&process) = world.spawner.running().get(which) {
                    requests.push(world.request(process));
                }
            }
            Deed::Answers => requests.clear(),
            Deed::Pass(time) => world.pass(u32::from(time) * MS).await,
        }
    }

    // Peace returns, once everybody has said what they want.
    world.settle().await;
    drop((rollout.map(|rollout| rollout.abort()), requests));
    for name in NAMES {
        world.spawner.start_normally(name);
        world.prober.pass(&service_name(name));
        world.service(name).release().await;
    }
    world.prober.hold(false);
    world.spawner.ignore_terminate(false);
    world.spawner.exit_at_start("flush", Exit::Code(0));
    let end = world.roll_out(Unity::Together, &all).await;
    assert!(!end.gave_up && end.switched.len() == 3, "{end:?}");
    world.pass(120 * SEC).await;
    let mut running: Vec<String> =
        world.spawner.running().into_iter().map(|nth| world.programs()[nth].clone()).collect();
    running.sort();
    assert_eq!(running, ["api", "job", "web", "web"]);
    world.end().await;
}

proptest! {
    // Each case is a day of a node: as many as take seconds.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// There are never two jobs at a time, nothing is signalled that takes requests, and in the end
    /// everything runs once, and then nothing.
    #[test]
    fn whatever_happens_nothing_is_lost_and_nothing_runs_twice(
        deeds in proptest::collection::vec(deed(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(live(deeds));
    }
}
