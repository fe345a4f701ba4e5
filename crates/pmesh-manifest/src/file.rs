//! Finding and reading the file.

use std::{
    fs::{File, FileType},
    io::{self, Read},
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::{Manifest, Mistakes, Source, Unsupported, parse, place::MAX_BYTES};

/// The names a manifest can have.
pub const FILE_NAMES: [&str; 2] = ["pm3.yml", "pm3.yaml"];

/// Why there is no manifest to serve.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", file.display())]
    Io {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder has no manifest.
    #[error("no pm3.yml in {}; name a manifest or a folder that has one", .0.display())]
    NotFound(PathBuf),
    /// A folder has two.
    #[error("both pm3.yml and pm3.yaml in {}; name the one to serve, or remove the other", .0.display())]
    Ambiguous(PathBuf),
    /// It is no file that could be read to its end: a pipe, say, may never give anything.
    #[error("{} is {what}; a manifest must be a regular file", file.display())]
    NotAFile {
        /// Which one.
        file: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The manifest has mistakes.
    #[error(transparent)]
    Invalid(#[from] Mistakes),
}

/// The manifest at `path`: that file itself, or the `pm3.yml` or `pm3.yaml` of that folder.
///
/// # Errors
///
/// [`ReadError::NotFound`], [`ReadError::Ambiguous`], [`ReadError::NotAFile`] if there is something else
/// than a file, or [`ReadError::Io`] if nothing is at `path`.
pub fn find(path: &Path) -> Result<PathBuf, ReadError> {
    let about = |source| ReadError::Io { file: path.to_owned(), source };
    let kind = path.metadata().map_err(about)?.file_type();
    if !kind.is_dir() {
        return check_kind(path, kind).map(|()| path.to_owned());
    }
    let files = FILE_NAMES.map(|name| path.join(name));
    for file in &files {
        // What is not there is no mistake yet; what cannot be looked at is found out by reading it.
        if let Ok(metadata) = file.metadata() {
            check_kind(file, metadata.file_type())?;
        }
    }
    let there = files.map(|file| file.is_file().then_some(file));
    match there {
        [Some(_), Some(_)] => Err(ReadError::Ambiguous(path.to_owned())),
        [Some(file), None] | [None, Some(file)] => Ok(file),
        [None, None] => Err(ReadError::NotFound(path.to_owned())),
    }
}

/// Reads the manifest in `file`. Blocks on the disk, and reads no more than 1 MiB and a byte.
///
/// # Errors
///
/// [`ReadError::Io`] if the file cannot be read, [`ReadError::NotAFile`] if it is none, and
/// [`ReadError::Invalid`] with every mistake in it.
pub fn read(file: &Path, unsupported: Unsupported) -> Result<Manifest, ReadError> {
    read_as(file, file, unsupported)
}

/// The same, with mistakes that name the file as `shown`.
///
/// # Errors
///
/// See [`read`].
pub fn read_as(file: &Path, shown: &Path, unsupported: Unsupported) -> Result<Manifest, ReadError> {
    let about = |source| ReadError::Io { file: file.to_owned(), source };
    // With links resolved: the folder is compared with those of the repository.
    let folder = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(about)?;
    let opened = open_without_waiting(file).map_err(about)?;
    // Asked of the open file, so that what is checked is what is read.
    check_kind(file, opened.metadata().map_err(about)?.file_type())?;
    let mut text = Vec::new();
    opened.take(MAX_BYTES as u64 + 1).read_to_end(&mut text).map_err(about)?;
    Ok(parse(&Source { text: &text, file: shown, folder: &folder }, unsupported)?)
}

/// Opens a file, and does not wait for the other end of a pipe.
fn open_without_waiting(file: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(file, flags, Mode::empty())?.into())
}

fn check_kind(file: &Path, kind: FileType) -> Result<(), ReadError> {
    let what = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(ReadError::NotAFile { file: file.to_owned(), what })
}
