//! Moving the work tree: like a fresh clone, and nothing lost.

use std::path::PathBuf;

use pmesh_vcs::{Cancel, InProgress, Vcs, VcsError};
use proptest::prelude::*;

use crate::site::Site;

#[test]
fn after_a_move_in_either_direction_the_tree_is_that_of_a_fresh_clone() {
    for (situation, before, after) in [
        ("nothing but a commit", ":", ":"),
        ("content", "echo 1 > f", "echo 2 > f"),
        ("a file more", ":", "mkdir -p d/e; echo 1 > d/e/f"),
        ("a folder emptied", "mkdir -p d/e/f; echo 1 > d/e/f/g; echo 2 > d/h", "rm -r d/e"),
        ("every file gone", "echo 1 > f", "git rm -qr ."),
        ("modes", "echo 1 > f; echo 2 > g; chmod +x g", "chmod +x f; chmod -x g"),
        ("a rename", "seq 99 > f", "git mv f g"),
        ("a rename in case only", "seq 99 > readme", "git mv readme README"),
        ("a symbolic link", "echo 1 > f", "ln -s f l; ln -s gone dangling"),
        ("a link that leads elsewhere", "ln -s a.txt l", "ln -sfn b l"),
        ("a link to a file", "ln -s a.txt l", "rm l; echo 1 > l"),
        ("a file to a link", "echo 1 > l", "rm l; ln -s /etc/passwd l"),
        ("a folder to a link", "mkdir l; echo 1 > l/f", "rm -r l; ln -s / l"),
        ("a link to a folder", "ln -s / l", "rm l; mkdir l; echo 1 > l/etc"),
        ("a file to a folder", "echo 1 > x", "rm x; mkdir -p x/y; echo 1 > x/y/z"),
        ("a folder to a file", "mkdir -p x/y; echo 1 > x/y/z", "rm -r x; echo 1 > x"),
        (
            "names that sort oddly",
            "echo 1 > a; echo 2 > a.; mkdir a-; echo 3 > a-/b",
            "rm a; mkdir a; echo 4 > a/b",
        ),
        ("odd names", ":", "printf 1 > \"$(printf 'n\\nt\\tq\"\\377 ')\"; printf 2 > -f; printf 3 > '*'"),
        ("line ends", "printf 'f text eol=crlf\n' > .gitattributes; printf '1\n' > f", "printf '1\n2\n' > f"),
        (
            "an ignore file that grows",
            "echo '*.log' > .gitignore",
            "echo '*' > .gitignore; echo 1 > f; git add -f .",
        ),
        ("a read-only file", "echo 1 > f; chmod 444 f", "echo 2 > f"),
    ] {
        let site = Site::new();
        site.push(before);
        site.run("cd server; git pull -q; printf '*.ign\\n' > .git/info/exclude; echo u > untracked; mkdir u; echo i > u/i.ign");
        let from = site.commit("server", "HEAD");
        let to = site.push(after);
        site.run("git -C server fetch -q");
        let repo = site.server();
        for (name, commit) in [("forwards", &to), ("backwards", &from), ("forwards again", &to)] {
            let context = format!("{situation}, {name}");
            repo.check_out(commit, &Cancel::new()).expect(&context);
            assert_eq!(repo.head().unwrap().commit.as_ref(), Some(commit), "{context}");
            assert_eq!(repo.head().unwrap().branch.as_str(), "main", "{context}");
            assert_eq!(site.run("git -C server status --porcelain -uno"), "", "{context}");
            site.run("rm -rf fresh; git clone -q file://$PWD/remote.git fresh 2>/dev/null");
            site.run(&format!("git -C fresh checkout -q --detach {commit}"));
            let mut expected = site.snapshot("fresh");
            for (path, what) in
                [("untracked", "644 [117, 10]"), ("u", "folder"), ("u/i.ign", "644 [105, 10]")]
            {
                expected.insert(PathBuf::from(path), what.to_owned());
            }
            assert_eq!(site.snapshot("server"), expected, "{context}");
            assert_eq!(site.locks(), "", "{context}");
            site.run("git -C server fsck --no-dangling 2>&1");
        }
    }
}

