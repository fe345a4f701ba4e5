//! How commits lie to each other, and what they hold.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use pmesh_vcs::{Cancel, CommitId, FILE_LIMIT, Relation, Vcs, VcsError};
use proptest::prelude::*;

use crate::site::Site;

#[test]
fn a_relation_counts_the_commits_that_each_side_lacks() {
    for (situation, script, expected) in [
        ("nothing new", ":", Relation::Same),
        (
            "two pushed",
            "git commit -q --allow-empty -m 2; git commit -q --allow-empty -m 3",
            Relation::Behind { by: 2 },
        ),
        (
            "a merge pushed",
            "git switch -q -c side; git commit -q --allow-empty -m s; git switch -q main; git commit -q --allow-empty -m m; \
             git merge -q --no-ff -m merge side",
            Relation::Behind { by: 3 },
        ),
        ("one here", "cd ../server; git commit -q --allow-empty -m x", Relation::Ahead { by: 1 }),
        (
            "one here, two pushed",
            "git commit -q --allow-empty -m 2; git commit -q --allow-empty -m 3; git -C ../server commit -q --allow-empty -m x",
            Relation::Diverged { ahead: 1, behind: 2 },
        ),
        (
            "replaced by force",
            "git checkout -q --orphan x; git commit -q --allow-empty -m y; git branch -M main",
            Relation::Unrelated,
        ),
    ] {
        let site = Site::after(&format!(
            "cd pusher; {script}; cd ../pusher; git push -q --force origin main; git -C ../server fetch -q"
        ));
        let (head, remote) = (site.commit("server", "HEAD"), site.commit("server", "origin/main"));
        assert_eq!(site.server().relation(&head, &remote, &Cancel::new()).unwrap(), expected, "{situation}");
    }
}

#[test]
fn a_shallow_clone_is_behind_by_what_was_pushed_since() {
    let site = Site::after(
        "cd pusher; for i in 2 3 4; do git commit -q --allow-empty -m $i; done; git push -q; cd ..; rm -rf server; \
         git clone -q --depth 1 file://$PWD/remote.git server; \
         cd pusher; git commit -q --allow-empty -m 5; git push -q; git -C ../server fetch -q",
    );
    let (head, remote) = (site.commit("server", "HEAD"), site.commit("server", "origin/main"));
    let repo = site.server();
    assert_eq!(repo.relation(&head, &remote, &Cancel::new()).unwrap(), Relation::Behind { by: 1 });
    assert_eq!(repo.relation(&remote, &head, &Cancel::new()).unwrap(), Relation::Ahead { by: 1 });
    site.run("cd server; git commit -q --allow-empty -m mine");
    let mine = site.commit("server", "HEAD");
    assert_eq!(
        repo.relation(&mine, &remote, &Cancel::new()).unwrap(),
        Relation::Diverged { ahead: 1, behind: 1 }
    );
    site.run("cd pusher; git reset -q --hard HEAD~3; git commit -q --allow-empty -m z; git push -qf; git -C ../server fetch -q --depth 1");
    let forced = site.commit("server", "origin/main");
    assert_eq!(repo.relation(&head, &forced, &Cancel::new()).unwrap(), Relation::Unknown);
}

#[test]
fn local_work_is_what_was_never_fetched() {
    let cancel = Cancel::new();
    for (situation, script, expected) in [
        ("rewound", "git push -qf origin HEAD~2:main", 0),
        (
            "rewound, before the first fetch since the clone",
            "rm -rf ../server; git clone -q ../remote.git ../server; git push -qf origin HEAD~2:main",
            0,
        ),
        ("replaced", "git reset -q --hard HEAD~1; git commit -q --allow-empty -m new; git push -qf", 0),
        (
            "another history",
            "git checkout -q --orphan x; git commit -q --allow-empty -m y; git push -qf origin x:main",
            0,
        ),
        (
            "two on top",
            "git -C ../server commit -q --allow-empty -m a; git -C ../server commit -q --allow-empty -m b; git push -qf origin HEAD~2:main",
            2,
        ),
        (
            "two beside",
            "cd ../server; git reset -q --hard HEAD~1; git commit -q --allow-empty -m a; git commit -q --allow-empty -m b",
            2,
        ),
        (
            "dated before its parent",
            "cd ../server; GIT_COMMITTER_DATE='1600000000 +0000' git commit -q --allow-empty -m a",
            1,
        ),
        (
            "replaced, for a shallow clone",
            "rm -rf ../server; git clone -q --depth 1 file://$PWD/../remote.git ../server; \
             git reset -q --hard HEAD~1; git commit -q --allow-empty -m new; git push -qf",
            0,
        ),
        (
            "one on top in a shallow clone",
            "rm -rf ../server; git clone -q --depth 1 file://$PWD/../remote.git ../server; git -C ../server commit -q --allow-empty -m a; \
             git reset -q --hard HEAD~1; git commit -q --allow-empty -m new; git push -qf",
            1,
        ),
        (
            "an older fork",
            "git clone -q --bare . ../fork.git; git -C ../fork.git update-ref refs/heads/main HEAD~2; \
             git -C ../server remote set-url origin \"file://$PWD/../fork.git\"",
            0,
        ),
    ] {
        let site = Site::new();
        site.push(":");
        site.push(":");
        site.run("git -C server pull -q");
        site.run(&format!("cd pusher; {script}"));
        site.server().fetch(std::time::Duration::from_mins(1), &cancel).expect(situation);
        let (head, remote) = (site.commit("server", "HEAD"), site.commit("server", "origin/main"));
        let local = site.server().local_commits(&head, &remote, &[], &cancel).unwrap();
        assert_eq!(local, expected, "{situation}");
    }
}

