//! Finding and reading the file.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

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
    /// The manifest has mistakes.
    #[error(transparent)]
    Invalid(#[from] Mistakes),
}

/// The manifest at `path`: that file itself, or the `pm3.yml` or `pm3.yaml` of that folder.
///
/// # Errors
///
/// [`ReadError::NotFound`], [`ReadError::Ambiguous`], or [`ReadError::Io`] if nothing is at `path`.
pub fn find(path: &Path) -> Result<PathBuf, ReadError> {
    let about = |source| ReadError::Io { file: path.to_owned(), source };
    if !path.metadata().map_err(about)?.is_dir() {
        return Ok(path.to_owned());
    }
    let there = FILE_NAMES.map(|name| path.join(name)).map(|file| file.is_file().then_some(file));
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
/// [`ReadError::Io`] if the file cannot be read, [`ReadError::Invalid`] with every mistake in it.
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
    let opened = File::open(file).map_err(about)?;
    let mut text = Vec::new();
    opened.take(MAX_BYTES as u64 + 1).read_to_end(&mut text).map_err(about)?;
    Ok(parse(&Source { text: &text, file: shown, folder: &folder }, unsupported)?)
}
