//! Undoing a check-out, whatever has been written since.

use std::path::PathBuf;

use pmesh_vcs::{Cancel, CommitId, InProgress, Vcs, VcsError};

use crate::site::Site;

/// A server that has checked out a commit which changes `a.txt`, removes `gone` and `dist/old`, and adds
/// `new/file`; `before` was done on the server first. Answers with the old and the new commit.
fn after_an_update(before: &str) -> (Site, CommitId, CommitId) {
    let site = Site::new();
    site.push(
        "echo 1 > gone; mkdir -p dist lib; echo 1 > dist/old; echo 1 > kept; echo 1 > lib/f; echo '*.ign' > .gitignore",
    );
    site.run(&format!("cd server; git pull -q; {before}"));
    let from = site.commit("server", "HEAD");
    let to = site.push("rm gone; rm -r dist; echo 2 > a.txt; mkdir new; echo 2 > new/file");
    site.run("git -C server fetch -q");
    site.server().check_out(&to, &Cancel::new()).unwrap();
    (site, from, to)
}

#[test]
fn what_came_after_the_check_out_gives_way_and_everything_else_stays() {
    for (situation, meanwhile) in [
        ("nothing", ":"),
        ("a build rewrites a file of the new commit", "echo x > a.txt"),
        ("a build rewrites a file that both commits have", "echo x > kept"),
        ("a build removes files", "rm kept a.txt; rm -r lib"),
        ("a build makes a mode", "chmod +x kept"),
        ("a build turns a file into a folder", "rm kept; mkdir -p kept/deep; echo x > kept/deep/x"),
        ("a build turns a folder into a link", "rm -r lib; ln -s dist lib"),
        ("a build rewrites what the new commit adds", "echo x > new/file"),
        ("a build writes where an old file was", "echo x > gone"),
        ("a build makes a folder where an old file was", "mkdir -p gone/deep; echo x > gone/deep/x.ign"),
        ("a build makes a link where an old folder was", "ln -s /etc dist"),
        ("a build makes a file where an old folder was", "echo x > dist"),
        ("a build stages what it did", "echo x > kept; git add -A"),
        ("a build stages a deletion", "git rm -q --cached kept"),
    ] {
        let (site, from, to) = after_an_update("echo mine > mine; mkdir up; echo mine > up/load.ign");
        let etc = site.run("ls /etc | cksum");
        site.run(&format!("cd server; {meanwhile}"));
        let repo = site.server();
        repo.go_back(&to, &from, &[], &Cancel::new()).expect(situation);
        assert_eq!(repo.head().unwrap().commit.as_ref(), Some(&from), "{situation}");
        assert_eq!(site.run("git -C server status --porcelain -uno"), "", "{situation}");
        site.run("rm -rf fresh; git clone -q server fresh; git -C fresh checkout -q --detach");
        let mut expected = site.snapshot("fresh");
        for (path, what) in [
            ("mine", "644 [109, 105, 110, 101, 10]"),
            ("up", "folder"),
            ("up/load.ign", "644 [109, 105, 110, 101, 10]"),
        ] {
            expected.insert(PathBuf::from(path), what.to_owned());
        }
        let mut found = site.snapshot("server");
        // Empty folders are nothing to git.
        found.remove(&PathBuf::from("gone/deep"));
        assert_eq!(found, expected, "{situation}");
        assert_eq!((site.locks(), site.run("ls /etc | cksum")), (String::new(), etc), "{situation}");
    }
}

#[test]
fn what_was_staged_or_put_beside_stays_in_the_work_tree() {
    let (site, from, to) = after_an_update(":");
    site.run("cd server; echo x > beside; echo x > staged; git add staged; echo x > a.txt");
    site.server().go_back(&to, &from, &[], &Cancel::new()).unwrap();
    assert_eq!(site.run("cat server/beside server/staged server/a.txt"), "x\nx\none");
}

#[test]
fn an_edit_that_git_was_told_not_to_see_stays() {
    for hide in ["--assume-unchanged", "--skip-worktree"] {
        let (site, from, to) = after_an_update(&format!("git update-index {hide} kept; echo mine > kept"));
        site.run("echo x > server/a.txt");
        site.server().go_back(&to, &from, &[], &Cancel::new()).expect(hide);
        assert_eq!(site.run("cat server/kept server/a.txt"), "mine\none", "{hide}");
    }
}

#[test]
fn thousands_of_rewritten_files_go_back_too() {
    let site = Site::new();
    site.push("mkdir many; for n in $(seq 3000); do echo 1 > many/file-with-a-rather-long-name-$n; done");
    site.run("git -C server pull -q");
    let from = site.commit("server", "HEAD");
    let to = site.push("echo 2 > a.txt");
    site.run("git -C server fetch -q");
    let repo = site.server();
    repo.check_out(&to, &Cancel::new()).unwrap();
    site.run("cd server/many; for f in *; do echo x > $f; done");
    repo.go_back(&to, &from, &[], &Cancel::new()).unwrap();
    assert_eq!(site.run("git -C server status --porcelain"), "");
    assert_eq!(repo.head().unwrap().commit, Some(from));
}

#[test]
fn where_somebody_else_has_begun_something_nothing_moves() {
    let (site, from, to) = after_an_update(":");
    site.run("cd server; echo mine > a.txt; git commit -qam mine");
    let (mine, tree) = (site.commit("server", "HEAD"), site.snapshot("server"));
    let moved = site.server().go_back(&to, &from, &[], &Cancel::new());
    assert!(
        matches!(&moved, Err(VcsError::HeadMoved { found, expected }) if *found == mine && *expected == to)
    );
    assert_eq!((site.commit("server", "HEAD"), site.snapshot("server")), (mine, tree));

    let (site, from, to) = after_an_update(":");
    site.run("cd server; echo x > a.txt; git rev-parse HEAD > .git/MERGE_HEAD");
    let refused = site.server().go_back(&to, &from, &[], &Cancel::new());
    assert!(matches!(refused, Err(VcsError::InProgress { operation: InProgress::Merge })));
    assert_eq!(site.run("cat server/a.txt"), "x");
}
