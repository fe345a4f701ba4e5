//! Nodes on fakes, from outside.

use pmesh_node::{Outcome, Rebuild, Request, Scope, testing::TestNode};

const MANIFEST: &str = "services:\n  job: !App\n    run: work\n    background: true\n";

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