/// The update to `b` adds `new/file`, changes `a.txt`, removes `gone` and swaps `dir` (a folder) and `file`.
fn before_an_update(local: &str) -> (Site, pmesh_vcs::CommitId) {
    let site = Site::new();
    site.push("echo 1 > gone; mkdir dir; echo 1 > dir/f; echo 1 > file; echo 1 > kept; printf '*.ign\\n.env\\n' > .gitignore");
    site.run("git -C server pull -q");
    let to = site.push(
        "rm gone; rm -r dir; echo 2 > dir; rm file; mkdir -p file/sub; echo 2 > file/sub/f; mkdir new; echo 2 > new/file; \
         echo 2 > a.txt; echo 2 > .env; git add -f .env",
    );
    site.run(&format!("cd server; git fetch -q; {local}"));
    (site, to)
}

#[test]
fn where_something_would_be_lost_nothing_moves() {
    for (situation, local, named) in [
        ("a tracked file is edited", "echo x >> a.txt", "a.txt"),
        ("an edit is staged", "echo x >> a.txt; git add .", "a.txt"),
        ("an edit is staged and undone in the tree", "echo x >> a.txt; git add .; echo one > a.txt", "a.txt"),
        ("a tracked file is deleted", "rm a.txt", "a.txt"),
        ("a deletion is staged", "git rm -q --cached a.txt", "a.txt"),
        ("a tracked file turned into a folder", "rm gone; mkdir gone; echo x > gone/x", "gone"),
        ("a tracked folder turned into a link", "mv dir elsewhere; ln -s elsewhere dir", "dir"),
        ("a mode is changed", "chmod +x a.txt", "a.txt"),
        ("an untracked file is in the way", "mkdir new; echo x > new/file", "new/file"),
        ("an ignored file is in the way", "echo x > .env", ".env"),
        ("a dangling link is in the way", "mkdir new; ln -s gone-away new/file", "new/file"),
        ("a file is where a folder is to be", "echo x > new", "new"),
        ("an ignored link is where a folder is to be", "ln -s dir new; echo new > .git/info/exclude", "new"),
        (
            "a folder with a file is where a file is to be",
            "mkdir -p new/file/deep; echo x > new/file/deep/x",
            "new/file/deep/x",
        ),
        ("a folder that turns into a file has an untracked file", "echo x > dir/mine", "dir/mine"),
        (
            "a folder that turns into a file has an ignored file",
            "mkdir dir/sub; echo x > dir/sub/mine.ign",
            "dir/sub/mine.ign",
        ),
        ("a folder that turns into a file has a repository", "git init -q dir/repo", "dir/repo/.git/HEAD"),
        (
            "an edit that git was told not to see",
            "echo x >> a.txt; git update-index --assume-unchanged a.txt",
            "a.txt",
        ),
        (
            "an edit that git was told to skip",
            "echo x >> a.txt; git update-index --skip-worktree a.txt",
            "a.txt",
        ),
    ] {
        let (site, to) = before_an_update(local);
        let (tree, head) = (site.snapshot("server"), site.commit("server", "HEAD"));
        let index = site.run("git -C server ls-files -s");
        for _ in 0..2 {
            match site.server().check_out(&to, &Cancel::new()) {
                Err(VcsError::Dirty { paths }) => {
                    assert!(paths.contains(&PathBuf::from(named)), "{situation}: {paths:?}");
                }
                other => panic!("{situation}: {other:?}"),
            }
            assert_eq!(site.snapshot("server"), tree, "{situation}");
            assert_eq!(site.commit("server", "HEAD"), head, "{situation}");
            assert_eq!(site.run("git -C server ls-files -s"), index, "{situation}");
            assert_eq!(site.locks(), "", "{situation}");
        }
    }
}

