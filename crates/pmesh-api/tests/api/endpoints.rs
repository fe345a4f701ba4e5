//! What each route answers, field by field.

use std::{net::IpAddr, time::Instant};

use http::Method;
use pmesh_api::wire::NO_TIME;
use pmesh_sessions::ClientKey;
use pmesh_supervisor::Exit;
use pmesh_vcs::testing::FakeVcs;
use serde_json::{Value, json};

use crate::{node, serving_manifest, test_api};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap();
    text.len() == "2026-03-09T02:02:52.662Z".len() && text.starts_with("20") && text.ends_with('Z')
}

fn hash(commit: &str) -> String {
    FakeVcs::commit_id(commit).to_string()
}

#[tokio::test(start_paused = true)]
async fn the_repository_is_head_remote_head_and_address() {
    let node = node().await;
    let api = test_api(&node);
    node.vcs.describe("a1", "Ada Lovelace <ada@example.org>", "first\n\nand why");
    let revision = |branch: &str| {
        json!({"branch": branch, "hash": hash("a1"), "author": "Ada Lovelace <ada@example.org>",
            "message": "first\n\nand why"})
    };
    let repo = api.get("/repo").await;
    // As it was when it was deployed.
    let deployed = json!({"branch": "main", "hash": hash("a1"), "author": "A Fake <fake@example.org>",
        "message": "Commit a1"});
    assert_eq!(keys(&repo.json), ["sys", "ref", "remote", "url", "deployed", "behind", "ahead"]);
    assert_eq!(keys(&repo.json["ref"]), ["branch", "hash", "author", "message"]);
    assert_eq!(
        repo.json,
        json!({"sys": "git", "ref": revision("main"), "remote": revision("origin/main"),
            "url": "https://example.org/app.git", "deployed": deployed, "behind": 0, "ahead": 0})
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_repository_lacks_is_empty_text() {
    let node = node().await;
    let api = test_api(&node);
    let nothing = json!({"branch": "", "hash": "", "author": "", "message": ""});
    node.vcs.remove_remote();
    let repo = api.get("/repo").await.json;
    assert_eq!((&repo["remote"], &repo["url"]), (&nothing, &json!("")));
    node.vcs.detach();
    assert_eq!(api.get("/repo").await.json["ref"]["branch"], "HEAD");
    node.vcs.make_unborn();
    let unborn = json!({"branch": "main", "hash": "", "author": "", "message": ""});
    assert_eq!(api.get("/repo").await.json["ref"], unborn);
}

#[tokio::test(start_paused = true)]
async fn reading_the_repository_asks_the_remote_only_if_told_to() {
    let node = node().await;
    let api = test_api(&node);
    node.vcs.push("b2");
    for path in ["/repo", "/repo?fetch=false", "/repo?fetch=0"] {
        assert_eq!(api.get(path).await.json["remote"]["hash"], hash("a1"), "{path}");
    }
    assert_eq!(api.get("/repo?fetch").await.json["remote"]["hash"], hash("b2"));
    assert_eq!(api.get("/repo").await.json["ref"]["hash"], hash("a1"), "nothing is checked out");
    node.vcs.go_offline();
    assert_eq!(api.get("/repo").await.status, 200);
    assert_eq!(api.get("/repo?fetch").await.code(), "fetch_failed");
}

#[tokio::test(start_paused = true)]
async fn an_update_says_from_where_to_where() {
    let node = node().await;
    let api = test_api(&node);
    let before = api.get("/service").await.json;
    let nothing_new = api.post("/repo/update").await;
    assert_eq!(keys(&nothing_new.json), ["from", "to"]);
    assert_eq!(nothing_new.json["from"]["hash"], nothing_new.json["to"]["hash"]);
    assert_eq!(api.get("/service").await.json, before, "no service was touched");

    node.vcs.push("b2");
    let update = api.post("/repo/update").await;
    assert_eq!(keys(&update.json), ["from", "to"]);
    assert_eq!(keys(&update.json["to"]), ["branch", "hash", "author", "message"]);
    assert_eq!(
        (&update.json["from"]["branch"], &update.json["from"]["hash"]),
        (&json!("main"), &json!(hash("a1")))
    );
    assert_eq!(
        (&update.json["to"]["branch"], &update.json["to"]["hash"]),
        (&json!("origin/main"), &json!(hash("b2")))
    );
    assert_ne!(api.get("/service").await.json, before);
    assert_eq!(api.get("/repo").await.json["ref"]["hash"], hash("b2"));
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_has_moved_is_named_with_the_command_that_makes_it_permanent() {
    let node = node().await;
    let api = test_api(&node);
    node.vcs.push("b2");
    node.vcs.move_remote("https://new.example.org/app.git");
    for answer in [api.get("/repo?fetch").await, api.post("/repo/update").await] {
        assert_eq!(answer.json["moved_to"], "https://new.example.org/app.git", "{}", answer.text);
        assert_eq!(answer.json["remedy"], "git remote set-url origin https://new.example.org/app.git");
    }
    assert!(api.get("/repo").await.json.get("moved_to").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_by_post_says_how_far_the_two_are_apart_and_what_runs() {
    let node = node().await;
    let api = test_api(&node);
    node.vcs.push("b2");
    node.vcs.push("c3");
    node.vcs.commit_here("d4");
    assert_eq!(api.get("/repo").await.json["behind"], 0);
    let fetched = api.post("/repo/fetch").await.json;
    assert_eq!(fetched["remote"]["hash"], hash("c3"));
    assert_eq!((&fetched["behind"], &fetched["ahead"]), (&json!(2), &json!(1)));
    assert_eq!(
        (&fetched["ref"]["hash"], &fetched["deployed"]["hash"]),
        (&json!(hash("d4")), &json!(hash("a1")))
    );
    assert_eq!(api.get("/repo").await.json, fetched);
    assert_eq!(api.get("/repo/fetch").await.status, 405);
    assert!(api.get("/operation").await.json.as_array().unwrap().iter().all(|one| one["kind"] == "start"));
}

#[tokio::test(start_paused = true)]
async fn an_update_counts_commits_that_only_this_machine_has() {
    let node = node().await;
    let api = test_api(&node);
    node.vcs.commit_here("c3");
    for from in ["a1", "c3"] {
        let update = api.post("/repo/update").await.json;
        assert_eq!(keys(&update), ["from", "to", "ahead"]);
        assert_eq!(
            (&update["ahead"], &update["from"]["hash"], &update["to"]["hash"], &update["to"]["branch"]),
            (&json!(1), &json!(hash(from)), &json!(hash("c3")), &json!("main"))
        );
    }
    let invalidated = api.send(Method::POST, "/repo/update?invalidate", &[], "").await.json;
    assert_eq!(
        (keys(&invalidated), &invalidated["invalidated"]),
        (vec!["from", "to", "ahead", "invalidated"], &json!(true))
    );
}

#[tokio::test(start_paused = true)]
async fn an_update_names_services_that_were_down_and_still_are() {
    let node = node().await;
    let api = test_api(&node);
    let web = "web".parse().unwrap();
    api.post("/service/stop/web").await;
    node.prober.fail(&web);
    node.vcs.push("b2");
    let update = api.post("/repo/update").await;
    assert_eq!(update.status, 200, "{}", update.text);
    assert_eq!(keys(&update.json["services"]), ["web"], "{}", update.text);
}

#[tokio::test(start_paused = true)]
async fn a_reload_answers_an_empty_object() {
    let node = node().await;
    let api = test_api(&node);
    let before = api.get("/service").await.json;
    let reload = api.post("/reload").await;
    assert_eq!(reload.text, "{}\n");
    assert!(reload.headers["operation-id"].to_str().unwrap().parse::<u64>().is_ok());
    let after = api.get("/service").await.json;
    for name in ["web", "jobs", "files"] {
        assert_ne!(before[name], after[name], "{name} was restarted");
    }
}

#[tokio::test(start_paused = true)]
async fn services_are_listed_in_the_order_of_the_manifest_with_ids_that_rise() {
    let node = node().await;
    let api = test_api(&node);
    let services = api.get("/service").await.json;
    assert_eq!(keys(&services), ["web", "jobs", "files"]);
    let id = |services: &Value, name: &str| services[name].as_str().unwrap().parse::<u64>().unwrap();
    api.post("/service/restart/web").await;
    let after = api.get("/service").await.json;
    assert!(id(&after, "web") > id(&services, "web"));
    assert_eq!(after["jobs"], services["jobs"]);
    api.post("/service/stop/web").await;
    assert_eq!(keys(&api.get("/service").await.json), ["jobs", "files"]);
}

#[tokio::test(start_paused = true)]
async fn restart_and_stop_count_services_of_every_type() {
    let node = node().await;
    let api = test_api(&node);
    for (path, count) in [
        ("/service/restart", 3),
        ("/service/restart/files", 1),
        ("/service/stop/web", 1),
        ("/service/stop/web", 0),
        ("/service/stop", 2),
        ("/service/stop", 0),
        ("/service/restart/web", 1),
        ("/service/restart", 3),
    ] {
        let answer = api.post(path).await;
        assert_eq!((answer.status.as_u16(), &answer.json), (200, &json!({"count": count})), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn health_has_an_err_only_when_something_is_wrong() {
    let node = node().await;
    let api = test_api(&node);
    let all = api.get("/service/health").await.json;
    assert_eq!(keys(&all), ["web", "jobs", "files"]);
    assert_eq!(all["web"], json!({"status": "OK", "healthy": 1, "total": 1}));
    assert_eq!(all["jobs"], json!({"status": "OK", "healthy": 1, "total": 1}));
    assert_eq!(all["files"], json!({"status": "OK", "healthy": 0, "total": 0}));
    for name in ["web", "jobs", "files"] {
        assert_eq!(api.get(&format!("/service/health/{name}")).await.json, all[name]);
    }
    api.post("/service/stop/web").await;
    assert_eq!(
        api.get("/service/health/web").await.json,
        json!({"status": "Stopped", "healthy": 0, "total": 0})
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_crashed_and_does_not_come_back_is_down_with_a_reason() {
    let node = node().await;
    let api = test_api(&node);
    let web = node.spawner.launches().iter().position(|launch| launch.program == "web").unwrap();
    node.spawner.fail_spawn("web", 2);
    node.spawner.crash(web, Exit::Code(7));
    node.spawner.wait_for_failures(1).await;
    let health = api.get("/service/health/web").await.json;
    assert_eq!(keys(&health), ["status", "healthy", "total", "err", "reason", "next_try"]);
    let (err, reason) = (health["err"].as_str().unwrap(), health["reason"].as_str().unwrap());
    assert!(err.strip_prefix(reason).is_some_and(|rest| rest.starts_with("; the next try ")), "{health}");
    assert!(is_time(&health["next_try"]) && health["next_try"] != NO_TIME, "{health}");
    assert_eq!(
        (&health["status"], &health["healthy"], &health["total"]),
        (&json!("Down"), &json!(0), &json!(1))
    );
    node.spawner.start_normally("web");
    node.spawner.print_at_start("web", "one\n\nKeyError: 'DATABASE_URL'\n");
    node.spawner.exit_at_start("web", Exit::Code(1));
    node.spawner.wait_for_launches(node.spawner.launches().len() + 1).await;
    let health = loop {
        let health = api.get("/service/health/web").await.json;
        if health["last_lines"].is_array() {
            break health;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(keys(&health), ["status", "healthy", "total", "err", "reason", "last_lines", "next_try"]);
    assert_eq!(health["last_lines"], json!(["one", "KeyError: 'DATABASE_URL'"]), "oldest first");
    assert_eq!(health["reason"], "instance 1: it ended with exit code 1 after 0.0 s");
    assert!(health["err"].as_str().unwrap().ends_with("; its last lines: one | KeyError: 'DATABASE_URL'"));
}

#[tokio::test(start_paused = true)]
async fn metrics_are_complete_and_in_order() {
    const FIGURES: [&str; 13] = [
        "pid",
        "create_time",
        "cmd",
        "cpu",
        "rss",
        "vms",
        "hwm",
        "data",
        "stack",
        "locked",
        "swap",
        "io_read",
        "io_write",
    ];
    let node = node().await;
    let api = test_api(&node);
    let all = api.get("/service/metrics").await.json;
    assert_eq!(keys(&all), ["web", "jobs", "files"]);
    let ids = api.get("/service").await.json;
    for (name, service_type) in [("web", "app"), ("jobs", "app"), ("files", "file")] {
        let metrics = &all[name];
        let mut known = keys(metrics);
        // How processes are known is said where there are some.
        let containment = known.iter().position(|key| *key == "containment").map(|at| known.remove(at));
        let log = known.iter().position(|key| *key == "log").map(|at| known.remove(at));
        assert_eq!(known, ["id", "type", "server", "processes", "status", "healthy", "total"]);
        assert_eq!(log.is_some(), name != "files");
        assert_eq!(containment.is_some(), name != "files");
        assert!(name == "files" || metrics["containment"] == "mark");
        assert_eq!((&metrics["id"], &metrics["type"]), (&ids[name], &json!(service_type)));
    }
    let upstream = &all["web"]["server"]["upstreams"][0];
    assert_eq!(
        keys(upstream),
        [
            "address",
            "healthy",
            "load_factor",
            "request_count",
            "error_count",
            "server_error_count",
            "client_error_count"
        ]
    );
    assert_eq!(upstream["healthy"], true);
    assert_eq!((&all["jobs"]["server"], &all["files"]["server"]), (&json!({}), &json!({})));
    assert_eq!(all["files"]["processes"], json!([]));

    let process = &all["web"]["processes"][0];
    assert_eq!(keys(process), [&FIGURES[..], &["instance", "port", "commit", "restarts", "tree"]].concat());
    assert_eq!(process["pid"], node.spawner.pid(0));
    assert_eq!((&process["instance"], process["port"].as_u64() > Some(0)), (&json!(1), true));
    assert_eq!(all["jobs"]["processes"][0]["port"], 0);
    assert!(process["tree"].as_object().unwrap().values().all(|one| keys(one) == FIGURES));
    let one = api.get("/service/metrics/web").await.json;
    assert_eq!(keys(&one), keys(&all["web"]));
    api.post("/service/stop/web").await;
    let stopped = api.get("/service/metrics/web").await.json;
    assert_eq!((&stopped["processes"], &stopped["status"]), (&json!([]), &json!("Stopped")));
}

#[tokio::test(start_paused = true)]
async fn the_metrics_of_one_service_look_at_no_process_of_another() {
    let node = node().await;
    let api = test_api(&node);
    let looks = || [node.spawner.looks(0), node.spawner.looks(1)];
    let before = looks();
    assert_eq!(api.get("/service/metrics/web").await.json["processes"][0]["pid"], node.spawner.pid(0));
    assert_eq!(looks(), [before[0] + 1, before[1]]);
    api.get("/service/metrics").await;
    assert_eq!(looks(), [before[0] + 2, before[1] + 1]);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_service_has_upstreams_and_no_processes() {
    let node = serving_manifest("services:\n  billing: !Proxy 127.0.0.1:1\n").await;
    let api = test_api(&node);
    let metrics = api.get("/service/metrics/billing").await.json;
    assert_eq!((&metrics["type"], &metrics["processes"]), (&json!("proxy"), &json!([])));
    assert_eq!(metrics["server"]["upstreams"][0]["address"], "127.0.0.1:1", "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn sessions_are_listed_by_address() {
    let node = node().await;
    let api = test_api(&node);
    assert_eq!(api.get("/session").await.text, "{\"num_clients\":0,\"sessions\":{}}\n");
    let client = |address: &str| ClientKey::from(address.parse::<IpAddr>().unwrap());
    for (address, requests) in [("127.0.0.5", 3), ("203.0.113.9", 1), ("2001:db8:1:2::77", 2)] {
        for _ in 0..requests {
            node.sessions().record(client(address), Instant::now());
        }
    }
    let all = api.get("/session").await.json;
    assert_eq!((keys(&all), &all["num_clients"]), (vec!["num_clients", "sessions"], &json!(3)));
    assert_eq!(
        keys(&all["sessions"]),
        ["127.0.0.5", "2001:db8:1:2::/64", "203.0.113.9"],
        "most requests first"
    );
    let one = &all["sessions"]["203.0.113.9"];
    assert_eq!(keys(one), ["avg_rps", "num_reqs", "first_seen", "blocked_until"]);
    assert_eq!((one["avg_rps"].as_f64(), &one["num_reqs"]), (Some(0.0), &json!(1)));
    assert!(is_time(&one["first_seen"]), "{one}");
    assert_eq!(one["blocked_until"], NO_TIME);

    let cut = api.get("/session?limit=1&sort=num_reqs").await.json;
    assert_eq!((&cut["num_clients"], keys(&cut["sessions"])), (&json!(3), vec!["127.0.0.5"]));
    let none = api.get("/session?limit=0").await.json;
    assert_eq!(none, json!({"num_clients": 3, "sessions": {}}));

    let until = Instant::now() + std::time::Duration::from_mins(5);
    node.sessions().block(client("203.0.113.9"), until, Instant::now());
    let blocked = &api.get("/session").await.json["sessions"]["203.0.113.9"]["blocked_until"];
    assert!(is_time(blocked), "{blocked}");
}

#[tokio::test(start_paused = true)]
async fn sessions_come_in_the_order_that_is_asked_for() {
    let node = node().await;
    let api = test_api(&node);
    let now = Instant::now();
    // Address, requests, and the seconds from now in which they come.
    for (address, requests, begin, end) in
        [("192.0.2.1", 5, 0, 100), ("192.0.2.2", 4, 50, 52), ("192.0.2.3", 3, 98, 200)]
    {
        for request in 0..requests {
            let at = begin * 1000 + (end - begin) * 1000 * request / (requests - 1);
            let client = ClientKey::from(address.parse::<IpAddr>().unwrap());
            node.sessions().record(client, now + std::time::Duration::from_millis(at));
        }
    }
    for (sort, expected) in [
        ("num_reqs", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("avg_rps", ["192.0.2.2", "192.0.2.1", "192.0.2.3"]),
        ("last_seen", ["192.0.2.3", "192.0.2.1", "192.0.2.2"]),
    ] {
        let all = api.get(&format!("/session?sort={sort}")).await.json;
        assert_eq!(keys(&all["sessions"]), expected, "{sort}");
        let two = api.get(&format!("/session?sort={sort}&limit=2")).await.json;
        assert_eq!(keys(&two["sessions"]), expected[..2], "{sort}");
    }
}

#[tokio::test]
async fn many_sessions_do_not_hold_up_other_calls() {
    let node = node().await;
    let api = test_api(&node);
    for address in 0..20_000_u32 {
        node.sessions().record(ClientKey::from(IpAddr::V4(address.into())), Instant::now());
    }
    let mut listings = (0..4).map(|_| Box::pin(api.get("/session"))).collect::<Vec<_>>();
    for listing in &mut listings {
        // Whoever asks next has the thread that it was begun on.
        assert!(futures_util::poll!(listing.as_mut()).is_pending());
    }
    assert_eq!(api.get("/ping").await.status, 200);
    for listing in listings {
        assert_eq!(listing.await.json["num_clients"], 20_000);
    }
}

#[tokio::test(start_paused = true)]
async fn operations_are_listed_newest_first_and_read_one_by_one() {
    let node = node().await;
    let api = test_api(&node);
    let restart = api.post("/service/restart/web").await;
    let id = restart.headers["operation-id"].to_str().unwrap();
    let list = api.get("/operation").await.json;
    let list = list.as_array().unwrap();
    assert_eq!(
        list.iter().map(|operation| operation["kind"].as_str().unwrap()).collect::<Vec<_>>(),
        ["restart", "start"]
    );
    let operation = api.get(&format!("/operation/{id}")).await.json;
    assert_eq!(operation, list[0]);
    assert_eq!(keys(&operation), ["id", "kind", "state", "started", "ended", "steps", "result"]);
    assert_eq!(
        (&operation["id"], &operation["state"], &operation["result"]),
        (&json!(id), &json!("done"), &json!({"count": 1}))
    );
    assert!(is_time(&operation["started"]) && is_time(&operation["ended"]));
    let steps = operation["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"start") && names.contains(&"ready") && names.contains(&"switch"), "{names:?}");
    for step in steps {
        assert_eq!(&keys(step)[..5], ["name", "service", "state", "started", "ended"]);
        assert_eq!((&step["service"], &step["state"]), (&json!("web"), &json!("done")));
        assert!(is_time(&step["started"]) && is_time(&step["ended"]));
    }
    for unknown in ["7", "x", "-1", "99999999999999999999999"] {
        let answer = api.get(&format!("/operation/{unknown}")).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "operation_not_found"), "{unknown}");
    }
}

#[tokio::test(start_paused = true)]
async fn ping_and_version_are_texts() {
    let node = node().await;
    let api = test_api(&node);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(api.get("/ping").await.json, json!(host.trim_end()));
    let version = api.get("/version").await.json;
    assert!(version.as_str().unwrap().starts_with('v'), "{version}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_answered_before_the_server_ends() {
    let node = node().await;
    let api = test_api(&node);
    let answer = api.post("/shutdown").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "{}\n"));
    node.ending().await;
    let id = answer.headers["operation-id"].to_str().unwrap();
    assert_eq!(api.get(&format!("/operation/{id}")).await.json["kind"], "shutdown");
    assert_eq!(api.post("/shutdown?wait=true").await.json, json!({}), "nobody is left to wait for the end");
    let again = api.post("/shutdown?wait=false").await;
    assert_eq!((again.status.as_u16(), &again.json), (202, &json!({"operation": id})));
    let refused = api.post("/reload").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "shutting_down"));
}
