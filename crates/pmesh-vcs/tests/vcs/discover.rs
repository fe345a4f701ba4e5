//! Which repository a manifest belongs to.

use std::time::Duration;

use pmesh_vcs::{
    Cancel, Vcs, VcsError, WorkTree,
    git::{DamagedRepo, GitRepo},
};

use crate::site::Site;

enum Found {
    At(&'static str),
    Nothing,
    Damage,
}
use Found::{At, Damage, Nothing};

#[test]
#[expect(clippy::too_many_lines, reason = "a table of situations")]
fn the_repository_of_a_manifest_is_the_one_that_tracks_it() {
    for (situation, script, manifest, expected) in [
        (
            "in the top folder, tracked",
            "cd server; touch pm3.yml; git add .; git commit -qm x",
            "server/pm3.yml",
            At("server"),
        ),
        ("in the top folder, not tracked yet", "touch server/pm3.yml", "server/pm3.yml", At("server")),
        (
            "in the top folder, ignored",
            "cd server; echo '*' > .gitignore; touch pm3.yml",
            "server/pm3.yml",
            At("server"),
        ),
        (
            "in a subfolder, tracked",
            "cd server; mkdir -p app/a; touch app/a/pm3.yml; git add .; git commit -qm x",
            "server/app/a/pm3.yml",
            At("server"),
        ),
        (
            "in a subfolder, staged",
            "cd server; mkdir -p app/a; touch app/a/pm3.yml; git add .",
            "server/app/a/pm3.yml",
            At("server"),
        ),
        (
            "in a subfolder, tracked, without an index",
            "cd server; mkdir app; touch app/pm3.yml; git add .; git commit -qm x; rm .git/index",
            "server/app/pm3.yml",
            At("server"),
        ),
        (
            "in a subfolder, not tracked",
            "mkdir server/app; touch server/app/pm3.yml",
            "server/app/pm3.yml",
            Nothing,
        ),
        (
            "below a home folder that is a repository",
            "git init -q .; mkdir app; touch app/pm3.yml",
            "app/pm3.yml",
            Nothing,
        ),
        ("in no repository", "mkdir app; touch app/pm3.yml", "app/pm3.yml", Nothing),
        ("not there", "", "nowhere/pm3.yml", Nothing),
        ("not written yet", "", "server/pm3.yml", At("server")),
        (
            "through a link to the folder",
            "ln -s server link; touch server/pm3.yml",
            "link/pm3.yml",
            At("server"),
        ),
        (
            "in a linked work tree",
            "git -C server worktree add -q ../tree; touch tree/pm3.yml",
            "tree/pm3.yml",
            At("tree"),
        ),
        (
            "in a submodule",
            "cd server; git -c protocol.file.allow=always submodule --quiet add file://$PWD/../remote.git sub; touch sub/pm3.yml",
            "server/sub/pm3.yml",
            At("server/sub"),
        ),
        (
            "in a repository within another that tracks nothing of it",
            "git init -q .; touch server/pm3.yml",
            "server/pm3.yml",
            At("server"),
        ),
        (
            "at an empty .git, within another repository",
            "cd server; mkdir -p app/.git; touch app/pm3.yml; git add -f .; git commit -qm x",
            "server/app/pm3.yml",
            Damage,
        ),
        (
            "at a .git file that leads nowhere",
            "mkdir app; echo 'gitdir: ../gone' > app/.git",
            "app/pm3.yml",
            Damage,
        ),
        ("at a .git link that leads nowhere", "mkdir app; ln -s gone app/.git", "app/pm3.yml", Damage),
        (
            "in a linked work tree whose repository is gone",
            "git -C server worktree add -q ../tree; rm -rf server",
            "tree/pm3.yml",
            Damage,
        ),
        (
            "at a repository that says it is bare",
            "git -C server config core.bare true",
            "server/pm3.yml",
            Damage,
        ),
        (
            "at a repository whose work tree is elsewhere",
            "mkdir elsewhere; git -C server config core.worktree $PWD/elsewhere",
            "server/pm3.yml",
            Nothing,
        ),
    ] {
        let site = Site::after(script);
        let found = GitRepo::discover(&site.path(manifest));
        match (&expected, &found) {
            (At(root), Ok(repo)) => assert_eq!(repo.root(), site.path(root), "{situation}"),
            (Nothing, Err(VcsError::NotFound(path))) => assert_eq!(path, &site.path(manifest), "{situation}"),
            (Damage, Err(VcsError::Damaged { .. })) => {}
            _ => panic!("{situation}: {found:?}"),
        }
    }
}

#[test]
fn a_repository_of_another_user_is_read_with_its_remotes() {
    let site = Site::new();
    if !site.is_of_root() {
        return;
    }
    site.run("chown -R 65534:65534 server remote.git; chmod 755 .");
    let repo = site.server();
    assert!(repo.remote_head().unwrap().is_some());
    assert_eq!(repo.work_tree(&Cancel::new()).unwrap(), WorkTree::default());
}

#[test]
fn a_repository_that_was_damaged_at_the_start_says_so_and_works_once_it_is_repaired() {
    let site = Site::after("mv server/.git/config config; echo [ > server/.git/config");
    let manifest = site.path("server/pm3.yml");
    let Err(VcsError::Damaged { root, .. }) = GitRepo::discover(&manifest) else {
        panic!("its configuration is rubbish");
    };
    assert_eq!(root, site.path("server"));
    let repo = DamagedRepo::new(root, manifest).unwrap();
    assert!(matches!(repo.heads(&Cancel::new()), Err(VcsError::Damaged { .. })));
    assert!(matches!(repo.fetch(Duration::from_mins(1), &Cancel::new()), Err(VcsError::Damaged { .. })));
    site.run("mv config server/.git/config");
    assert_eq!(repo.heads(&Cancel::new()).unwrap().head.commit, Some(site.commit("server", "HEAD")));
    repo.fetch(Duration::from_mins(1), &Cancel::new()).unwrap();
    site.run("rm -rf server/.git");
    assert!(matches!(repo.head(), Err(VcsError::NotFound(_))));
}

#[test]
fn a_damaged_head_without_an_index_is_no_reason_to_say_that_a_file_is_not_tracked() {
    let site = Site::after(
        "cd server; mkdir app; : > app/pm3.yml; git add .; git commit -qm app; rm .git/index; \
         rm -f .git/objects/$(git rev-parse HEAD^{tree} | sed 's,^..,&/,')",
    );
    let found = GitRepo::discover(&site.path("server/app/pm3.yml"));
    assert!(matches!(found, Err(VcsError::Damaged { .. })), "{found:?}");
    let unborn = Site::empty();
    unborn.run("git init -q server; mkdir server/app; : > server/app/pm3.yml");
    let found = GitRepo::discover(&unborn.path("server/app/pm3.yml"));
    assert!(matches!(found, Err(VcsError::NotFound(_))), "{found:?}");
}
