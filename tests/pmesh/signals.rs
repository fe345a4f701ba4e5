//! Signals, and what a service manager is told.

use std::{
    fs,
    io::{ErrorKind, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{Project, Server, lives, signal, wait_for, web_manifest};

/// A background job that does not hear SIGTERM, and has very long to end.
const DEAF: &str = "  deaf: !App\n    root: .\n    run: sh -c 'trap \"\" TERM; while :; do sleep 1; done'\n    \
                    background: true\n    stop_timeout: 1h\n";

#[test]
fn a_second_signal_cuts_the_waiting_for_services_short() {
    let project = Project::new(&web_manifest(1, DEAF));
    let server = Server::serve(&project);
    let (pid, services) = (server.pid(), [server.pids("deaf"), server.pids("web")].concat());
    signal(pid, "TERM");
    wait_for("the server is ending", || server.is_stopping());
    assert!(lives(pid), "the first signal waits for the job");
    signal(pid, "TERM");
    wait_for("the server has ended", || !lives(pid));
    assert!(services.iter().all(|&pid| !lives(pid)));
}

#[test]
fn a_second_signal_waits_for_no_client_of_the_api_that_says_no_more() {
    let project = Project::new(&web_manifest(1, DEAF));
    let server = Server::serve(&project);
    let pid = server.pid();
    let mut half = TcpStream::connect(&server.api).unwrap();
    half.write_all(b"POST /shutdown HTTP/1.1\r\nHost: pm3\r\n").unwrap();
    signal(pid, "TERM");
    wait_for("the server is ending", || server.is_stopping());
    let hurried = Instant::now();
    signal(pid, "TERM");
    wait_for("the server has ended", || !lives(pid));
    assert!(hurried.elapsed() < Duration::from_secs(5), "as documents promise: {:?}", hurried.elapsed());
}

#[test]
fn a_second_signal_cuts_a_running_operation_short() {
    let project = Project::new(&web_manifest(1, DEAF));
    let server = Server::serve(&project);
    let (pid, services) = (server.pid(), server.pids("deaf"));
    let (status, accepted) = server.call("POST", "/service/restart/deaf?wait=false", &[], "");
    assert_eq!(status, 202);
    let path = format!("/operation/{}", accepted["operation"].as_str().unwrap());
    wait_for("it runs", || server.get(&path)["state"] == "running");
    signal(pid, "TERM");
    wait_for("the server is ending", || server.is_stopping());
    signal(pid, "TERM");
    wait_for("the server has ended", || !lives(pid));
    assert!(services.iter().all(|&pid| !lives(pid)));
}

#[test]
fn a_stop_ends_the_part_of_its_service_in_a_rollout_and_does_not_hold_up_the_others() {
    let slow = "  slow: !App\n    root: .\n    run: sleep 1000\n    ready_timeout: 1h\n";
    let project = Project::new(&web_manifest(1, slow));
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    wait_for("web is ready", || server.get("/service/health/web")["status"] == "OK");
    let start = server.get("/operation")[0].clone();
    assert_eq!((&start["kind"], &start["state"]), (&json!("start"), &json!("running")));
    assert_eq!(server.post("/service/stop/slow"), json!({"count": 1}));
    let path = format!("/operation/{}?wait=30s", start["id"].as_str().unwrap());
    assert_eq!(server.get(&path)["state"], "done");
    assert_eq!(server.get("/service/health/slow")["status"], "Stopped");
}

#[test]
fn sighup_reads_the_manifest_again() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let job = "  job: !App\n    root: .\n    run: sleep 1000\n    background: true\n";
    fs::write(project.work.join("pm3.yml"), web_manifest(1, job)).unwrap();
    signal(server.pid(), "HUP");
    wait_for("the new service", || server.call("GET", "/service/health/job", &[], "").1["status"] == "OK");
}

#[test]
fn sigterm_is_heard_during_a_reload_and_ends_what_it_builds() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let slow = "    build: sh -c 'echo > ../building; sleep 60'\n";
    fs::write(project.work.join("pm3.yml"), web_manifest(1, slow)).unwrap();
    signal(server.pid(), "HUP");
    wait_for("the build runs", || project.work.join("building").exists());
    let asked = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(30), "it waited for the build");
}

#[test]
fn a_service_manager_is_told_when_the_server_is_ready_reloads_and_stops() {
    let project = Project::web(1);
    let path = project.folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let next = || {
        let mut message = [0; 256];
        // A call with a limit fails with EINTR after any signal or SIGCONT, whatever SA_RESTART says (signal(7)).
        let length = loop {
            match manager.recv(&mut message) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        String::from_utf8_lossy(&message[..length]).lines().next().unwrap().to_owned()
    };
    let state = project.folder.path().join("state");
    let server = Server::start_with(&project.work, &state, &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(next(), "READY=1");
    signal(server.pid(), "HUP");
    assert_eq!((next(), next()), ("RELOADING=1".to_owned(), "READY=1".to_owned()));
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(next(), "STOPPING=1");
}

#[test]
fn instances_get_the_descriptors_that_they_are_promised() {
    let limit = "  limit: !App\n    root: .\n    run: sh -c 'ulimit -n > limit.txt; sleep 1000'\n    \
                 background: true\n    nofile: 777\n";
    let project = Project::new(&web_manifest(1, limit));
    let _server = Server::serve(&project);
    assert_eq!(fs::read_to_string(project.work.join("limit.txt")).unwrap().trim(), "777");
}

#[test]
fn that_a_limit_of_descriptors_is_cut_is_said_once_at_the_start_or_by_the_reload_that_raises_it() {
    let manifest = |nofile: u32| web_manifest(1, &format!("    nofile: {nofile}\n"));
    let warnings = |server: &Server| {
        let log = fs::read_to_string(server.state.with_extension("stderr")).unwrap();
        log.lines().filter(|line| line.contains("nofile")).count()
    };
    // More than any kernel lets a process have (fs.nr_open, proc(5)).
    let project = Project::new(&manifest(u32::MAX));
    let server = Server::serve(&project);
    assert_eq!(warnings(&server), 1);
    drop(server);

    fs::write(project.work.join("pm3.yml"), manifest(64)).unwrap();
    let server = Server::serve(&project);
    assert_eq!(warnings(&server), 0);
    fs::write(project.work.join("pm3.yml"), manifest(u32::MAX)).unwrap();
    server.post("/reload");
    server.post("/service/restart");
    assert_eq!(warnings(&server), 1);
}
