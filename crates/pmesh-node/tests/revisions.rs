//! Which revision the services run, and which commits are followed.

use std::time::Duration;

use pmesh_node::{Failure, Operation, OperationState, Outcome, Rebuild, Request, Scope, testing::TestNode};
use pmesh_supervisor::Exit;
use pmesh_vcs::{Cancel, CommitId, Vcs, VcsError, testing::FakeVcs};

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

/// The manifest with another program.
fn with_program(program: &str) -> String {
    MANIFEST.replace("work", program)
}

/// What an update came to: from, to, and how many commits are local.
fn updated(operation: &Operation) -> (CommitId, CommitId, Option<usize>) {
    let Some(Ok(Outcome::Updated(update))) = &operation.outcome else { panic!("{operation:?}") };
    (update.from.commit.clone().unwrap(), update.to.commit.clone().unwrap(), update.ahead)
}

#[tokio::test]
async fn a_remote_that_was_rewound_is_followed_because_what_was_fetched_is_no_local_work() {
    let (good, bad) = (FakeVcs::commit_id(TestNode::COMMIT), FakeVcs::commit_id("b2"));
    for (situation, change) in [
        ("rewound", (|vcs| vcs.rewind()) as fn(&FakeVcs)),
        ("git has forgotten it", |vcs| {
            vcs.forget_fetches();
            vcs.rewind();
        }),
        ("an older fork", |vcs| {
            vcs.set_remote_url("https://example.org/fork.git");
            vcs.rewind();
        }),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let node = TestNode::start(folder.path(), MANIFEST).await;
        node.vcs.push("b2");
        assert_eq!(updated(&run(&node, UPDATE).await), (good.clone(), bad.clone(), None));
        change(&node.vcs);
        assert_eq!(updated(&run(&node, UPDATE).await), (bad.clone(), good.clone(), None), "{situation}");
        assert_eq!(node.vcs.head().unwrap().commit.as_ref(), Some(&good), "{situation}");
    }
}

#[tokio::test]
async fn a_push_by_force_is_followed_where_only_fetched_commits_go() {
    for push in [FakeVcs::push_by_force, FakeVcs::push_another_history] {
        let folder = tempfile::tempdir().unwrap();
        let node = TestNode::start(folder.path(), MANIFEST).await;
        node.vcs.push("b2");
        run(&node, UPDATE).await;
        push(&node.vcs, "c3");
        let (from, to, ahead) = updated(&run(&node, UPDATE).await);
        assert_eq!((from, to, ahead), (FakeVcs::commit_id("b2"), FakeVcs::commit_id("c3"), None));
    }
}

#[tokio::test]
async fn local_work_on_top_of_a_rewound_commit_is_diverged_history() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.vcs.push("b2");
    run(&node, UPDATE).await;
    node.vcs.commit_here("c3");
    node.vcs.rewind();
    let update = run(&node, UPDATE).await;
    assert!(matches!(failure(&update), Failure::Vcs(VcsError::Rewound { local: 1 })), "{update:?}");
    assert_eq!(node.vcs.head().unwrap().commit, Some(FakeVcs::commit_id("c3")));
}

/// Somebody pulls by hand what was pushed.
fn pull(node: &TestNode, commit: &str) {
    node.vcs.fetch(Duration::from_mins(1), &Cancel::new()).unwrap();
    node.vcs.check_out(&FakeVcs::commit_id(commit), &Cancel::new()).unwrap();
}

fn deployed(node: &TestNode) -> Option<CommitId> {
    node.view().deployed.as_ref().and_then(|deployed| deployed.commit.clone())
}

#[tokio::test]
async fn an_update_after_a_pull_by_hand_rolls_over_to_it_with_its_manifest_and_then_there_is_nothing_new() {
    for rebuild in [Rebuild::Changed, Rebuild::Everything] {
        let folder = tempfile::tempdir().unwrap();
        let node = TestNode::start(folder.path(), MANIFEST).await;
        let (old, new) = (FakeVcs::commit_id(TestNode::COMMIT), FakeVcs::commit_id("b2"));
        assert_eq!(deployed(&node), Some(old.clone()));
        node.vcs.push_files("b2", [("pm3.yml", with_program("other"))]);
        pull(&node, "b2");
        assert_eq!(deployed(&node), Some(old.clone()), "nothing was rolled out");
        run(&node, Request::Restart(Scope::All, Rebuild::Changed)).await;
        assert_eq!(deployed(&node), Some(old.clone()), "a restart is by the old manifest");
        assert_eq!(updated(&run(&node, Request::Update(rebuild)).await), (old, new.clone(), None));
        let launches = node.spawner.launches();
        let running: Vec<_> =
            node.spawner.running().iter().map(|&nth| launches[nth].program.clone()).collect();
        assert_eq!(running, ["other"]);
        assert_eq!(deployed(&node), Some(new.clone()));
        let before = node.services();
        assert_eq!(updated(&run(&node, UPDATE).await), (new.clone(), new, None));
        assert_eq!(node.services(), before);
    }
}

