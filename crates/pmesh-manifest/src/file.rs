//! Finding and reading the file.

use std::{
    fs::{File, FileType},
    io::{self, Read},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open, openat};

use crate::{Manifest, ManifestText, Mistakes, Unsupported, parse, place::MAX_BYTES};

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
    /// It is a link that leads out of the project. Whoever may write there would have the server read and quote what
    /// only the server may read.
    #[error(
        "{} is a link to {}, which is not in {}; put the manifest itself there", file.display(), target.display(),
        top.display()
    )]
    Outside {
        /// The manifest.
        file: PathBuf,
        /// Where the link leads.
        target: PathBuf,
        /// The folder that it must not leave.
        top: PathBuf,
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
/// The file may be a link within its project: the repository that it is in, or where it is in none, or in one that
/// another user has, its folder.
///
/// # Errors
///
/// [`ReadError::Io`] if the file cannot be read, [`ReadError::NotAFile`] if it is none,
/// [`ReadError::Outside`] if it is a link that leads out of the project, and [`ReadError::Invalid`] with every
/// mistake in it.
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
    let target = file.canonicalize().map_err(about)?;
    check_kind(file, target.metadata().map_err(about)?.file_type())?;
    let top = top_of_project(&folder);
    if !target.starts_with(top) {
        return Err(ReadError::Outside { file: file.to_owned(), target, top: top.to_owned() });
    }
    let opened = open_without_links(&target).map_err(about)?;
    // Asked of the open file, so that what is checked is what is read.
    check_kind(file, opened.metadata().map_err(about)?.file_type())?;
    let mut text = Vec::new();
    opened.take(MAX_BYTES as u64 + 1).read_to_end(&mut text).map_err(about)?;
    Ok(parse(&ManifestText { text: &text, file: shown, folder: &folder }, unsupported)?)
}

/// The folder that a manifest in `folder` must not leave.
///
/// That of the nearest repository. One of another user is a stranger's: a manifest of theirs must not reach all
/// of `/` because root keeps that in git.
fn top_of_project(folder: &Path) -> &Path {
    let owner = |path: &Path| path.symlink_metadata().map(|metadata| metadata.uid());
    let is_ours = |top: &&Path| match (owner(folder), owner(top), owner(&top.join(".git"))) {
        (Ok(folder), Ok(top), Ok(git)) => folder == top && folder == git,
        _ => false,
    };
    let repository = folder.ancestors().find(|top| top.join(".git").symlink_metadata().is_ok());
    repository.filter(is_ours).unwrap_or(folder)
}

/// Opens the file at an absolute path in which there are no links: one that has come to be there since is not
/// followed. Does not wait for the other end of a pipe.
fn open_without_links(file: &Path) -> io::Result<File> {
    let name = file.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = open("/", step, Mode::empty())?;
    for component in file.parent().into_iter().flat_map(Path::components) {
        if let Component::Normal(name) = component {
            folder = openat(&folder, name, step, Mode::empty())?;
        }
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat(&folder, name, flags, Mode::empty())?.into())
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