#[test]
fn what_somebody_else_remembers_of_fetches_counts_as_fetched() {
    let site = Site::new();
    let bad = site.push(":");
    site.run("cd server; git config core.logAllRefUpdates false; git pull -q; cd ../pusher; git push -qf origin HEAD~1:main; cd ../server; git fetch -q; rm -rf .git/logs");
    let (repo, remote, cancel) = (site.server(), site.commit("server", "origin/main"), Cancel::new());
    assert_eq!(repo.local_commits(&bad, &remote, &[], &cancel).unwrap(), 1);
    let gone = CommitId::new(&"1".repeat(40)).unwrap();
    assert_eq!(repo.local_commits(&bad, &remote, &[gone, bad.clone()], &cancel).unwrap(), 0);
}

#[test]
fn a_commit_that_is_not_here_is_unknown() {
    let site = Site::new();
    let pushed = site.push("echo two > b.txt");
    let head = site.commit("server", "HEAD");
    let tree = CommitId::new(&site.run("git -C server rev-parse 'HEAD^{tree}'")).unwrap();
    let long = CommitId::new(&"a".repeat(64)).unwrap();
    let repo = site.server();
    for other in [&pushed, &tree, &long] {
        let is_unknown = |error| matches!(error, VcsError::UnknownCommit(commit) if commit == *other);
        assert!(is_unknown(repo.relation(&head, other, &Cancel::new()).unwrap_err()));
        assert!(is_unknown(repo.changed_paths(other, &head, &Cancel::new()).unwrap_err()));
        assert!(is_unknown(repo.file(other, Path::new("a.txt"), &Cancel::new()).unwrap_err()));
        assert!(is_unknown(repo.check_out(other, &Cancel::new()).unwrap_err()));
    }
}

