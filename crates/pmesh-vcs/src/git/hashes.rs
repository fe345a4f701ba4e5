//! The contents of files as git would add them (git-hash-object(1)).

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, process::Stdio};

use gix::ObjectId;

use super::{
    child::INPUT_LIMIT,
    program::{Extra, Program, message},
};
use crate::VcsError;

const COMMAND: &str = "hash-object";

/// The ids of the blobs that git would make of these files, by the filters and line ends of each path. Nothing is stored.
///
/// # Errors
///
/// [`VcsError::Git`] if one of them is not there any more or cannot be read.
pub(super) fn hashes(git: &Program<'_>, paths: &[impl AsRef<Path>]) -> Result<Vec<ObjectId>, VcsError> {
    let mut ids = Vec::with_capacity(paths.len());
    let mut lines = paths.iter().map(|path| quoted(path.as_ref())).peekable();
    while lines.peek().is_some() {
        let (mut input, mut count) = (Vec::new(), 0);
        while let Some(line) = lines.next_if(|line| count == 0 || input.len() + line.len() <= INPUT_LIMIT) {
            input.extend(line);
            count += 1;
        }
        ids.extend(some(git, &input, count)?);
    }
    Ok(ids)
}

/// The ids of the `count` files that `input` names.
fn some(git: &Program<'_>, input: &[u8], count: usize) -> Result<Vec<ObjectId>, VcsError> {
    let mut hashing =
        git.start(COMMAND, &[OsStr::new("--stdin-paths")], &Extra::default(), Stdio::piped())?;
    let written = hashing.write(input);
    let output = git.end(hashing)?;
    let said = || message(&output.stderr, &git.secrets);
    if let Err(source) = written {
        return Err(VcsError::Git { command: COMMAND, message: format!("{source}; {}", said()) });
    }
    let lines = output.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let ids: Option<Vec<_>> = lines.map(|line| ObjectId::from_hex(line).ok()).collect();
    match ids {
        Some(ids) if output.status.success() && ids.len() == count => Ok(ids),
        _ => Err(VcsError::Git { command: COMMAND, message: said() }),
    }
}

/// A path as git reads it from a line (git-hash-object(1), `--stdin-paths`; git-config(1), `core.quotePath`).
fn quoted(path: &Path) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', byte]),
            b'\n' => quoted.extend(b"\\n"),
            _ => quoted.push(byte),
        }
    }
    quoted.extend(b"\"\n");
    quoted
}
