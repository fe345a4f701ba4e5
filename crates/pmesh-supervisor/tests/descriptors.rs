//! A process without a descriptor left. Alone in its binary, because the limit is the process's.

use std::{fs::File, net::TcpListener, sync::Arc};

use pmesh_supervisor::{
    ExternalAddress, Launch, Monitor, NetProber, OsSpawner, ProbeFailure, ProbeTarget, Prober, Spawner,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[tokio::test]
async fn without_descriptors_nothing_is_said_of_who_was_to_be_probed_or_started() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let launch = Launch::new("true", "/".into())
        .with(|launch| launch.env = [("PATH".into(), "/usr/bin:/bin".into())].into());
    let spawned = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc).spawn(&launch).unwrap();
    let tree = Arc::from(spawned.tree);
    spawned.exit.await;
    let target = |prove_owner| {
        let address = ExternalAddress::new("127.0.0.1", listener.local_addr().unwrap().port());
        ProbeTarget::new("web".parse().unwrap(), address).with(|target| {
            target.tree = Some(Arc::clone(&tree));
            target.prove_owner = prove_owner;
        })
    };
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: hard }).unwrap();
    let mut all = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        all.push(file);
    }
    let probe = NetProber::new(&pmesh_supervisor::testing::work_threads())
        .probe(&target(false), &Monitor::default())
        .await;
    assert!(matches!(probe, Err(ProbeFailure::Unmade { .. })), "{probe:?}");
    let error = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc).spawn(&launch).unwrap_err();
    assert_eq!(error.source.raw_os_error(), Some(24), "{error}");
    // Enough to connect, and not to look up who listens.
    all.pop();
    let probe = NetProber::new(&pmesh_supervisor::testing::work_threads())
        .probe(&target(true), &Monitor::default())
        .await;
    assert!(matches!(probe, Err(ProbeFailure::Unmade { .. })), "{probe:?}");
    all.clear();
    assert_eq!(
        NetProber::new(&pmesh_supervisor::testing::work_threads())
            .probe(&target(false), &Monitor::default())
            .await,
        Ok(())
    );
}