#[test]
fn what_is_not_in_the_way_stays() {
    for (situation, local) in [
        ("beside", "echo x > mine; mkdir build; echo y > build/out.ign"),
        ("in a folder that exists already", "mkdir new; echo x > new/mine"),
        ("in a folder whose tracked files change", "mkdir other; echo x > other/mine"),
        ("an empty folder in the way", "mkdir -p new/file/empty"),
        ("a stash", "echo x > a.txt; git stash -q"),
        (
            "a file that git was told not to see, and that is unchanged",
            "git update-index --assume-unchanged a.txt",
        ),
        ("touched, but the same", "touch -d 2001-01-01 a.txt kept"),
        ("modes that are not looked at", "git config core.fileMode false; chmod +x kept"),
    ] {
        let (site, to) = before_an_update(local);
        let mine = "git -C server ls-files -o | xargs -r -I{} cksum server/{}; git -C server stash list";
        let before = site.run(mine);
        site.server().check_out(&to, &Cancel::new()).expect(situation);
        assert_eq!(site.run(mine), before, "{situation}");
        assert_eq!(site.commit("server", "HEAD"), to, "{situation}");
        assert_eq!(site.run("cat server/new/file server/dir server/file/sub/f server/a.txt"), "2\n2\n2\n2");
    }
}

#[test]
fn a_local_change_of_a_file_that_the_commit_leaves_alone_stays_there_and_back() {
    for (situation, local, kept) in [
        ("an edit", "echo x >> kept", "kept"),
        ("a staged edit", "echo x >> kept; git add kept", "kept"),
        ("an edit that is staged and edited again", "echo x >> kept; git add kept; echo y >> kept", "kept"),
        ("a deletion", "rm kept", "kept"),
        ("a staged deletion", "git rm -q kept", "kept"),
        ("a mode", "chmod +x kept", "kept"),
        ("a new file that is staged", "echo x > mine; git add mine", "mine"),
        ("a new file that is announced", "echo x > mine; git add -N mine", "mine"),
        ("a name that is a pattern", "echo x > '*'; git add -f '*'", "*"),
    ] {
        let (site, to) = before_an_update(local);
        let from = site.commit("server", "HEAD");
        let status =
            "git -C server status --porcelain -uno; git -C server diff HEAD; git -C server diff --cached";
        let (before, tree) = (site.run(status), site.snapshot("server"));
        let repo = site.server();
        let stayed = repo.check_out(&to, &Cancel::new()).expect(situation);
        assert_eq!(stayed, [PathBuf::from(kept)], "{situation}");
        assert_eq!(site.run(status), before, "{situation}");
        assert_eq!(
            (site.run("cat server/a.txt"), site.commit("server", "HEAD")),
            ("2".to_owned(), to.clone())
        );
        // A build writes over tracked files: these go back, and what was edited before stays.
        site.run("echo build > server/a.txt; echo build > server/.gitignore");
        repo.go_back(&to, &from, &stayed, &Cancel::new()).expect(situation);
        assert_eq!((site.run(status), site.snapshot("server")), (before, tree), "{situation}, back");
    }
}

#[test]
fn a_lock_or_an_unfinished_operation_is_respected() {
    for lock in ["index.lock", "HEAD.lock", "refs/heads/main.lock"] {
        let (site, to) = before_an_update(&format!(": > .git/{lock}"));
        let tree = site.snapshot("server");
        let repo = site.server();
        let held = repo.work_tree(&Cancel::new()).unwrap().lock.expect("the lock is seen");
        assert_eq!(held.path, site.path("server/.git").join(lock));
        assert!(
            matches!(repo.check_out(&to, &Cancel::new()), Err(VcsError::Locked { path, .. }) if path == held.path)
        );
        assert_eq!(site.snapshot("server"), tree, "{lock}");
        site.run(&format!("rm server/.git/{lock}"));
        repo.check_out(&to, &Cancel::new()).expect(lock);
    }
    let conflict = "git switch -q -c side; echo s > a.txt; git commit -qam s; git switch -q main; echo m > a.txt; git commit -qam m";
    for (operation, begin) in [
        (InProgress::Merge, "git merge -q side"),
        (InProgress::CherryPick, "git cherry-pick side"),
        (
            InProgress::Revert,
            "git revert --no-edit HEAD~1; git revert --no-edit HEAD~2; : > .git/REVERT_HEAD",
        ),
        (InProgress::Rebase, "git rebase -q side"),
        (InProgress::Am, "git format-patch -q -1 side; git am -q 0001-s.patch"),
        (InProgress::Bisect, "git bisect start -q HEAD HEAD~1; git bisect start HEAD HEAD~2"),
    ] {
        let (site, to) = before_an_update(&format!("{conflict}; {{ {begin}; }} >/dev/null 2>&1 || true"));
        let repo = site.server();
        assert_eq!(repo.work_tree(&Cancel::new()).unwrap().in_progress, Some(operation));
        let (tree, state) = (site.snapshot("server"), site.run("ls server/.git"));
        let refused = repo.check_out(&to, &Cancel::new()).unwrap_err();
        assert!(
            matches!(&refused, VcsError::InProgress { operation: found } if *found == operation),
            "{refused}"
        );
        assert_eq!((site.snapshot("server"), site.run("ls server/.git")), (tree, state), "{operation}");
    }
}

