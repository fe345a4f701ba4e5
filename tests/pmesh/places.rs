//! Where a server serves from: a work tree has one server that moves it, and a link may lead to the next release.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::json;

use crate::harness::{Project, Server, pmesh, signal, web_manifest, write};

/// Runs a server that is expected to refuse to.
fn refused(project: &Project, state: &str) -> Output {
    let mut command = pmesh();
    command.arg("run").arg(&project.work).args([
        "--http",
        "127.0.0.1:0",
        "--api",
        "127.0.0.1:0",
        "--state-dir",
    ]);
    command.arg(project.folder.path().join(state)).output().unwrap()
}

#[test]
fn a_second_server_that_would_move_the_same_work_tree_is_refused() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let output = refused(&project, "other");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("pid {}", server.pid())) && said.contains("update: false"), "{said}");
    assert_eq!(server.site("/").0, 200);
    // One that does not move it may look on.
    let manifest = format!("{}repo: {{update: false}}\n", web_manifest(1, ""));
    fs::write(project.work.join("pm3.yml"), manifest).unwrap();
    let second = Server::start(&project.work, &project.folder.path().join("other"));
    second.settle();
    assert_eq!(second.terminate(), Some(0));
    assert_eq!(server.terminate(), Some(0));
}

fn release(folder: &Path, name: &str) {
    let manifest = format!("server:\n  _:\n    router: [return 200 \"{name}\"]\n");
    write(&folder.join(name), "pm3.yml", &manifest);
}

fn lead(folder: &Path, name: &str) {
    let next = folder.join("next");
    symlink(folder.join(name), &next).unwrap();
    fs::rename(next, folder.join("current")).unwrap();
}

#[test]
fn a_link_to_the_project_is_followed_anew_at_each_reload() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        release(folder.path(), name);
    }
    lead(folder.path(), "one");
    let server = Server::start(&folder.path().join("current"), &folder.path().join("state"));
    server.settle();
    assert_eq!(server.site("/"), (200, "one".to_owned()));
    lead(folder.path(), "two");
    assert_eq!(server.site("/"), (200, "one".to_owned()));
    assert_eq!(server.post("/reload"), json!({}));
    assert_eq!(server.site("/"), (200, "two".to_owned()));
}

#[test]
fn the_command_line_finds_a_server_behind_a_link_also_when_that_has_moved_on() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        release(folder.path(), name);
    }
    lead(folder.path(), "one");
    let link = folder.path().join("current");
    let within = |folder: &Path, command: &mut Command| {
        command.current_dir(folder).env("PWD", folder).env("XDG_STATE_HOME", link.with_file_name("state"));
    };
    let mut command = pmesh();
    within(&link, &mut command);
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut server = command
        .args(["run", "--http", "127.0.0.1:0", "--api", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("unix:")));
    let served = || {
        let mut command = pmesh();
        within(&link, &mut command);
        let output = command.arg("ls").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(served(), (Some(0), String::new()));
    lead(folder.path(), "two");
    assert_eq!(served(), (Some(0), String::new()));
    signal(server.id(), "TERM");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}
