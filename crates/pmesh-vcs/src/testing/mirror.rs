//! The work tree of a fake repository on a real disk.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::VcsError;

/// The files of a commit and their content.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The files that are not on the disk as the commit has them.
pub(super) fn changed(root: &Path, files: &Files) -> Vec<PathBuf> {
    files
        .iter()
        .filter(|(path, bytes)| fs::read(root.join(path)).ok().as_ref() != Some(*bytes))
        .map(|(path, _)| path.clone())
        .collect()
}

/// Writes the files that are not on the disk as the commit has them.
pub(super) fn put_right(root: &Path, files: &Files) -> Result<(), VcsError> {
    for path in changed(root, files) {
        clear(&root.join(&path))?;
        write(&root.join(&path), &files[&path])?;
    }
    Ok(())
}

/// Removes what is at `path`, a file or a folder.
pub(super) fn clear(path: &Path) -> Result<(), VcsError> {
    if path.symlink_metadata().is_ok_and(|there| there.is_dir()) {
        return fs::remove_dir_all(path).map_err(|error| VcsError::io(path, error));
    }
    remove(path)
}

pub(super) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Removes the files of `old` that `new` lacks, with the folders that are empty then, and writes those that differ.
pub(super) fn move_files(root: &Path, old: &Files, new: &Files) -> Result<(), VcsError> {
    for path in old.keys().filter(|path| !new.contains_key(*path)) {
        remove(&root.join(path))?;
        for folder in path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            // It fails where something is left, and that may stay.
            if fs::remove_dir(root.join(folder)).is_err() {
                break;
            }
        }
    }
    for (path, bytes) in new.iter().filter(|(path, bytes)| old.get(*path) != Some(*bytes)) {
        write(&root.join(path), bytes)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), VcsError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(VcsError::io(path, error)),
        _ => Ok(()),
    }
}

/// Writes a new file, as git does: a program that runs from the old one keeps it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), VcsError> {
    remove(path)?;
    let written = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, bytes)?;
        let mode = if bytes.starts_with(b"#!") { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    written().map_err(|source: io::Error| VcsError::io(path, source))
}
