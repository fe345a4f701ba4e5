//! The commands before a stop, with real processes.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path, sync::Arc};

use pmesh_supervisor::{
    AppSpec, CancelToken, Command, LogFolder, LogLimits, NetProber, NoBalancer, OsSpawner, RevisionFacts,
    RolloutPlan, ServiceId, ServiceKind, ServiceName, ServiceSpec, Supervisor, SupervisorSettings, Turn,
    rollout::Unity,
};

fn shell(script: &str) -> Command {
    Command::new("sh").arguments(["-c", script])
}

/// Whether a process is there and no zombie.
fn lives(pid: &str) -> bool {
    Path::new("/proc").join(pid).join("fd/0").exists()
}

#[tokio::test]
async fn what_a_shutdown_command_leaves_in_the_background_is_ended_too() {
    let folder = tempfile::tempdir().unwrap();
    let threads = pmesh_supervisor::testing::work_threads();
    let settings = SupervisorSettings::new(
        LogFolder::open(folder.path(), LogLimits::default(), &threads).unwrap(),
        threads.clone(),
    )
    .with(|settings| {
        settings.env = BTreeMap::from([(OsString::from("PATH"), std::env::var_os("PATH").unwrap())]);
    });
    let (supervisor, task) = Supervisor::new(
        settings,
        Arc::new(OsSpawner::new(threads.proc.clone())),
        Arc::new(NetProber::new(&threads)),
        Arc::new(NoBalancer),
    );
    let task = tokio::spawn(task);

    let name: ServiceName = "job".parse().unwrap();
    let mut job = AppSpec::new(&name, folder.path().to_owned());
    job.run = Some(shell("exec sleep 1000"));
    job.background = true;
    job.shutdown =
        vec![shell("sleep 1000 > /dev/null 2>&1 & echo $! > quiet"), shell("sleep 1000 & echo $! > loud")];
    let spec = ServiceSpec::new(name.clone(), ServiceKind::App(Box::new(job)));
    let plan =
        RolloutPlan::new(vec![Turn::new(ServiceId(1), spec)], Unity::Regardless, RevisionFacts::default());

    supervisor.roll_out(&plan, &CancelToken::new(), &|_, _, _| {}).await;
    supervisor.service(&name).unwrap().stop().await;
    for file in ["quiet", "loud"] {
        let pid = fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(!lives(pid.trim()), "{file}");
    }
    drop(supervisor);
    task.await.unwrap();
}
