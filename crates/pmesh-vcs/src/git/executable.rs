//! Where the programs are that this crate runs.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The file that running `program` would execute.
pub(super) fn find(program: &Path) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return Some(program.to_owned()).filter(is_program);
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(is_program)
}
