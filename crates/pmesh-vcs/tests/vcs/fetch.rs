//! Downloading, and every way in which it fails.

use std::{
    io::Read,
    net::TcpListener,
    sync::mpsc,
    time::{Duration, Instant},
};

use pmesh_vcs::{Cancel, Fetched, InProgress, Vcs, VcsError};

use crate::site::Site;

const LIMIT: Duration = Duration::from_mins(1);

fn fetch(site: &Site) -> Result<Fetched, VcsError> {
    site.server().fetch(LIMIT, &Cancel::new())
}

#[test]
fn a_fetch_brings_the_followed_branch_and_nothing_else() {
    for (situation, script, branch) in [
        ("a clone", ":", "origin/main"),
        ("no upstream configured", "git config --remove-section branch.main", "origin/main"),
        (
            "an upstream of another name",
            "git push -q origin HEAD:live; git branch -q -u origin/live",
            "origin/live",
        ),
        ("the only remote is not called origin", "git remote rename origin up", "up/main"),
        (
            "a branch with slashes and an umlaut",
            "git switch -q -c 'feat/ü#1'; git push -q origin HEAD",
            "origin/feat/ü#1",
        ),
        (
            "one branch cloned, another followed",
            "git config remote.origin.fetch +refs/heads/x:refs/remotes/origin/x",
            "origin/main",
        ),
        ("a place of its own", "git config remote.origin.fetch '+refs/heads/*:refs/remotes/m/*'", "m/main"),
        ("a mirror", "git config remote.origin.fetch '+refs/*:refs/*'", "origin/main"),
        (
            "the user prunes and fetches tags",
            "git config fetch.prune true; git config remote.origin.tagOpt --tags",
            "origin/main",
        ),
        ("work in the tree", "echo x >> a.txt; echo y > b.txt; : > .git/index.lock", "origin/main"),
        ("a merge in progress", "git rev-parse HEAD > .git/MERGE_HEAD", "origin/main"),
        (
            "a branch without a commit",
            "git switch -q --orphan new; git config branch.new.remote origin; \
                                        git config branch.new.merge refs/heads/main",
            "origin/main",
        ),
    ] {
        let site = Site::after(&format!("cd server; {script}"));
        let remote_name = branch.strip_prefix("origin/").filter(|name| *name != "main").unwrap_or("main");
        let pushed = site.run(&format!(
            "cd pusher; git fetch -q; git checkout -q -B work origin/main; git commit -q --allow-empty -m new; git tag v1; \
             git push -qf origin 'HEAD:refs/heads/{remote_name}' HEAD:refs/heads/unrelated v1; git rev-parse HEAD"
        ));
        let kept = "cd server; git rev-parse -q --verify HEAD || echo unborn; git ls-files -s; git for-each-ref refs/heads refs/tags refs/remotes/origin/unrelated; \
                    ls .git/FETCH_HEAD 2>/dev/null || true";
        let (before, tree) = (site.run(kept), site.snapshot("server"));
        for _ in 0..2 {
            fetch(&site).expect(situation);
            let remote = site.server().remote_head().unwrap().expect(situation);
            assert_eq!(remote.branch.as_str(), branch, "{situation}");
            assert_eq!(remote.commit.unwrap().as_str(), pushed, "{situation}");
            assert_eq!(site.run(kept), before, "{situation}");
            assert_eq!(site.snapshot("server"), tree, "{situation}");
        }
    }
}

#[test]
fn a_push_by_force_is_fetched() {
    let site = Site::new();
    site.run("cd pusher; git commit -q --amend -m other; git push -qf");
    fetch(&site).unwrap();
    assert_eq!(site.server().remote_head().unwrap().unwrap().message, "other");
}

#[test]
fn a_shallow_clone_stays_shallow() {
    let site = Site::after(
        "cd pusher; git commit -q --allow-empty -m 2; git commit -q --allow-empty -m 3; git push -q; cd ..; rm -rf server; \
         git clone -q --depth 1 file://$PWD/remote.git server",
    );
    site.push("echo 4 > d");
    fetch(&site).unwrap();
    assert_eq!(site.run("git -C server rev-list --count origin/main"), "2");
}

#[test]
fn a_fetch_that_cannot_work_says_why() {
    type Is = fn(&VcsError) -> bool;
    let rows: [(&str, &str, Is); 10] = [
        (
            "no remote",
            "git remote remove origin",
            |it| matches!(it, VcsError::NoRemote { branch } if branch.as_str() == "main"),
        ),
        ("detached", "git checkout -q --detach", |it| matches!(it, VcsError::Detached { .. })),
        ("a bisect in progress", "git bisect start -q HEAD; git checkout -q --detach", |it| {
            matches!(it, VcsError::InProgress { operation: InProgress::Bisect })
        }),
        (
            "the branch is gone from the remote",
            "git push -q origin :main 2>/dev/null || git -C ../remote.git update-ref -d refs/heads/main",
            |it| matches!(it, VcsError::NoRemoteBranch { remote, branch } if remote == "origin" && branch.as_str() == "main"),
        ),
        (
            "the branch was never pushed",
            "git switch -q -c mine",
            |it| matches!(it, VcsError::NoRemoteBranch { branch, .. } if branch.as_str() == "mine"),
        ),
        (
            "the remote is gone",
            "rm -rf ../remote.git",
            |it| matches!(it, VcsError::Fetch { message, .. } if message.contains("does not appear")),
        ),
        (
            "nobody listens",
            "git remote set-url origin git://127.0.0.1:1/app.git",
            |it| matches!(it, VcsError::Fetch { url, message } if url == "git://127.0.0.1:1/app.git" && message.contains("refused")),
        ),
        (
            "ssh refuses",
            "git remote set-url origin git@host:app.git; printf '#!/bin/sh\\necho no key for \"$@\" >&2; false' > .git/ssh; \
             chmod +x .git/ssh; git config core.sshCommand .git/ssh",
            |it| matches!(it, VcsError::Fetch { message, .. } if message.contains("no key for") && message.contains("-oBatchMode=yes")),
        ),
        (
            "another git holds the tip",
            ": > .git/refs/remotes/origin/main.lock",
            |it| matches!(it, VcsError::Locked { path, .. } if path.ends_with("refs/remotes/origin/main.lock")),
        ),
        ("an unknown transport", "git remote set-url origin no-such-helper::x", |it| {
            matches!(it, VcsError::Fetch { .. })
        }),
    ];
    for (situation, script, is) in rows {
        let site = Site::after(&format!("cd server; {script}"));
        site.run("cd pusher; git commit -q --allow-empty -m 2; [ ! -d ../remote.git ] || git push -q origin HEAD:refs/heads/other");
        if situation.starts_with("another git") {
            site.push(":");
        }
        let tree = site.snapshot("server");
        for _ in 0..2 {
            let error = fetch(&site).expect_err(situation);
            assert!(is(&error), "{situation}: {error:?}");
            assert_eq!(site.snapshot("server"), tree, "{situation}");
        }
    }
}

