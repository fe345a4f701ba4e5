//! Nothing gets stuck: what blocks where git has files, in git, or in what git has started ends, and the server ends when it is
//! told to, with everything below it.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::Value;

use crate::harness::{Connection, Project, Server, git, is_root, lives, pmesh, signal, wait_for, write};

/// A filter that names its pids in a file and does not end.
const HANGS: &str = "echo $$ >> $PIDS; sleep 1000 & echo $! >> $PIDS; wait";

/// The same, deaf to SIGTERM, in a session of its own.
const HANGS_APART: &str = "exec setsid sh -c 'trap \"\" TERM; echo $$ >> $PIDS; while :; do sleep 1; done'";

/// Writes a program into the project's folder.
fn program(project: &Project, name: &str, script: &str) -> PathBuf {
    let path = project.folder.path().join(name);
    let pids = project.folder.path().join("pids");
    fs::write(&path, format!("#!/bin/sh\n{}\n", script.replace("$PIDS", pids.to_str().unwrap()))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A project whose files `*.x` are checked out through a filter.
fn filtered(script: &str) -> Project {
    let project = Project::web(1);
    project.push(&[(".gitattributes", "*.x filter=x\n"), ("kept.txt", "old\n")]);
    git(&project.work, &["pull", "-q"]);
    let filter = program(&project, "filter", script);
    git(&project.work, &["config", "filter.x.smudge", filter.to_str().unwrap()]);
    project
}

/// Processes that have named themselves. Dropped by a test that fails, they end.
struct Named(Vec<u32>);

impl Named {
    fn live(&self) -> bool {
        self.0.iter().any(|&pid| lives(pid))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.iter().for_each(|&pid| signal(pid, "KILL"));
        }
    }
}

/// Waits until so many processes have named themselves.
fn named(project: &Project, count: usize) -> Named {
    let mut pids = Vec::new();
    wait_for("it hangs", || {
        let said = fs::read_to_string(project.folder.path().join("pids")).unwrap_or_default();
        pids = said.lines().filter_map(|line| line.parse().ok()).collect();
        pids.len() >= count
    });
    Named(pids)
}

/// The processes below one, with what they run.
fn below(pid: u32) -> Vec<(u32, String)> {
    let children = |pid: u32| -> Vec<u32> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
            .collect()
    };
    let mut found = Vec::new();
    let mut to_visit = children(pid);
    while let Some(pid) = to_visit.pop() {
        to_visit.extend(children(pid));
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
    }
    found
}

/// An update that somebody waits for.
fn updating(server: &Server) -> thread::JoinHandle<(u16, Value)> {
    let api = server.api.clone();
    thread::spawn(move || {
        let (status, body) =
            Connection::to(&api).send("POST", "/repo/update", "localhost", &[], "").unwrap_or_default();
        (status, serde_json::from_str(&body).unwrap_or_default())
    })
}

fn assert_clean(project: &Project, head: &str) {
    assert_eq!(project.head(), head);
    assert_eq!(git(&project.work, &["-c", "filter.x.smudge=cat", "status", "--porcelain"]), "");
    assert!(!project.work.join(".git/index.lock").exists());
}

#[test]
fn a_pipe_where_git_has_a_file_is_named_and_nothing_waits_for_it() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    for place in [
        ".git/packed-refs",
        ".git/HEAD",
        ".git/config",
        ".git/refs/remotes/origin/main",
        ".git/info/exclude",
        ".git/logs/HEAD",
        ".git/objects/info/commit-graph",
        "web/.gitattributes",
    ] {
        let commit = project.push(&[("web/version.txt", &format!("{place}\n"))]);
        let (path, saved) = (project.work.join(place), project.folder.path().join("saved"));
        let was_there = fs::rename(&path, &saved).is_ok();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (status, answer) = server.call("POST", "/repo/update", &[], "");
        assert_eq!((status, &answer["code"]), (500, &"repository_damaged".into()), "{place}: {answer}");
        let said = answer["error"].as_str().unwrap();
        assert!(said.contains(place) && said.contains("is a pipe") && said.contains("remove it"), "{said}");
        let (status, answer) = server.call("GET", "/repo", &[], "");
        assert!(status == 200 || answer["code"] == "repository_damaged", "{place}: {answer}");
        assert_eq!(server.get("/service/health")["web"]["status"], "OK");
        assert_eq!(server.site("/").0, 200);
        fs::remove_file(&path).unwrap();
        if was_there {
            fs::rename(&saved, &path).unwrap();
        }
        server.post("/repo/update");
        assert_eq!(project.head(), commit, "{place}");
    }
    assert!(Command::new("mkfifo").arg(project.work.join(".git/MERGE_HEAD")).status().unwrap().success());
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_server_that_is_told_to_end_ends_the_check_out_whose_filter_hangs_and_puts_the_files_back() {
    for (script, count) in [(HANGS, 2), (HANGS_APART, 1)] {
        let project = filtered(script);
        let head = project.head();
        project.push(&[("m.x", "1\n"), ("kept.txt", "new\n"), ("z.txt", "new\n")]);
        let server = Server::serve(&project);
        let update = updating(&server);
        let pids = named(&project, count);
        let all: Vec<u32> = below(server.pid()).into_iter().map(|(pid, _)| pid).collect();
        assert!(pids.0.iter().all(|pid| all.contains(pid)));
        assert_eq!(server.get("/service/health")["web"]["status"], "OK");
        assert_eq!(server.terminate(), Some(0));
        let (status, answer) = update.join().unwrap();
        assert_eq!((status, &answer["code"]), (503, &"shutting_down".into()), "{answer}");
        wait_for("all that it has started has ended", || !all.iter().any(|&pid| lives(pid)));
        assert_clean(&project, &head);
    }
}

