//! What a node publishes of itself, and who hears of it.

use std::{
    future::Future,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use pmesh_node::{
    Change, ChangeKind, ChangesSince, Operation, OperationState, Outcome, QUEUE_LIMIT, Rebuild, Request,
    Scope, SubmitError, testing::TestNode,
};
use pmesh_proxy::{Front, FrontLimits};
use pmesh_supervisor::{Exit, ServiceName};
use pmesh_vcs::testing::FakeVcs;
use tokio::time::timeout;

const JOB: &str = "services:\n  job: !App\n    run: work\n    background: true\n";
const UPDATE: Request = Request::Update(Rebuild::Changed);

fn name(name: &str) -> ServiceName {
    name.parse().unwrap()
}

fn restart(service: &str) -> Request {
    Request::Restart(Scope::One(name(service)), Rebuild::Changed)
}

fn stop(service: &str) -> Request {
    Request::Stop(Scope::One(name(service)))
}

async fn run(node: &TestNode, request: Request) -> Operation {
    let id = node.submit(request).unwrap();
    node.operation_ended(id).await.unwrap()
}

async fn changes(node: &TestNode, after: u64) -> Vec<Change> {
    match node.changes_after(after).await {
        ChangesSince::Changes(changes) => changes,
        ChangesSince::Gap => panic!("there is no gap"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_never_changes_and_the_changes_lead_from_one_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), JOB).await;
    let before = node.view();
    let restart = run(&node, restart("job")).await;
    let after = node.view();
    assert_eq!((before.operations.len(), after.operations.len()), (1, 2));
    assert_ne!(before.services[0].state.id, after.services[0].state.id);

    let changes = changes(&node, before.change).await;
    let ids: Vec<u64> = changes.iter().map(|change| change.id).collect();
    assert_eq!(ids, (before.change + 1..=after.change).collect::<Vec<_>>());
    let place = |what: &ChangeKind| changes.iter().rposition(|change| change.kind == *what);
    let (service, end) = (ChangeKind::Service(name("job")), ChangeKind::Operation(restart.id));
    assert_eq!(place(&end), Some(changes.len() - 1), "the end of the operation is the last");
    assert!(place(&service).is_some() && place(&ChangeKind::Step(restart.id, 0)).is_some(), "{changes:?}");
}

#[tokio::test(start_paused = true)]
async fn who_follows_hears_of_a_crash_that_no_operation_made() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), JOB).await;
    let before = node.view();
    node.spawner.crash(0, Exit::Code(1));
    let changes = changes(&node, before.change).await;
    assert_eq!(changes[0].kind, ChangeKind::Service(name("job")));
    let view = node.view();
    let state = &view.service(&name("job")).unwrap().state;
    assert_eq!((state.healthy, state.wanted), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_comes_too_late_is_told_of_the_gap() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), JOB).await;
    let view = node.view();
    assert_eq!(node.changes_after(view.change + 1).await, ChangesSince::Gap);
    assert_eq!(node.changes_after(0).await, ChangesSince::Gap);
}

#[tokio::test(start_paused = true)]
async fn the_services_of_a_view_are_in_the_order_of_the_manifest_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let other = "services:\n  site: !FS\n  job: !App\n    run: work\n    background: true\n  also: !FS\n";
    let node = TestNode::start(folder.path(), JOB).await;
    let names = || -> Vec<String> {
        node.view().services.iter().map(|service| format!("{} {:?}", service.name, service.kind)).collect()
    };
    assert_eq!(names(), ["job App"]);
    std::fs::write(folder.path().join("pm3.yml"), other).unwrap();
    assert_eq!(run(&node, Request::Reload(Rebuild::Changed)).await.state, OperationState::Done);
    assert_eq!(names(), ["site Files", "job App", "also Files"]);
    std::fs::write(folder.path().join("pm3.yml"), "services:\n  site: !FS\n").unwrap();
    let before = node.view().change;
    run(&node, Request::Reload(Rebuild::Changed)).await;
    assert_eq!(names(), ["site Files"]);
    assert!(changes(&node, before).await.iter().any(|change| change.kind == ChangeKind::Services));
}

#[tokio::test(start_paused = true)]
async fn the_revision_that_is_published_is_that_of_the_last_rollout_of_all_that_did_not_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), JOB).await;
    let deployed = || node.view().deployed.as_ref().and_then(|revision| revision.commit.clone());
    assert_eq!(deployed(), Some(FakeVcs::commit_id(TestNode::COMMIT)));
    node.spawner.exit_at_start("broken", Exit::Code(1));
    node.vcs.push_files("b2", [("pm3.yml", JOB.replace("work", "broken"))]);
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Failed);
    assert_eq!(deployed(), Some(FakeVcs::commit_id(TestNode::COMMIT)));
    node.vcs.push_files("c3", [("pm3.yml", JOB)]);
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    assert_eq!(deployed(), Some(FakeVcs::commit_id("c3")));
}

/// Counts how often it wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

