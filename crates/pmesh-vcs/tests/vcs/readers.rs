//! With whose rights a repository is read, and what a read does that gets no answer.

use std::path::Path;

use pmesh_vcs::{Cancel, Vcs, VcsError, git::GitRepo};

use crate::site::Site;

/// Whatever an error says, with its causes and as a program would print it.
fn all_of(error: &VcsError) -> String {
    let mut said = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    said
}

#[test]
fn what_an_owner_makes_root_read_is_read_with_the_owners_rights_and_quoted_nowhere() {
    const SECRET: &str = "hunter2:$6$salt$hash";
    for (situation, script) in [
        ("the configuration includes it", "git -C server config include.path $PWD/shadow"),
        ("the configuration is a link to it", "ln -sf $PWD/shadow server/.git/config"),
        ("HEAD is a link to it", "ln -sf $PWD/shadow server/.git/HEAD"),
        ("the branch is a link to it", "ln -sf $PWD/shadow server/.git/refs/heads/main"),
        ("the packed references are a link to it", "ln -sf $PWD/shadow server/.git/packed-refs"),
        ("the list of alternates is a link to it", "ln -sf $PWD/shadow server/.git/objects/info/alternates"),
        (".git is a link to it", "rm -rf server/.git; ln -s $PWD/shadow server/.git"),
    ] {
        let site = Site::new();
        if !site.is_of_root() {
            return;
        }
        let commit = site.commit("server", "HEAD");
        site.run(&format!(
            "chmod 755 .; printf '%s\\n' '{SECRET}' > shadow; chmod 600 shadow; {script}; chown -hR 65534:65534 server"
        ));
        let mut said = String::new();
        match GitRepo::discover(&site.path("server/pm3.yml")) {
            Ok(repo) => {
                let cancel = Cancel::new();
                for error in [
                    repo.heads(&cancel).err(),
                    repo.head().err(),
                    repo.work_tree(&Cancel::new()).err(),
                    repo.file(&commit, Path::new("a.txt"), &cancel).err(),
                ]
                .into_iter()
                .flatten()
                {
                    said.push_str(&all_of(&error));
                }
            }
            Err(error) => said.push_str(&all_of(&error)),
        }
        assert!(!said.is_empty(), "{situation}: something fails");
        for word in ["hunter2", "salt"] {
            assert!(!said.contains(word), "{situation}: {said}");
        }
    }
}

#[test]
fn the_owners_own_configuration_and_includes_that_the_owner_may_read_count() {
    let site = Site::new();
    if !site.is_of_root() {
        return;
    }
    site.run(
        "chmod 755 .; git -C server config --remove-section remote.origin; \
         printf '[remote \"origin\"]\\nurl = /included\\nfetch = +refs/heads/*:refs/remotes/origin/*\\n' > server/.git/more; \
         git -C server config include.path more; chown -R 65534:65534 server",
    );
    let heads = site.server().heads(&Cancel::new()).unwrap();
    assert_eq!(heads.remote_url.as_deref(), Some("/included"));
    assert!(heads.remote_head.is_some());
}

#[test]
fn what_a_link_in_the_way_leads_to_is_left_alone() {
    let site = Site::new();
    if !site.is_of_root() {
        return;
    }
    // The new commit has files below `d`; a build of it has put a link to a folder of root's in the way.
    let from = site.commit("server", "HEAD");
    let to = site.push("mkdir d; echo new > d/keep");
    site.run("chmod 755 .; mkdir of-root; echo mine > of-root/keep; chown -R 65534:65534 server remote.git");
    let repo = site.server();
    repo.fetch(std::time::Duration::from_mins(1), &Cancel::new()).unwrap();
    repo.check_out(&to, &Cancel::new()).unwrap();
    site.run("rm -r server/d; ln -s ../of-root server/d; chown -h 65534 server/d");
    repo.go_back(&to, &from, &[], &Cancel::new()).unwrap();
    assert_eq!(site.run("cat of-root/keep; find server ! -user 65534"), "mine");
}

#[test]
fn a_pipe_where_git_has_a_file_is_named_at_once() {
    for file in ["HEAD", "packed-refs", "config", "shallow", "refs/heads/main", "refs/remotes/origin/main"] {
        let site = Site::new();
        let repo = site.server();
        site.run(&format!("mkfifo pipe; mv pipe server/.git/{file}"));
        let error = repo.heads(&Cancel::new()).unwrap_err();
        let said = all_of(&error);
        let is_named = said.contains(file) && said.contains("is a pipe") && said.contains("remove it");
        assert!(matches!(error, VcsError::NotAFile { .. }) && is_named, "{said}");
    }
}

#[test]
fn who_has_left_gets_no_answer_and_the_next_one_does() {
    let site = Site::new();
    let (repo, commit) = (site.server(), site.commit("server", "HEAD"));
    let (left, stays) = (Cancel::new(), Cancel::new());
    left.cancel();
    assert!(matches!(repo.heads(&left), Err(VcsError::Cancelled)));
    assert!(matches!(repo.relation(&commit, &commit, &left), Err(VcsError::Cancelled)));
    assert!(matches!(repo.changed_paths(&commit, &commit, &left), Err(VcsError::Cancelled)));
    assert!(matches!(repo.file(&commit, Path::new("a.txt"), &left), Err(VcsError::Cancelled)));
    assert_eq!(repo.heads(&stays).unwrap().head.commit, Some(commit));
}
