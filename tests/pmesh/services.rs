//! Services live and end as they should, and the server tells the truth about them.

use std::fs;

use serde_json::json;

use crate::harness::{Project, Server, lives, pmesh, signal, wait_for, web_manifest, write};

#[test]
fn a_stop_ends_the_whole_tree_and_a_restart_brings_it_back() {
    let run =
        "  tree: !App\n    root: .\n    run: sh -c 'sleep 1000 & sleep 1000 & wait'\n    background: true\n";
    let project = Project::new(&web_manifest(2, run));
    let server = Server::serve(&project);
    wait_for("the whole tree", || server.pids("tree").len() == 3);
    let pids = [server.pids("tree"), server.pids("web")].concat();
    assert_eq!(server.post("/service/stop/tree"), json!({"count": 1}));
    assert_eq!(server.post("/service/stop/web"), json!({"count": 1}));
    assert!(pids.iter().all(|&pid| !lives(pid)));
    assert_eq!(server.post("/service/stop/web"), json!({"count": 0}));
    assert_eq!(server.get("/service"), json!({}));
    let health = server.get("/service/health/web");
    assert_eq!(
        (&health["status"], &health["healthy"], &health["total"]),
        (&json!("Stopped"), &json!(0), &json!(0))
    );
    assert_eq!(server.site("/").0, 503);
    assert_eq!(server.post("/service/restart"), json!({"count": 2}));
    assert_eq!(server.site("/").0, 200);
}

#[test]
fn the_end_of_the_server_is_the_end_of_its_services() {
    let project = Project::web(3);
    let server = Server::serve(&project);
    let pids = server.pids("web");
    assert_eq!(pids.len(), 3);
    assert_eq!(server.terminate(), Some(0));
    assert!(pids.iter().all(|&pid| !lives(pid)));
}

#[test]
fn the_api_can_end_the_server() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let pid = server.pid();
    assert_eq!(server.call("GET", "/shutdown", &[], "").0, 405);
    assert_eq!(server.post("/shutdown"), json!({}));
    wait_for("the server has ended", || !lives(pid));
}

#[test]
fn a_taken_port_is_exit_1_before_any_service_starts() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let other = Project::new(&web_manifest(1, "    build: touch ../started\n"));
    let state = other.folder.path().join("state");
    let output = pmesh()
        .arg("run")
        .arg(&other.work)
        .args(["--http", &server.front, "--api", "127.0.0.1:0", "--state-dir"])
        .arg(&state)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&server.front), "it names the address: {said}");
    assert!(!other.work.join("started").exists());
}

#[test]
fn a_second_server_on_a_state_folder_is_told_the_pid_of_the_first() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let output = pmesh()
        .arg("run")
        .arg(&project.work)
        .args(["--http", "127.0.0.1:0", "--api", "127.0.0.1:0", "--state-dir"])
        .arg(&server.state)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&server.pid().to_string()));
}

#[test]
fn a_service_that_cannot_start_says_why_and_the_others_serve() {
    let bad =
        "  bad: !App\n    root: .\n    run: sh -c 'echo no such table; exit 3'\n    ready_timeout: 3s\n";
    let project = Project::new(&web_manifest(1, bad));
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    wait_for("the reason", || {
        let health = server.get("/service/health/bad");
        let reason = health["err"].as_str().unwrap_or_default();
        health["status"] == "Down" && reason.contains("exit code 3") && reason.contains("no such table")
    });
    assert_eq!(server.site("/").0, 200);
    // It does not stand in the way of its mending either.
    fs::write(project.work.join("pm3.yml"), web_manifest(1, "")).unwrap();
    server.post("/reload");
}

/// The CPU time of a process so far (proc(5): fields 14 and 15).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn two_hundred_background_services_start_list_restart_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = "services:\n".to_owned();
    for number in 0..200 {
        manifest.push_str(&format!(
            "  s{number}: !App\n    root: .\n    run: sleep 1000\n    background: true\n"
        ));
    }
    write(folder.path(), "work/pm3.yml", &manifest);
    let server = Server::start(&folder.path().join("work"), &folder.path().join("state"));
    server.settle();
    assert_eq!(server.get("/service").as_object().unwrap().len(), 200);
    let before = cpu_ticks(server.pid());
    // No race is waited out here: this is the time that is measured.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let ticks = cpu_ticks(server.pid()) - before;
    assert!(ticks <= 1, "{ticks} ticks of CPU time in 3 s, with nothing to do");
    assert_eq!(server.post("/service/restart"), json!({"count": 200}));
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let rss = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = rss.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 40 * 1024, "{rss}");
    assert_eq!(server.post("/service/stop"), json!({"count": 200}));
    assert_eq!(server.get("/service"), json!({}));
}

