//! Each failure has its code and status, says what is wrong, and leaves everything as it was.

use std::{path::PathBuf, time::Duration};

use pmesh_api::testing::TestAnswer;
use pmesh_node::testing::TestNode;
use pmesh_supervisor::Exit;
use pmesh_vcs::{Cancel, HeldLock, InProgress, Vcs, testing::FakeVcs};
use serde_json::json;

use crate::{MANIFEST, node, serving_manifest, test_api};

/// What happens to a repository.
type Breakage = fn(&FakeVcs);

/// Breaks something, updates, and checks that no service noticed.
async fn update_after(break_it: impl FnOnce(&TestNode)) -> TestAnswer {
    let node = node().await;
    let api = test_api(&node);
    let before = (api.get("/service").await.json, node.spawner.running());
    break_it(&node);
    let answer = api.post("/repo/update").await;
    assert_eq!((api.get("/service").await.json, node.spawner.running()), before);
    let id = answer.headers["operation-id"].to_str().unwrap();
    assert_eq!(answer.json["operation"], json!(id), "{}", answer.text);
    let operation = api.get(&format!("/operation/{id}")).await.json;
    assert_eq!((&operation["state"], &operation["error"]), (&json!("failed"), &answer.json));
    answer
}

fn lock() -> HeldLock {
    HeldLock { path: PathBuf::from(".git/index.lock"), age: Duration::from_secs(7) }
}

#[tokio::test(start_paused = true)]
async fn an_update_that_the_repository_refuses_is_a_conflict() {
    let conflicts: [(&str, Breakage); 11] = [
        ("no_remote", |vcs| vcs.remove_remote()),
        ("no_remote_branch", |vcs| vcs.delete_remote_branch()),
        ("detached_head", |vcs| vcs.detach()),
        ("unborn_branch", |vcs| vcs.make_unborn()),
        ("merge_in_progress", |vcs| vcs.set_in_progress(Some(InProgress::Merge))),
        ("merge_in_progress", |vcs| vcs.set_in_progress(Some(InProgress::Rebase))),
        ("repository_locked", |vcs| vcs.set_lock(Some(lock()))),
        ("work_tree_dirty", |vcs| {
            vcs.set_changed(["web.py"]);
            vcs.push_files("b2", [("web.py", "2")]);
        }),
        ("history_diverged", |vcs| {
            vcs.commit_here("c3");
            vcs.push("b2");
        }),
        ("history_diverged", |vcs| {
            vcs.commit_here("c3");
            vcs.push_another_history("d4");
        }),
        ("history_diverged", |vcs| {
            vcs.push("b2");
            vcs.fetch(Duration::from_secs(1), &Cancel::new()).unwrap();
            vcs.check_out(&FakeVcs::commit_id("b2"), &Cancel::new()).unwrap();
            vcs.commit_here("c3");
            vcs.rewind();
        }),
    ];
    for (code, break_it) in conflicts {
        let answer = update_after(|node| break_it(&node.vcs)).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (409, code), "{}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_that_the_manifest_forbids_is_a_conflict() {
    let node = serving_manifest(&format!("repo:\n  update: false\n{MANIFEST}")).await;
    node.vcs.push("b2");
    let answer = test_api(&node).post("/repo/update").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (409, "update_disabled"));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_has_the_remotes_own_words() {
    let answer = update_after(|node| node.vcs.refuse_fetches("remote: account suspended")).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (502, "fetch_failed"));
    assert!(answer.json["error"].as_str().unwrap().contains("account suspended"), "{}", answer.text);
    assert_eq!(update_after(|node| node.vcs.go_offline()).await.code(), "fetch_failed");
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_is_too_slow_is_named_with_the_time_it_had() {
    let answer = update_after(|node| node.vcs.be_too_slow()).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (504, "fetch_timeout"));
    assert!(answer.json["error"].as_str().unwrap().contains("60 s"), "{}", answer.text);
    let node = node().await;
    node.vcs.be_too_slow();
    let answer = test_api(&node).get("/repo?fetch").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (504, "fetch_timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_is_missing_or_damaged_is_told_apart() {
    let node = node().await;
    let api = test_api(&node);
    node.vcs.damage();
    for answer in [api.get("/repo").await, api.get("/repo?fetch").await, api.post("/repo/update").await] {
        assert_eq!((answer.status.as_u16(), answer.code()), (500, "repository_damaged"));
    }
    node.vcs.remove();
    for answer in [api.get("/repo").await, api.get("/repo?fetch").await, api.post("/repo/update").await] {
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "repository_not_found"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_manifest_in_the_new_commit_is_named_with_its_place() {
    let broken = "services:\n  web: !App\n    run: web\n    stop_timeuot: 5s\n";
    let answer = update_after(|node| node.vcs.push_files("b2", [("pm3.yml", broken)])).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "manifest_invalid"));
    let mistake = &answer.json["mistakes"][0];
    assert_eq!((&mistake["line"], &mistake["column"]), (&json!(4), &json!(5)), "{}", answer.text);
    assert!(mistake["file"].as_str().unwrap().ends_with("pm3.yml"), "{mistake}");
    assert!(answer.json["error"].as_str().unwrap().contains("pm3.yml:4:5"), "{}", answer.text);

    let answer = update_after(|node| node.vcs.push_without("b2", ["pm3.yml"])).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "manifest_invalid"));
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_a_broken_or_missing_manifest_changes_nothing() {
    let node = node().await;
    let api = test_api(&node);
    let before = api.get("/service").await.json;
    std::fs::write(node.manifest(), "services:\n  web: !App {run: [}\n").unwrap();
    let broken = api.post("/reload").await;
    assert_eq!((broken.status.as_u16(), broken.code()), (422, "manifest_invalid"));
    assert_eq!(broken.json["mistakes"][0]["line"], 2, "{}", broken.text);
    std::fs::remove_file(node.manifest()).unwrap();
    let missing = api.post("/reload").await;
    assert_eq!((missing.status.as_u16(), missing.code()), (422, "manifest_invalid"), "{}", missing.text);
    assert_eq!(api.get("/service").await.json, before);
}

