//! Tells the code which commit it is built from, as `PMESH_COMMIT`.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// How much of a commit's name a person is shown.
const SHOWN: usize = 12;

fn main() {
    // A package that is built from an archive sets it.
    println!("cargo::rerun-if-env-changed=PMESH_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let commit = env::var("PMESH_COMMIT")
        .ok()
        .or_else(|| head(&PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?)).ok())
        .filter(|commit| !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=PMESH_COMMIT={}", &commit[..commit.len().min(SHOWN)]);
}

/// The commit that is checked out, if `package` lies in its place of the project's own repository: a
/// repository further up is somebody else's.
fn head(package: &Path) -> io::Result<String> {
    let dot_git = package.join("../../.git");
    // In a linked work tree `.git` is a file, and branches are in the folder that all of them share
    // (gitrepository-layout(5)).
    let folder = match fs::read_to_string(&dot_git) {
        Ok(link) => package.join("../..").join(link.trim_start_matches("gitdir:").trim()),
        Err(_) => dot_git,
    };
    let shared = match fs::read_to_string(folder.join("commondir")) {
        Ok(path) => folder.join(path.trim()),
        Err(_) => folder.clone(),
    };
    // The log of HEAD grows at each commit, also at one whose branch has no file yet.
    watch(&folder.join("logs/HEAD"));
    let head = read(&folder.join("HEAD"))?;
    let Some(branch) = head.strip_prefix("ref:").map(str::trim) else { return Ok(head) };
    read(&shared.join(branch)).or_else(|_| {
        let packed = read(&shared.join("packed-refs"))?;
        let mut entries = packed.lines().filter_map(|line| line.split_once(' '));
        let commit = entries.find(|(_, name)| *name == branch).map(|(commit, _)| commit.to_owned());
        commit.ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

fn read(file: &Path) -> io::Result<String> {
    watch(file);
    Ok(fs::read_to_string(file)?.trim().to_owned())
}

/// Builds again when `file` changes. A file that is not there would make every build a new one.
fn watch(file: &Path) {
    if file.exists() {
        println!("cargo::rerun-if-changed={}", file.display());
    }
}
