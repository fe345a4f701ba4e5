//! Failures whose cause is on this machine: each is named, and so is what ends it.

use std::{path::PathBuf, time::Duration};

use pmesh_vcs::{Cancel, CommitId, Vcs, VcsError};

use crate::site::Site;

/// A site whose `server` is on a small disk of its own. None, with a word about it, without root.
struct SmallDisk {
    site: Site,
    disk: PathBuf,
}

impl SmallDisk {
    fn new() -> Option<Self> {
        let site = Site::new();
        if !site.is_of_root() {
            return None;
        }
        site.run("mkdir disk; mount -t tmpfs -o size=4m none disk && mv server disk/server && ln -s disk/server server");
        let disk = site.path("disk");
        Some(Self { site, disk })
    }

    fn repo(&self) -> pmesh_vcs::git::GitRepo {
        pmesh_vcs::git::GitRepo::discover(&self.disk.join("server/pm3.yml")).unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let umount = std::process::Command::new("umount").arg("-l").arg(&self.disk).status();
        assert!(umount.is_ok_and(|status| status.success()), "the disk is mounted");
    }
}

/// The cause that the sentence names.
fn unwritable(result: Result<impl std::fmt::Debug, VcsError>) -> String {
    match result {
        Err(error @ VcsError::Unwritable { .. }) => error.to_string(),
        Err(VcsError::HalfMoved { failed, .. }) if matches!(*failed, VcsError::Unwritable { .. }) => {
            failed.to_string()
        }
        other => panic!("{other:?}"),
    }
}

fn fetch(repo: &dyn Vcs) -> Result<pmesh_vcs::Fetched, VcsError> {
    repo.fetch(Duration::from_mins(1), &Cancel::new())
}

/// A commit with so many bytes that no compression makes smaller.
fn push_large(site: &Site, bytes: usize) -> CommitId {
    site.push(&format!("head -c {bytes} /dev/urandom > large"))
}

#[test]
fn a_full_disk_is_named_at_a_fetch_and_at_a_check_out() {
    let Some(disk) = SmallDisk::new() else { return };
    push_large(&disk.site, 6 << 20);
    let said = unwritable(fetch(&disk.repo()));
    assert!(said.contains("the disk is full") && said.contains("make room"), "{said}");

    let Some(disk) = SmallDisk::new() else { return };
    let to = push_large(&disk.site, 1 << 20);
    let repo = disk.repo();
    fetch(&repo).unwrap();
    let before = disk.site.commit("server", "HEAD");
    disk.site.run("head -c 8m /dev/zero > disk/filler 2>/dev/null || true");
    let said = unwritable(repo.check_out(&to, &Cancel::new()));
    assert!(said.contains("the disk is full"), "{said}");
    disk.site.run("rm disk/filler");
    assert_eq!(disk.site.commit("server", "HEAD"), before);

    // Room for the index, and for half of the file: git gives no reason then.
    disk.site.run(
        "head -c $(($(df --output=avail -k disk | tail -1) * 1024 - 512 * 1024)) /dev/zero > disk/filler",
    );
    let said = unwritable(repo.check_out(&to, &Cancel::new()));
    assert!(said.contains("unable to write file large") && said.contains("make room"), "{said}");
    disk.site.run("rm disk/filler");
    assert_eq!(disk.site.commit("server", "HEAD"), before);
    repo.check_out(&to, &Cancel::new()).unwrap();
}

#[test]
fn a_read_only_file_system_is_named() {
    let Some(disk) = SmallDisk::new() else { return };
    let to = disk.site.push("echo 2 > a.txt");
    let repo = disk.repo();
    fetch(&repo).unwrap();
    disk.site.push("echo 3 > a.txt");
    disk.site.run("mount -o remount,ro disk");
    for said in [unwritable(fetch(&repo)), unwritable(repo.check_out(&to, &Cancel::new()))] {
        assert!(said.contains("the file system is read-only") && said.contains("mount it"), "{said}");
    }
}

#[test]
fn a_repository_that_its_owner_may_not_write_is_no_failure_of_the_remote() {
    let site = Site::new();
    if !site.is_of_root() {
        return;
    }
    site.push("echo 2 > a.txt");
    site.run("chmod 755 .; chown -R 65534:65534 server remote.git; chmod -R a-w server/.git/objects server/.git/refs");
    let said = unwritable(fetch(&site.server()));
    assert!(said.contains("may not write") && said.contains("chmod"), "{said}");
}

#[test]
fn a_stale_branch_in_the_way_of_another_is_named_with_its_remedy() {
    let site = Site::after(
        "cd pusher; git push -q origin HEAD:x; git -C ../server fetch -q; git push -q origin :x; git push -q origin HEAD:x/y; \
         cd ../server; git switch -q -c x/y --no-track; git config branch.x/y.remote origin; git config branch.x/y.merge refs/heads/x/y",
    );
    let said = unwritable(fetch(&site.server()));
    assert!(said.contains("in the way") && said.contains("git fetch --prune"), "{said}");
    site.run("git -C server fetch -q --prune");
    fetch(&site.server()).unwrap();
}

#[test]
fn what_is_corrupt_is_damage_and_no_mystery() {
    for (situation, script) in [
        ("the index", "printf 'DIRC garbage that is long enough for a header' > .git/index"),
        ("an empty index", ": > .git/index"),
        (
            "a tree",
            "o=$(git rev-parse origin/main^{tree} | sed 's|..|&/|'); chmod +w .git/objects/$o; : > .git/objects/$o",
        ),
        (
            "a file",
            "o=$(git rev-parse origin/main:a.txt | sed 's|..|&/|'); chmod +w .git/objects/$o; echo x > .git/objects/$o",
        ),
    ] {
        let site = Site::new();
        let to = site.push("echo 2 > a.txt");
        site.run(&format!("cd server; git fetch -q; {script}"));
        match site.server().check_out(&to, &Cancel::new()) {
            Err(VcsError::Damaged { .. }) => {}
            Err(VcsError::HalfMoved { failed, .. }) if matches!(*failed, VcsError::Damaged { .. }) => {}
            other => panic!("{situation}: {other:?}"),
        }
    }
}

#[test]
fn a_git_that_a_signal_ends_is_told_with_the_signal() {
    let site = Site::new();
    let to = site.push("echo 2 > a.txt");
    site.run(
        "git -C server fetch -q; printf '#!/bin/sh\\ncase \"$*\" in *read-tree*) kill -BUS $$;; *) exec git \"$@\";; esac\\n' > \
         killed; chmod +x killed",
    );
    match site.server().with_git(site.path("killed")).check_out(&to, &Cancel::new()) {
        Err(VcsError::Git { command: "read-tree", message }) => {
            assert!(message.contains("the process was ended by a signal: 7 (SIGBUS)"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}