#[tokio::test(start_paused = true)]
async fn an_update_whose_services_do_not_become_ready_goes_back() {
    let web = "web".parse().unwrap();
    let answer = update_after(|node| {
        node.prober.fail(&web);
        node.vcs.push("b2");
    })
    .await;
    assert_eq!((answer.status.as_u16(), answer.code()), (500, "rollout_failed"));
    let keys: Vec<_> = answer.json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["error", "code", "from", "to", "rolled_back", "services", "operation"]);
    assert_eq!(answer.json["from"]["hash"], FakeVcs::commit_id("a1").as_str());
    assert_eq!(answer.json["to"]["hash"], FakeVcs::commit_id("b2").as_str());
    assert_eq!(answer.json["rolled_back"], true);
    assert!(!answer.json["services"]["web"].as_str().unwrap().is_empty(), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn a_reload_whose_services_do_not_become_ready_goes_back() {
    let node = node().await;
    let api = test_api(&node);
    let before = (api.get("/service").await.json, node.spawner.running());
    node.prober.fail(&"web".parse().unwrap());
    let answer = api.post("/reload").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (500, "rollout_failed"));
    let keys: Vec<_> = answer.json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["error", "code", "rolled_back", "services", "operation"]);
    assert_eq!((api.get("/service").await.json, node.spawner.running()), before);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_counts_the_services_that_were_restarted() {
    let node = node().await;
    let api = test_api(&node);
    node.prober.fail(&"web".parse().unwrap());
    for (path, count) in [("/service/restart/web", 0), ("/service/restart", 2)] {
        let answer = api.post(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (500, "rollout_failed"));
        let keys: Vec<_> = answer.json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["error", "code", "count", "services", "operation"]);
        assert_eq!(answer.json["count"], count, "{}", answer.text);
        assert!(answer.json["services"]["web"].is_string(), "{}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_what_sigkill_does_not_end_names_it_and_the_node_goes_on() {
    let node = node().await;
    let api = test_api(&node);
    let web = node.spawner.launches().iter().position(|launch| launch.program == "web").unwrap();
    node.spawner.outlive_kill(true);
    for (path, count) in [("/service/stop/web", 1), ("/service/stop/web", 0)] {
        let answer = api.post(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (500, "stop_failed"), "{}", answer.text);
        let keys: Vec<_> = answer.json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["error", "code", "count", "services", "processes", "operation"]);
        assert_eq!(answer.json["count"], count);
        let process = json!({"service": "web", "pid": node.spawner.pid(web), "name": "web",
            "state": "D (disk sleep)", "wait_channel": "fake_wait"});
        assert_eq!(answer.json["processes"], json!([process]));
        let reason = answer.json["services"]["web"].as_str().unwrap();
        assert!(reason.contains("state D (disk sleep) in fake_wait"), "{reason}");
        assert!(answer.json["error"].as_str().unwrap().contains(reason), "{}", answer.text);
    }
    let health = api.get("/service/health/web").await.json;
    assert_eq!((&health["status"], &health["total"]), (&json!("Down"), &json!(0)));
    assert!(health["reason"].as_str().unwrap().contains("fake_wait"), "{health}");
    assert!(api.get("/service").await.json["web"].is_string(), "what is down is there");
    assert_eq!(api.post("/service/restart/files").await.status, 200, "nobody waits behind it");

    node.spawner.outlive_kill(false);
    node.spawner.crash(web, Exit::Signal(9));
    while api.get("/service/health/web").await.json["status"] != "Stopped" {
        tokio::task::yield_now().await;
    }
    assert_eq!(api.post("/service/stop/web").await.json, json!({"count": 0}));
    assert_eq!(api.post("/service/restart/web").await.json, json!({"count": 1}));
}

