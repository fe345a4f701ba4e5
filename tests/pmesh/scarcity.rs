//! The server while descriptors run short.

use std::fs;

use crate::harness::{Connection, Project, Server, wait_for, web_manifest};

const PROBED_OFTEN: &str =
    "    monitor: {healthy: {interval: 20ms}, unhealthy: {interval: 20ms, threshold: 1}}\n";

#[test]
fn idle_clients_take_no_descriptor_from_the_api_the_probes_and_new_clients() {
    let project = Project::new(&web_manifest(1, PROBED_OFTEN));
    let server = Server::serve_within(256, &project);
    let mut idle = Vec::new();
    for index in 0..300 {
        let mut client = Connection::to(&server.front);
        if index % 2 == 0 {
            assert_eq!(client.send("GET", "/", "site.local", &[], "").unwrap().0, 200, "client {index}");
        }
        idle.push(client);
    }
    let socket = server.state.join("api.sock");
    for round in 0..30 {
        let health = server.get("/service/health/web");
        assert_eq!((health["status"].as_str(), health["error"].as_str()), (Some("OK"), None), "{health}");
        let mut local = Connection::to_socket(&socket);
        assert_eq!(local.send("GET", "/service", "localhost", &[], "").unwrap().0, 200);
        let mut client = Connection::to(&server.front);
        assert_eq!(client.send("GET", "/", "site.local", &[], "").unwrap().0, 200, "round {round}");
        idle.push(client);
    }
    let log = server.log();
    assert_eq!(log.lines().filter(|line| line.contains("open files")).count(), 1, "{log}");
    assert!(!log.contains("unhealthy"), "{log}");
}

/// How many sockets a process has open.
fn sockets(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    open.filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    })
    .count()
}

#[test]
fn idle_callers_of_the_api_take_no_descriptor_from_the_probes_and_the_front() {
    let project = Project::new(&web_manifest(1, PROBED_OFTEN));
    let server = Server::serve_within(256, &project);
    let socket = server.state.join("api.sock");
    let before = sockets(server.pid());
    let idle: Vec<_> =
        (0..150).map(|_| (Connection::to(&server.api), Connection::to_socket(&socket))).collect();
    // Each listener has a sixteenth of the descriptors, and one caller half of them; while others still come and wait, they
    // take places also from who has not been heard yet. A few sockets come and go with the probes.
    wait_for("who found no place is gone", || sockets(server.pid()) <= before + 2 * 8 + 6);
    for round in 0..10 {
        let health = server.get("/service/health/web");
        assert_eq!((health["status"].as_str(), health["error"].as_str()), (Some("OK"), None), "{health}");
        assert_eq!(server.site("/").0, 200, "round {round}");
    }
    drop(idle);
    let log = server.log();
    assert!(log.lines().filter(|line| line.contains("open files")).count() <= 1, "{log}");
    assert!(!log.contains("unhealthy"), "{log}");
}
