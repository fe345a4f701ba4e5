//! The copy of the sources in which places are changed: nobody's files are touched, also when a run is cut off.
//!
//! It stays where it is, and so does what cargo has built of it: the next run builds only what differs.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// What `git ls-files` names, as it is now. One run has it at a time.
pub(super) struct Copy {
    /// A workspace of its own.
    pub(super) tree: PathBuf,
    /// Where cargo builds it.
    pub(super) target: PathBuf,
    /// Where cargo-mutants writes what it finds.
    pub(super) output: PathBuf,
    _lock: File,
}

impl Copy {
    pub(super) fn new(workspace: &Workspace) -> Result<Self> {
        let home = workspace.target()?.join("mutants");
        fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        let lock = File::create(home.join("lock")).context("cannot make the lock of the copy")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another `cargo xtask mutants` is running here"),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the copy"),
        }
        let (tree, target, output) = (home.join("tree"), home.join("target"), home.join("output"));
        let files = workspace.files()?;
        fs::create_dir_all(&tree)?;
        remove_others(&tree, &tree, &files.iter().map(Path::new).collect())?;
        for path in &files {
            copied(&workspace.root.join(path))
                .and_then(|bytes| update(&tree.join(path), &bytes))
                .with_context(|| format!("cannot copy {path}"))?;
        }
        Ok(Self { tree, target, output, _lock: lock })
    }
}

/// What the copy of a file has in it: all, but for a manifest's dependency on its own package. That is there for the
/// fakes of its tests, which `--all-features` gives too, and would have each mutant compiled twice.
fn copied(from: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(from)?;
    if from.file_name().is_none_or(|name| name != "Cargo.toml") {
        return Ok(bytes);
    }
    let manifest = String::from_utf8(bytes)?;
    let lines = manifest.split_inclusive('\n').filter(|line| !line.contains("path = \".\""));
    Ok(lines.collect::<String>().into_bytes())
}

/// Leaves a file alone that is as it should be, because cargo goes by times.
fn update(to: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
    Ok(fs::write(to, bytes)?)
}

/// Removes what lies below `folder` and is not one of `files`, which are relative to `tree`.
fn remove_others(tree: &Path, folder: &Path, files: &BTreeSet<&Path>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_others(tree, &path, files)?;
        } else if !path.strip_prefix(tree).is_ok_and(|name| files.contains(name)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{copied, remove_others, update};

    #[test]
    fn what_is_as_it_should_be_keeps_its_time_and_what_belongs_to_nobody_goes() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path();
        let to = tree.join("src/to.rs");
        update(&to, b"fn f() {}").unwrap();
        let made = fs::metadata(&to).unwrap().modified().unwrap();
        fs::write(tree.join("src/old.rs"), "").unwrap();
        remove_others(tree, tree, &[Path::new("src/to.rs")].into()).unwrap();
        update(&to, b"fn f() {}").unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), made);
        assert!(!tree.join("src/old.rs").exists());
        fs::write(&to, "fn f() { panic!() }").unwrap();
        update(&to, b"fn f() {}").unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "fn f() {}");
    }

    #[test]
    fn in_the_copy_no_package_depends_on_itself() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        let own = "x = { path = \".\", features = [\"testing\"] }\n";
        fs::write(&manifest, format!("[dev-dependencies]\n{own}y = {{ path = \"../y\" }}\n")).unwrap();
        assert_eq!(copied(&manifest).unwrap(), b"[dev-dependencies]\ny = { path = \"../y\" }\n");
        let source = folder.path().join("a.rs");
        fs::write(&source, own).unwrap();
        assert_eq!(copied(&source).unwrap(), own.as_bytes());
    }
}