#[test]
fn a_token_is_in_no_error() {
    for url in [
        "https://t0kenAAA@127.0.0.1:1/app.git",
        "https://bot:t0kenAAA@127.0.0.1:1/app.git",
        "https://bot:t0kenAAA@127.0.0.1:1/app.git?private_token=t0kenAAA",
        "git://t0kenAAA@127.0.0.1:1/app.git",
        "unheard-of://bot:t0kenAAA@127.0.0.1:1/app.git",
        "no-such-helper::https://t0kenAAA@127.0.0.1/app.git",
        "ssh://bot:t0kenAAA@127.0.0.1:1/app.git",
    ] {
        let site = Site::after(&format!(
            "cd server; git remote set-url origin '{url}'; git config core.sshCommand 'echo \"$@\" >&2; false'"
        ));
        let error = fetch(&site).unwrap_err();
        assert!(matches!(error, VcsError::Fetch { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("t0kenAAA"), "{error:?}");
    }
}

/// A remote that accepts and says nothing; the channel reports each connection, and its end.
fn silent_remote() -> (u16, mpsc::Receiver<&'static str>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (reports, reported) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        reports.send("connected").unwrap();
        let mut rest = Vec::new();
        // It ends with the process that asks.
        connection.read_to_end(&mut rest).unwrap_or_default();
        reports.send("closed").unwrap();
    });
    (port, reported)
}

#[test]
fn a_remote_that_says_nothing_is_left_at_the_time_limit() {
    let (port, reported) = silent_remote();
    let site = Site::after(&format!("git -C server remote set-url origin git://127.0.0.1:{port}/app.git"));
    let limit = Duration::from_millis(500);
    let begun = Instant::now();
    let error = site.server().fetch(limit, &Cancel::new()).unwrap_err();
    assert!(matches!(&error, VcsError::FetchTimeout { after, .. } if *after == limit), "{error:?}");
    assert!(begun.elapsed() >= limit);
    assert_eq!(reported.iter().collect::<Vec<_>>(), ["connected", "closed"], "no process is left");
    assert_eq!(site.locks(), "");
}

#[test]
fn a_fetch_that_is_cancelled_ends_at_once_and_leaves_no_process() {
    let (port, reported) = silent_remote();
    let site = Site::after(&format!("git -C server remote set-url origin git://127.0.0.1:{port}/app.git"));
    let cancel = Cancel::new();
    let other = cancel.clone();
    let canceller = std::thread::spawn(move || {
        assert_eq!(reported.recv(), Ok("connected"));
        other.cancel();
        assert_eq!(reported.recv(), Ok("closed"));
    });
    let error = site.server().fetch(Duration::from_mins(10), &cancel).unwrap_err();
    assert!(matches!(error, VcsError::Cancelled), "{error:?}");
    canceller.join().unwrap();
    assert_eq!(site.locks(), "");
    assert!(matches!(site.server().fetch(LIMIT, &cancel), Err(VcsError::Cancelled)), "it stays cancelled");
}

#[test]
fn git_is_not_found_and_says_so() {
    let site = Site::new();
    let repo = site.server().with_git("/nowhere/git");
    let error = repo.fetch(LIMIT, &Cancel::new()).unwrap_err();
    assert!(matches!(error, VcsError::Program { .. }), "{error:?}");
    assert!(repo.head().is_ok(), "reads need no program");
}

#[test]
fn as_root_a_fetch_runs_as_the_owner_of_the_repository() {
    let site = Site::new();
    if !site.is_of_root() {
        return;
    }
    site.push(":");
    site.run("chmod 755 .; chown -R 65534:65534 server remote.git");
    fetch(&site).unwrap();
    assert_eq!(site.run("find server ! -user 65534"), "");
}

#[test]
fn git_gets_no_terminal_and_asks_nothing() {
    let site = Site::after(
        "cd server; git remote set-url origin git@host:app.git; \
         git config core.sshCommand 'ps -o pid=,sid=,tty= -p $PPID >&2; env | grep ^GIT_TERMINAL >&2; false'",
    );
    let Err(VcsError::Fetch { message, .. }) = fetch(&site) else { panic!("ssh refuses") };
    assert!(message.contains("GIT_TERMINAL_PROMPT=0"), "{message}");
}
