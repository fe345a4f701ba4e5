//! What is served is what was asked for, with real git: what somebody pulls by hand is not what runs before an update rolls over
//! to it, and a remote that goes back is followed back.

use serde_json::{Value, json};

use crate::harness::{Project, Server, git, pmesh, web_manifest};

fn serves(server: &Server, version: &str) -> bool {
    server.site("/").1.contains(&format!("\"version\": \"{version}\""))
}

/// What `/repo` says is checked out, and what it says runs.
fn head_and_deployed(server: &Server) -> (String, String) {
    let repo = server.get("/repo");
    let hash = |what: &str| repo[what]["hash"].as_str().unwrap().to_owned();
    (hash("ref"), hash("deployed"))
}

/// From where to where an update went; it has no local work to tell of.
fn updated(server: &Server) -> (String, String) {
    let update = server.post("/repo/update");
    assert_eq!(update["ahead"], Value::Null, "{update}");
    let hash = |what: &str| update[what]["hash"].as_str().unwrap().to_owned();
    (hash("from"), hash("to"))
}

/// What a command prints where no line is cut.
fn said(server: &Server, command: &str) -> String {
    let output = pmesh()
        .args([command, "--url", &format!("http://{}", server.api)])
        .env("COLUMNS", "500")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_was_pulled_by_hand_runs_from_the_update_on_that_rolls_over_to_it() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let old = project.head();
    let manifest = web_manifest(1, "    env: {PULLED: 'yes'}\n");
    let new = project.push(&[("web/version.txt", "v2\n"), ("pm3.yml", &manifest)]);
    git(&project.work, &["pull", "-q"]);
    assert_eq!(head_and_deployed(&server), (new.clone(), old.clone()));
    let warning = format!(
        "the services run {} \"change\", and {} is checked out: `pmesh-server update` rolls over to it",
        &old[..12],
        &new[..12]
    );
    let status = said(&server, "status");
    assert!(status.contains(&warning), "{warning}\n{status}");
    assert!(serves(&server, "v1"));

    assert_eq!(updated(&server), (old, new.clone()));
    assert_eq!(head_and_deployed(&server), (new.clone(), new.clone()));
    assert!(serves(&server, "v2"));
    assert!(!said(&server, "status").contains("is checked out"));
    let (before, pids) = (server.get("/service"), server.pids("web"));
    assert_eq!(updated(&server), (new.clone(), new));
    assert_eq!((server.get("/service"), server.pids("web")), (before, pids));
    assert!(said(&server, "update").contains("nothing new"));
}

#[test]
fn a_remote_that_goes_back_by_force_or_by_another_url_is_followed_back() {
    let to_a_fork = |project: &Project| {
        let folder = project.folder.path();
        let fork = folder.join("fork.git");
        git(folder, &["clone", "-q", "--bare", "remote.git", "fork.git"]);
        git(&fork, &["update-ref", "refs/heads/main", "HEAD~1"]);
        git(&project.work, &["remote", "set-url", "origin", fork.to_str().unwrap()]);
    };
    let by_force = |project: &Project| drop(project.rewind());
    for (situation, goes_back) in [("rewound", &by_force as &dyn Fn(&Project)), ("an older fork", &to_a_fork)]
    {
        let project = Project::web(1);
        let server = Server::serve(&project);
        let good = project.head();
        let bad = project.push(&[("web/version.txt", "bad\n")]);
        assert_eq!(updated(&server), (good.clone(), bad.clone()));
        assert!(serves(&server, "bad"));
        goes_back(&project);
        assert_eq!(updated(&server), (bad, good.clone()), "{situation}");
        assert_eq!(head_and_deployed(&server), (good.clone(), good.clone()), "{situation}");
        assert!(serves(&server, "v1"), "{situation}");
        assert_eq!(git(&project.work, &["status", "--porcelain"]), "");
        assert_eq!(updated(&server), (good.clone(), good), "{situation}");
    }
}

#[test]
fn a_broken_commit_that_was_pulled_by_hand_is_never_shown_as_what_runs() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let (old, pids) = (project.head(), server.pids("web"));
    let broken = project.push(&[("web/version.txt", "broken\n")]);
    git(&project.work, &["pull", "-q"]);
    assert_eq!(head_and_deployed(&server), (broken, old.clone()));
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!(
        (status, &answer["code"], &answer["rolled_back"]),
        (500, &json!("rollout_failed"), &json!(true)),
        "{answer}"
    );
    assert!(answer["services"]["web"].as_str().unwrap().contains("frobnicate"), "{answer}");
    assert_eq!(head_and_deployed(&server), (old.clone(), old));
    assert_eq!(server.pids("web"), pids, "the very same processes");
    assert!(serves(&server, "v1"));
    let mended = project.push(&[("web/version.txt", "v2\n")]);
    assert_eq!(updated(&server).1, mended);
    assert!(serves(&server, "v2"));
}

/// A project of three commits whose work tree has the last one alone.
fn shallow() -> Project {
    let project = Project::web(1);
    project.push(&[("web/version.txt", "v2\n")]);
    project.push(&[("web/version.txt", "v3\n")]);
    std::fs::remove_dir_all(&project.work).unwrap();
    let folder = project.folder.path();
    let url = format!("file://{}", folder.join("remote.git").display());
    git(folder, &["clone", "-q", "--depth", "1", &url, "work"]);
    project
}

#[test]
fn a_shallow_clone_follows_a_push_by_force() {
    let project = shallow();
    let server = Server::serve(&project);
    let old = project.head();
    project.rewind();
    let forced = project.push(&[("web/version.txt", "v4\n")]);
    assert_eq!(updated(&server), (old, forced.clone()));
    assert_eq!(head_and_deployed(&server), (forced.clone(), forced));
    assert!(serves(&server, "v4"));
}

#[test]
fn local_work_in_a_shallow_clone_is_refused_after_a_push_by_force_with_a_remedy_that_tells_the_rest() {
    let project = shallow();
    let server = Server::serve(&project);
    git(&project.work, &["commit", "-q", "--allow-empty", "-m", "mine"]);
    let mine = project.head();
    project.rewind();
    project.push(&[("web/version.txt", "v4\n")]);
    let refused = || {
        let (status, answer) = server.call("POST", "/repo/update", &[], "");
        assert_eq!((status, &answer["code"]), (409, &json!("history_diverged")), "{answer}");
        answer["error"].as_str().unwrap().to_owned()
    };
    let error = refused();
    assert!(error.contains("this clone is shallow") && error.contains("`git fetch --unshallow`"), "{error}");
    assert!(!error.contains("no commit in common"), "{error}");
    git(&project.work, &["fetch", "-q", "--unshallow"]);
    let error = refused();
    assert!(error.contains("has 2 commits that the remote lacks and lacks 1 of its"), "{error}");
    assert_eq!(project.head(), mine);
    assert!(serves(&server, "v3"));
}