#[test]
fn a_second_signal_ends_what_puts_the_files_back_and_what_hangs_there() {
    let project = filtered("cat");
    project.push(&[("m.x", "1\n")]);
    git(&project.work, &["pull", "-q"]);
    program(&project, "filter", HANGS);
    project.push(&[("m.x", "2\n")]);
    let server = Server::serve(&project);
    let update = updating(&server);
    let _first = named(&project, 2);
    signal(server.pid(), "TERM");
    // The old file needs the filter as well.
    let _second = named(&project, 4);
    let all: Vec<u32> = below(server.pid()).into_iter().map(|(pid, _)| pid).collect();
    assert_eq!(server.terminate(), Some(0));
    let (status, answer) = update.join().unwrap();
    assert_eq!((status, &answer["code"]), (503, &"shutting_down".into()), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("not all files could be put back"), "{answer}");
    wait_for("all that it has started has ended", || !all.iter().any(|&pid| lives(pid)));
    assert!(!project.work.join(".git/index.lock").exists());
}

#[test]
fn an_ssh_that_hears_no_signal_ends_with_the_server() {
    let project = Project::web(1);
    let wrapper = program(&project, "wrapper", HANGS_APART);
    git(&project.work, &["remote", "set-url", "origin", "ssh://host/x.git"]);
    git(&project.work, &["config", "core.sshCommand", wrapper.to_str().unwrap()]);
    git(&project.work, &["config", "ssh.variant", "simple"]);
    let server = Server::serve(&project);
    let update = updating(&server);
    let pids = named(&project, 1);
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(update.join().unwrap().1["code"], "shutting_down");
    wait_for("the ssh has ended", || !pids.live());
}

#[test]
fn a_daemon_that_git_has_left_behind_ends_with_the_server() {
    let project = Project::web(1);
    // It leaves the session and its parent, as a credential cache does.
    let helper = program(
        &project,
        "helper",
        "setsid sh -c 'trap \"\" TERM; echo $$ >> $PIDS; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &",
    );
    git(&project.work, &["config", "core.sshCommand", helper.to_str().unwrap()]);
    git(&project.work, &["config", "ssh.variant", "simple"]);
    git(&project.work, &["remote", "set-url", "origin", "ssh://host/x.git"]);
    let server = Server::serve(&project);
    let (status, _) = server.call("POST", "/repo/update", &[], "");
    assert_eq!(status, 502);
    let pids = named(&project, 1);
    assert!(pids.live());
    assert_eq!(server.terminate(), Some(0));
    wait_for("the daemon has ended", || !pids.live());
}

