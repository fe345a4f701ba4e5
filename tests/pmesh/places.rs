//! Where a server serves from: a work tree has one server that moves it, and a link may lead to the next release.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::json;

use crate::harness::{
    Project, Server, git, has_program, is_root, pmesh, pmesh_as, signal, web_manifest, write,
};

/// Runs a server that is expected to refuse to.
fn refused(mut pmesh: Command, project: &Project, state: &str) -> Output {
    pmesh.arg("run").arg(&project.work).args([
        "--http",
        "127.0.0.1:0",
        "--api",
        "127.0.0.1:0",
        "--state-dir",
    ]);
    pmesh.arg(project.folder.path().join(state)).output().unwrap()
}

#[test]
fn a_second_server_that_would_move_the_same_work_tree_is_refused() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let output = refused(pmesh(), &project, "other");
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

#[test]
fn where_the_git_directory_cannot_be_written_the_lock_is_in_the_users_state_folder() {
    const USER: u32 = 65534;
    if !is_root() || !has_program("setpriv") {
        return;
    }
    let project = Project::web(1);
    let folder = project.folder.path();
    let line = "chmod 755 .; chown -hR 65534:65534 .; chmod 555 work/.git";
    assert!(Command::new("sh").args(["-ec", line]).current_dir(folder).status().unwrap().success());
    let server = Server::serve_as(USER, &project);
    assert!(!project.work.join(".git/pmesh-server").exists());
    let locks: Vec<_> = fs::read_dir(folder.join(".local/state/pmesh"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("work-tree-"))
        .collect();
    assert_eq!(locks.len(), 1, "{locks:?}");
    assert_eq!(fs::read_to_string(&locks[0]).unwrap(), format!("{}\n", server.pid()));
    let output = refused(pmesh_as("", USER, &project), &project, "other");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("pid {}", server.pid())) && said.contains("update: false"), "{said}");
    assert_eq!(server.terminate(), Some(0));
}

fn release(folder: &Path, name: &str) {
    let manifest = format!("server:\n  _:\n    router: [return 200 \"{name}\"]\n");
    write(&folder.join(name), "pm3.yml", &manifest);
}

fn lead(folder: &Path, name: &str) {
    lead_to(folder, &folder.join(name));
}

fn lead_to(folder: &Path, target: &Path) {
    let next = folder.join("next");
    symlink(target, &next).unwrap();
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

/// Whether a server of its own may move this project's work tree; else what it is told.
fn is_free(project: &Project) -> Result<(), String> {
    let checked = project.folder.path().join("checked");
    let mut command = pmesh();
    command.arg("run").arg(&project.work).args(["--http", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
    let log = fs::File::create(checked.with_extension("stderr")).unwrap();
    let mut child =
        command.arg("--state-dir").arg(&checked).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    // It has its work tree when it says where it listens.
    let has_begun = BufReader::new(child.stdout.take().unwrap()).lines().next().is_some();
    signal(child.id(), "TERM");
    child.wait().unwrap();
    if has_begun { Ok(()) } else { Err(fs::read_to_string(checked.with_extension("stderr")).unwrap()) }
}

#[test]
fn behind_a_link_that_leads_to_another_clone_the_repository_and_its_lock_are_those_of_that_clone() {
    let (one, two) = (Project::web(1), Project::web(1));
    let folder = tempfile::tempdir().unwrap();
    let remote = |project: &Project| project.folder.path().join("remote.git").display().to_string();
    lead_to(folder.path(), &one.work);
    let server = Server::start(&folder.path().join("current"), &folder.path().join("state"));
    server.settle();
    lead_to(folder.path(), &two.work);

    // Somebody else moves that clone: nothing changes.
    let other = Server::serve(&two);
    let (status, answer) = server.call("POST", "/reload", &[], "");
    assert_eq!((status, &answer["code"]), (409, &json!("repository_locked")), "{answer}");
    let said = answer["error"].as_str().unwrap();
    assert!(said.contains(&format!("pid {}", other.pid())) && said.contains("update: false"), "{said}");
    assert_eq!(server.get("/repo")["url"], remote(&one).as_str());
    let new = one.push(&[("web/version.txt", "one\n")]);
    assert_eq!(server.post("/repo/update")["to"]["hash"], new.as_str());
    assert!(server.site("/").1.contains("\"version\": \"one\""));
    assert_eq!(other.terminate(), Some(0));

    // It is free: everything is that clone's, and the first one is free.
    assert_eq!(server.post("/reload"), json!({}));
    let repo = server.get("/repo");
    assert_eq!((&repo["url"], &repo["ref"]["hash"]), (&json!(remote(&two)), &json!(two.head())), "{repo}");
    assert_eq!(repo["deployed"]["hash"], two.head().as_str());
    let (stays, new) = (one.head(), two.push(&[("web/version.txt", "two\n")]));
    one.push(&[("web/version.txt", "not this one\n")]);
    assert_eq!(server.post("/repo/update")["to"]["hash"], new.as_str());
    assert!(server.site("/").1.contains("\"version\": \"two\""));
    assert_eq!((one.head(), two.head()), (stays, new));
    let told = is_free(&two).unwrap_err();
    assert!(told.contains(&format!("pid {}", server.pid())), "{told}");
    is_free(&one).unwrap();

    // A release that does not start: everything goes back to the clone before, the lock too.
    one.push(&[("web/version.txt", "broken\n")]);
    git(&one.work, &["pull", "-q"]);
    lead_to(folder.path(), &one.work);
    let (status, answer) = server.call("POST", "/reload", &[], "");
    assert_eq!((status, &answer["rolled_back"]), (500, &json!(true)), "{answer}");
    assert_eq!(server.get("/repo")["url"], remote(&two).as_str());
    assert!(is_free(&two).is_err());
    is_free(&one).unwrap();
    let new = two.push(&[("web/version.txt", "three\n")]);
    assert_eq!(server.post("/repo/update")["to"]["hash"], new.as_str());
    assert!(server.site("/").1.contains("\"version\": \"three\""));
}

#[test]
fn a_manifest_that_lets_the_server_move_the_work_tree_from_now_on_takes_the_lock_at_its_reload() {
    let project = Project::web(1);
    let manifest = |update: bool| format!("{}repo: {{update: {update}}}\n", web_manifest(1, ""));
    fs::write(project.work.join("pm3.yml"), manifest(false)).unwrap();
    let server = Server::serve(&project);
    fs::write(project.work.join("pm3.yml"), manifest(true)).unwrap();
    is_free(&project).unwrap();
    assert_eq!(server.post("/reload"), json!({}));
    assert!(is_free(&project).is_err());
    fs::write(project.work.join("pm3.yml"), manifest(false)).unwrap();
    assert_eq!(server.post("/reload"), json!({}));
    fs::write(project.work.join("pm3.yml"), manifest(true)).unwrap();
    is_free(&project).unwrap();
}
