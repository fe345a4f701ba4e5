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
pub(crate) enum OpenedPath {
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
pub(crate) fn open(folder: &Path, name: &[u8]) -> io::Result<OpenedPath> {
    let opened = match open_path(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(root) => open_below(&root, folder, name),
        Err(error) => Err(error),
    };
    match opened {
        Ok(descriptor) => match FileType::from_raw_mode(fstat(&descriptor)?.st_mode) {
            FileType::RegularFile => Ok(OpenedPath::File(File::from(descriptor))),
            FileType::Directory => Ok(OpenedPath::Folder),
            _ => Ok(OpenedPath::Nothing),
        },
        Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO)) => Err(error.into()),
        Err(_) => Ok(OpenedPath::Nothing),
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn without_openat2_the_same_files_are_found_and_no_others() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("root");
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/c"), "c").unwrap();
        fs::write(outer.path().join("secret"), "s").unwrap();
        symlink("b/c", folder.join("a/inside")).unwrap();
        symlink("a/b", folder.join("dir")).unwrap();
        symlink("../../secret", folder.join("a/outside")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        symlink("/etc/passwd", folder.join("absolute")).unwrap();
        let root = open_path(&folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for (name, is_found) in [
            (".", true),
            ("a", true),
            ("a/b/c", true),
            ("a/inside", true),
            ("dir/c", true),
            ("a/outside", false),
            ("up/secret", false),
            ("up", false),
            ("../secret", false),
            ("absolute", false),
            ("/etc/passwd", false),
            ("nothing", false),
        ] {
            assert_eq!(open_by_steps(&root, &folder, Path::new(name)).is_ok(), is_found, "{name}");
            assert_eq!(open_below(&root, &folder, name.as_bytes()).is_ok(), is_found, "{name}");
        }
    }
}
