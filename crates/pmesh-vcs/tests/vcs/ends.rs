//! What blocks in a repository: it is refused by a look, or ends at its limit, or when nobody wants it any more; and what git
//! has started ends with it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::fd::AsFd,
    path::PathBuf,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use pmesh_vcs::{
    Cancel, CommitId, Vcs, VcsError,
    git::{GitLimits, GitRepo},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::site::Site;

/// Much longer than anything here takes.
const LONG: Duration = Duration::from_mins(1);

const SOON: Duration = Duration::from_millis(300);

/// Writes to the pipe `pids` and does not end: a line for itself, one for what it waits for.
const HANGS: &str = "echo $$ >> $PIDS; sleep 1000 & echo $! >> $PIDS; wait";

/// The same, deaf to SIGTERM, in a session of its own.
const HANGS_APART: &str = "exec setsid sh -c 'trap \"\" TERM; echo $$ >> $PIDS; while :; do sleep 1; done'";

/// A server whose next commit needs a filter that does `what`; whom it names, the commit, and what was there before.
fn with_filter(what: &str) -> (Site, Named, CommitId, CommitId) {
    let site = Site::new();
    let from = site.push("echo '*.x filter=x' > .gitattributes; echo old > changed; echo old > gone");
    site.run("git -C server pull -q");
    let named = Named::by(&site);
    program(&site, "filter", what);
    site.run("git -C server config filter.x.smudge $PWD/filter");
    let to =
        site.push("echo new > changed; rm gone; echo 1 > m.x; echo new > new; mkdir -p d; echo new > d/z");
    site.run("git -C server fetch -q");
    (site, named, from, to)
}

/// Writes a program that does `what` into the folder of the site.
fn program(site: &Site, name: &str, what: &str) -> PathBuf {
    let path = site.path(name);
    let what = what.replace("$PIDS", site.path("pids").to_str().unwrap());
    fs::write(&path, format!("#!/bin/sh\n{what}\n")).unwrap();
    site.run(&format!("chmod +x {name}"));
    path
}

/// A git that does `what` where it is to move the files.
fn git_that(site: &Site, what: &str) -> PathBuf {
    let otherwise = "*) exec git \"$@\";; esac";
    program(site, "git", &format!("case \"$*\" in *'read-tree -m -u'*) {what};; {otherwise}"))
}

/// The pipe `pids`, in which programs name processes.
struct Named(BufReader<File>);

impl Named {
    fn by(site: &Site) -> Self {
        site.run("mkfifo pids");
        // Open for both: neither this nor a program waits for the other end.
        Self(BufReader::new(File::options().read(true).write(true).open(site.path("pids")).unwrap()))
    }

    /// Waits until so many have been named since it was asked last.
    fn begun(&mut self, count: usize) -> Begun {
        let mut begun = Begun(Vec::new());
        while begun.0.len() < count {
            if self.0.buffer().is_empty() {
                wait_to_read(self.0.get_ref(), "it has not begun");
            }
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            begun.0.push(line.trim().parse().unwrap());
        }
        begun
    }
}

fn wait_to_read(file: &impl AsFd, otherwise: &str) {
    let end = Instant::now() + LONG;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: 0 };
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&limit)) {
            Err(Errno::INTR) => {}
            ready => return assert_ne!(ready, Ok(0), "{otherwise}"),
        }
    }
}

/// Processes that have been named. Dropped by a test that fails, they end.
struct Begun(Vec<u32>);

impl Drop for Begun {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pids = self.0.iter().map(ToString::to_string);
            drop(std::process::Command::new("kill").arg("-9").args(pids).status());
        }
    }
}

fn wait_for_end(begun: &Begun) {
    for &pid in &begun.0 {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => wait_to_read(&process, "it lives on"),
            Err(error) => assert_eq!(error, Errno::SRCH),
        }
    }
}

/// Checks out on another thread.
fn checking_out(repo: &GitRepo, to: &CommitId, cancel: &Cancel) -> Receiver<Result<(), VcsError>> {
    let (repo, to, cancel) = (repo.clone(), to.clone(), cancel.clone());
    let (say, said) = channel();
    std::thread::spawn(move || say.send(repo.check_out(&to, &cancel).map(drop)));
    said
}

fn assert_untouched(site: &Site, from: &CommitId) {
    assert_eq!(site.commit("server", "HEAD"), *from);
    assert_eq!(site.run("cd server; git status --porcelain; cat changed gone"), "old\nold");
    assert_eq!(site.locks(), "");
}

