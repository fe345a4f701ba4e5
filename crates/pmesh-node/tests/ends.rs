//! What stands still in the repository does not keep a node from ending.

use std::time::Duration;

use pmesh_node::{Failure, Operation, Rebuild, Request, Scope, testing::TestNode};
use pmesh_supervisor::Exit;
use pmesh_vcs::{
    Vcs,
    testing::{FakeVcs, VcsCall},
};

const MANIFEST: &str = "services:\n  job: !App\n    run: work\n    background: true\n";
const UPDATE: Request = Request::Update(Rebuild::Changed);

fn failure(operation: &Operation) -> &Failure {
    operation.outcome.as_ref().unwrap().as_ref().unwrap_err()
}

/// Waits until so many check-outs have begun, also such as go back.
async fn check_outs(node: &TestNode, count: usize) {
    let vcs = node.vcs.clone();
    let threads = pmesh_threads::testing::threads("test");
    threads.run(Duration::MAX, move |_| vcs.wait_for_check_outs(count)).await.unwrap();
}

/// Waits until the repository has been asked since `before`.
async fn asked(vcs: &FakeVcs, before: usize) {
    while vcs.calls().len() == before {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_check_out_that_hangs_ends_when_the_server_is_told_to_and_the_queue_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.vcs.push("b2");
    node.vcs.hang_check_outs();
    let update = node.submit(UPDATE).unwrap();
    check_outs(&node, 1).await;
    let behind = node.submit(Request::Restart(Scope::All, Rebuild::Changed)).unwrap();
    node.shut_down();
    for id in [update, behind] {
        let ended = node.operation_ended(id).await.unwrap();
        assert!(matches!(failure(&ended), Failure::ShuttingDown), "{ended:?}");
    }
    assert_eq!(node.vcs.head().unwrap().commit, Some(FakeVcs::commit_id(TestNode::COMMIT)));
    node.close();
    while !node.spawner.running().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_goes_back_has_its_time_when_the_server_is_told_to_end_and_none_when_nothing_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.spawner.exit_at_start("broken", Exit::Code(1));
    node.vcs.push_files("b2", [("pm3.yml", MANIFEST.replace("work", "broken"))]);
    let update = node.submit(UPDATE).unwrap();
    check_outs(&node, 1).await;
    node.spawner.wait_for_launches(2).await;
    node.vcs.hang_check_outs();
    check_outs(&node, 2).await;
    node.shut_down();
    assert_eq!(node.vcs.check_outs().len(), 2);
    assert!(node.operation(update).unwrap().outcome.is_none(), "it goes back");
    node.hurry();
    let ended = node.operation_ended(update).await.unwrap();
    let Failure::Rollout(rollout) = failure(&ended) else { panic!("{ended:?}") };
    assert!(!rollout.rolled_back && rollout.work_tree.is_some(), "{rollout:?}");
}

#[tokio::test]
async fn a_read_that_never_comes_back_does_not_hold_an_operation_when_the_server_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.vcs.stand_still();
    let before = node.vcs.calls().len();
    let restart = node.submit(Request::Restart(Scope::All, Rebuild::Changed)).unwrap();
    asked(&node.vcs, before).await;
    node.shut_down();
    let ended = node.operation_ended(restart).await.unwrap();
    assert!(matches!(failure(&ended), Failure::ShuttingDown), "{ended:?}");
    // The runtime waits for its threads.
    node.vcs.repair();
}

#[tokio::test]
async fn however_many_ask_for_the_repository_while_it_stands_still_it_is_read_twice_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    let before = node.vcs.calls().len();
    node.vcs.stand_still();
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let node = node.handle();
            tokio::spawn(async move { node.repository().await })
        })
        .collect();
    asked(&node.vcs, before).await;
    node.vcs.repair();
    for asked in asking {
        asked.await.unwrap().unwrap();
    }
    let reads = node.vcs.calls()[before..].iter().filter(|call| **call == VcsCall::Heads).count();
    assert!((1..=2).contains(&reads), "{reads}");
}