const WEB_AND_JOB: &str = "services:\n  web: !App\n    root: .\n    run: work\n  job: !App\n    root: .\n    \
                           run: work\n    background: true\n";

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_operation_is_woken_by_its_end_alone() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), WEB_AND_JOB).await;
    node.prober.hold(true);
    let restart = node.submit(restart("web")).unwrap();
    node.spawner.wait_for_launches(3).await;
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    {
        let mut end = pin!(node.operation_ended(restart));
        assert!(end.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(run(&node, stop("job")).await.state, OperationState::Done);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        node.prober.hold(false);
        assert_eq!(end.await.unwrap().state, OperationState::Done);
    }
}

#[tokio::test(start_paused = true)]
async fn stops_beside_a_rollout_join_equal_ones_and_push_nothing_out_of_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), WEB_AND_JOB).await;
    node.prober.hold(true);
    node.spawner.ignore_terminate(true);
    let restart = node.submit(restart("web")).unwrap();
    node.spawner.wait_for_launches(3).await;
    let first = node.submit(stop("job")).unwrap();
    while node.operation(first).unwrap().state == OperationState::Queued {
        tokio::task::yield_now().await;
    }
    for _ in 0..3000 {
        assert_eq!(node.submit(stop("job")), Ok(first));
    }
    let listed: Vec<_> = node.operations().iter().map(|operation| operation.id).collect();
    assert_eq!(listed[..2], [first, restart]);
    let stop = node.operation_ended(first).await.unwrap();
    assert_eq!(stop.outcome.unwrap().unwrap(), Outcome::Stopped { count: 1 });
    node.prober.hold(false);
    node.operation_ended(restart).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stops_that_run_beside_a_rollout_count_in_the_queues_limit() {
    let folder = tempfile::tempdir().unwrap();
    let service = |nth: usize| format!("  s{nth}: !App\n    root: .\n    run: work\n    background: true\n");
    let services: String = (0..=QUEUE_LIMIT).map(service).collect();
    let node = TestNode::start(folder.path(), &format!("services:\n{services}")).await;
    node.spawner.ignore_terminate(true);
    let restart = node.submit(Request::Restart(Scope::All, Rebuild::Changed)).unwrap();
    while node.operation(restart).unwrap().state == OperationState::Queued {
        tokio::task::yield_now().await;
    }
    for nth in 0..QUEUE_LIMIT {
        let id = node.submit(stop(&format!("s{nth}"))).unwrap();
        while node.operation(id).unwrap().state == OperationState::Queued {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(node.submit(stop(&format!("s{QUEUE_LIMIT}"))), Err(SubmitError::Busy));
    node.operation_ended(restart).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_held_for_a_check_out_that_failed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), JOB).await;
    node.vcs.push_files("b2", [("pm3.yml", JOB)]);
    node.vcs.fail_check_outs(Some("the disk is full"));
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Failed);
    node.spawner.crash(0, Exit::Code(1));
    let started_again = timeout(Duration::from_hours(1), node.spawner.wait_for_launches(2)).await;
    assert!(started_again.is_ok(), "it is held for ever");
}

fn get(address: SocketAddr) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn files_that_were_stopped_are_served_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("site")).unwrap();
    std::fs::write(folder.path().join("site/index.html"), "hello").unwrap();
    let manifest = "services:\n  site: !FS\nserver:\n  _:\n    router:\n      - site\n";
    let node = TestNode::start(folder.path(), manifest).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let front = Front::serve(vec![listener], node.tables.clone(), FrontLimits::default(), None).unwrap();
    assert!(get(address).starts_with("HTTP/1.1 200"));
    run(&node, stop("site")).await;
    assert!(get(address).starts_with("HTTP/1.1 503"), "{}", get(address));
    run(&node, restart("site")).await;
    assert!(get(address).ends_with("hello"));
    drop(front);
}

#[tokio::test]
async fn what_is_built_and_which_step_runs_is_in_the_view_until_the_build_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("job")).unwrap();
    let manifest = "services:\n  job: !App\n    run: work\n    build: [one, two]\n    background: true\n";
    let node = TestNode::starting(folder.path(), manifest);
    let building = || node.view().services[0].building.clone();
    let mut seen = Vec::new();
    for launch in 0..2 {
        node.spawner.wait_for_launches(launch + 1).await;
        let step = loop {
            let step = building().and_then(|building| building.step);
            if step.as_ref().is_some_and(|step| step.number == launch + 1) {
                break step.unwrap();
            }
            node.changes_after(node.view().change).await;
        };
        seen.push((step.number, step.of, step.command));
        assert_eq!(node.health().await[0].1.building, building());
        node.spawner.crash(launch, Exit::Code(0));
    }
    assert_eq!(seen, [(1, 2, "one".to_owned()), (2, 2, "two".to_owned())]);
    node.spawner.wait_for_launches(3).await;
    while building().is_some() {
        node.changes_after(node.view().change).await;
    }
    assert_eq!(node.health().await[0].1.building, None);
}
