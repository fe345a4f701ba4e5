//! The same table against real git and against the fake: the fake keeps the real thing's rules.

use std::{path::Path, time::Duration};

use pmesh_vcs::{
    Cancel, CommitId, InProgress, Relation, Vcs, VcsError, WorkTree,
    testing::{FakeVcs, VcsCall},
};
use tempfile::TempDir;

use crate::site::Site;

/// What happens around a repository, in words that hold for a real one and for the fake.
#[derive(Clone, Copy, Debug)]
enum Event {
    Push,
    PushFile(&'static str),
    PushByForce,
    PushAnotherHistory,
    /// The remote has the commit before its last one.
    Rewind,
    CommitHere,
    DeleteRemoteBranch,
    RemoveRemote,
    Detach,
    MakeUnborn,
    GoOffline,
    Edit,
    Leave(&'static str),
    /// A check-out of what was pushed there was killed right behind this file.
    HalfCheckedOut(&'static str),
    BeginMerge,
    Lock,
    Damage,
    Remove,
    /// The server acts: what it says is part of the outcome.
    Fetch,
    CheckOutRemote,
    /// From the remote head to where the head was before anything happened.
    GoBack,
}
use Event::*;

trait World {
    fn happen(&self, event: Event);
    fn vcs(&self) -> &dyn Vcs;
}

struct Real {
    site: Site,
    repo: pmesh_vcs::git::GitRepo,
}

impl World for Real {
    fn happen(&self, event: Event) {
        let script = match event {
            Push => "cd pusher; git commit -q --allow-empty -m pushed; git push -q".to_owned(),
            PushFile(path) => {
                format!("cd pusher; echo pushed > {path}; git add .; git commit -qm pushed; git push -q")
            }
            PushByForce => {
                "cd pusher; git commit -q --allow-empty --amend -m forced; git push -qf".to_owned()
            }
            PushAnotherHistory => {
                "cd pusher; git checkout -q --orphan x; git commit -q --allow-empty -m other; git push -qf origin x:main"
                    .to_owned()
            }
            Rewind => "cd pusher; git reset -q --hard HEAD~1; git push -qf".to_owned(),
            CommitHere => "git -C server commit -q --allow-empty -m here".to_owned(),
            DeleteRemoteBranch => "git -C remote.git update-ref -d refs/heads/main".to_owned(),
            RemoveRemote => "git -C server remote remove origin".to_owned(),
            Detach => "git -C server checkout -q --detach".to_owned(),
            MakeUnborn => "cd server; git update-ref -d refs/heads/main; git rm -qrf .".to_owned(),
            GoOffline => "mv remote.git away.git".to_owned(),
            Edit => "echo edited >> server/a.txt".to_owned(),
            Leave(path) => format!("echo mine > server/{path}"),
            HalfCheckedOut(path) => format!("echo pushed > server/{path}"),
            BeginMerge => "cd server; git rev-parse HEAD > .git/MERGE_HEAD".to_owned(),
            Lock => ": > server/.git/index.lock".to_owned(),
            Damage => "echo rubbish > server/.git/HEAD".to_owned(),
            Remove => "rm -rf server/.git".to_owned(),
            Fetch | CheckOutRemote | GoBack => unreachable!("the server does this itself"),
        };
        self.site.run(&script);
    }

    fn vcs(&self) -> &dyn Vcs {
        &self.repo
    }
}

struct Fake {
    repo: FakeVcs,
    folder: Option<TempDir>,
    next: std::cell::Cell<u32>,
}

impl Fake {
    fn new(is_mirrored: bool) -> Self {
        let files = [("a.txt", "one\n")];
        let folder = is_mirrored.then(|| tempfile::tempdir().unwrap());
        let repo = match &folder {
            Some(folder) => FakeVcs::mirrored(folder.path(), "1", files).unwrap(),
            None => FakeVcs::with_files("1", files),
        };
        Self { repo, folder, next: std::cell::Cell::new(2) }
    }

    fn name(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("{:x}", self.next.get())
    }
}

impl World for Fake {
    fn happen(&self, event: Event) {
        match event {
            Push => self.repo.push(&self.name()),
            PushFile(path) => self.repo.push_files(&self.name(), [(path, "pushed\n")]),
            PushByForce => self.repo.push_by_force(&self.name()),
            PushAnotherHistory => self.repo.push_another_history(&self.name()),
            Rewind => self.repo.rewind(),
            CommitHere => self.repo.commit_here(&self.name()),
            DeleteRemoteBranch => self.repo.delete_remote_branch(),
            RemoveRemote => self.repo.remove_remote(),
            Detach => self.repo.detach(),
            MakeUnborn => self.repo.make_unborn(),
            GoOffline => self.repo.go_offline(),
            Edit => match &self.folder {
                Some(folder) => std::fs::write(folder.path().join("a.txt"), "edited").unwrap(),
                None => self.repo.set_changed(["a.txt"]),
            },
            Leave(path) => match &self.folder {
                Some(folder) => std::fs::write(folder.path().join(path), "mine").unwrap(),
                None => self.repo.set_untracked([path]),
            },
            // Without a folder there is nothing to be left in.
            HalfCheckedOut(path) => {
                if let Some(folder) = &self.folder {
                    std::fs::write(folder.path().join(path), "pushed\n").unwrap();
                }
            }
            BeginMerge => self.repo.set_in_progress(Some(InProgress::Merge)),
            Lock => self.repo.set_lock(Some(pmesh_vcs::HeldLock {
                path: self.repo.root().join(".git/index.lock"),
                age: Duration::ZERO,
            })),
            Damage => self.repo.damage(),
            Remove => self.repo.remove(),
            Fetch | CheckOutRemote | GoBack => unreachable!("the server does this itself"),
        }
    }

    fn vcs(&self) -> &dyn Vcs {
        &self.repo
    }
}

/// The outcome of a row, without names that differ from world to world.
fn outcome(world: &dyn World, events: &[Event]) -> Vec<String> {
    let vcs = world.vcs();
    let start = vcs.head().unwrap().commit.unwrap();
    let mut told = Vec::new();
    let mut kept = Vec::new();
    let mut tell = |what: &str, result: Result<String, VcsError>| {
        told.push(format!("{what}: {}", result.unwrap_or_else(|error| kind(&error))));
    };
    for event in events {
        match event {
            Fetch => {
                tell("fetch", vcs.fetch(Duration::from_mins(1), &Cancel::new()).map(|_| "done".to_owned()));
            }
            CheckOutRemote => {
                if let Ok(Some(remote)) = vcs.remote_head() {
                    let commit = remote.commit.expect("a remote head has a commit");
                    let moved = vcs.check_out(&commit, &Cancel::new());
                    kept = moved.as_ref().map(Clone::clone).unwrap_or_default();
                    tell("check out", moved.map(|kept| format!("done, {kept:?} stay")));
                } else {
                    tell("check out", Ok("nowhere to go".to_owned()));
                }
            }
            GoBack => {
                let remote = vcs.remote_head().unwrap().unwrap().commit.unwrap();
                tell(
                    "go back",
                    vcs.go_back(&remote, &start, &kept, &Cancel::new()).map(|()| "done".to_owned()),
                );
            }
            other => world.happen(*other),
        }
    }
    let head = vcs.head();
    let remote = vcs.remote_head();
    if let (Ok(head), Ok(remote)) = (&head, &remote)
        && let (Some(head), Some(remote)) =
            (&head.commit, remote.as_ref().and_then(|remote| remote.commit.as_ref()))
    {
        tell("relation", vcs.relation(head, remote, &Cancel::new()).map(|relation| format!("{relation:?}")));
        tell("local", vcs.local_commits(head, remote, &[], &Cancel::new()).map(|local| local.to_string()));
        tell("changed", vcs.changed_paths(head, remote, &Cancel::new()).map(|paths| format!("{paths:?}")));
        tell("a.txt", vcs.file(head, Path::new("a.txt"), &Cancel::new()).map(|file| format!("{file:?}")));
        tell("none", vcs.file(remote, Path::new("none"), &Cancel::new()).map(|file| format!("{file:?}")));
    }
    tell("head", head.map(|head| format!("{} {}", head.branch, head.commit.is_some())));
    tell("remote head", remote.map(|it| it.map_or_else(|| "none".to_owned(), |it| it.branch.to_string())));
    tell("remote url", vcs.heads(&Cancel::new()).map(|heads| heads.remote_url.is_some().to_string()));
    tell(
        "work tree",
        vcs.work_tree(&Cancel::new()).map(|WorkTree { changed, in_progress, lock }| {
            format!("{changed:?} {in_progress:?} {}", lock.is_some())
        }),
    );
    told
}

/// The variant of an error and what a caller would act on.
fn kind(error: &VcsError) -> String {
    match error {
        VcsError::Dirty { paths } => format!("Dirty {paths:?}"),
        VcsError::InProgress { operation } => format!("InProgress {operation}"),
        VcsError::NoRemote { branch } => format!("NoRemote {branch}"),
        VcsError::NoRemoteBranch { remote, branch } => format!("NoRemoteBranch {remote} {branch}"),
        VcsError::Unborn { branch } => format!("Unborn {branch}"),
        other => format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn the_fake_answers_as_real_git_does() {
    let rows: &[&[Event]] = &[
        &[],
        &[Fetch, CheckOutRemote],
        &[Push],
        &[Push, Fetch],
        &[Push, Fetch, CheckOutRemote],
        &[Push, Push, Push, Fetch],
        &[PushFile("b"), Fetch, CheckOutRemote],
        &[PushFile("b"), Fetch, CheckOutRemote, Push, Fetch, CheckOutRemote],
        &[CommitHere, Fetch],
        &[CommitHere, CommitHere, Push, Fetch],
        &[Push, Fetch, CheckOutRemote, PushByForce, Fetch],
        &[Push, PushByForce, Fetch],
        &[Push, Fetch, CheckOutRemote, Rewind, Fetch],
        &[PushFile("b"), Fetch, CheckOutRemote, Rewind, Fetch, CheckOutRemote],
        &[Push, Fetch, CheckOutRemote, CommitHere, Rewind, Fetch, CheckOutRemote],
        &[Push, Fetch, Rewind, Fetch, CheckOutRemote],
        &[Push, Rewind, Fetch, CheckOutRemote],
        &[Push, Fetch, CheckOutRemote, PushAnotherHistory, Fetch],
        &[Push, CommitHere, PushAnotherHistory, Fetch],
        &[Push, Fetch, DeleteRemoteBranch, Fetch],
        &[RemoveRemote, Fetch, CheckOutRemote],
        &[Detach, Fetch, CheckOutRemote],
        &[Push, MakeUnborn, Fetch, CheckOutRemote],
        &[Push, GoOffline, Fetch, CheckOutRemote],
        &[Push, Edit, Fetch, CheckOutRemote],
        &[PushFile("b"), Edit, Fetch, CheckOutRemote, GoBack],
        &[PushFile("a.txt"), Edit, Fetch, CheckOutRemote],
        &[PushFile("b"), Leave("b"), Fetch, CheckOutRemote],
        &[PushFile("b"), Leave("c"), Fetch, CheckOutRemote],
        &[PushFile("b"), HalfCheckedOut("b"), Fetch, CheckOutRemote, GoBack],
        &[PushFile("a.txt"), HalfCheckedOut("a.txt"), Fetch, CheckOutRemote],
        &[PushFile("b"), PushFile("a.txt"), HalfCheckedOut("b"), Edit, Fetch, CheckOutRemote],
        &[PushFile("a.txt"), Fetch, HalfCheckedOut("a.txt"), PushFile("b"), Fetch, CheckOutRemote],
        &[PushFile("b"), Fetch, CheckOutRemote, GoBack],
        &[PushFile("b"), Fetch, CheckOutRemote, Edit, GoBack],
        &[PushFile("a.txt"), Fetch, CheckOutRemote, Edit, Leave("c"), GoBack, CheckOutRemote],
        &[PushFile("b"), Fetch, GoBack],
        &[Push, Fetch, CheckOutRemote, CommitHere, GoBack],
        &[Push, Fetch, CheckOutRemote, Edit, BeginMerge, GoBack],
        &[Push, Fetch, CheckOutRemote, Lock, GoBack],
        &[Push, BeginMerge, Fetch, CheckOutRemote],
        &[Push, Lock, Fetch, CheckOutRemote],
        &[Damage, Fetch, CheckOutRemote],
        &[Remove, Fetch, CheckOutRemote],
    ];
    for events in rows {
        let site = Site::new();
        let repo = site.server();
        let expected = outcome(&Real { site, repo }, events);
        assert_eq!(outcome(&Fake::new(false), events), expected, "in memory: {events:?}");
        assert_eq!(outcome(&Fake::new(true), events), expected, "mirrored: {events:?}");
    }
}

#[test]
fn a_commit_that_was_not_fetched_is_unknown_to_the_fake() {
    let repo = FakeVcs::at("a1");
    repo.push("b2");
    let pushed = FakeVcs::commit_id("b2");
    assert!(
        matches!(repo.check_out(&pushed, &Cancel::new()), Err(VcsError::UnknownCommit(commit)) if commit == pushed)
    );
    assert!(matches!(repo.file(&pushed, Path::new("x"), &Cancel::new()), Err(VcsError::UnknownCommit(_))));
}

#[test]
fn a_fetch_of_the_fake_hangs_until_its_limit_its_cancel_or_the_remote_answers() {
    let repo = FakeVcs::at("a1");
    repo.push("b2");
    repo.hang();
    let limit = Duration::from_millis(5);
    assert!(
        matches!(repo.fetch(limit, &Cancel::new()), Err(VcsError::FetchTimeout { after, .. }) if after == limit)
    );

    let cancel = Cancel::new();
    let other = (repo.clone(), cancel.clone());
    let hanging = std::thread::spawn(move || other.0.fetch(Duration::MAX, &other.1));
    repo.wait_for_fetches(2);
    cancel.cancel();
    assert!(matches!(hanging.join().unwrap(), Err(VcsError::Cancelled)));

    let other = repo.clone();
    let hanging = std::thread::spawn(move || other.fetch(Duration::MAX, &Cancel::new()));
    repo.wait_for_fetches(3);
    repo.go_online();
    hanging.join().unwrap().unwrap();
    assert_eq!(repo.remote_head().unwrap().unwrap().commit, Some(FakeVcs::commit_id("b2")));
}

#[test]
fn the_fake_mirrors_commits_and_keeps_what_is_not_tracked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let read = |name: &str| std::fs::read_to_string(path(name)).ok();
    let repo = FakeVcs::mirrored(folder.path(), "a1", [("pm3.yml", "1"), ("old/app.py", "#!x")]).unwrap();
    std::fs::write(path("data.db"), "mine").unwrap();
    repo.push_files("b2", [("pm3.yml", "2"), ("new/app.py", "3")]);
    repo.push_without("b3", ["old/app.py"]);
    repo.fetch(Duration::MAX, &Cancel::new()).unwrap();
    repo.check_out(&FakeVcs::commit_id("b3"), &Cancel::new()).unwrap();
    assert_eq!((read("pm3.yml").as_deref(), read("new/app.py").as_deref()), (Some("2"), Some("3")));
    assert!(!path("old").exists());
    repo.check_out(&FakeVcs::commit_id("a1"), &Cancel::new()).unwrap();
    assert_eq!((read("pm3.yml").as_deref(), read("old/app.py").as_deref()), (Some("1"), Some("#!x")));
    assert!(!path("new").exists());
    assert_eq!(read("data.db").as_deref(), Some("mine"));
    assert_eq!(repo.check_outs(), ["b3", "a1"].map(FakeVcs::commit_id));
}

#[test]
fn calls_are_recorded_in_order_and_failures_are_as_scripted() {
    let repo = FakeVcs::at("a1");
    repo.push("b2");
    repo.fetch(Duration::MAX, &Cancel::new()).unwrap();
    repo.fail_check_outs(Some("no space left on device"));
    let to: CommitId = FakeVcs::commit_id("b2");
    assert!(
        matches!(repo.check_out(&to, &Cancel::new()), Err(VcsError::Git { message, .. }) if message.contains("no space"))
    );
    assert_eq!(repo.head().unwrap().commit, Some(FakeVcs::commit_id("a1")));
    assert_eq!(repo.calls(), [VcsCall::Fetch, VcsCall::CheckOut(to), VcsCall::Head]);

    repo.set_remote_url("https://t0ken@example.org/app.git");
    repo.refuse_fetches("403 for t0ken");
    let error = repo.fetch(Duration::MAX, &Cancel::new()).unwrap_err();
    assert!(!format!("{error:?}").contains("t0ken"));
    assert_eq!(repo.heads(&Cancel::new()).unwrap().remote_url.unwrap(), "https://example.org/app.git");
    let (old, new) = (FakeVcs::commit_id("a1"), FakeVcs::commit_id("b2"));
    assert_eq!(repo.relation(&old, &new, &Cancel::new()).unwrap(), Relation::Behind { by: 1 });
}
