//! Git as people have it: files that it is told not to look at, clones with half of the objects, wrappers of ssh,
//! submodules, LFS, and what is left to tidy up.

use std::{os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use pmesh_vcs::{Cancel, Vcs, VcsError};

use crate::site::Site;

const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn an_edit_to_the_same_size_within_the_second_is_kept_also_where_git_was_told_not_to_look() {
    for (situation, hide, edit) in [
        ("skipped", "--skip-worktree", "printf 'mine\n' > f"),
        ("assumed unchanged", "--assume-unchanged", "printf 'mine\n' > f"),
        ("another mode", "--skip-worktree", "chmod +x f"),
        ("a link instead", "--assume-unchanged", "ln -sf gone f"),
        ("a link that leads elsewhere", "--skip-worktree", "ln -sfn it_is link"),
        ("an odd name", "--skip-worktree", "printf 'mine\n' > \"$(printf 'q\"\\n\\\\')\""),
    ] {
        let site = Site::new();
        site.push("printf '1st\n' | tee f g 'h i' > \"$(printf 'q\"\\n\\\\')\"; ln -s is_it link");
        // The index is as old as the file that is edited, and its entry says the same size and time: what git looks at
        // then is the content, as long as nobody writes the index.
        site.run(&format!(
            "cd server; git config core.trustCtime false; git config core.checkStat minimal; git pull -q; git ls-files -z | xargs -0 touch -d 2001-01-01; git update-index -q --refresh; \
             touch -d 2001-01-01 .git/index; git ls-files -z f 'q*' link | xargs -0 git update-index {hide}; {edit}; \
             touch -h -d 2001-01-01 f q* link; touch -d 2001-01-01 .git/index"
        ));
        let to = site.push("printf '2nd\n' | tee f g 'h i' > \"$(printf 'q\"\\n\\\\')\"; ln -sfn is_2 link");
        let repo = site.server();
        repo.fetch(LIMIT, &Cancel::new()).unwrap();
        let before = site.snapshot("server");
        let moved = repo.check_out(&to, &Cancel::new());
        assert!(
            matches!(&moved, Err(VcsError::Dirty { paths }) if paths.len() == 1),
            "{situation}: {moved:?}"
        );
        assert_eq!(site.snapshot("server"), before, "{situation}");
    }
}

#[test]
fn a_clone_without_trees_is_read_and_moved_like_any_other() {
    let site = Site::new();
    site.push("mkdir -p d/e; echo 1 > d/e/f; echo 1 > d/g");
    site.run(
        "rm -rf server; git -C remote.git config uploadpack.allowFilter true; git -C remote.git config \
         uploadpack.allowAnySHA1InWant true; git clone -q --filter=tree:0 \"file://$PWD/remote.git\" server",
    );
    let from = site.commit("server", "HEAD");
    site.push("echo 2 > d/e/f");
    let to = site.push("mkdir -p d/h/i; echo 3 > d/h/i/k; ln -s d/h/i/k link");
    let repo = site.server();
    repo.fetch(LIMIT, &Cancel::new()).unwrap();
    let cancel = Cancel::new();
    let content = |path: &str| repo.file(&to, path.as_ref(), &cancel).unwrap();
    assert_eq!(content("link"), Some(b"3\n".to_vec()));
    assert_eq!(content("d/none"), None);
    let changed = repo.changed_paths(&from, &to, &cancel).unwrap();
    assert_eq!(changed, ["d/e/f", "d/h/i/k", "link"].map(PathBuf::from));
    repo.check_out(&to, &Cancel::new()).unwrap();
    assert_eq!(site.run("cat server/d/e/f server/link; git -C server status --porcelain"), "2\n3");
    repo.go_back(&to, &from, &[], &Cancel::new()).unwrap();
    assert_eq!(site.run("cat server/d/e/f; git -C server status --porcelain"), "1");
}

/// Has `server` follow its remote through `wrapper`, a script that takes a host and a command and writes its
/// arguments to `said`.
fn through(site: &Site, name: &str) {
    site.run(&format!(
        r#"mkdir bin; cat > bin/{name} <<END
#!/bin/sh
for word; do echo "\$word" >> $PWD/said; done
[ "\$1" = host ] || exit 1
sh -c "\$2"
END
        chmod +x bin/{name}
        cd server; git remote set-url origin "host:$PWD/../remote.git"; git config core.sshCommand "$PWD/../bin/{name}""#
    ));
}

#[test]
fn a_wrapper_of_ssh_that_takes_a_host_and_a_command_gets_nothing_else() {
    let site = Site::new();
    through(&site, "wrapper");
    let to = site.push("echo 2 > a.txt");
    let repo = site.server();
    repo.fetch(LIMIT, &Cancel::new()).unwrap();
    assert_eq!(repo.remote_head().unwrap().unwrap().commit, Some(to));
    assert!(!site.run("cat said").contains("BatchMode"));
}

#[test]
fn ssh_itself_is_told_to_ask_nothing() {
    let site = Site::new();
    through(&site, "ssh");
    let refused = site.server().fetch(LIMIT, &Cancel::new());
    assert!(matches!(refused, Err(VcsError::Fetch { .. })), "{refused:?}");
    assert!(site.run("cat said").starts_with("-oBatchMode=yes\n"));
}

/// What is refused, as a sentence; nothing has moved.
fn refused(site: &Site, to: &pmesh_vcs::CommitId) -> String {
    let repo = site.server();
    repo.fetch(LIMIT, &Cancel::new()).unwrap();
    let (before, head) = (site.snapshot("server"), site.commit("server", "HEAD"));
    let error = repo.check_out(to, &Cancel::new()).unwrap_err();
    assert!(matches!(error, VcsError::Unsupported { .. }), "{error:?}");
    assert_eq!((site.snapshot("server"), site.commit("server", "HEAD")), (before, head));
    error.to_string()
}

#[test]
fn a_commit_that_brings_or_moves_a_submodule_is_refused_and_one_that_does_not_is_not() {
    let site = Site::new();
    let bring = "git -c protocol.file.allow=always submodule --quiet add file://$PWD/../remote.git sub";
    let to = site.push(bring);
    let said = refused(&site, &to);
    assert!(said.contains("the submodule sub,") && said.contains("git submodule update"), "{said}");
    site.run("cd server; git pull -q; git -c protocol.file.allow=always submodule --quiet update --init");
    let beside = site.push("echo 2 > a.txt");
    let repo = site.server();
    repo.fetch(LIMIT, &Cancel::new()).unwrap();
    repo.check_out(&beside, &Cancel::new()).unwrap();
    let to = site.push("git -C sub commit -q --allow-empty -m more");
    assert!(refused(&site, &to).contains("the submodule sub,"));
    // One that goes leaves its files behind.
    let gone = site.push("git rm -qf sub");
    repo.fetch(LIMIT, &Cancel::new()).unwrap();
    repo.check_out(&gone, &Cancel::new()).unwrap();
    repo.go_back(&gone, &beside, &[], &Cancel::new()).unwrap();
    assert_eq!(site.commit("server", "HEAD"), beside);
}

/// A commit with a pointer of LFS at `big/a.bin`, as `git lfs` would make it.
const POINTER: &str = "mkdir -p big; printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:0123\\nsize 9\\n' > big/a.bin";

#[test]
fn a_pointer_of_lfs_is_no_file_where_git_is_not_set_up_for_it() {
    for attributes in [
        "echo '*.bin filter=lfs diff=lfs merge=lfs -text' > .gitattributes",
        "mkdir -p big; echo 'a.* filter=lfs' > big/.gitattributes",
    ] {
        let site = Site::new();
        let to = site.push(&format!("{POINTER}; {attributes}"));
        let said = refused(&site, &to);
        assert!(
            said.contains("the file big/a.bin with Git LFS") && said.contains("git lfs install"),
            "{said}"
        );
        site.run("cd server; git config filter.lfs.smudge \"sh -c 'cat >/dev/null; echo content'\"");
        site.server().check_out(&to, &Cancel::new()).unwrap();
        assert_eq!(site.run("cat server/big/a.bin"), "content");
    }
}

#[test]
fn what_only_looks_like_lfs_is_checked_out() {
    for (situation, script) in [
        ("a pointer without an attribute", POINTER.to_owned()),
        ("another file", format!("{POINTER}; echo '*.jpg filter=lfs' > .gitattributes")),
        ("no pointer", "echo 1 > a.bin; echo '*.bin filter=lfs' > .gitattributes".to_owned()),
        (
            "taken back",
            format!(
                "{POINTER}; echo '*.bin filter=lfs' > .gitattributes; echo '*.bin -filter' > big/.gitattributes"
            ),
        ),
    ] {
        let site = Site::new();
        let to = site.push(&script);
        let repo = site.server();
        repo.fetch(LIMIT, &Cancel::new()).unwrap();
        repo.check_out(&to, &Cancel::new()).expect(situation);
    }
}

#[test]
fn what_fetches_leave_behind_is_tidied_up_by_the_settings_of_the_repository_and_nobody_goes_on_with_it() {
    let site = Site::new();
    site.run("cd server; git config fetch.unpackLimit 1; git config gc.autoPackLimit 2; git config gc.autoDetach true");
    let repo = site.server();
    for n in 0..4 {
        let to = site.push(&format!("echo {n} > a.txt"));
        repo.fetch(LIMIT, &Cancel::new()).unwrap();
        repo.check_out(&to, &Cancel::new()).unwrap();
    }
    let packs = "ls server/.git/objects/pack/*.pack | wc -l";
    assert!(site.run(packs).parse::<u32>().unwrap() > 3);
    repo.maintain(&Cancel::new()).unwrap();
    assert_eq!(site.run(packs), "1");
    assert_eq!(site.locks(), "");
    site.run("git -C server fsck --no-dangling 2>&1");
    let cancelled = Cancel::new();
    cancelled.cancel();
    assert!(matches!(repo.maintain(&cancelled), Err(VcsError::Cancelled)));
}

#[test]
fn files_that_root_moves_have_the_owner_of_the_tree() {
    let site = Site::new();
    if !site.is_of_root() {
        return;
    }
    let to = site.push("echo 2 > a.txt; mkdir d; echo 1 > d/e");
    site.run("chmod 755 .; chown -R 65534:65534 server remote.git");
    let repo = site.server();
    repo.fetch(LIMIT, &Cancel::new()).unwrap();
    repo.check_out(&to, &Cancel::new()).unwrap();
    repo.maintain(&Cancel::new()).unwrap();
    for path in ["a.txt", "d", "d/e", ".git/index", ".git/refs/heads/main", ".git/refs/remotes/origin/main"] {
        assert_eq!(site.path("server").join(path).symlink_metadata().unwrap().uid(), 65534, "{path}");
    }
    assert_eq!(site.run("find server ! -user 65534"), "");
}