#[test]
fn changed_paths_are_those_of_git_diff() {
    let site = Site::new();
    let from = site.push(
        "mkdir -p d/e swap; echo 1 > d/e/f; echo 2 > swap/x; echo 3 > gone; echo 4 > mode; echo 5 > old; ln -s a l; \
         printf x > \"$(printf 'odd\\n\\tname\\377')\"",
    );
    let to = site.push(
        "rm -r swap gone l; echo 6 > swap; chmod +x mode; git mv old new; echo 7 > d/e/f; mkdir l; echo 8 > l/y; \
         printf y > \"$(printf 'odd\\n\\tname\\377')\"",
    );
    site.run("git -C server fetch -q");
    let expected = "d/e/f gone l l/y mode new odd\n\tname\u{fffd} old swap swap/x";
    let found = site.server().changed_paths(&from, &to, &Cancel::new()).unwrap();
    let shown: Vec<_> = found.iter().map(|path| path.to_string_lossy()).collect();
    assert_eq!(shown.join(" "), expected);
    let mut back = site.server().changed_paths(&to, &from, &Cancel::new()).unwrap();
    back.sort();
    assert_eq!(back, found);
    assert_eq!(site.server().changed_paths(&to, &to, &Cancel::new()).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn a_file_comes_from_the_commit_and_not_from_the_work_tree() {
    let site = Site::new();
    let commit = site.push(
        "mkdir -p app/sub; printf 'a: 1\\n' > app/pm3.yml; ln -s app/pm3.yml link; ln -s ../../link app/sub/up; ln -s /etc/passwd abs; \
         ln -s ../../x out; ln -s loop loop; ln -s app folder; head -c 4194304 /dev/zero > full; \
         head -c 4194305 /dev/zero > big; : > empty",
    );
    let repo = site.server();
    site.run("git -C server fetch -q");
    let file = |path: &str| {
        repo.file(&commit, Path::new(path), &Cancel::new())
            .unwrap()
            .map(|bytes| String::from_utf8(bytes).unwrap())
    };
    for path in
        ["app/pm3.yml", "./app/pm3.yml", "link", "app/sub/up", "folder/pm3.yml", "folder/../app/pm3.yml"]
    {
        assert_eq!(file(path).as_deref(), Some("a: 1\n"), "{path}");
    }
    for path in [
        "app",
        "none",
        "app/none",
        "a.txt/below",
        "abs",
        "out",
        "loop",
        "../server/a.txt",
        "/etc/passwd",
        "",
        "folder",
    ] {
        assert_eq!(file(path), None, "{path}");
    }
    assert_eq!(file("empty").as_deref(), Some(""));
    assert_eq!(file("full").unwrap().len() as u64, FILE_LIMIT);
    let error = repo.file(&commit, Path::new("big"), &Cancel::new()).unwrap_err();
    assert!(matches!(error, VcsError::TooLarge { size, .. } if size == FILE_LIMIT + 1));
    assert!(!site.path("server/app").exists());
}

#[test]
fn a_symbolic_link_with_a_target_that_no_system_takes_leads_nowhere() {
    let site = Site::new();
    // Beyond 4096 bytes, and a path to a file that is there.
    site.run(
        "cd pusher; id=$({ i=0; while [ $i -lt 2100 ]; do printf ./; i=$((i+1)); done; printf a.txt; } | \
         git hash-object -w --stdin); git update-index --add --cacheinfo 120000,$id,long; git commit -qm long; \
         git push -q origin HEAD; git -C ../server fetch -q",
    );
    let commit = site.commit("server", "origin/main");
    assert_eq!(site.server().file(&commit, Path::new("long"), &Cancel::new()).unwrap(), None);
    assert!(site.server().file(&commit, Path::new("a.txt"), &Cancel::new()).unwrap().is_some());
}

#[test]
fn a_partial_clone_brings_the_file_that_it_is_asked_for() {
    let site = Site::after(
        "git -C remote.git config uploadpack.allowFilter true; rm -rf server; \
         git clone -q --filter=blob:none \"file://$PWD/remote.git\" server",
    );
    let commit = site.push("mkdir app; echo new > app/pm3.yml; ln -s app/pm3.yml link");
    let repo = site.server();
    repo.fetch(std::time::Duration::from_mins(1), &pmesh_vcs::Cancel::new()).unwrap();
    assert_eq!(
        repo.file(&commit, Path::new("link"), &Cancel::new()).unwrap().as_deref(),
        Some(&b"new\n"[..])
    );
    let gone = site.push("echo newer > app/pm3.yml");
    repo.fetch(std::time::Duration::from_mins(1), &pmesh_vcs::Cancel::new()).unwrap();
    site.run("mv remote.git away.git");
    let error = repo.file(&gone, Path::new("app/pm3.yml"), &Cancel::new()).unwrap_err();
    assert!(matches!(error, VcsError::Git { command: "cat-file", .. }), "{error:?}");
    assert_eq!(repo.file(&gone, Path::new("none"), &Cancel::new()).unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random histories with merges and clocks that go wrong.
    #[test]
    fn a_relation_does_not_depend_on_dates(
        commits in prop::collection::vec((any::<u16>(), any::<u16>(), 0..4_u8, 0..2_000_u32), 2..14),
    ) {
        let site = Site::empty();
        let mut script = vec!["git init -q -b main server; cd server; tree=$(git hash-object -t tree -w /dev/null)".to_owned()];
        let mut histories: Vec<HashSet<usize>> = Vec::new();
        for (n, (first, second, parents, date)) in commits.iter().enumerate() {
            let pick = |pick: &u16| usize::from(*pick) % n.max(1);
            let parents: HashSet<usize> = match (n, parents) {
                (0, _) | (_, 0) => HashSet::new(),
                (_, 1 | 2) => HashSet::from([pick(first)]),
                _ => HashSet::from([pick(first), pick(second)]),
            };
            let arguments: Vec<_> = parents.iter().map(|parent| format!("-p $c{parent}")).collect();
            let arguments = arguments.join(" ");
            script.push(format!(
                "c{n}=$(GIT_COMMITTER_DATE='{} +0000' git commit-tree $tree {arguments} -m {n}); echo $c{n}",
                1_700_000_000 + date
            ));
            let mut history: HashSet<usize> = parents.iter().flat_map(|parent| histories[*parent].clone()).collect();
            history.insert(n);
            histories.push(history);
        }
        let ids: Vec<_> = site.run(&script.join("\n")).lines().map(|line| CommitId::new(line).unwrap()).collect();
        let repo = site.server();
        for (a, here) in histories.iter().enumerate() {
            for (b, there) in histories.iter().enumerate() {
                let found = repo.relation(&ids[a], &ids[b], &Cancel::new()).unwrap();
                let (ahead, behind) = (here.difference(there).count(), there.difference(here).count());
                let is_right = match found {
                    Relation::Same => a == b,
                    Relation::Behind { by } => ahead == 0 && behind > 0 && by >= behind,
                    Relation::Ahead { by } => behind == 0 && ahead > 0 && by >= ahead,
                    Relation::Unrelated => here.is_disjoint(there),
                    Relation::Unknown => false,
                    Relation::Diverged { .. } => {
                        found == Relation::Diverged { ahead, behind } && ahead > 0 && behind > 0 && !here.is_disjoint(there)
                    }
                };
                prop_assert!(is_right, "{} {}: {:?}, in truth {} and {}", a, b, found, ahead, behind);
            }
        }
    }
}