#[test]
fn without_a_branch_or_a_commit_nothing_moves() {
    let (site, to) = before_an_update("git checkout -q --detach");
    assert!(matches!(site.server().check_out(&to, &Cancel::new()), Err(VcsError::Detached { .. })));
    let (site, to) = before_an_update("git switch -q --orphan new");
    assert!(
        matches!(site.server().check_out(&to, &Cancel::new()), Err(VcsError::Unborn { branch }) if branch.as_str() == "new")
    );
}

#[test]
fn a_move_that_fails_half_way_is_undone() {
    let site = Site::new();
    site.push(
        "echo 1 > gone; mkdir dir; echo 1 > dir/f; echo 1 > file; ln -s a.txt link; echo 'z* filter=bad' > .gitattributes; \
         echo '*.ign' > .gitignore",
    );
    site.run("cd server; git pull -q; echo mine > mine; echo mine > dir/mine.ign; mkdir -p new/mine");
    let to = site.push(
        "rm gone link; git rm -q dir/f; rm file; mkdir -p file/sub link; echo 2 > file/sub/f; echo 2 > link/f; mkdir -p new/deep; \
         echo 2 > new/deep/f; echo 2 > a.txt; echo 2 > zz",
    );
    site.run(
        "cd server; git fetch -q; git config filter.bad.smudge false; git config filter.bad.required true",
    );
    let (tree, head) = (site.snapshot("server"), site.commit("server", "HEAD"));
    for _ in 0..2 {
        let error = site.server().check_out(&to, &Cancel::new()).unwrap_err();
        assert!(matches!(&error, VcsError::Git { message, .. } if message.contains("zz")), "{error:?}");
        assert_eq!(site.snapshot("server"), tree);
        assert_eq!((site.commit("server", "HEAD"), site.locks()), (head.clone(), String::new()));
        assert_eq!(site.run("git -C server status --porcelain -uno"), "");
    }
    site.run("git -C server config filter.bad.smudge cat");
    site.server().check_out(&to, &Cancel::new()).unwrap();
    assert_eq!(site.run("cat server/a.txt server/zz server/mine server/dir/mine.ign"), "2\n2\nmine\nmine");
}

/// A server that is behind by a commit which changes so many files; the last of them, `zz`, it cannot write: `filter`
/// is run for it, and fails.
fn with_a_filter_that_fails(many: usize, filter: &str) -> (Site, pmesh_vcs::CommitId) {
    let site = Site::new();
    site.push(&format!(
        "echo 'zz filter=bad' > .gitattributes; echo 1 > kept; echo 1 > zkept; echo 1 > zz; mkdir many; for n in $(seq {many}); \
         do echo 1 > many/$n; done",
    ));
    site.run("git -C server pull -q");
    let to = site.push("for f in many/*; do echo 2 > $f; done; echo 2 > zz");
    site.run("git -C server fetch -q");
    site.run(&format!(
        "cd server; git config filter.bad.smudge '{filter}'; git config filter.bad.required true; \
         git config filter.bad.clean cat"
    ));
    (site, to)
}