#[tokio::test(start_paused = true)]
async fn what_went_well_and_should_be_known_is_a_warning_of_the_answer() {
    let node = node().await;
    let api = test_api(&node);
    node.prober.answer_with(503);
    let warning = "service web: instance 1: its first answer, to `GET /`, has status 503";
    node.vcs.push("b2");
    for path in ["/service/restart/web", "/reload", "/repo/update"] {
        let answer = api.post(path).await;
        assert_eq!((answer.status.as_u16(), &answer.json["warnings"]), (200, &json!([warning])), "{path}");
    }
    node.spawner.ignore_terminate(true);
    let killed = "service web: instance 1 did not end within stop_timeout 10s, killed";
    let answer = api.post("/service/restart/web").await;
    assert_eq!(answer.json, json!({"count": 1, "warnings": [warning, killed]}));
    let answer = api.post("/service/stop/web").await;
    assert_eq!(answer.json, json!({"count": 1, "warnings": [killed]}));
    let stop = &api.get("/operation").await.json[0];
    assert_eq!((&stop["result"], &stop["steps"][0]["detail"]), (&answer.json, &json!(killed)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_service_is_named_with_a_near_miss() {
    let node = node().await;
    let api = test_api(&node);
    for path in ["/service/health/wbe", "/service/metrics/wbe", "/service/restart/wbe", "/service/stop/wbe"] {
        let answer = api.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "service_not_found"), "{path}");
        assert_eq!(answer.json["error"], "no service \"wbe\" in the manifest; did you mean \"web\"?");
    }
    for name in ["a%20b", "%2E%2E", "-x", "%00"] {
        assert_eq!(api.get(&format!("/service/health/{name}")).await.code(), "service_not_found", "{name}");
    }
}
