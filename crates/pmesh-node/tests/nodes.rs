//! Nodes on fakes, from outside.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use pmesh_node::{Failure, Operation, OperationState, Outcome, Rebuild, Request, Scope, testing::TestNode};
use pmesh_proxy::{Front, FrontLimits};
use pmesh_supervisor::{AppSpec, Exit};
use pmesh_vcs::{
    Vcs, VcsError,
    testing::{FakeVcs, VcsCall},
};

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
async fn the_front_leaves_descriptors_to_the_instances_that_the_manifest_wants() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "services:\n  job: !App\n    run: work\n    background: true\n    cluster: 3\n  \
                    other: !App {run: work, background: true}\n  there: !Proxy 127.0.0.1:1\n";
    let node = TestNode::start(folder.path(), manifest).await;
    assert_eq!(node.tables.budget().reserve(), 64 + 8 * 4);
    std::fs::write(folder.path().join("pm3.yml"), MANIFEST).unwrap();
    run(&node, Request::Reload(Rebuild::Changed)).await;
    assert_eq!(node.tables.budget().reserve(), 64 + 8);
}

#[tokio::test]
async fn a_defect_of_the_repository_fails_the_operation_and_costs_no_service() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.vcs.panic();
    let update = run(&node, UPDATE).await;
    assert!(matches!(failure(&update), Failure::Vcs(VcsError::Defect { .. })), "{update:?}");
    let error = node.repository().await.unwrap_err();
    assert!(matches!(*error, VcsError::Defect { .. }), "{error:?}");
    assert_eq!(node.spawner.running().len(), 1);
    let restart = run(&node, Request::Restart(Scope::All, Rebuild::Changed)).await;
    assert_eq!(restart.state, OperationState::Done);
}

/// The manifest with another program.
fn with_program(program: &str) -> String {
    MANIFEST.replace("work", program)
}

/// A node whose programs called `broken` end as soon as they start.
async fn node_at(folder: &std::path::Path) -> TestNode {
    let node = TestNode::start(folder, MANIFEST).await;
    node.spawner.exit_at_start("broken", Exit::Code(1));
    node
}

#[tokio::test(start_paused = true)]
async fn an_update_that_fails_goes_back_over_what_was_written_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let node = node_at(folder.path()).await;
    node.vcs.push_files("b2", [("pm3.yml", with_program("broken")), ("asset.js", "1".to_owned())]);
    let id = node.submit(UPDATE).unwrap();
    node.spawner.wait_for_launches(2).await;
    std::fs::write(folder.path().join("asset.js"), "rewritten").unwrap();
    let update = node.operation_ended(id).await.unwrap();
    let Failure::Rollout(rollout) = failure(&update) else { panic!("{update:?}") };
    assert!(rollout.rolled_back, "{rollout:?}");
    assert_eq!(node.vcs.head().unwrap().commit, Some(FakeVcs::commit_id(TestNode::COMMIT)));
    assert_eq!(std::fs::read_to_string(folder.path().join("pm3.yml")).unwrap(), MANIFEST);
    assert!(!folder.path().join("asset.js").exists());
}

#[tokio::test(start_paused = true)]
async fn an_update_whose_work_tree_could_not_go_back_says_so_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let node = node_at(folder.path()).await;
    node.vcs.push_files("b2", [("pm3.yml", with_program("broken"))]);
    let id = node.submit(UPDATE).unwrap();
    node.spawner.wait_for_launches(2).await;
    node.vcs.fail_check_outs(Some("the disk is full"));
    let update = node.operation_ended(id).await.unwrap();
    let Failure::Rollout(rollout) = failure(&update) else { panic!("{update:?}") };
    assert!(!rollout.rolled_back);
    assert!(failure(&update).to_string().contains("the disk is full"), "{}", failure(&update));

    node.vcs.fail_check_outs(None);
    let again = run(&node, UPDATE).await;
    assert!(matches!(failure(&again), Failure::Rollout(_)), "{again:?}");
    node.spawner.start_normally("broken");
    let at_last = run(&node, UPDATE).await;
    assert_eq!(at_last.state, OperationState::Done);
    let running = node.spawner.running();
    assert_eq!(node.spawner.launches()[running[0]].program, "broken", "the commit's own manifest");
    let launches = node.spawner.launches().len();
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    assert_eq!(node.spawner.launches().len(), launches, "nothing is left to be done");
}

