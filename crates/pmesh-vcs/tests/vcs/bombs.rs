//! Repositories that are far more than their size on the disk, read by a process that may not grow.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use pmesh_vcs::{Cancel, CommitId, Vcs, VcsError, git::GitRepo};

use crate::site::Site;

/// The address space that a test may have, in KiB: the test itself, its threads' stacks, and what one read may take.
const MEMORY_KIB: u64 = 1_200_000;

/// Runs [`inside`] in a process of its own, so that a failure takes no more than that.
fn survives(site: &Site, what: &str) {
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "bombs::inside", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env("PMESH_TEST_BOMB", site.path("server"))
        .env("PMESH_TEST_WHAT", what)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success(), "{what}: {}\n{}", output.status, said.concat());
    assert!(said.concat().contains("1 passed"), "{what}: {}", said.concat());
}

#[test]
#[ignore = "the others run it"]
fn inside() {
    let Some(folder) = std::env::var_os("PMESH_TEST_BOMB").map(PathBuf::from) else { return };
    let repo = match GitRepo::discover(&folder.join("pm3.yml")) {
        Ok(repo) => repo,
        Err(error) => return assert_too_large(&error),
    };
    let cancel = Cancel::new();
    let commit = |revision: &str| {
        let git = ["-C", folder.to_str().unwrap(), "rev-parse", revision];
        let output = Command::new("git").args(git).output().unwrap();
        CommitId::new(String::from_utf8(output.stdout).unwrap().trim()).unwrap()
    };
    match std::env::var("PMESH_TEST_WHAT").unwrap().as_str() {
        "tree" => {
            let (from, to) = (commit("HEAD"), commit("bomb"));
            assert_too_large(&repo.changed_paths(&from, &to, &cancel).unwrap_err());
            assert_too_large(&repo.check_out(&to, &Cancel::new()).unwrap_err());
            assert_eq!(repo.head().unwrap().commit, Some(from.clone()), "nothing was moved");
            // For somebody who has left it is not begun. Right behind the begin of the walk, it may come to its own end first.
            cancel.cancel();
            let error = repo.changed_paths(&from, &to, &cancel).unwrap_err();
            assert!(matches!(error, VcsError::Cancelled), "{error:?}");
        }
        "file" => {
            let error = repo.file(&commit("bomb"), Path::new("pm3.yml"), &cancel).unwrap_err();
            match &error {
                VcsError::TooLarge { size, .. } => assert!(*size > 1 << 30),
                other => assert_too_large(other),
            }
        }
        "heads" => assert_too_large(&repo.heads(&cancel).unwrap_err()),
        "many references" => {
            assert!(repo.heads(&cancel).unwrap().remote_head.is_some());
            assert!(repo.fetch(Duration::from_mins(1), &cancel).is_ok());
        }
        other => panic!("{other}"),
    }
}

fn assert_too_large(error: &VcsError) {
    assert!(matches!(error, VcsError::RepositoryTooLarge { .. }), "{error:?}");
}

/// A branch `bomb` whose tree is that of `$tree`.
const COMMIT: &str = "git update-ref refs/heads/bomb $(git commit-tree -p HEAD -m bomb $tree)";

#[test]
fn ten_equal_folders_on_each_of_eight_levels_are_not_walked_to_their_end() {
    let site = Site::after(&format!(
        "cd server; tree=$(git rev-parse HEAD^{{tree}}); for level in 1 2 3 4 5 6 7 8; do \
         tree=$(for n in 0 1 2 3 4 5 6 7 8 9; do printf '040000 tree %s\\tfolder-%s\\n' $tree $n; done | git mktree); done; {COMMIT}"
    ));
    survives(&site, "tree");
}

#[test]
fn three_hundred_folders_within_each_other_are_too_many() {
    let site = Site::after(&format!(
        "cd server; tree=$(git rev-parse HEAD^{{tree}}); n=0; while [ $n -lt 300 ]; do \
         tree=$(printf '040000 tree %s\\td\\n' $tree | git mktree); n=$((n+1)); done; {COMMIT}"
    ));
    survives(&site, "tree");
}

