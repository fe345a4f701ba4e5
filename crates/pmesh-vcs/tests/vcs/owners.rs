//! Other users' repositories, served by root: as whom git runs, with what, and when it does not.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use pmesh_vcs::{Cancel, Vcs, VcsError, git::GitRepo};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::site::Site;

const LIMIT: Duration = Duration::from_mins(1);

/// A user without an account.
const INVENTED: u32 = 424_242;

/// `None`, with a word about it, where the tests do not run as root, who alone can become somebody else.
fn site_as_root() -> Option<Site> {
    let site = Site::new();
    if !site.is_of_root() {
        return None;
    }
    site.run("chmod 755 .");
    Some(site)
}

/// Has every fetch of `server` write down its user, groups and environment, in a folder that all may write to.
fn report_uploads(site: &Site) {
    site.run(
        r#"mkdir -m 1777 said
        cat > upload <<END
#!/bin/sh
exec 3>$PWD/said/\$\$
{ id -u; id -G; env; } >&3
exec git-upload-pack "\$@"
END
        chmod 755 upload
        git -C server config remote.origin.uploadpack "$PWD/upload""#,
    );
}

fn said(site: &Site) -> Vec<String> {
    let files = fs::read_dir(site.path("said")).unwrap();
    files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

fn fetch(repo: &GitRepo) -> Result<pmesh_vcs::Fetched, VcsError> {
    repo.fetch(LIMIT, &Cancel::new())
}

#[test]
fn where_the_owners_differ_git_does_not_run_and_reads_go_on() {
    for (situation, script, folder, named, remedy) in [
        (
            "root has written the configuration",
            "chown -R 65534:65534 server; chown 0 server/.git/config",
            "server",
            "the configuration",
            "server/.git/config`",
        ),
        (
            "root has made the git directory",
            "chown -R 65534:65534 server; chown -R 0 server/.git",
            "server",
            "its",
            "server/.git`",
        ),
        (
            "root has made a linked work tree",
            "chown -R 65534:65534 server; git -c safe.directory='*' -C server worktree add -q -b tree ../tree origin/main; \
             chown -R 65534 server; chown -R 0 server/.git/worktrees",
            "tree",
            "the common directory",
            "tree",
        ),
        (
            ".git is a link to root's",
            "mv server/.git git; chown -R 65534 server; ln -s ../git server/.git; chown -h 65534 server/.git",
            "server",
            "a link,",
            "chown -hR root ",
        ),
    ] {
        let Some(site) = site_as_root() else { return };
        report_uploads(&site);
        site.run(script);
        let repo = GitRepo::discover(&site.path(folder).join("pm3.yml")).expect(situation);
        let before = site.run("find server tree git 2>/dev/null | sort; true");
        for error in [fetch(&repo).unwrap_err(), repo.work_tree(&Cancel::new()).unwrap_err()] {
            let VcsError::OwnersDiffer { owners, .. } = &error else { panic!("{situation}: {error:?}") };
            assert!(owners.contains("nobody") && owners.contains("root"), "{situation}: {owners}");
            assert!(owners.contains(named), "{situation}: {owners}");
            assert!(error.to_string().contains(remedy), "{situation}: {error}");
        }
        assert!(said(&site).is_empty(), "{situation}: nothing was run");
        assert_eq!(site.run("find server tree git 2>/dev/null | sort; true"), before, "{situation}");
        let heads = repo.heads(&Cancel::new()).expect(situation);
        assert!(heads.head.commit.is_some(), "{situation}");
    }
}

#[test]
fn the_remedy_in_the_sentence_ends_it() {
    let Some(site) = site_as_root() else { return };
    site.run(
        "chown -R 65534:65534 server remote.git; git -c safe.directory='*' -C server worktree add -q -b tree ../tree origin/main; \
         chown -R 65534 server; chown -R 0 server/.git/worktrees; cd tree; git -c safe.directory='*' branch -q -u origin/main",
    );
    site.run("chown 65534 server/.git/config");
    let repo = GitRepo::discover(&site.path("tree/pm3.yml")).unwrap();
    let VcsError::OwnersDiffer { remedy, .. } = fetch(&repo).unwrap_err() else { panic!("they differ") };
    site.run(&remedy);
    fetch(&repo).unwrap();
    assert_eq!(site.path("tree").symlink_metadata().unwrap().uid(), 65534);
}

#[test]
fn git_gets_the_owners_groups_and_nothing_of_the_servers_environment() {
    for owner in [65534, INVENTED] {
        let Some(site) = site_as_root() else { return };
        report_uploads(&site);
        site.run(&format!("chown -R {owner}:0 server; chmod 755 server; chown -R {owner} remote.git"));
        fetch(&site.server()).unwrap();
        let [said] = &said(&site)[..] else { panic!("one fetch") };
        let lines: Vec<_> = said.lines().collect();
        // An invented user is in no group, not in the one that root has left on the folder.
        assert_eq!(lines[..2], [owner.to_string().as_str(), "65534"], "{said}");
        let allowed = [
            "PATH",
            "HOME",
            "LANG",
            "LC_ALL",
            "PWD",
            "OLDPWD",
            "SHLVL",
            "_",
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
            "ALL_PROXY",
            "SSH_ASKPASS_REQUIRE",
        ];
        for line in &lines[2..] {
            let name = line.split('=').next().unwrap();
            assert!(allowed.contains(&name) || name.starts_with("GIT_"), "{line}");
        }
        let account_home = lines.iter().find(|line| line.starts_with("HOME="));
        assert_eq!(account_home.is_some(), owner == 65534, "{account_home:?}");
    }
}

#[test]
fn git_is_nobodys_but_the_owners_while_the_owner_swaps_what_root_looks_at() {
    // What the owner puts in the place of its `.git`, or of the whole folder: something of root's, which the old
    // look would have taken for the owner.
    for (swapped, of_root, script) in [
        ("home/server/.git", "home/link", "ln -s /usr home/link"),
        (
            "home/server",
            "home/root",
            "cp -a home/server home/root; git -C home/root config --unset remote.origin.uploadpack",
        ),
    ] {
        let Some(site) = site_as_root() else { return };
        report_uploads(&site);
        site.run("mkdir home; mv server home/server");
        site.run(script);
        site.run("chown -R 65534 home/server home remote.git; chmod 755 home; [ -h home/link ] || chown -R 0 home/root");
        let repo = GitRepo::discover(&site.path("home/server/pm3.yml")).unwrap();
        let (swapped, of_root) = (site.path(swapped), site.path(of_root));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    renameat_with(CWD, &swapped, CWD, &of_root, RenameFlags::EXCHANGE).unwrap();
                }
            });
            for _ in 0..60 {
                // It succeeds or fails as the swap has it.
                drop(fetch(&repo));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        // What root has is configured to run nothing.
        for said in said(&site) {
            assert_eq!(said.lines().next(), Some("65534"), "{said}");
        }
    }
}