#[tokio::test(start_paused = true)]
async fn an_invalidate_that_failed_is_tried_again_by_the_next_update() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.spawner.fail_spawn("work", 2);
    let failed = run(&node, Request::Update(Rebuild::Everything)).await;
    assert!(matches!(failure(&failed), Failure::Rollout(_)), "{failed:?}");
    node.spawner.start_normally("work");
    let before = node.services();
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    assert_ne!(node.services(), before);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_hide_that_the_work_tree_could_not_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let node = node_at(folder.path()).await;
    node.vcs.push_files("b2", [("pm3.yml", with_program("slow"))]);
    node.spawner.fail_spawn("slow", 11);
    let id = node.submit(UPDATE).unwrap();
    node.spawner.wait_for_failures(1).await;
    node.vcs.fail_check_outs(Some("the disk is full"));
    node.shut_down();
    let update = node.operation_ended(id).await.unwrap();
    assert!(failure(&update).to_string().contains("the disk is full"), "{update:?}");
}

/// Waits on a thread of its own until so many fetches have begun.
async fn fetches(node: &TestNode, count: usize) {
    let vcs = node.vcs.clone();
    let threads = pmesh_threads::testing::threads("test");
    threads.run(Duration::MAX, move |_| vcs.wait_for_fetches(count)).await.unwrap();
}

#[tokio::test]
async fn a_fetch_whose_client_hangs_up_ends_and_nothing_else_is_done_to_the_repository_before() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.vcs.hang();
    let handle = node.handle();
    let client = tokio::spawn(async move { handle.fetch().await });
    fetches(&node, 1).await;
    let update = node.submit(UPDATE).unwrap();
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    fetches(&node, 2).await;
    node.vcs.go_online();
    assert_eq!(node.operation_ended(update).await.unwrap().state, OperationState::Done);
}

#[tokio::test]
async fn the_servers_end_is_heard_by_an_update_that_waits_for_a_fetch_and_by_the_fetch() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.vcs.hang();
    let handle = node.handle();
    let client = tokio::spawn(async move { handle.fetch().await });
    fetches(&node, 1).await;
    let update = node.submit(UPDATE).unwrap();
    node.shut_down();
    assert!(matches!(failure(&node.operation_ended(update).await.unwrap()), Failure::ShuttingDown));
    assert!(matches!(client.await.unwrap(), Err(VcsError::Cancelled)));
}

#[tokio::test]
async fn the_front_knows_every_service_before_anything_has_started() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("site")).unwrap();
    std::fs::write(folder.path().join("site/index.html"), "hello").unwrap();
    let manifest = "services:\n  site: !FS\nserver:\n  _:\n    router:\n      - site\n";
    // Nothing is awaited here, so the node's task has not run.
    let node = TestNode::without_repository(folder.path(), manifest);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let front = Front::serve(vec![listener], node.tables.clone(), FrontLimits::default(), None).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    drop(front);
}

#[tokio::test]
async fn a_stop_does_not_overtake_the_restart_of_its_service() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "services:\n  web: !App\n    root: .\n    run: work\n  job: !App\n    root: .\n    run: work\n    \
                    background: true\n";
    let node = TestNode::start(folder.path(), manifest).await;
    let one = |name: &str| Scope::One(name.parse().unwrap());
    node.prober.hold(true);
    let web = node.submit(Request::Restart(one("web"), Rebuild::Changed)).unwrap();
    node.spawner.wait_for_launches(3).await;
    node.submit(Request::Restart(one("job"), Rebuild::Changed)).unwrap();
    let stop = node.submit(Request::Stop(one("job"))).unwrap();
    let other = run(&node, Request::Stop(one("web"))).await;
    assert_eq!(other.state, OperationState::Done, "that of another service does not wait");
    assert_eq!(node.operation_ended(web).await.unwrap().state, OperationState::Done);
    node.operation_ended(stop).await.unwrap();
    assert!(node.services().is_empty(), "{:?}", node.services());
}

