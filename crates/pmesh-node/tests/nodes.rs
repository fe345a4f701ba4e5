//! Nodes on fakes, from outside.

use pmesh_node::{Failure, Operation, OperationState, Outcome, Rebuild, Request, Scope, testing::TestNode};
use pmesh_vcs::VcsError;

const MANIFEST: &str = "services:\n  job: !App\n    run: work\n    background: true\n";
const UPDATE: Request = Request::Update(Rebuild::Changed);

/// Asks for a change and waits for its end.
async fn run(node: &TestNode, request: Request) -> Operation {
    let id = node.submit(request).unwrap();
    node.operation_ended(id).await.unwrap()
}

fn failure(operation: &Operation) -> &Failure {
    operation.outcome.as_ref().unwrap().as_ref().unwrap_err()
}

#[tokio::test]
async fn two_nodes_live_in_one_process_and_know_nothing_of_each_other() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = TestNode::start(folders[0].path(), MANIFEST).await;
    let other = TestNode::start(folders[1].path(), MANIFEST).await;
    let before = other.services();
    let id = one.submit(Request::Stop(Scope::All)).unwrap();
    let ended = one.operation_ended(id).await.unwrap();
    assert_eq!(ended.outcome.unwrap().unwrap(), Outcome::Stopped { count: 1 });
    assert!(one.services().is_empty() && one.spawner.running().is_empty());
    assert_eq!(other.services(), before);
    assert_eq!(other.spawner.running().len(), 1);
    let id = other.submit(Request::Restart(Scope::All, Rebuild::Changed)).unwrap();
    assert!(other.operation_ended(id).await.unwrap().outcome.unwrap().is_ok());
    assert!(one.services().is_empty());
}

#[tokio::test]
async fn a_defect_of_the_repository_fails_the_operation_and_costs_no_service() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.vcs.panic();
    let update = run(&node, UPDATE).await;
    assert!(matches!(failure(&update), Failure::Vcs(VcsError::Defect { .. })), "{update:?}");
    assert!(matches!(node.repository().await, Err(VcsError::Defect { .. })));
    assert_eq!(node.spawner.running().len(), 1);
    let restart = run(&node, Request::Restart(Scope::All, Rebuild::Changed)).await;
    assert_eq!(restart.state, OperationState::Done);
}