#[test]
fn git_is_told_when_the_server_was_killed_leaves_no_lock_and_the_next_update_goes_on() {
    let project = filtered(HANGS);
    project.push(&[("a.txt", "1\n"), ("kept.txt", "new\n"), ("m.x", "1\n"), ("web/version.txt", "new\n")]);
    let server = Server::serve(&project);
    let services = Named(server.pids("web"));
    let _update = updating(&server);
    let filters = named(&project, 2);
    let gits: Vec<u32> = below(server.pid())
        .into_iter()
        .filter(|(_, run)| run.contains("read-tree"))
        .map(|(pid, _)| pid)
        .collect();
    assert!(!gits.is_empty());
    signal(server.pid(), "KILL");
    wait_for("git has ended", || !gits.iter().any(|&pid| lives(pid)));
    wait_for("no lock is left", || !project.work.join(".git/index.lock").exists());
    // Those are left to go on, or to end by the pipes that are closed.
    for pid in services.0.iter().chain(&filters.0) {
        signal(*pid, "KILL");
    }
    // What git had written by then is nobody's edit.
    let written = git(&project.work, &["-c", "filter.x.smudge=cat", "status", "--porcelain"]);
    assert!(written.contains("?? a.txt") && written.contains("M kept.txt"), "{written}");
    git(&project.work, &["config", "filter.x.smudge", "cat"]);
    drop(server);
    let server = Server::serve(&project);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!(status, 200, "{answer}");
    assert!(server.site("/").1.contains(r#""version": "new""#));
    assert_clean(&project, answer["to"]["hash"].as_str().unwrap());
}

#[test]
fn pipes_in_a_services_folder_among_files_and_in_the_place_of_a_log_hold_nobody() {
    let manifest = "services:\n  app: !App\n    run: sleep 1000\n    build: touch built\n    background: true\n  files: !FS\n    \
                    path: public\nserver:\n  site.local:\n    router:\n      - site.local/: files\n";
    let project = Project::new(manifest);
    project.push(&[("app/x", "x"), ("public/index.html", "hi"), ("public/other.html", "hi")]);
    git(&project.work, &["pull", "-q"]);
    let state = project.folder.path().join("state");
    fs::create_dir_all(state.join("logs")).unwrap();
    for folder in [&state, &state.join("logs")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let pipes =
        [project.work.join("app/pipe"), project.work.join("public/other.html"), state.join("logs/app.log")];
    drop(fs::remove_file(&pipes[1]));
    assert!(Command::new("mkfifo").args(&pipes).status().unwrap().success());
    let server = Server::serve(&project);
    assert_eq!(server.site("/index.html").0, 200);
    assert_eq!(server.site("/other.html").0, 404);
    assert_eq!(server.post("/service/restart/app?invalidate")["count"], 1);
    fs::remove_file(project.work.join("pm3.yml")).unwrap();
    assert!(Command::new("mkfifo").arg(project.work.join("pm3.yml")).status().unwrap().success());
    let (status, answer) = server.call("POST", "/reload", &[], "");
    assert_eq!((status, &answer["code"]), (422, &"manifest_invalid".into()), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("is a pipe"), "{answer}");
    assert_eq!(server.terminate(), Some(0));
}

/// Somebody who has a file leased, so that whoever opens it waits (fcntl(2), "Leases").
struct Lease(Child);

impl Lease {
    fn of(file: &Path) -> Self {
        const HOLD: &str = "import fcntl, os, signal, sys, time\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\n\
                            fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                            print(flush=True)\ntime.sleep(1000)";
        let mut holder =
            Command::new("python3").args(["-c", HOLD]).arg(file).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "\n", "it is leased");
        Self(holder)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Whether a thread of the server's waits for the lease.
fn waits_for_lease(server: &Server) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    tasks.filter_map(|task| fs::read_to_string(task.path().join("wchan")).ok()).any(|at| at.contains("lease"))
}

#[test]
fn a_read_that_stands_still_ends_at_its_limit_and_with_the_server() {
    let project = Project::web(1);
    git(&project.work, &["pack-refs", "--all"]);
    let server = Server::serve(&project);
    let packed = project.work.join(".git/packed-refs");
    let lease = Lease::of(&packed);
    let update = updating(&server);
    let (status, answer) = server.call("GET", "/repo", &[], "");
    assert_eq!((status, &answer["code"]), (504, &"repository_timeout".into()), "{answer}");
    let (status, answer) = update.join().unwrap();
    assert_eq!((status, &answer["code"]), (504, &"repository_timeout".into()), "{answer}");
    assert_eq!(server.get("/service/health")["web"]["status"], "OK");
    drop(lease);
    let commit = project.push(&[("web/version.txt", "v2\n")]);
    server.post("/repo/update");
    assert_eq!(project.head(), commit, "the queue goes on");

    git(&project.work, &["pack-refs", "--all"]);
    let lease = Lease::of(&packed);
    let _update = updating(&server);
    wait_for("a read stands still", || waits_for_lease(&server));
    assert_eq!(server.terminate(), Some(0));
    drop(lease);
}

#[test]
fn what_no_signal_ends_is_named_and_the_server_ends_all_the_same() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let work = folder.path().join("work");
    // What anybody may start and nobody else may end: it becomes root's.
    let become_root = folder.path().join("become-root");
    fs::copy("/usr/bin/setpriv", &become_root).unwrap();
    fs::set_permissions(&become_root, fs::Permissions::from_mode(0o4755)).unwrap();
    let manifest = format!(
        "services:\n  held: !App\n    root: .\n    run: {} --reuid=0 --regid=0 --clear-groups sleep 1000\n    background: true\n    stop_timeout: 1h\n",
        become_root.display()
    );
    write(&work, "pm3.yml", &manifest);
    let state = folder.path().join("state");
    for path in [&work, &work.join("pm3.yml"), folder.path()] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(pmesh().get_program());
    let server = Server::started_by(nobody, &work, &state);
    let mut pids = Named(Vec::new());
    wait_for("it runs as root", || {
        pids = Named(server.pids("held"));
        pids.0.iter().any(|pid| fs::metadata(format!("/proc/{pid}")).is_ok_and(|process| process.uid() == 0))
    });
    signal(server.pid(), "TERM");
    wait_for("the server is ending", || server.is_stopping());
    let log = state.with_extension("stderr");
    let code = server.terminate();
    let said = fs::read_to_string(log).unwrap();
    for pid in &pids.0 {
        assert!(lives(*pid), "nobody could end it");
        signal(*pid, "KILL");
    }
    assert_eq!(code, Some(4), "{said}");
    let expected = format!("process {} (sleep) in state S waits in ", pids.0[0]);
    assert!(said.matches(&expected).count() >= 2, "in the log and for whoever looks: {said}");
}
