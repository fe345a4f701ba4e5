//! A server of root over what belongs to somebody else.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
};

use crate::harness::{Project, Server, is_root};

/// Who owns the repositories here; no account is needed.
const OWNER: &str = "65534:65534";

fn chown(owner: &str, path: &Path) {
    assert!(Command::new("chown").arg("-hR").arg(owner).arg(path).status().unwrap().success());
}

/// A project whose repositories are [`OWNER`]'s, with something new at its remote, and the commits before and after.
fn project() -> (Project, String, String) {
    let project = Project::web(1);
    let before = project.head();
    let pushed = project.push(&[("more.txt", "x")]);
    let folder = project.folder.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    chown(OWNER, &project.work);
    chown(OWNER, &folder.join("remote.git"));
    (project, before, pushed)
}

#[test]
fn root_over_another_users_tree_says_so_once_and_serves_it() {
    if !is_root() {
        return;
    }
    let (project, _, pushed) = project();
    let server = Server::serve(&project);
    let lines: Vec<_> =
        server.log().lines().filter(|line| line.contains("as root")).map(str::to_owned).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("belongs to user 65534"), "{lines:?}");
    assert_eq!(server.post("/repo/update")["to"]["hash"], pushed);
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(project.work.join("more.txt").metadata().unwrap().uid(), 65534);
}

#[test]
fn where_the_owners_differ_an_update_is_409_with_the_remedy_and_reads_go_on() {
    if !is_root() {
        return;
    }
    let (project, before, _) = project();
    let config = project.work.join(".git/config");
    chown("0", &config);
    let server = Server::serve(&project);
    for (method, path) in [("POST", "/repo/update"), ("GET", "/repo?fetch")] {
        let (status, answer) = server.call(method, path, &[], "");
        assert_eq!((status, &answer["code"]), (409, &"repository_owner".into()), "{answer}");
        let sentence = answer["error"].as_str().unwrap();
        let remedy = format!("`chown -hR nobody {}`", config.display());
        assert!(sentence.contains(&remedy), "{sentence}");
    }
    assert_eq!(server.get("/repo")["ref"]["hash"], before);
}

#[test]
fn a_commit_of_a_hundred_million_files_is_422_and_the_server_serves_on() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let before = project.head();
    project.push(&[("web/version.txt", "v2\n")]);
    let bomb = r"
        tree=$(git rev-parse HEAD:web)
        for level in 1 2 3 4 5 6 7 8; do
            tree=$(for n in 0 1 2 3 4 5 6 7 8 9; do printf '040000 tree %s\tf%s\n' $tree $n; done | git mktree)
        done
        tree=$( { git ls-tree HEAD; printf '040000 tree %s\tz\n' $tree; } | git mktree)
        git push -q origin $(git -c user.name=A -c user.email=a@b commit-tree -p HEAD -m bomb $tree):refs/heads/main";
    let pushed =
        Command::new("sh").args(["-ec", bomb]).current_dir(project.folder.path().join("dev")).status();
    assert!(pushed.unwrap().success());
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!((status, &answer["code"]), (422, &"repository_too_large".into()), "{answer}");
    assert_eq!(server.get("/repo")["ref"]["hash"], before);
    assert_eq!(server.site("/version").0, 200);
}