#[test]
fn what_somebody_writes_during_a_move_that_fails_stays_and_the_failure_is_that_of_the_move() {
    for many in [1, 1500] {
        let filter = "read n; test $n = 1 && echo $n || { echo mine > kept; echo mine > zkept; false; }";
        let (site, to) = with_a_filter_that_fails(many, filter);
        let head = site.commit("server", "HEAD");
        let error = site.server().check_out(&to, &Cancel::new()).unwrap_err();
        assert!(error.to_string().contains("zz"), "{error}");
        assert_eq!(site.run("cat server/kept server/zkept server/many/1"), "mine\nmine\n1", "{error}");
        assert_eq!((site.commit("server", "HEAD"), site.locks()), (head, String::new()));
    }
}

#[test]
fn a_move_that_could_not_be_undone_says_both_and_not_that_nothing_was_changed() {
    let (site, to) = with_a_filter_that_fails(1, "false");
    let error = site.server().check_out(&to, &Cancel::new()).unwrap_err();
    let VcsError::HalfMoved { failed, source } = &error else { panic!("{error:?}") };
    for said in [failed, source] {
        assert!(said.to_string().contains("zz"), "{said}");
    }
    assert!(error.to_string().contains("could be put back"), "{error}");
}

#[test]
fn what_somebody_puts_into_a_folder_of_a_move_that_fails_stays() {
    let (site, _) =
        with_a_filter_that_fails(1, "read n; test $n = 1 && echo $n || { echo mine > zkept/mine; false; }");
    let to = site.push("rm zkept; mkdir zkept; echo 2 > zkept/f");
    site.run("git -C server fetch -q");
    let error = site.server().check_out(&to, &Cancel::new()).unwrap_err();
    assert!(matches!(&error, VcsError::HalfMoved { .. }), "{error:?}");
    assert_eq!(site.run("cat server/zkept/* server/many/1 server/zz"), "mine\n1\n1");
}

#[test]
fn hooks_and_monitors_of_the_repository_do_not_run() {
    let (site, to) = before_an_update(
        "for hook in post-checkout post-merge post-index-change reference-transaction post-update; do \
         printf '#!/bin/sh\\ntouch ../ran\\n' > .git/hooks/$hook; chmod +x .git/hooks/$hook; done; \
         git config core.fsmonitor .git/hooks/post-update",
    );
    site.server().check_out(&to, &Cancel::new()).unwrap();
    assert!(!site.path("ran").exists());
}

#[test]
fn a_running_program_and_a_hard_link_keep_their_file() {
    let (site, to) = before_an_update("ln a.txt ../linked");
    site.server().check_out(&to, &Cancel::new()).unwrap();
    assert_eq!(site.run("cat linked server/a.txt"), "one\n2");
}

#[test]
fn the_reflog_says_who_moved_the_branch() {
    let (site, to) = before_an_update(":");
    site.server().check_out(&to, &Cancel::new()).unwrap();
    assert_eq!(site.run("git -C server reflog -1 --format=%gs"), "pmesh: check out");
    assert_eq!(site.run("git -C server reflog -1 --format=%gs main"), "pmesh: check out");
}

#[test]
fn a_linked_work_tree_moves_alone() {
    let site = Site::after(
        "cd server; git worktree add -q -b live ../tree; git -C ../tree branch -q -u origin/main",
    );
    let to = site.push("echo 2 > a.txt");
    site.run("git -C server fetch -q");
    let repo = pmesh_vcs::git::GitRepo::discover(&site.path("tree/pm3.yml")).unwrap();
    repo.check_out(&to, &Cancel::new()).unwrap();
    assert_eq!(site.run("cat tree/a.txt server/a.txt"), "2\none");
    assert_eq!(
        (site.commit("tree", "live"), site.run("git -C tree status --porcelain")),
        (to, String::new())
    );
}

#[test]
fn a_shallow_and_a_sparse_clone_move_as_well() {
    for clone in ["--depth 1", "--sparse"] {
        let site = Site::after(&format!("rm -rf server; git clone -q {clone} file://$PWD/remote.git server"));
        let from = site.commit("server", "HEAD");
        let to = site.push("echo 2 > a.txt; mkdir away; echo 3 > away/f");
        site.run("git -C server fetch -q");
        let repo = site.server();
        for commit in [&to, &from, &to] {
            repo.check_out(commit, &Cancel::new()).expect(clone);
            assert_eq!(site.run("git -C server status --porcelain"), "", "{clone}");
        }
        assert_eq!(site.path("server/away").exists(), clone != "--sparse");
    }
}

