//! A server that is killed and started again.

use std::{fs, path::Path};

use crate::harness::{Project, Server, signal, wait_for, web_manifest};

fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The value of the variable by which the processes of a node are known.
fn mark_of(pid: u32) -> String {
    let environ = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    environ.split('\0').find_map(|entry| entry.strip_prefix("PM3_NODE=")).unwrap().to_owned()
}

/// Ends these, if they live, also where the test fails.
struct Rest(Vec<u32>);

impl Drop for Rest {
    fn drop(&mut self) {
        for &pid in self.0.iter().filter(|&&pid| lives(pid)) {
            signal(pid, "KILL");
        }
    }
}

#[test]
fn what_a_killed_server_has_left_running_ends_before_the_next_one_starts_anything() {
    let manifest = web_manifest(2, "").replace(
        "server:\n",
        "  job: !App\n    root: .\n    background: true\n    run: sh -c 'env -i setsid sleep 1000 & exec sleep 1000'\nserver:\n",
    );
    let project = Project::new(&manifest);
    let server = Server::serve(&project);
    wait_for("the job has two processes", || server.pids("job").len() == 2);
    let pids = ["web", "job"].map(|service| server.pids(service)).concat();
    let rest = Rest(pids.clone());
    let mark = mark_of(server.pids("web")[0]);
    signal(server.pid(), "KILL");
    drop(server);
    assert!(pids.iter().all(|&pid| lives(pid)), "they go on without it");

    let server = Server::serve(&project);
    assert!(!pids.iter().any(|&pid| lives(pid)), "{}", server.log());
    let log = server.log();
    assert!(log.contains("what a server before this one had left running was ended"), "{log}");
    assert!(log.contains("\"services\":\"job web\""), "{log}");
    assert_eq!(server.pids("web").len(), 2);
    assert_eq!(mark_of(server.pids("web")[0]), mark, "it is the same node");
    assert_eq!(server.terminate(), Some(0));
    drop(rest);
}

#[test]
fn a_server_on_a_copy_of_the_state_folder_is_another_node_and_ends_nothing() {
    let project = Project::new(&web_manifest(1, ""));
    let server = Server::serve(&project);
    let pid = server.pids("web")[0];
    let other = Project::new(&web_manifest(1, ""));
    let state = other.folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let id = |state: &Path| fs::read_to_string(state.join("node-id")).unwrap();
    fs::write(state.join("node-id"), id(&server.state)).unwrap();
    let beside = Server::serve(&other);
    assert!(lives(pid), "{}", beside.log());
    assert_eq!(server.pids("web"), [pid]);
    assert_ne!(id(&beside.state), id(&server.state));
    assert_ne!(mark_of(beside.pids("web")[0]), mark_of(pid));
}