#[test]
fn where_git_would_wait_for_a_pipe_it_is_not_started() {
    const PLACES: [&str; 28] = [
        ".git/HEAD",
        ".git/index",
        ".git/config",
        ".git/config.worktree",
        ".git/packed-refs",
        ".git/shallow",
        ".git/commondir",
        ".git/info/exclude",
        ".git/info/attributes",
        ".git/info/grafts",
        ".git/info/sparse-checkout",
        ".git/logs/HEAD",
        ".git/logs/refs/heads/main",
        ".git/logs/refs/remotes/origin/main",
        ".git/refs/heads/main",
        ".git/refs/heads/other",
        ".git/refs/remotes/origin/main",
        ".git/refs/tags/x",
        ".git/objects/info/alternates",
        ".git/objects/info/commit-graph",
        ".git/objects/info/commit-graphs/commit-graph-chain",
        ".git/objects/pack/multi-pack-index",
        ".git/FETCH_HEAD",
        ".git/MERGE_HEAD",
        ".git/ORIG_HEAD",
        ".gitattributes",
        "d/.gitattributes",
        "d/.gitignore",
    ];
    let site = Site::new();
    let to = site.push("mkdir d; echo 1 > d/f");
    site.run("git -C server pull -q; mkdir -p server/.git/objects/info/commit-graphs");
    let repo = site.server();
    for place in PLACES {
        let path = site.path("server").join(place);
        let saved = site.path("saved");
        let was_there = fs::rename(&path, &saved).is_ok();
        site.run(&format!("mkdir -p $(dirname server/{place}); mkfifo server/{place}"));
        // A fetch has nothing to do with the work tree.
        let fetched = place.starts_with(".git/").then(|| repo.fetch(LONG, &Cancel::new()).unwrap_err());
        let moved =
            [repo.work_tree(&Cancel::new()).unwrap_err(), repo.check_out(&to, &Cancel::new()).unwrap_err()];
        for error in moved.into_iter().chain(fetched) {
            let said = error.to_string();
            assert!(matches!(error, VcsError::NotAFile { kind: "a pipe", .. }), "{place}: {said}");
            assert!(said.contains(place) && said.contains("remove it"), "{place}: {said}");
        }
        fs::remove_file(&path).unwrap();
        if was_there {
            fs::rename(&saved, &path).unwrap();
        }
        repo.work_tree(&Cancel::new()).unwrap_or_else(|error| panic!("after {place}: {error}"));
    }
}

#[test]
fn an_object_or_a_pack_that_is_a_pipe_is_named_before_it_is_read() {
    let site = Site::new();
    let object = site.run("git -C server rev-parse 'HEAD^{commit}'");
    let (folder, name) = object.split_at(2);
    site.run(&format!("cd server; mkdir -p .git/objects/{folder}; mkfifo .git/objects/{folder}/{name}"));
    let repo = site.server();
    let error = repo.heads(&Cancel::new()).unwrap_err();
    assert!(matches!(&error, VcsError::NotAFile { path, .. } if path.ends_with(name)), "{error}");
    site.run(&format!("rm server/.git/objects/{folder}/{name}; mkfifo server/.git/objects/pack/pack-1.idx"));
    let error = repo.heads(&Cancel::new()).unwrap_err();
    assert!(matches!(&error, VcsError::NotAFile { path, .. } if path.ends_with("pack-1.idx")), "{error}");
}

#[test]
fn dev_null_is_an_empty_file_and_a_socket_of_gits_own_is_none_at_all() {
    let site = Site::new();
    site.run("cd server; rm -f .git/info/exclude; ln -s /dev/null .git/info/exclude");
    let _socket =
        std::os::unix::net::UnixListener::bind(site.path("server/.git/fsmonitor--daemon.ipc")).unwrap();
    let repo = site.server();
    assert_eq!(repo.work_tree(&Cancel::new()).unwrap().changed.len(), 0);
    site.run("cd server; ln -sf /dev/zero .git/info/exclude");
    let error = repo.work_tree(&Cancel::new()).unwrap_err();
    assert!(matches!(error, VcsError::NotAFile { kind: "a device", .. }), "{error}");
}

