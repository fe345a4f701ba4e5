//! Services that run as somebody else: `user`. Only root can do that.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{Project, Server, is_root, lives, pmesh, pmesh_as, signal, wait_for, web_manifest};

/// The user `nobody` of every Linux.
const NOBODY: u32 = 65_534;

fn open(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A project that everybody can look into, of a service with these keys.
fn project(more: &str) -> Project {
    let project = Project::new(&web_manifest(1, more));
    open(project.folder.path());
    project
}

/// Uids (real, effective, saved, of files), gids, and groups of a process.
fn ids(pid: u32) -> [String; 3] {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    ["Uid:", "Gid:", "Groups:"].map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    })
}

fn variable(pid: u32, name: &str) -> Option<String> {
    let env = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let start = format!("{name}=");
    let mut lines = env.split(|&byte| byte == 0).map(|line| String::from_utf8_lossy(line).into_owned());
    lines.find_map(|line| line.strip_prefix(&start).map(str::to_owned))
}

/// What the app at the front sees of a request by this user.
fn seen_of(user: u32, server: &Server) -> Value {
    let url = format!("http://{}/", server.front);
    let id = user.to_string();
    let output = Command::new("setpriv")
        .args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "curl",
            "-s",
            "-H",
            "Host: site.local",
            &url,
        ])
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["headers"].clone()
}

#[test]
fn everything_of_a_service_runs_as_its_user_with_that_users_groups_and_home() {
    if !is_root() {
        return;
    }
    let say = |file: &str| format!("sh -c 'echo $(id -u) $(id -g) $(id -G) $HOME $USER >> {file}'");
    let (build, release, shutdown) = (say("$PM3_OUT/build"), say(".run/release"), say(".run/shutdown"));
    let project = project(&format!(
        "    user: nobody\n    build: {build}\n    release: {release}\n    shutdown: {shutdown}\n    \
         env: {{HOME: /tmp/elsewhere}}\n"
    ));
    let server = Server::serve(&project);
    let [pid] = server.pids("web")[..] else { panic!("one process") };
    let four = vec![NOBODY.to_string(); 4];
    assert_eq!(ids(pid), [four.join(" "), four.join(" "), NOBODY.to_string()]);
    for (name, value) in [("HOME", "/tmp/elsewhere"), ("USER", "nobody"), ("LOGNAME", "nobody")] {
        assert_eq!(variable(pid, name).as_deref(), Some(value), "{name}");
    }
    let run = project.work.join("web/.run");
    assert_eq!(fs::metadata(&run).unwrap().uid(), NOBODY, "the product is the user's");
    signal(pid, "KILL");
    wait_for("it is back", || matches!(server.pids("web")[..], [other] if other != pid));
    server.settle();
    let pids = server.pids("web");
    assert_eq!(ids(pids[0])[0], four.join(" "), "after a crash, too");
    server.post("/service/stop/web");
    assert!(!lives(pids[0]));
    for name in ["build", "release", "shutdown"] {
        let said = fs::read_to_string(run.join(name)).unwrap();
        assert_eq!(said, format!("{NOBODY} {NOBODY} {NOBODY} /tmp/elsewhere nobody\n"), "{name}");
    }
}

#[test]
fn a_request_of_a_services_user_is_internal_while_it_runs_and_that_of_others_is_not() {
    if !is_root() {
        return;
    }
    let other = "  other: !App\n    root: web\n    run: sleep 1000\n    background: true\n    user: 65534\n";
    let project = project(other);
    let server = Server::serve(&project);
    assert_eq!(seen_of(NOBODY, &server)["p-internal"], "1");
    assert_eq!(seen_of(1, &server)["p-internal"], Value::Null);
    // The API is not theirs.
    let url = format!("http://{}/repo", server.api);
    let asked = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "curl", "-s", &url])
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&asked.stdout).contains("not_internal"), "{asked:?}");
    server.post("/service/stop/other");
    assert_eq!(seen_of(NOBODY, &server)["p-internal"], Value::Null);
}

#[test]
fn who_is_unknown_or_has_no_way_to_the_folder_fails_the_rollout_for_that() {
    if !is_root() {
        return;
    }
    let project = project("");
    let server = Server::serve(&project);
    let pids = server.pids("web");
    let refused = |manifest: &str, said: &str| {
        project.push(&[("pm3.yml", manifest)]);
        let (status, answer) = server.call("POST", "/repo/update", &[], "");
        assert_eq!((status, &answer["code"]), (500, &json!("rollout_failed")), "{answer}");
        let reason = answer["services"]["web"].as_str().unwrap();
        assert!(reason.contains(said), "{reason}");
        assert_eq!(server.pids("web"), pids);
    };
    let unknown = web_manifest(1, "    user: nobdy\n");
    refused(&unknown, "its `user` is unknown on this machine: nobdy; did you mean nobody?");
    fs::write(project.folder.path().join("pm3.yml"), &unknown).unwrap();
    let check = pmesh().arg("check").arg(project.folder.path().join("pm3.yml")).output().unwrap();
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(said.contains("web.user: its `user` is unknown"), "{said}");
    fs::set_permissions(project.work.join("web"), fs::Permissions::from_mode(0o700)).unwrap();
    let shut = format!("nobody may not enter {}", project.work.join("web").display());
    refused(&web_manifest(1, "    user: nobody\n"), &shut);
}

#[test]
fn a_server_that_is_not_root_starts_nobody_elses_processes_and_its_own_by_name() {
    if !is_root() {
        return;
    }
    let project = project(
        "    user: nobody\n  other: !App\n    root: web\n    run: sleep 1000\n    background: true\n    user: daemon\n",
    );
    let chown = Command::new("chown").args(["-R", "65534:65534"]).arg(project.folder.path()).status();
    assert!(chown.unwrap().success());
    let server = Server::started_by(
        pmesh_as("", NOBODY, &project),
        &project.work,
        &project.folder.path().join("state"),
    );
    wait_for("it is down", || server.get("/service/health/other")["status"] == "Down");
    let error = server.get("/service/health/other")["err"].to_string();
    let said = "its `user` is daemon, and the server runs as user id 65534: only root can start";
    assert!(error.contains(said), "{error}");
    wait_for("its own runs", || server.get("/service/health/web")["status"] == "OK");
    assert_eq!(ids(server.pids("web")[0])[2], "");
}
