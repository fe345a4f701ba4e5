//! Environment that is not in git: `env_file`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::harness::{Project, Server, pmesh, signal, wait_for, web_manifest, write};

const FILES: &str = "    env_file: [a.env, web/b.env]\n    env: {C: of the manifest}\n";

fn write_secret(project: &Project, name: &str, text: &str) {
    write(&project.work, name, text);
    fs::set_permissions(project.work.join(name), fs::Permissions::from_mode(0o640)).unwrap();
}

/// A project whose service has two env files, the second of which is in git but for its mode.
fn project(more: &str) -> Project {
    let project = Project::new(&web_manifest(1, &format!("{FILES}{more}")));
    write_secret(&project, "a.env", "export A=hunter1\nB='hunter1'\nC=hunter1\nPORT=1\nPM3=0\n");
    write_secret(&project, "web/b.env", "\u{feff}B=\"hunter\\\"2\"\r\n");
    fs::write(project.work.join(".git/info/exclude"), "*.env\n").unwrap();
    project
}

/// A variable in the environment of the one process of `web`.
fn variable(server: &Server, name: &str) -> Option<String> {
    let pids = server.pids("web");
    let [pid] = pids[..] else { panic!("one process, not {pids:?}") };
    let env = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let start = format!("{name}=");
    let mut lines = env.split(|&byte| byte == 0).map(|line| String::from_utf8_lossy(line).into_owned());
    lines.find_map(|line| line.strip_prefix(&start).map(str::to_owned))
}

fn all_files(folder: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            all_files(&entry.path(), found);
        } else {
            found.extend(fs::read(entry.path()));
        }
    }
}

#[test]
fn what_env_files_say_reaches_instances_and_nobody_else() {
    let build = "    build: sh -c 'echo \"$A $B $C $PORT\" > $PM3_OUT/env'\n    \
                 release: sh -c 'echo \"$A $B $C\" > released'\n    \
                 shutdown: sh -c 'echo \"$A $B $C\" > said'\n";
    let project = project(build);
    let server = Server::serve(&project);
    for (name, value) in [("A", "hunter1"), ("B", "hunter\"2"), ("C", "of the manifest"), ("PM3", "1")] {
        assert_eq!(variable(&server, name).as_deref(), Some(value), "{name}");
    }
    assert_ne!(variable(&server, "PORT").as_deref(), Some("1"));
    let built = fs::read_to_string(project.work.join("web/.run/env")).unwrap();
    assert_eq!(built, "hunter1 hunter\"2 of the manifest 1\n");
    server.post("/service/restart/web");
    for name in ["web/said", "web/released"] {
        let said = fs::read_to_string(project.work.join(name)).unwrap();
        assert_eq!(said, "hunter1 hunter\"2 of the manifest\n", "{name}");
    }
    // What everybody sees of it.
    let check = pmesh().arg("check").arg(&project.work).output().unwrap();
    let mut seen = vec![check.stdout, check.stderr, server.log().into_bytes()];
    for path in ["/service/health", "/service/metrics", "/service", "/operation", "/"] {
        let mut answer = Command::new("curl");
        answer.args(["-s", &format!("http://{}{path}", server.api)]).stdin(Stdio::null());
        seen.extend(answer.output().map(|output| output.stdout));
    }
    all_files(&server.state, &mut seen);
    for text in seen {
        assert!(!text.windows(6).any(|bytes| bytes == b"hunter"), "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn a_file_is_read_at_restart_reload_and_update_and_kept_for_a_restart_after_a_crash() {
    let project = project("");
    let server = Server::serve(&project);
    let mut pids = server.pids("web");
    write_secret(&project, "a.env", "A=1\n");
    signal(pids[0], "KILL");
    wait_for("it is back", || matches!(server.pids("web")[..], [pid] if pid != pids[0]));
    server.settle();
    assert_eq!(variable(&server, "A").as_deref(), Some("hunter1"), "kept");
    for (number, path) in (2..).zip(["/service/restart/web", "/reload", "/repo/update"]) {
        pids = server.pids("web");
        write_secret(&project, "a.env", &format!("A={number}\n"));
        project.push(&[("web/version.txt", &format!("v{number}\n"))]);
        server.post(path);
        assert_ne!(server.pids("web"), pids, "{path}");
        assert_eq!(variable(&server, "A"), Some(number.to_string()), "{path}");
    }
}

#[test]
fn a_file_that_cannot_be_used_fails_the_rollout_while_the_old_instances_serve() {
    let project = project("");
    let server = Server::serve(&project);
    let (pids, head) = (server.pids("web"), project.head());
    let file = project.work.join("a.env");
    for (text, mode, said) in [
        ("A=1\nhunter3\n", 0o600, "a.env:2: expected `KEY=value`"),
        ("A=hunter3\n", 0o644, "every user of this machine may read the env file"),
        ("", 0, "there is no env file"),
    ] {
        write_secret(&project, "a.env", text);
        if mode == 0 {
            fs::remove_file(&file).unwrap();
        } else {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        project.push(&[("web/version.txt", &format!("v{mode}\n"))]);
        for path in ["/service/restart/web", "/reload", "/repo/update"] {
            let (status, answer) = server.call("POST", path, &[], "");
            assert_eq!((status, &answer["code"]), (500, &json!("rollout_failed")), "{path}: {answer}");
            let reason = answer["services"]["web"].as_str().unwrap();
            assert!(reason.contains(said) && reason.contains(file.to_str().unwrap()), "{path}: {reason}");
            assert_eq!((server.pids("web"), project.head()), (pids.clone(), head.clone()), "{path}");
            assert!(!answer.to_string().contains("hunter"), "{answer}");
        }
    }
    assert_eq!(server.site("/").0, 200);
    assert!(!server.log().contains("hunter"), "{}", server.log());
}

#[test]
fn a_service_whose_file_is_missing_at_the_start_is_down_for_that_and_comes_when_it_is_there() {
    let project = project("");
    fs::remove_file(project.work.join("a.env")).unwrap();
    let check = pmesh().arg("check").arg(&project.work).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(said.contains("web.env_file.0: there is no env file"), "{said}");
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    wait_for("it is down", || server.get("/service/health/web")["status"] == "Down");
    let error = server.get("/service/health/web")["err"].to_string();
    assert!(error.contains("it is not started: there is no env file") && error.contains("a.env"), "{error}");
    write_secret(&project, "a.env", "A=late\n");
    server.settle();
    assert_eq!(variable(&server, "A").as_deref(), Some("late"));
}