#[test]
fn a_linked_work_tree_whose_pointer_is_a_pipe_is_named() {
    let site = Site::new();
    site.run("git -C server worktree add -q ../linked -b linked");
    let repo = GitRepo::discover(&site.path("linked/pm3.yml")).unwrap();
    repo.heads(&Cancel::new()).unwrap();
    for place in
        ["server/.git/worktrees/linked/commondir", "server/.git/worktrees/linked/gitdir", "linked/.git"]
    {
        let saved = site.path("saved");
        fs::rename(site.path(place), &saved).unwrap();
        site.run(&format!("mkfifo {place}"));
        let error = repo.heads(&Cancel::new()).unwrap_err();
        assert!(
            matches!(&error, VcsError::NotAFile { path, .. } if *path == site.path(place)),
            "{place}: {error}"
        );
        fs::rename(&saved, site.path(place)).unwrap();
    }
}

#[test]
fn a_check_out_whose_filter_hangs_ends_at_its_limit_and_all_is_as_before() {
    let (site, mut named, from, to) = with_filter(HANGS);
    let limits = GitLimits::default().with(|limits| limits.check_out = Duration::from_secs(2));
    let repo = site.server().with_limits(limits);
    let end = repo.check_out(&to, &Cancel::new());
    let pids = named.begun(2);
    assert!(matches!(end, Err(VcsError::Timeout { after, .. }) if after == limits.check_out), "{end:?}");
    assert_untouched(&site, &from);
    wait_for_end(&pids);
    site.run("git -C server config filter.x.smudge cat");
    site.server().check_out(&to, &Cancel::new()).unwrap();
    assert_eq!(site.run("cd server; git status --porcelain; cat new"), "new");
}

#[test]
fn tidying_up_that_hangs_ends_at_its_limit_with_all_that_it_has_started() {
    let deaf_apart = HANGS_APART.trim_start_matches("exec ");
    for what in [HANGS, &format!("{deaf_apart} & echo $$ >> $PIDS; wait")] {
        let site = Site::new();
        let mut named = Named::by(&site);
        let git = program(
            &site,
            "git",
            &format!("case \"$*\" in *maintenance*) {what};; *) exec git \"$@\";; esac"),
        );
        // Time enough to begin, and to go on without it.
        let limits = GitLimits::default().with(|limits| limits.maintenance = Duration::from_secs(5));
        let end = site.server().with_git(git).with_limits(limits).maintain(&Cancel::new());
        let pids = named.begun(2);
        assert!(
            matches!(end, Err(VcsError::Timeout { after, .. }) if after == limits.maintenance),
            "{end:?}"
        );
        wait_for_end(&pids);
        site.server().maintain(&Cancel::new()).unwrap();
    }
}

#[test]
fn a_check_out_that_is_wanted_no_more_ends_with_all_that_it_has_started_and_all_is_as_before() {
    for (what, lines) in [(HANGS, 2), (HANGS_APART, 1)] {
        let (site, mut named, from, to) = with_filter(what);
        let cancel = Cancel::new();
        let end = checking_out(&site.server(), &to, &cancel);
        let pids = named.begun(lines);
        cancel.cancel();
        let end = end.recv_timeout(LONG).unwrap();
        assert!(matches!(end, Err(VcsError::Cancelled)), "{end:?}");
        assert_untouched(&site, &from);
        wait_for_end(&pids);
    }
}

