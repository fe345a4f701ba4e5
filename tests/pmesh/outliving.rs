//! A process that the server may not end.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::json;

use crate::harness::{Project, Server, has_program, is_root, lives, pmesh, signal, skipped, wait_for, write};

/// Whose the server is; no account is needed.
const USER: u32 = 65534;

/// A service, one of whose processes becomes root's by a program that root has made for that.
const MANIFEST: &str = "services:\n  job: !App\n    root: .\n    run: sh job.sh\n    background: true\n    stop_timeout: 500ms\n  \
                        other: !App {root: ., run: sleep 600, background: true}\n";
const JOB: &str = "../become-root --reuid=0 --regid=0 --clear-groups sh -c 'echo $$ > ../pid; exec sleep 600' &\n\
                   while [ ! -s ../pid ]; do sleep 0.01; done\nexec sleep 600\n";

/// A process of root's, which ends with its test, however that ends.
struct Stays(u32);

impl Drop for Stays {
    fn drop(&mut self) {
        if lives(self.0) {
            signal(self.0, "KILL");
        }
    }
}

fn project() -> Project {
    let project = Project::new(MANIFEST);
    write(&project.work, "job.sh", JOB);
    let folder = project.folder.path();
    let helper = folder.join("become-root");
    fs::copy("/usr/bin/setpriv", &helper).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let owned = Command::new("chown").args(["-hR", "65534:65534"]).arg(folder).status().unwrap();
    assert!(owned.success());
    let root = Command::new("chown").arg("0:0").arg(&helper).status().unwrap();
    assert!(root.success());
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o4755)).unwrap();
    project
}

/// Whether a set-user-ID program of this folder has an effect; it has none where the folder is on a disk that is mounted
/// `nosuid`. Else as [`is_root`].
fn becomes_root(folder: &Path) -> bool {
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(folder.join("become-root"))
        .args(["--reuid=0", "id", "-u"])
        .output()
        .unwrap();
    output.stdout == b"0\n"
        || skipped("programs in the folder for temporary files cannot become root; set TMPDIR")
}

#[test]
fn a_process_that_the_server_may_not_signal_is_named_and_nobody_waits_for_it() {
    if !is_root() || !has_program("setpriv") {
        return;
    }
    let project = project();
    if !becomes_root(project.folder.path()) {
        return;
    }
    let server = Server::serve_as(USER, &project);
    let pid = fs::read_to_string(project.folder.path().join("pid")).unwrap();
    let stays = Stays(pid.trim().parse().unwrap());

    let (status, answer) = server.call("POST", "/service/stop/job", &[], "");
    assert_eq!(
        (status, &answer["code"], &answer["count"]),
        (500, &json!("stop_failed"), &json!(1)),
        "{answer}"
    );
    let process = &answer["processes"][0];
    assert_eq!((&process["pid"], &process["name"]), (&json!(stays.0), &json!("sleep")), "{answer}");
    assert_eq!((&process["service"], &process["state"]), (&json!("job"), &json!("S (sleeping)")), "{answer}");
    assert_eq!(answer["processes"].as_array().unwrap().len(), 1, "what could be ended has ended: {answer}");
    let sentence = answer["error"].as_str().unwrap();
    assert!(sentence.contains(&format!("`kill -9 {}` as root ends it", stays.0)), "{sentence}");
    assert!(sentence.contains("of root"), "{sentence}");
    assert_eq!(server.get("/service/health/job")["status"], "Down");
    assert_eq!(server.post("/service/restart/other"), json!({"count": 1}), "nobody waits behind it");

    // The command line says the same.
    let output = pmesh().args(["stop", "job", "--url", &format!("http://{}", server.api)]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains(&format!("pid {} `sleep`", stays.0)), "{said}");

    // It may not run beside what is left of it, and starts when that is gone.
    let (status, answer) = server.call("POST", "/service/restart/job", &[], "");
    let reason = answer["services"]["job"].as_str().unwrap_or_default();
    assert!(status == 500 && reason.contains("may not run beside"), "{status} {answer}");
    signal(stays.0, "KILL");
    wait_for("the service is stopped", || server.get("/service/health/job")["status"] == "Stopped");
    assert_eq!(server.post("/service/stop/job"), json!({"count": 0}));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn the_end_of_the_server_does_not_wait_for_what_it_may_not_signal() {
    if !is_root() || !has_program("setpriv") {
        return;
    }
    let project = project();
    if !becomes_root(project.folder.path()) {
        return;
    }
    let server = Server::serve_as(USER, &project);
    let pid = fs::read_to_string(project.folder.path().join("pid")).unwrap();
    let stays = Stays(pid.trim().parse().unwrap());
    let log = server.state.with_extension("stderr");
    assert!(server.terminate().is_some());
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains(&format!("pid {} `sleep` of root", stays.0)), "{log}");
    assert!(lives(stays.0));
}
