//! No request fails while services are replaced, and a revision that does not work goes back.

use std::fs;

use serde_json::json;

use crate::harness::{Load, Project, Server, lives, signal, wait_for, web_manifest, write};

#[test]
fn restart_reload_and_update_lose_no_request_with_two_instances() {
    let project = Project::web(2);
    let server = Server::serve(&project);
    let before = server.get("/service")["web"].clone();
    let pids = server.pids("web");
    let load = Load::on(&server);
    assert_eq!(server.post("/service/restart/web"), json!({"count": 1}));
    assert_eq!(server.post("/reload"), json!({}));
    let new = project.push(&[("web/version.txt", "v2\n")]);
    let update = server.post("/repo/update");
    load.ends_without_a_failure();
    assert_eq!(update["to"]["hash"], new.as_str());
    assert_eq!(update["to"]["branch"], "origin/main");
    assert_eq!(update["from"]["branch"], "main");
    assert_eq!(project.head(), new);
    assert!(server.site("/").1.contains("\"version\": \"v2\""));
    assert_ne!(server.get("/service")["web"], before);
    assert!(pids.iter().all(|&pid| !lives(pid)));
}

#[test]
fn a_threading_app_under_load_ends_by_sigterm_because_no_idle_connection_to_it_is_kept() {
    // It waits for its connections, and the front would keep idle ones for 4 s.
    let project = Project::new(&web_manifest(2, "").replace("stop_timeout: 5s", "stop_timeout: 3s"));
    let server = Server::serve(&project);
    let pids = server.pids("web");
    let load = Load::on(&server);
    server.post("/service/restart/web");
    load.ends_without_a_failure();
    assert!(pids.iter().all(|&pid| !lives(pid)));
    let log = server.log();
    assert!(log.contains("it has ended") && !log.contains("did not end within"), "{log}");
}

#[test]
fn one_slow_starter_is_replaced_without_a_failed_request() {
    let project = Project::new(&web_manifest(1, "    env: {START_DELAY: '1.5'}\n"));
    let server = Server::serve(&project);
    let load = Load::on(&server);
    server.post("/service/restart/web");
    load.ends_without_a_failure();
}

#[test]
fn an_update_to_a_revision_that_cannot_start_goes_back_while_the_old_instances_serve() {
    let project = Project::web(2);
    let server = Server::serve(&project);
    let (old, before, pids) = (project.head(), server.get("/service"), server.pids("web"));
    project.push(&[("web/version.txt", "broken\n")]);
    let load = Load::on(&server);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    load.ends_without_a_failure();
    assert_eq!(
        (status, &answer["code"], &answer["rolled_back"]),
        (500, &json!("rollout_failed"), &json!(true))
    );
    let reason = answer["services"]["web"].as_str().unwrap();
    assert!(reason.contains("missing module frobnicate"), "the last lines help: {reason}");
    assert_eq!(project.head(), old);
    assert_eq!(fs::read_to_string(project.work.join("web/version.txt")).unwrap(), "v1\n");
    assert_eq!(server.get("/service"), before);
    assert_eq!(server.pids("web"), pids, "the very same processes");

    let mended = project.push(&[("web/version.txt", "v3\n")]);
    assert_eq!(server.post("/repo/update")["to"]["hash"], mended.as_str());
    assert!(server.site("/").1.contains("v3"));
}

#[test]
fn an_update_finds_its_manifest_whatever_way_it_was_named() {
    for way in ["link", "work/../work", "link/./pm3.yml"] {
        let project = Project::web(1);
        std::os::unix::fs::symlink(&project.work, project.folder.path().join("link")).unwrap();
        let state = project.folder.path().join("state");
        let server = Server::start(&project.folder.path().join(way), &state);
        server.settle();
        let new = project.push(&[("web/version.txt", "v2\n")]);
        assert_eq!(server.post("/repo/update")["to"]["hash"], new.as_str(), "{way}");
    }
}

#[test]
fn a_revision_that_fails_goes_back_although_its_build_rewrote_tracked_files() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let old = project.head();
    let build = "    build: sh -c 'echo rewritten > version.txt; rm ../.gitignore; exit 1'\n";
    project.push(&[("pm3.yml", &web_manifest(1, build)), ("web/version.txt", "v2\n")]);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!((status, &answer["rolled_back"]), (500, &json!(true)), "{answer}");
    assert_eq!(project.head(), old);
    assert_eq!(crate::harness::git(&project.work, &["status", "--porcelain"]), "");
    assert_eq!(server.call("POST", "/repo/update", &[], "").0, 500, "it is tried again");
}