#[tokio::test]
async fn what_the_servers_end_has_ended_is_cancelled_and_the_start_too() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "services:\n  web: !App\n    root: .\n    run: work\n";
    let node = TestNode::without_repository(folder.path(), manifest);
    node.prober.hold(true);
    let restart = node.submit(Request::Restart(Scope::All, Rebuild::Changed)).unwrap();
    node.spawner.wait_for_launches(1).await;
    let start = node.operations().last().unwrap().id;
    node.shut_down();
    for id in [start, restart] {
        let operation = node.operation_ended(id).await.unwrap();
        assert_eq!(operation.state, OperationState::Cancelled, "{operation:?}");
        assert!(matches!(failure(&operation), Failure::ShuttingDown));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_about_to_end_is_not_revived_first() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    std::fs::write(folder.path().join("pm3.yml"), with_program("slow")).unwrap();
    let id = node.submit(Request::Reload(Rebuild::Changed)).unwrap();
    node.spawner.wait_for_launches(2).await;
    node.shut_down();
    assert_eq!(node.operation_ended(id).await.unwrap().state, OperationState::Cancelled);
    assert_eq!(node.spawner.launches().len(), 2, "the old run is not started again");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_a_reload_removed_is_there_and_says_why_until_nothing_of_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let there = "  there: !Proxy 127.0.0.1:1\n";
    let node = TestNode::start(folder.path(), &format!("{MANIFEST}{there}")).await;
    node.spawner.outlive_kill(true);
    std::fs::write(folder.path().join("pm3.yml"), format!("services:\n{there}")).unwrap();
    let reload = run(&node, Request::Reload(Rebuild::Changed)).await;
    assert_eq!(reload.state, OperationState::Done, "{reload:?}");
    let job = "job".parse().unwrap();
    let failure = node.view().service(&job).and_then(|job| job.state.failure.clone());
    assert!(failure.is_some_and(|failure| failure.what.contains("state D")));
    node.spawner.outlive_kill(false);
    node.spawner.crash(0, Exit::Signal(9));
    let gone = async {
        let mut change = node.view().change;
        while node.view().service(&job).is_some() {
            drop(node.changes_after(change).await);
            change = node.view().change;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), gone).await.expect("it is forgotten");
}

#[tokio::test]
async fn instances_are_told_the_root_of_the_manifest_in_force() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("other")).unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    std::fs::write(folder.path().join("pm3.yml"), format!("root: other\n{MANIFEST}")).unwrap();
    let reload = run(&node, Request::Reload(Rebuild::Changed)).await;
    assert_eq!(reload.state, OperationState::Done, "{reload:?}");
    let root = |nth: usize| node.spawner.launches()[nth].env[std::ffi::OsStr::new("PM3_ROOT")].clone();
    let canonical = folder.path().canonicalize().unwrap();
    assert_eq!((root(0), root(1)), (canonical.clone().into(), canonical.join("other").into()));
}

#[tokio::test]
async fn an_update_waits_for_one_fetch_and_not_for_those_of_all_readers() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.vcs.hang();
    let reader = || {
        let handle = node.handle();
        tokio::spawn(async move { handle.fetch().await })
    };
    let first = reader();
    fetches(&node, 1).await;
    let others = [reader(), reader()];
    let update = node.submit(UPDATE).unwrap();
    while node.operation(update).unwrap().steps.is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    fetches(&node, 2).await;
    for other in &others {
        other.abort();
    }
    node.vcs.go_online();
    assert_eq!(node.operation_ended(update).await.unwrap().state, OperationState::Done);
    assert_eq!(node.vcs.calls().iter().filter(|call| **call == VcsCall::Fetch).count(), 2);
}