#[test]
fn where_the_files_cannot_be_put_back_either_that_is_said_at_its_limit_or_at_once_in_a_hurry() {
    for in_a_hurry in [false, true] {
        let (site, mut named, _, from) = with_filter(HANGS);
        // The old file needs the filter as well.
        site.run("git -C server -c filter.x.smudge=cat reset -q --hard origin/main");
        let to = site.push("echo 2 > m.x");
        site.run("git -C server fetch -q");
        let put_back = if in_a_hurry { LONG * 10 } else { SOON };
        let limits = GitLimits::default().with(|limits| limits.put_back = put_back);
        let cancel = Cancel::new();
        let end = checking_out(&site.server().with_limits(limits), &to, &cancel);
        let mut pids = named.begun(2);
        cancel.cancel();
        if in_a_hurry {
            pids.0.append(&mut named.begun(2).0);
            cancel.hurry();
        }
        match end.recv_timeout(LONG).unwrap() {
            Err(VcsError::HalfMoved { failed, source }) => {
                assert!(matches!(*failed, VcsError::Cancelled), "{failed}");
                let is_so = match *source {
                    VcsError::Timeout { after, .. } => !in_a_hurry && after == SOON,
                    VcsError::Cancelled => in_a_hurry,
                    _ => false,
                };
                assert!(is_so, "{source}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!((site.commit("server", "HEAD"), site.locks()), (from, String::new()));
        wait_for_end(&pids);
    }
}

#[test]
fn the_lock_of_a_git_that_had_to_be_killed_is_no_obstacle() {
    let (site, mut named, from, to) = with_filter("cat");
    // A git that has the index locked and hears nothing.
    let deaf =
        git_that(&site, "trap '' TERM; exec 8> .git/index.lock; echo $$ >> $PIDS; while :; do sleep 1; done");
    let limits = GitLimits::default().with(|limits| limits.grace = SOON);
    let repo = site.server().with_git(deaf).with_limits(limits);
    let cancel = Cancel::new();
    let end = checking_out(&repo, &to, &cancel);
    let pids = named.begun(1);
    cancel.cancel();
    let end = end.recv_timeout(LONG).unwrap();
    assert!(matches!(end, Err(VcsError::Cancelled)), "{end:?}");
    assert_untouched(&site, &from);
    wait_for_end(&pids);
    site.server().check_out(&to, &Cancel::new()).unwrap();
}

#[test]
fn what_git_had_done_already_when_it_was_cut_off_is_undone() {
    let (site, mut named, from, to) = with_filter("cat");
    site.run("cd server; echo staged > a.txt; git add a.txt; echo edited > a.txt");
    // It has moved everything, and does not end.
    let slow = git_that(&site, "git \"$@\"; echo $$ >> $PIDS; sleep 1000");
    let cancel = Cancel::new();
    let end = checking_out(&site.server().with_git(slow), &to, &cancel);
    let pids = named.begun(1);
    assert_eq!(site.run("cat server/new"), "new");
    cancel.cancel();
    let end = end.recv_timeout(LONG).unwrap();
    assert!(matches!(end, Err(VcsError::Cancelled)), "{end:?}");
    wait_for_end(&pids);
    assert_eq!((site.commit("server", "HEAD"), site.locks()), (from, String::new()));
    let said = site.run("cd server; git status --porcelain; cat changed gone; git show :a.txt; cat a.txt");
    assert_eq!(said, "MM a.txt\nold\nold\nstaged\nedited");
}

#[test]
fn a_lock_that_somebody_else_has_taken_stays() {
    let (site, mut named, _, to) = with_filter("cat");
    let deaf =
        git_that(&site, "trap '' TERM; echo > .git/index.lock; echo $$ >> $PIDS; while :; do sleep 1; done");
    let limits = GitLimits::default().with(|limits| limits.grace = SOON);
    let repo = site.server().with_git(deaf).with_limits(limits);
    let cancel = Cancel::new();
    let end = checking_out(&repo, &to, &cancel);
    let pids = named.begun(1);
    cancel.cancel();
    drop(end.recv_timeout(LONG).unwrap());
    assert_eq!(site.locks(), "server/.git/index.lock");
    wait_for_end(&pids);
}

#[test]
fn a_partial_clone_whose_remote_is_silent_ends_when_it_is_wanted_no_more() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.git", silent.local_addr().unwrap());
    let site = Site::new();
    site.run(
        "git -C remote.git config uploadpack.allowFilter true; rm -r server; \
         git clone -q --filter=blob:none \"file://$PWD/remote.git\" server",
    );
    let from = site.commit("server", "HEAD");
    let to = site.push("echo new > a.txt");
    site.run(&format!("cd server; git fetch -q; git remote set-url origin {url}"));
    let cancel = Cancel::new();
    let end = checking_out(&site.server(), &to, &cancel);
    // Somebody asks it.
    let asked = silent.accept().unwrap();
    cancel.cancel();
    let end = end.recv_timeout(LONG).unwrap();
    assert!(matches!(end, Err(VcsError::Cancelled)), "{end:?}");
    assert_eq!(site.run("cd server; git status --porcelain; cat a.txt"), "one");
    assert_eq!((site.commit("server", "HEAD"), site.locks()), (from, String::new()));
    drop(asked);
}

#[test]
fn a_fetch_whose_ssh_is_deaf_and_has_left_ends_with_it() {
    let site = Site::new();
    let mut named = Named::by(&site);
    program(&site, "wrapper", HANGS_APART);
    site.run("cd server; git remote set-url origin ssh://host/x.git; git config core.sshCommand $PWD/../wrapper; git config ssh.variant simple");
    let (repo, cancel, (say, said)) = (site.server(), Cancel::new(), channel());
    let given = cancel.clone();
    std::thread::spawn(move || say.send(repo.fetch(LONG * 10, &given).map(drop)));
    let pids = named.begun(1);
    cancel.cancel();
    let end = said.recv_timeout(LONG).unwrap();
    assert!(matches!(end, Err(VcsError::Cancelled)), "{end:?}");
    wait_for_end(&pids);
}
