//! A supervisor whose task is ended, with real processes.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path, sync::Arc, time::Duration};

use pmesh_supervisor::{
    AppSpec, CancelToken, Command, LogFolder, LogLimits, NetProber, NoBalancer, OsSpawner, ProcessTree,
    RevisionFacts, RolloutPlan, ServiceId, ServiceKind, ServiceName, ServiceSpec, Supervisor,
    SupervisorSettings, Turn, rollout::Unity,
};

/// Whether a process is there and no zombie.
fn lives(pid: &str) -> bool {
    Path::new("/proc").join(pid).join("fd/0").exists()
}

#[tokio::test]
async fn the_end_of_the_supervisors_own_task_leaves_no_process() {
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
    let script = "trap '' TERM; sleep 1000 & echo $! > beside; setsid sleep 1000 & echo $! > away; wait";
    job.run = Some(Command::new("sh").arguments(["-c", script]));
    job.background = true;
    let spec = ServiceSpec::new(name.clone(), ServiceKind::App(Box::new(job)));
    let plan =
        RolloutPlan::new(vec![Turn::new(ServiceId(1), spec)], Unity::Regardless, RevisionFacts::default());

    supervisor.roll_out(&plan, &CancelToken::new(), &|_, _, _| {}).await;
    let tree: Arc<dyn ProcessTree> =
        Arc::clone(&supervisor.service(&name).unwrap().state().instances[0].tree);
    let pids = ["beside", "away"].map(|file| fs::read_to_string(folder.path().join(file)).unwrap());
    assert!(pids.iter().all(|pid| lives(pid.trim())), "{pids:?}");

    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let ended = tokio::time::timeout(Duration::from_secs(30), tree.ended()).await;
    if ended.is_err() {
        tree.signal(pmesh_supervisor::Signal::Kill);
    }
    assert!(ended.is_ok(), "{:?} live", tree.pids());
    assert!(pids.iter().all(|pid| !lives(pid.trim())), "{pids:?}");
}