#[tokio::test]
async fn a_manifest_that_is_too_large_is_a_mistake_in_it_however_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    let large = format!("# {}\n{MANIFEST}", "x".repeat(5 << 20));
    std::fs::write(folder.path().join("pm3.yml"), &large).unwrap();
    let reload = run(&node, Request::Reload(Rebuild::Changed)).await;
    std::fs::write(folder.path().join("pm3.yml"), MANIFEST).unwrap();
    node.vcs.push_files("b2", [("pm3.yml", large)]);
    for operation in [reload, run(&node, UPDATE).await] {
        let Failure::ManifestInvalid(mistakes) = failure(&operation) else { panic!("{operation:?}") };
        assert!(mistakes.to_string().contains("larger than"), "{mistakes}");
    }
    assert!(node.vcs.check_outs().is_empty());
}

#[tokio::test]
async fn a_mistake_names_the_file_in_one_way_and_so_does_a_commit_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let broken = with_program("[");
    for file in ["pm3.yml", "deploy/pm3.yml"] {
        let node = TestNode::start_with(folder.path(), &[(file, MANIFEST)]).await;
        node.vcs.push_files("b2", [(file, &broken)]);
        let update = run(&node, UPDATE).await;
        std::fs::write(folder.path().join(file), &broken).unwrap();
        for operation in [update, run(&node, Request::Reload(Rebuild::Changed)).await] {
            let Failure::ManifestInvalid(mistakes) = failure(&operation) else { panic!("{operation:?}") };
            assert!(mistakes.iter().all(|mistake| mistake.file == Path::new(file)), "{mistakes}");
        }
        std::fs::write(folder.path().join(file), MANIFEST).unwrap();
        node.vcs.push_without("c3", [file]);
        let update = run(&node, UPDATE).await;
        assert!(failure(&update).to_string().contains(&format!("has no {file};")), "{}", failure(&update));
    }
}

#[tokio::test]
async fn a_commit_that_adds_a_second_manifest_beside_the_one_that_runs_is_refused() {
    for (file, other) in [("pm3.yml", "pm3.yaml"), ("deploy/pm3.yaml", "deploy/pm3.yml")] {
        let folder = tempfile::tempdir().unwrap();
        let node = TestNode::start_with(folder.path(), &[(file, MANIFEST)]).await;
        node.vcs.push_files("b2", [(other, MANIFEST)]);
        let update = run(&node, UPDATE).await;
        assert!(matches!(failure(&update), Failure::ManifestAmbiguous { .. }), "{update:?}");
        assert!(failure(&update).to_string().contains("both pm3.yml and pm3.yaml"), "{}", failure(&update));
        assert!(node.vcs.check_outs().is_empty());
        node.vcs.push_without("c3", [other]);
        assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    }
}

#[tokio::test]
async fn whoever_named_one_of_two_manifests_or_another_file_goes_on_updating() {
    for files in [&[("pm3.yml", MANIFEST), ("pm3.yaml", MANIFEST)][..], &[("live.yml", MANIFEST)]] {
        let folder = tempfile::tempdir().unwrap();
        let node = TestNode::start_with(folder.path(), files).await;
        let program = with_program("other");
        node.vcs.push_files("b2", ["pm3.yml", "pm3.yaml"].map(|file| (file, &program)));
        assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    }
}