#[test]
fn a_commit_with_a_broken_manifest_changes_nothing() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let (old, before) = (project.head(), server.get("/service"));
    project.push(&[("pm3.yml", "services:\n  web: !App\n    rnu: python3 app.py\n")]);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!((status, &answer["code"]), (422, &json!("manifest_invalid")));
    assert!(answer["error"].as_str().unwrap().contains("pm3.yml:3:5"), "{answer}");
    assert_eq!((project.head(), server.get("/service")), (old, before));
}

#[test]
fn an_update_with_nothing_new_touches_nothing_and_invalidate_restarts() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let (before, pids) = (server.get("/service"), server.pids("web"));
    let update = server.post("/repo/update");
    assert_eq!(update["from"]["hash"], update["to"]["hash"]);
    assert_eq!((server.get("/service"), server.pids("web")), (before, pids.clone()));
    server.post("/repo/update?invalidate");
    assert_ne!(server.pids("web"), pids);
}

#[test]
fn local_changes_are_refused_and_kept() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    fs::write(project.work.join("web/version.txt"), "mine\n").unwrap();
    project.push(&[("web/version.txt", "v2\n")]);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!((status, &answer["code"]), (409, &json!("work_tree_dirty")));
    assert_eq!(fs::read_to_string(project.work.join("web/version.txt")).unwrap(), "mine\n");
}

#[test]
fn a_remote_that_is_gone_is_a_failed_fetch() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    fs::remove_dir_all(project.folder.path().join("remote.git")).unwrap();
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!((status, &answer["code"]), (502, &json!("fetch_failed")));
}

#[test]
fn a_reload_starts_new_services_and_stops_removed_ones() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let manifest = project.work.join("pm3.yml");
    let with_job = web_manifest(1, "  job: !App\n    root: .\n    run: sleep 1000\n    background: true\n");
    fs::write(&manifest, with_job).unwrap();
    server.post("/reload");
    assert_eq!(server.get("/service/health/job")["status"], "OK");
    let job = server.pids("job")[0];
    fs::write(&manifest, web_manifest(1, "")).unwrap();
    server.post("/reload");
    assert!(!lives(job));
    assert_eq!(server.call("GET", "/service/health/job", &[], "").0, 404);
}

#[test]
fn a_build_is_made_once_and_its_link_moves_with_the_revision() {
    let build = "    build: sh -c 'cp version.txt $PM3_OUT/built.txt && echo built >> ../builds.log'\n";
    let project = Project::new(&web_manifest(1, build));
    let server = Server::serve(&project);
    let built = || fs::read_to_string(project.work.join("web/.run/built.txt")).unwrap();
    let count = || fs::read_to_string(project.work.join("builds.log")).unwrap().lines().count();
    assert_eq!((built().as_str(), count()), ("v1\n", 1));
    server.post("/service/restart/web");
    assert_eq!(count(), 1, "the same content is not built again");
    server.post("/service/restart/web?invalidate");
    assert_eq!(count(), 2);
    project.push(&[("web/version.txt", "broken\n")]);
    assert_eq!(server.call("POST", "/repo/update", &[], "").0, 500);
    assert_eq!(built(), "v1\n", "the link goes back");
    project.push(&[("web/version.txt", "v2\n")]);
    server.post("/repo/update");
    assert_eq!(built(), "v2\n");
}

#[test]
fn every_step_of_an_update_is_in_its_operation() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    project.push(&[("web/version.txt", "v2\n")]);
    let (status, accepted) = server.call("POST", "/repo/update?wait=false", &[], "");
    assert_eq!(status, 202);
    let id = accepted["operation"].as_str().unwrap();
    let operation = server.get(&format!("/operation/{id}?wait=30s"));
    assert_eq!((&operation["kind"], &operation["state"]), (&json!("update"), &json!("done")));
    let steps: Vec<&str> =
        operation["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(steps, ["fetch", "check", "check_out", "start", "ready", "switch", "drain", "stop"]);
}

#[test]
fn requests_wait_while_the_only_instance_is_replaced_by_a_crash() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let pid = server.pids("web")[0];
    crate::harness::signal(pid, "KILL");
    let (status, _) = server.site("/");
    assert_eq!(status, 200, "a GET waits for the next instance");
    wait_for("another process", || server.pids("web").first().is_some_and(|&new| new != pid));
}