#[test]
fn an_instance_sees_where_to_listen_and_who_asks() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let mut connection = crate::harness::Connection::to(&server.front);
    let spoofed = [("P-Ip", "9.9.9.9"), ("P_Internal", "1"), ("X-Forwarded-For", "203.0.113.9")];
    let (status, body) = connection.send("GET", "/a?b=c", "site.local", &spoofed, "").unwrap();
    let seen: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &seen["path"]), (200, &json!("/a?b=c")));
    // Names of header fields have no case (RFC 9110, 5.1).
    let headers: std::collections::BTreeMap<String, &serde_json::Value> = seen["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect();
    assert_eq!(headers["p-ip"], "203.0.113.9");
    assert_eq!(headers["host"], "site.local");
    assert!(!headers.contains_key("p-internal") && !headers.contains_key("p_internal"), "{headers:?}");
    assert!(headers.contains_key("x-request-id"));
}

#[test]
fn every_request_through_the_front_counts_for_its_client() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    for _ in 0..5 {
        server.site("/");
    }
    let mut connection = crate::harness::Connection::to(&server.front);
    assert_eq!(connection.send("GET", "/ping", "pm3", &[], "").unwrap().0, 200);
    assert_eq!(connection.send("GET", "/", "unknown.example", &[], "").unwrap().0, 421);
    let mut broken = crate::harness::Connection::to(&server.front);
    assert_eq!(broken.raw(b"GET / HTTP/1.1\r\nbad header\r\n\r\n").unwrap().0, 400);
    wait_for("the malformed request is counted", || {
        server.get("/session")["sessions"]["127.0.0.1"]["num_reqs"] == 8
    });
    let session = &server.get("/session")["sessions"]["127.0.0.1"];
    assert_eq!(session["blocked_until"], "0001-01-01T00:00:00Z");
}

#[test]
fn files_whose_folder_is_absent_are_down_and_say_so_until_it_is_there() {
    let project = Project::new(&web_manifest(1, "  pictures: !FS files/pictures\n"));
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    let folder = project.work.join("files/pictures");
    let health = server.get("/service/health/pictures");
    let told = format!("its folder {} is not there; make it, or name another with `path`", folder.display());
    assert_eq!(health, json!({"status": "Down", "healthy": 0, "total": 0, "err": told, "reason": told}));
    assert_eq!(server.get("/service/metrics/pictures")["err"], told);
    assert_eq!(server.get("/service/health")["pictures"]["status"], "Down");
    fs::create_dir_all(&folder).unwrap();
    assert_eq!(server.get("/service/health/pictures")["status"], "OK");
    server.post("/service/stop/pictures");
    fs::remove_dir(&folder).unwrap();
    assert_eq!(server.get("/service/health/pictures")["status"], "Stopped");
}

#[test]
fn an_app_whose_port_is_taken_says_by_whom() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        "services:\n  web: !App\n    root: .\n    run: sh -c 'echo \"Error - listen EADDRINUSE - address already in use \
         127.0.0.1:{port}\" >&2; exit 1'\nserver:\n  _: {{router: [web]}}\n"
    );
    write(folder.path(), "work/pm3.yml", &manifest);
    let server = Server::start(&folder.path().join("work"), &folder.path().join("state"));
    let held = format!("port {port} is held by pid {} `", std::process::id());
    let reason = || server.get("/service/health/web")["reason"].as_str().unwrap_or_default().to_owned();
    wait_for("it says who", || reason().contains(&held));
    wait_for("what is to be done", || reason().contains("it must listen on $PORT, "));
    drop(taken);
}

#[test]
fn an_app_whose_folder_or_program_is_absent_says_which() {
    let more = "  away: !App\n    run: x\n    background: true\n  \
                other: !App\n    root: .\n    run: no-such-program\n    background: true\n";
    let project = Project::new(&web_manifest(1, more));
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    let reason = |name: &str| server.get(&format!("/service/health/{name}"))["err"].to_string();
    wait_for("both are down", || {
        reason("away").contains("no such folder") && reason("other").contains("o such")
    });
    assert!(reason("away").contains(&project.work.join("away").display().to_string()), "{}", reason("away"));
    assert!(reason("other").contains("no-such-program"), "{}", reason("other"));
}

#[test]
fn an_instance_tells_its_port_its_commit_and_how_often_it_was_started_again() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let told = || server.get("/service/metrics/web")["processes"][0].clone();
    let first = told();
    assert_eq!((&first["instance"], &first["restarts"]), (&json!(1), &json!(0)));
    assert_eq!(first["commit"], project.head());
    let port = first["port"].as_u64().unwrap();
    assert!((20_000..30_000).contains(&port), "{port}");
    signal(server.pids("web")[0], "KILL");
    wait_for("it was started again", || told()["restarts"] == 1);
}