#[tokio::test]
async fn of_a_history_without_a_commit_in_common_nothing_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.vcs.commit_here("c3");
    node.vcs.push_another_history("b2");
    let update = run(&node, UPDATE).await;
    assert!(matches!(failure(&update), Failure::Vcs(VcsError::Unrelated { .. })), "{update:?}");
    assert!(failure(&update).to_string().contains("no commit in common"), "{}", failure(&update));
    assert!(node.vcs.check_outs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_invalidate_rebuilds_every_service_also_where_nothing_moves() {
    for local_commits in [0, 1] {
        let folder = tempfile::tempdir().unwrap();
        let node = TestNode::start(folder.path(), MANIFEST).await;
        if local_commits > 0 {
            node.vcs.commit_here("c3");
        }
        let head = node.vcs.head().unwrap().commit;
        let before = node.services();
        let plain = run(&node, UPDATE).await;
        assert_eq!(plain.state, OperationState::Done);
        // What was committed since the start does not run yet.
        assert_eq!(node.services() == before, local_commits == 0);
        let before = node.services();
        let update = run(&node, Request::Update(Rebuild::Everything)).await;
        let Some(Ok(Outcome::Updated(done))) = &update.outcome else { panic!("{update:?}") };
        assert_eq!(done.ahead, (local_commits > 0).then_some(local_commits));
        assert_eq!((&done.from.commit, &done.to.commit, done.invalidated), (&head, &head, true));
        assert_ne!(node.services(), before);
        assert!(node.vcs.check_outs().is_empty());

        node.spawner.fail_spawn("work", 2);
        let failed = run(&node, Request::Update(Rebuild::Everything)).await;
        assert!(matches!(failure(&failed), Failure::Rollout(_)), "{failed:?}");
        node.spawner.start_normally("work");
        let before = node.services();
        assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
        assert_ne!(node.services(), before, "it is tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_at_the_start_is_tried_again_by_an_update_with_nothing_new() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing is awaited before the program is broken, so the node's task has not run.
    let node = TestNode::starting(folder.path(), MANIFEST);
    node.spawner.exit_at_start("work", Exit::Code(1));
    let start = node.operation_ended(node.operations()[0].id).await.unwrap();
    assert!(
        matches!(&start.outcome, Some(Ok(Outcome::Started { failed })) if failed.len() == 1),
        "{start:?}"
    );
    node.spawner.start_normally("work");
    let before = node.services();
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    assert_ne!(node.services(), before);
    let before = node.services();
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    assert_eq!(node.services(), before, "nothing is left to be done");
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_failed_is_tried_again_by_an_update_with_nothing_new_and_one_that_did_not_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let node = node_at(folder.path()).await;
    let reload = || run(&node, Request::Reload(Rebuild::Changed));
    std::fs::write(folder.path().join("pm3.yml"), with_program("broken")).unwrap();
    assert!(matches!(failure(&reload().await), Failure::Rollout(_)));
    assert!(matches!(failure(&run(&node, UPDATE).await), Failure::Rollout(_)), "it is tried");
    node.spawner.start_normally("broken");
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    let running = node.spawner.running();
    assert_eq!(node.spawner.launches()[running[0]].program, "broken", "the manifest that failed");

    node.spawner.exit_at_start("broken", Exit::Code(1));
    assert!(matches!(failure(&reload().await), Failure::Rollout(_)));
    node.spawner.start_normally("broken");
    assert_eq!(reload().await.state, OperationState::Done);
    let before = node.services();
    assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    assert_eq!(node.services(), before, "nothing is left to be done");
}

#[tokio::test]
async fn requests_in_flight_at_the_end_have_the_longest_drain_timeout_or_its_default() {
    let service =
        |name: &str, drain: &str| format!("  {name}: !App\n    run: work\n    drain_timeout: {drain}\n");
    let apps = format!("services:\n{}{}", service("a", "5s"), service("b", "2m"));
    for (manifest, limit) in
        [(&*apps, Duration::from_mins(2)), ("services:\n  site: !FS\n", AppSpec::DRAIN_TIMEOUT)]
    {
        let folder = tempfile::tempdir().unwrap();
        let node = TestNode::without_repository(folder.path(), manifest);
        assert_eq!(node.drain_limit(), limit);
    }
}

#[tokio::test]
async fn the_repository_is_tidied_up_after_an_update_and_makes_room_for_the_next_one_and_for_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::start(folder.path(), MANIFEST).await;
    node.vcs.hang_maintenance();
    run(&node, Request::Restart(Scope::All, Rebuild::Changed)).await;
    assert!(!node.vcs.calls().contains(&VcsCall::Maintain));
    for name in ["b2", "c3"] {
        node.vcs.push(name);
        assert_eq!(run(&node, UPDATE).await.state, OperationState::Done);
    }
    let end = node.shut_down();
    node.close();
    node.operation_ended(end).await.unwrap();
    let begun = node.vcs.calls().iter().filter(|call| **call == VcsCall::Maintain).count();
    assert!(begun > 0);
}
