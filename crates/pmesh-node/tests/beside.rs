//! Operations that are cancelled, and restarts beside each other.

use pmesh_node::{
    Failure, NoCancel, Operation, OperationId, OperationKind, OperationState, Outcome, Rebuild, Request,
    Scope, StepName, testing::TestNode,
};
use pmesh_supervisor::{Exit, ServiceName};

const MANIFEST: &str = "services:
  a: !App {run: work, background: true, root: .}
  b: !App {run: work, background: true, root: .}
  c: !App {run: work, background: true, root: .}
  d: !App {run: broken, background: true, root: .}
";

fn restart(name: &str) -> Request {
    Request::Restart(Scope::One(name.parse::<ServiceName>().unwrap()), Rebuild::Changed)
}

async fn ended(node: &TestNode, id: OperationId) -> Operation {
    node.operation_ended(id).await.unwrap()
}

fn state(node: &TestNode, id: OperationId) -> OperationState {
    node.operation(id).unwrap().state
}

fn outcome(operation: &Operation) -> Result<&Outcome, &Failure> {
    operation.outcome.as_ref().unwrap().as_ref().map_err(|failure| &**failure)
}

#[tokio::test]
async fn restarts_of_several_services_run_beside_each_other_and_one_that_fails_takes_no_other_back() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.spawner.exit_at_start("broken", Exit::Code(7));
    let before = node.spawner.launches().len();
    let ids = ["a", "b", "c", "d"].map(|name| node.submit(restart(name)).unwrap());
    // All of them start before one is ready, which takes a second.
    node.spawner.wait_for_launches(before + 4).await;
    assert!(ids.iter().all(|&id| state(&node, id) == OperationState::Running));
    let again = node.submit(restart("a")).unwrap();
    let update = node.submit(Request::Reload(Rebuild::Changed)).unwrap();
    tokio::task::yield_now().await;
    assert_eq!((state(&node, again), state(&node, update)), (OperationState::Queued, OperationState::Queued));
    for id in &ids[..3] {
        assert_eq!(outcome(&ended(&node, *id).await).unwrap(), &Outcome::Restarted { count: 1 });
    }
    let failed = ended(&node, ids[3]).await;
    assert!(matches!(outcome(&failed), Err(Failure::Rollout(_))), "{failed:?}");
    assert_eq!(failed.kind, OperationKind::Restart);
    assert!(failed.steps.iter().all(|step| step.service.as_ref().is_none_or(|name| name.as_str() == "d")));
    assert_eq!(outcome(&ended(&node, again).await).unwrap(), &Outcome::Restarted { count: 1 });
    ended(&node, update).await;
}

#[tokio::test]
async fn a_restart_beside_others_is_cancelled_alone_and_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = MANIFEST.replace("background: true", "background: true, build: make");
    let node = TestNode::starting(folder.path(), &manifest);
    node.spawner.exit_at_start("make", Exit::Code(0));
    let start = node.operations().last().unwrap().id;
    ended(&node, start).await;
    let before = node.services();
    node.spawner.start_normally("make");
    let launched = node.spawner.launches().len();
    let request =
        |name: &str| Request::Restart(Scope::One(name.parse::<ServiceName>().unwrap()), Rebuild::Everything);
    let [one, other] = ["a", "b"].map(|name| node.submit(request(name)).unwrap());
    node.spawner.wait_for_launches(launched + 1).await;
    node.cancel(one).unwrap();
    let one = ended(&node, one).await;
    assert_eq!(one.state, OperationState::Cancelled);
    assert!(matches!(outcome(&one), Err(Failure::Cancelled)), "{one:?}");
    assert!(one.steps.iter().any(|step| step.name == StepName::RollBack));
    assert_eq!(state(&node, other), OperationState::Running);
    node.cancel(other).unwrap();
    assert_eq!(ended(&node, other).await.state, OperationState::Cancelled);
    assert_eq!(node.services(), before, "everything is as it was");
    assert_eq!(node.cancel(other), Err(NoCancel::Ended(other)));
}

#[tokio::test]
async fn what_waits_leaves_the_queue_and_what_takes_nothing_back_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    let launched = node.spawner.launches().len();
    let first = node.submit(restart("a")).unwrap();
    node.spawner.wait_for_launches(launched + 1).await;
    let waiting = node.submit(Request::Reload(Rebuild::Changed)).unwrap();
    node.cancel(waiting).unwrap();
    let waiting = ended(&node, waiting).await;
    assert_eq!((waiting.state, waiting.started), (OperationState::Cancelled, None));
    assert!(matches!(outcome(&waiting), Err(Failure::Cancelled)));
    assert_eq!(outcome(&ended(&node, first).await).unwrap(), &Outcome::Restarted { count: 1 });
    assert_eq!(node.cancel(first), Err(NoCancel::Ended(first)));
    assert_eq!(node.cancel(OperationId(1)), Err(NoCancel::Unknown(OperationId(1))));

    node.spawner.ignore_terminate(true);
    let stop = node.submit(Request::Stop(Scope::All)).unwrap();
    while state(&node, stop) == OperationState::Queued {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.cancel(stop), Err(NoCancel::GoesOn(OperationKind::Stop)));
    node.hurry();
}