#[test]
fn a_repository_of_root_is_served_as_before() {
    let Some(site) = site_as_root() else { return };
    report_uploads(&site);
    fetch(&site.server()).unwrap();
    assert!(said(&site)[0].starts_with("0\n"));
    assert!(site.server().work_tree(&Cancel::new()).unwrap().changed.is_empty());
    assert_eq!(site.path("said").metadata().unwrap().permissions().mode() & 0o7777, 0o1777);
}

#[test]
fn a_server_that_is_neither_root_nor_the_owner_reads_and_says_whose_it_is() {
    let Some(site) = site_as_root() else { return };
    report_uploads(&site);
    site.run(&format!("chown -R {INVENTED} server remote.git"));
    // As its own program: where that lies, others may have no access.
    let output = Command::new("/proc/self/exe")
        .args(["--exact", "owners::inside", "--include-ignored", "--nocapture"])
        .env("PMESH_TEST_STRANGERS", site.path("server"))
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "another one runs it, as another user"]
fn inside() {
    let Some(folder) = std::env::var_os("PMESH_TEST_STRANGERS").map(PathBuf::from) else { return };
    let repo = GitRepo::discover(&folder.join("pm3.yml")).unwrap();
    assert!(repo.heads(&Cancel::new()).unwrap().remote_head.is_some());
    for error in [fetch(&repo).unwrap_err(), repo.work_tree(&Cancel::new()).unwrap_err()] {
        let VcsError::NotTheOwner { owner, user, .. } = &error else { panic!("{error:?}") };
        assert_eq!((owner.as_str(), user.as_str()), ("uid 424242", "nobody"));
        let remedy = format!("`chown -hR nobody {}`", folder.display());
        assert!(error.to_string().contains(&remedy), "{error}");
    }
}