/// As a server of masters and workers does, it listens before a worker lives.
const MASTER: &str = r#"
import os, socket, subprocess, sys, time
s = socket.socket(); s.bind((os.environ["HOST"], int(os.environ["PORT"]))); s.listen()
time.sleep(0.5)
sys.exit("SyntaxError: invalid syntax")
"#;

#[test]
fn an_app_whose_socket_accepts_and_whose_worker_dies_goes_live_by_no_update_and_no_restart() {
    let project = Project::web(2);
    let server = Server::serve(&project);
    let before = server.pids("web");
    let head = project.head();
    project.push(&[("web/app.py", MASTER)]);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!((status, &answer["code"]), (500, &"rollout_failed".into()), "{answer}");
    assert!(answer["services"]["web"].as_str().unwrap().contains("SyntaxError"), "{answer}");
    assert_eq!((server.pids("web"), project.head()), (before.clone(), head));
    write(&project.work, "web/app.py", MASTER);
    let (status, answer) = server.call("POST", "/service/restart/web", &[], "");
    assert_eq!((status, &answer["code"]), (500, &"rollout_failed".into()), "{answer}");
    assert_eq!(server.pids("web"), before);
    assert_eq!(server.site("/").0, 200);
}

#[test]
fn after_some_timeouts_no_request_goes_to_a_stopped_process_while_another_answers_and_it_comes_back() {
    let more = "    monitor: {unhealthy: {threshold: 2}, timeout: 60s}\n    lb: {response_timeout: 300ms}\n";
    let project = Project::new(&web_manifest(2, more));
    let server = Server::serve(&project);
    let pids = server.pids("web");
    signal(pids[0], "STOP");
    let mut late = 0;
    wait_for("the timeouts are told", || {
        late += u32::from(server.site("/").0 == 504);
        server.log().contains("requests to it have had no answer in a row")
    });
    assert!(late >= 2, "{late}");
    for _ in 0..8 {
        assert_eq!(server.site("/").0, 200);
    }
    assert_eq!(server.get("/service/health/web")["healthy"], 2, "its probe is still under way");
    signal(pids[0], "CONT");
    let answers = |pid: u32| server.site("/").1.contains(&format!("\"pid\": {pid},"));
    wait_for("it is back", || answers(pids[0]));
    wait_for("the other goes on", || answers(pids[1]));
}

#[test]
fn a_stopped_process_of_two_is_taken_out_after_some_timeouts_and_comes_back_when_it_answers() {
    let more = "    monitor: {unhealthy: {interval: 200ms, threshold: 2}, timeout: 500ms}\n    lb: {response_timeout: 300ms}\n";
    let project = Project::new(&web_manifest(2, more).replace("ready_timeout: 10s", "ready_timeout: 10m"));
    let server = Server::serve(&project);
    let stopped = server.get("/service/metrics/web")["processes"][0]["pid"].as_u64().unwrap();
    let stopped = u32::try_from(stopped).unwrap();
    signal(stopped, "STOP");
    let health = || server.get("/service/health/web")["healthy"].clone();
    wait_for("it is taken out", || {
        server.site("/");
        health() == 1
    });
    for _ in 0..6 {
        assert_eq!(server.site("/").0, 200);
    }
    signal(stopped, "CONT");
    wait_for("it is back", || health() == 2);
}

#[test]
fn a_frozen_process_is_replaced_by_one_that_is_ready_before_it_ends_also_where_it_is_the_only_one() {
    let more = "    monitor: {unhealthy: {interval: 200ms, threshold: 2}, timeout: 500ms}\n    \
                lb: {response_timeout: 300ms}\n    unhealthy_timeout: 200ms\n    drain_timeout: 200ms\n";
    let project = Project::new(&web_manifest(1, more));
    let server = Server::serve(&project);
    let [frozen] = server.pids("web")[..] else { panic!("one process") };
    signal(frozen, "STOP");
    wait_for("another one answers", || server.site("/").0 == 200);
    wait_for("the frozen one has ended", || !lives(frozen));
    server.settle();
    let processes = server.get("/service/metrics/web")["processes"].as_array().unwrap().clone();
    assert_eq!((processes.len(), &processes[0]["restarts"]), (1, &json!(1)), "{processes:?}");
    assert_ne!(server.pids("web"), [frozen]);
    assert!(server.log().contains("it has been unhealthy for `unhealthy_timeout`: it is replaced"));
}