#[test]
fn two_gigabytes_that_are_called_a_manifest_are_not_unpacked() {
    // The head of a loose object says how large it is (git's `Documentation/technical`, "loose objects").
    let site = Site::after(&format!(
        "cd server; id=00000000000000000000000000000000000000ab; mkdir -p .git/objects/00; \
         python3 -c 'import sys, zlib; c = zlib.compressobj(); sys.stdout.buffer.write(c.compress(b\"blob 2147483648\\0\" + bytes(1 << 20)) + c.flush())' \
         > .git/objects/00/00000000000000000000000000000000000000ab; mv .git/objects/00/00000000000000000000000000000000000000ab .git/objects/00/000000000000000000000000000000000000ab; \
         tree=$(printf '100644 blob %s\\tpm3.yml\\n' $id | git mktree --missing); {COMMIT}"
    ));
    survives(&site, "file");
}

/// A pack with one blob of a gigabyte of zeros, and one of ten bytes that is a delta of it.
const DELTA_BOMB: &str = r#"
import hashlib, struct, sys, zlib
size = 1 << 30
def head(kind, size):
    byte, size = kind << 4 | size & 15, size >> 4
    out = bytearray()
    while size:
        out.append(byte | 128)
        byte, size = size & 127, size >> 7
    return bytes(out + bytearray([byte]))
def number(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytearray([n]))
packer = zlib.compressobj(1)
base = head(3, size) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
delta = number(size) + number(10) + bytes([0x90, 10])
back, offset = len(base), bytearray()
offset.append(back & 127)
while back >> 7:
    back = (back >> 7) - 1
    offset.insert(0, back & 127 | 128)
pack = b"PACK" + struct.pack(">II", 2, 2) + base + head(6, len(delta)) + bytes(offset) + zlib.compress(delta)
sys.stdout.buffer.write(pack + hashlib.sha1(pack).digest())
"#;

#[test]
fn ten_bytes_that_are_a_delta_of_a_gigabyte_are_not_unpacked() {
    let site = Site::empty();
    std::fs::write(site.path("bomb.py"), DELTA_BOMB).unwrap();
    site.run(&format!(
        "git init -q -b main server; cd server; git commit -q --allow-empty -m one; \
         python3 ../bomb.py > ../bomb.pack; git index-pack --stdin < ../bomb.pack > /dev/null; \
         id=$(head -c 10 /dev/zero | git hash-object --stdin); \
         tree=$(printf '100644 blob %s\\tpm3.yml\\n' $id | git mktree); {COMMIT}"
    ));
    survives(&site, "file");
}

#[test]
fn a_hundred_thousand_references_are_read_as_ever() {
    let site = Site::after(
        "cd server; id=$(git rev-parse HEAD); git pack-refs --all; \
         { cat .git/packed-refs; seq -f \"$id refs/tags/t%06.0f\" 1 100000; } > packed; mv packed .git/packed-refs",
    );
    survives(&site, "many references");
}

#[test]
fn files_of_a_terabyte_of_nothing_are_not_read() {
    for file in [
        "HEAD",
        "config",
        "packed-refs",
        "shallow",
        "refs/heads/main",
        "refs/remotes/origin/main",
        "objects/info/alternates",
        "refs/replace/0000000000000000000000000000000000000001",
    ] {
        let site = Site::after(&format!(
            "cd server/.git; mkdir -p refs/replace; rm -f {file}; truncate -s 1T {file}"
        ));
        survives(&site, "heads");
    }
}

#[test]
fn configurations_that_include_each_other_without_end_are_not_followed() {
    let site = Site::after(
        "cd server/.git; { echo '[include]'; for n in 1 2 3 4 5 6 7 8 9; do echo 'path = more'; done; } > more; \
         git config include.path more",
    );
    survives(&site, "heads");
    let large = Site::after("cd server/.git; truncate -s 1T more; git config include.path more");
    survives(&large, "heads");
}
