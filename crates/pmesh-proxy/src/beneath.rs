//! Opening what is inside a folder, and nothing that is outside, whatever links it holds.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Component, Path},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open as open_path, openat, openat2},
    io::Errno,
};

/// What a name stands for.
#[derive(Debug)]
pub(crate) enum Opened {
    File(File),
    Folder,
    /// Nothing, nothing that may be read, or neither file nor folder.
    Nothing,
}

/// Tries of a look-up that a rename beside it disturbs (openat2(2), EAGAIN).
const TRIES: usize = 8;

/// Opens `name` below `folder`; an empty name is the folder itself. Links are followed as long as they
/// stay inside; absolute ones never do. Blocks on the disk.
///
/// # Errors
///
/// Those of the system that say nothing about the file: no descriptor or no memory left.
pub(crate) fn open(folder: &Path, name: &[u8]) -> io::Result<Opened> {
    let opened = match open_path(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(root) => open_below(&root, folder, name),
        Err(error) => Err(error),
    };
    match opened {
        Ok(descriptor) => match FileType::from_raw_mode(fstat(&descriptor)?.st_mode) {
            FileType::RegularFile => Ok(Opened::File(File::from(descriptor))),
            FileType::Directory => Ok(Opened::Folder),
            _ => Ok(Opened::Nothing),
        },
        Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO)) => Err(error.into()),
        Err(_) => Ok(Opened::Nothing),
    }
}

/// Not to wait for the other end of a pipe, and not to get a terminal.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn open_below(root: &OwnedFd, folder: &Path, name: &[u8]) -> Result<OwnedFd, Errno> {
    let name = if name.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(name) };
    for _ in 0..TRIES {
        match openat2(root, name, FLAGS, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::AGAIN) => {}
            // Forbidden by a filter of system calls that is older than the call (some containers).
            Err(Errno::NOSYS | Errno::PERM) => return open_by_steps(root, folder, Path::new(name)),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Finds out where the links lead, and goes there without following any.
fn open_by_steps(root: &OwnedFd, folder: &Path, name: &Path) -> Result<OwnedFd, Errno> {
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::NOENT);
    let folder = folder.canonicalize().map_err(errno)?;
    let target = folder.join(name).canonicalize().map_err(errno)?;
    let inside = target.strip_prefix(&folder).map_err(|_| Errno::XDEV)?;
    let mut at = openat(root, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut steps = inside.components().peekable();
    if steps.peek().is_none() {
        return openat(&at, ".", FLAGS, Mode::empty());
    }
    while let Some(step) = steps.next() {
        let Component::Normal(step) = step else { return Err(Errno::XDEV) };
        let flags =
            if steps.peek().is_some() { OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC } else { FLAGS };
        at = openat(&at, step, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(at)
}