#[tokio::test]
async fn a_broken_commit_that_was_pulled_by_hand_is_not_what_runs_and_the_work_tree_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.spawner.exit_at_start("broken", Exit::Code(1));
    let old = FakeVcs::commit_id(TestNode::COMMIT);
    node.vcs.push_files("b2", [("pm3.yml", "services: 1\n".to_owned())]);
    pull(&node, "b2");
    let update = run(&node, UPDATE).await;
    assert!(matches!(failure(&update), Failure::ManifestInvalid(_)), "{update:?}");
    assert_eq!(node.vcs.head().unwrap().commit, Some(FakeVcs::commit_id("b2")), "nothing was changed");
    node.vcs.push_files("c3", [("pm3.yml", with_program("broken"))]);
    pull(&node, "c3");
    let update = run(&node, UPDATE).await;
    let Failure::Rollout(rollout) = failure(&update) else { panic!("{update:?}") };
    assert!(rollout.rolled_back, "{rollout:?}");
    assert_eq!(rollout.revisions.as_ref().unwrap().0.commit, Some(old.clone()));
    assert_eq!((node.vcs.head().unwrap().commit, deployed(&node)), (Some(old.clone()), Some(old)));
    assert_eq!(std::fs::read_to_string(folder.path().join("pm3.yml")).unwrap(), MANIFEST);
}

#[tokio::test]
async fn each_instance_has_the_commit_that_was_checked_out_when_it_was_started() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(
        folder.path(),
        &MANIFEST.replace("background: true", "background: true\n    cluster: 2"),
    )
    .await;
    let known = async || loop {
        let measured = node.metrics().await.into_iter().flat_map(|(_, metrics)| metrics.instances);
        let commits: Vec<_> = measured.filter_map(|one| Some((one.number, one.commit?))).collect();
        if commits.len() == 2 {
            return commits;
        }
    };
    let id = |name: &str| FakeVcs::commit_id(name).as_str().to_owned();
    assert_eq!(known().await, [(1, id(TestNode::COMMIT)), (2, id(TestNode::COMMIT))]);
    node.vcs.push("b2");
    pull(&node, "b2");
    node.spawner.crash(1, Exit::Code(1));
    node.spawner.wait_for_launches(3).await;
    assert_eq!(known().await, [(1, id(TestNode::COMMIT)), (2, id("b2"))]);
}

#[tokio::test]
async fn a_local_edit_of_a_file_that_the_commit_leaves_alone_stays_and_the_update_goes_on_or_back() {
    let folder = tempfile::tempdir().unwrap();
    let files = [("pm3.yml", MANIFEST), ("settings", "1"), ("code", "1")];
    let node = TestNode::start_with(folder.path(), &files).await;
    node.spawner.exit_at_start("broken", Exit::Code(1));
    let (settings, manifest) = (folder.path().join("settings"), with_program("broken"));
    std::fs::write(&settings, "mine").unwrap();
    node.vcs.push_files("b2", [("code", "2")]);
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    node.vcs.push_files("c3", [("code", "3"), ("pm3.yml", &manifest)]);
    let update = run(&node, UPDATE).await;
    let Failure::Rollout(rollout) = failure(&update) else { panic!("{update:?}") };
    assert!(rollout.rolled_back, "{rollout:?}");
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), "mine");
    assert_eq!(std::fs::read_to_string(folder.path().join("code")).unwrap(), "2");
    node.vcs.push_files("d4", [("settings", "4"), ("pm3.yml", MANIFEST)]);
    let update = run(&node, UPDATE).await;
    let Failure::Vcs(VcsError::Dirty { paths }) = failure(&update) else { panic!("{update:?}") };
    assert_eq!(*paths, [std::path::PathBuf::from("settings")]);
}

#[tokio::test]
async fn what_a_check_out_has_left_that_was_killed_is_no_edit_and_no_manifest_to_follow() {
    let folder = tempfile::tempdir().unwrap();
    let files = [("pm3.yml", MANIFEST), ("a", "1"), ("b", "1"), ("c", "1")];
    let node = TestNode::start_with(folder.path(), &files).await;
    let left = format!("# 2\n{MANIFEST}");
    node.vcs.push_files("b2", [("pm3.yml", left.as_str()), ("a", "2"), ("b", "2"), ("new", "2")]);
    let write = |path: &str, content: &str| std::fs::write(folder.path().join(path), content).unwrap();
    for (path, content) in [("pm3.yml", left.as_str()), ("a", "2"), ("new", "2"), ("b", "mine")] {
        write(path, content);
    }
    let update = run(&node, UPDATE).await;
    let Failure::Vcs(VcsError::Dirty { paths }) = failure(&update) else { panic!("{update:?}") };
    assert_eq!(*paths, [std::path::PathBuf::from("b")]);
    for (path, content) in [("pm3.yml", left.as_str()), ("a", "2"), ("new", "2"), ("b", "mine")] {
        assert_eq!(std::fs::read_to_string(folder.path().join(path)).unwrap(), content);
    }
    write("b", "1");
    // The manifest is that of the newest commit, not the one that was left.
    let manifest = with_program("newest");
    node.vcs.push_files("c3", [("pm3.yml", manifest.as_str()), ("a", "3")]);
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    assert_eq!(node.vcs.head().unwrap().commit, Some(FakeVcs::commit_id("c3")));
    assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "3");
    assert!(node.spawner.launches().iter().any(|launch| format!("{launch:?}").contains("newest")));
}
