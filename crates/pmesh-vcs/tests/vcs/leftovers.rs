//! What a check-out that was killed has left is nobody's edit.

use std::path::PathBuf;

use pmesh_vcs::{Cancel, CommitId, Vcs, VcsError};

use crate::site::Site;

/// The next commit adds, changes and removes files, modes and links, and swaps files and folders.
const BEFORE: &str = "echo 1 > gone; ln -s a.txt gone-link; mkdir dir; echo 1 > dir/f; echo 1 > file; echo 1 > kept; ln -s a.txt l; \
     echo 1 > program; echo same > chmod; printf 'crlf text eol=crlf\\n' > .gitattributes; printf '1\\n' > crlf; echo 1 > odd; mkdir sub; \
     echo 1 > sub/a; echo 1 > sub/b; echo 1 > '*'";
const AFTER: &str = "rm gone gone-link; git rm -q dir/f; echo 2 > dir; rm file; mkdir -p file/sub; echo 2 > file/sub/f; mkdir -p new/deep; \
     echo 2 > new/deep/file; echo 2 > a.txt; ln -sfn dir l; echo 2 > program; chmod +x program; chmod +x chmod; \
     printf '1\\n2\\n' > crlf; rm odd; ln -s kept odd; echo 2 > sub/a; rm sub/b; echo 2 > '*'; ln -s x new/link; : > empty";

/// A server before [`AFTER`], which it has fetched; beside it a folder `half` with git's own steps to it.
fn before() -> (Site, CommitId) {
    let site = Site::new();
    site.push(BEFORE);
    site.run("git -C server pull -q; echo mine > server/mine; mkdir server/new; echo mine > server/new/mine");
    let to = site.push(AFTER);
    site.run("git -C server fetch -q");
    (site, to)
}

/// The shell steps of a check-out of `to` as git goes: what is removed first, then each file that it writes.
fn steps(site: &Site, to: &CommitId) -> Vec<String> {
    let diff = |filter: &str| {
        let paths = site.run(&format!(
            "git -C server diff --no-renames -z --name-only --diff-filter={filter} HEAD {to} --"
        ));
        paths.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let index = "GIT_INDEX_FILE=$PWD/../of-target";
    let removed = diff("D")
        .into_iter()
        .map(|path| format!("rm '{path}'; rmdir -p \"$(dirname '{path}')\" 2>/dev/null || true"));
    let written = diff("AMT").into_iter().map(move |path| {
        format!("rm -f '{path}'; {index} git read-tree {to}; {index} git checkout-index -f -- '{path}'")
    });
    removed.chain(written).collect()
}

fn assert_arrives(site: &Site, to: &CommitId, context: &str) {
    let repo = site.server();
    let changed = repo.work_tree(&Cancel::new()).unwrap().changed;
    assert_eq!(repo.edited(&changed, to, &Cancel::new()).expect(context), Vec::<PathBuf>::new(), "{context}");
    assert_eq!(repo.check_out(to, &Cancel::new()).expect(context), Vec::<PathBuf>::new(), "{context}");
    assert_eq!(site.commit("server", "HEAD"), *to, "{context}");
    assert_eq!(site.run("git -C server status --porcelain -uno"), "", "{context}");
    site.run(&format!("rm -rf fresh; git clone -q file://$PWD/remote.git fresh 2>/dev/null; git -C fresh checkout -q --detach {to}"));
    let mut expected = site.snapshot("fresh");
    for path in ["mine", "new/mine"] {
        expected.insert(PathBuf::from(path), format!("644 {:?}", b"mine\n"));
    }
    assert_eq!(site.snapshot("server"), expected, "{context}");
    assert_eq!(site.locks(), "", "{context}");
}

#[test]
fn a_check_out_that_was_cut_after_any_file_is_no_edit() {
    let count = {
        let (site, to) = before();
        steps(&site, &to).len()
    };
    for done in 0..=count {
        let (site, to) = before();
        let done = steps(&site, &to)[..done].join("\n");
        site.run(&format!("cd server\n{done}"));
        assert_arrives(&site, &to, &done);
    }
}

#[test]
fn a_check_out_that_was_cut_before_the_branch_moved_is_no_edit() {
    let (site, to) = before();
    site.run(&format!("cd server; git read-tree -m -u HEAD {to}"));
    assert_arrives(&site, &to, "all but the branch");
    let (site, to) = before();
    site.run(&format!("cd server; git read-tree -m -u HEAD {to}; git show HEAD:a.txt > a.txt"));
    assert_arrives(&site, &to, "the index, and not each file");
    let (site, to) = before();
    site.run("cd server; rm file; mkdir -p file/sub");
    assert_arrives(&site, &to, "a folder, and no file in it yet");
}

/// The next update goes further than the one that was cut.
#[test]
fn what_is_as_in_a_commit_that_was_fetched_before_the_target_is_no_edit() {
    let (site, to) = before();
    let done = steps(&site, &to).join("\n");
    site.run(&format!("cd server\n{done}"));
    let further = site.push("echo 3 > a.txt; echo 1 > sub/b; git rm -q file/sub/f; echo 3 > new/deep/file; echo 3 > new/more; rm l; ln -s a.txt l");
    site.run("git -C server fetch -q");
    assert_arrives(&site, &further, &done);
    // Older ones are somebody's choice.
    let (site, to) = before();
    let older = "echo 0 > a.txt";
    site.push(older);
    site.run("git -C server fetch -q; git -C server reset -q --hard origin/main");
    let newer = site.push("echo 9 > a.txt");
    site.run(&format!("cd server; git fetch -q; git show {to}:a.txt > a.txt"));
    let refused = site.server().check_out(&newer, &Cancel::new());
    assert!(
        matches!(&refused, Err(VcsError::Dirty { paths }) if *paths == [PathBuf::from("a.txt")]),
        "{refused:?}"
    );
}

#[test]
fn an_edit_among_what_was_left_is_named_alone_and_nothing_moves() {
    for (edit, named) in [
        ("echo mine > a.txt", "a.txt"),
        ("printf 3 > a.txt", "a.txt"),
        ("echo mine >> new/deep/file", "new/deep/file"),
        ("chmod +x new/deep/file", "new/deep/file"),
        ("chmod -x program", "program"),
        ("rm a.txt", "a.txt"),
        ("rm l; echo 2 > l", "l"),
        ("ln -sfn mine l", "l"),
        ("echo mine > gone", "gone"),
        ("mkdir gone; echo mine > gone/mine", "gone"),
        ("echo mine > file/mine", "file/mine"),
        ("echo mine > file/sub/f", "file/sub/f"),
        ("rm dir; ln -s new dir", "dir"),
        ("echo staged > a.txt; git add a.txt; echo 2 > a.txt", "a.txt"),
        ("rm empty; mkfifo empty", "empty"),
        ("mv new moved; ln -s moved new", "new"),
    ] {
        let (site, to) = before();
        let done = steps(&site, &to).join("\n");
        site.run(&format!("cd server\n{done}\n{edit}"));
        let tree = "git -C server ls-files -s; find server -path server/.git -prune -o -printf '%p %m %l %T@\\n' | sort";
        let before = site.run(tree);
        match site.server().check_out(&to, &Cancel::new()) {
            Err(VcsError::Dirty { paths }) => assert_eq!(paths, [PathBuf::from(named)], "{edit}"),
            other => panic!("{edit}: {other:?}"),
        }
        assert_eq!(site.run(tree), before, "{edit}");
        assert_eq!(site.locks(), "", "{edit}");
    }
}