#[test]
fn as_root_the_files_belong_to_the_owner_of_the_repository() {
    let (site, to) = before_an_update(":");
    if !site.is_of_root() {
        return;
    }
    site.run("chmod 755 .; chown -R 65534:65534 server");
    site.server().check_out(&to, &Cancel::new()).unwrap();
    assert_eq!(site.run("find server ! -user 65534"), "");
}

#[derive(Clone, Debug)]
enum Thing {
    File(u8, bool),
    Link(u8),
}

fn trees() -> impl Strategy<Value = Vec<(String, Thing)>> {
    let thing = prop_oneof![
        (0..3_u8, any::<bool>()).prop_map(|(n, x)| Thing::File(n, x)),
        (0..3_u8).prop_map(Thing::Link)
    ];
    prop::collection::vec(("[ab](/[ab]){0,2}", thing), 0..6)
}

/// A script that lays a tree out; of two things in one place the later one counts.
fn laid_out(tree: &[(String, Thing)]) -> String {
    let mut script = Vec::new();
    for (path, thing) in tree {
        let mut folder = String::new();
        for part in path.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev() {
            folder.push_str(part);
            script.push(format!("[ -d {folder} ] && [ ! -L {folder} ] || rm -f {folder}; mkdir -p {folder}"));
            folder.push('/');
        }
        script.push(format!("rm -rf {path}"));
        script.push(match thing {
            Thing::File(n, is_executable) => {
                format!("echo {n} > {path}; chmod {} {path}", if *is_executable { "755" } else { "644" })
            }
            Thing::Link(n) => format!("ln -s {} {path}", ["a", "b/a", "../x"][usize::from(*n)]),
        });
    }
    script.push("true; ".to_owned());
    script.join("; ")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random trees and random files beside them: either the tree is that of the commit and every other file is as it
    /// was, or nothing has changed and the error names what is in the way.
    #[test]
    fn random_moves_lose_nothing(from in trees(), to in trees(), local in trees(), ignores in any::<bool>()) {
        let site = Site::empty();
        site.run(&format!(
            "git init -q -b main server; cd server; {}git add -A; git commit -q --allow-empty -m from; git branch from; \
             git rm -qrf . || true; {}git add -A; git commit -q --allow-empty -m to; git branch to; git reset -q --hard from",
            laid_out(&from), laid_out(&to)
        ));
        // Local things take only places that are free.
        let free: Vec<_> = local
            .into_iter()
            .filter(|(path, _)| {
                std::path::Path::new(path).ancestors().all(|above| {
                    above.as_os_str().is_empty()
                        || !site.path("server").join(above).symlink_metadata().is_ok_and(|it| !it.is_dir() || above.as_os_str() == path.as_str())
                })
            })
            .collect();
        site.run(&format!("cd server; {}{}", laid_out(&free), if ignores { "echo '*' > .git/info/exclude" } else { "" }));
        prop_assume!(site.run("git -C server status --porcelain -uno").is_empty());
        let tracked = "cd server; git ls-files -s";
        let untracked: Vec<_> = site.run("git -C server ls-files -o").lines().map(PathBuf::from).collect();
        let before = site.snapshot("server");
        let (old_index, to) = (site.run(tracked), site.commit("server", "to"));

        match site.server().check_out(&to, &Cancel::new()) {
            Ok(_) => {
                prop_assert_eq!(site.run("git -C server status --porcelain -uno"), "");
                let after = site.snapshot("server");
                site.run("git clone -q -b to file://$PWD/server fresh");
                let mut expected = site.snapshot("fresh");
                for path in &untracked {
                    expected.insert(path.clone(), before[path].clone());
                    for folder in path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
                        expected.insert(folder.to_owned(), "folder".to_owned());
                    }
                }
                prop_assert_eq!(after, expected);
            }
            Err(VcsError::Dirty { paths }) => {
                prop_assert_eq!(site.snapshot("server"), before);
                prop_assert_eq!(site.run(tracked), old_index);
                prop_assert!(!paths.is_empty() && paths.iter().all(|path| untracked.contains(path)), "{:?}", paths);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
