//! The state folder: the server's own, and locked for as long as it runs.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags};

/// The folder for logs, the socket and what is to outlive the server. While the value lives, no
/// other server can open the same folder.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// Holds the lock; the kernel ends it with the process, however that ends (flock(2)).
    _lock: File,
}

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made, opened or written.
    #[error("cannot use the state folder {}; name another with --state-dir", path.display())]
    Io {
        /// The folder or a file in it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A server runs on it.
    #[error("a server with pid {pid} runs on the state folder {}; stop it, or name another folder with --state-dir", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// That server, as far as it is known.
        pid: String,
    },
    /// It is a link, or belongs to somebody else.
    #[error("the state folder {} is {what}; it must be a folder of the server's own user, not reached through a link", path.display())]
    Unsafe {
        /// The folder.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
}

impl StateFolder {
    /// Opens the folder, and makes it (0700, with its parents) if it is not there. Its parents may be
    /// reached through links, the folder itself may not, however its path is written.
    ///
    /// # Errors
    ///
    /// [`StateError`]; nothing is changed but for parents that were made.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        // A slash at the end would follow a link (path_resolution(7)).
        let path = &path.components().collect::<PathBuf>();
        let io_error = |source| StateError::Io { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io_error)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(error)),
            _ => {}
        }
        let metadata = fs::symlink_metadata(path).map_err(io_error)?;
        let refuse = |what| Err(StateError::Unsafe { path: path.to_owned(), what });
        if metadata.is_symlink() {
            return refuse("a link");
        }
        if !metadata.is_dir() {
            return refuse("no folder");
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return refuse("another user's");
        }
        if metadata.mode() & 0o077 != 0 {
            let mut permissions = metadata.permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o700);
            fs::set_permissions(path, permissions).map_err(io_error)?;
        }
        // What is derived from it is compared with paths that others found in their own way.
        let path = &path.canonicalize().map_err(io_error)?;
        let lock = Self::lock(path)?;
        let logs = path.join("logs");
        match DirBuilder::new().mode(0o700).create(&logs) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StateError::Io { path: logs, source });
            }
            _ => {}
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    fn lock(folder: &Path) -> Result<File, StateError> {
        let path = folder.join("lock");
        let io_error = |source| StateError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).expect("open's flags are ints"))
            .open(&path)
            .map_err(io_error)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // The holder writes its pid right behind the lock: an empty file is a moment's.
                file.read_to_string(&mut pid).map_err(io_error)?;
                let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
                return Err(StateError::Locked { path: folder.to_owned(), pid });
            }
            Err(error) => return Err(io_error(error.into())),
        }
        file.set_len(0).map_err(io_error)?;
        writeln!(file, "{}", std::process::id()).map_err(io_error)?;
        Ok(file)
    }

    /// The folder, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the services' logs.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
    };

    use super::{StateError, StateFolder};

    #[test]
    fn a_second_server_is_refused_and_told_the_pid_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = StateFolder::open(&path).unwrap();
        match StateFolder::open(&path) {
            Err(StateError::Locked { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        drop(first);
        StateFolder::open(&path).unwrap();
    }

    #[test]
    fn the_folder_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        drop(StateFolder::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        for way in ["link", "link/", "link/.", "./link//"] {
            let opened = StateFolder::open(&folder.path().join(way));
            assert!(matches!(opened, Err(StateError::Unsafe { what: "a link", .. })), "{way}: {opened:?}");
        }
    }

    #[test]
    fn its_path_is_absolute_and_without_links_whatever_way_it_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        let expected = real.canonicalize().unwrap().join("state");
        for way in ["link/state", "real/../real/state", "real/state/"] {
            let state = StateFolder::open(&folder.path().join(way)).unwrap();
            assert_eq!((state.path(), state.logs()), (&*expected, expected.join("logs")), "{way}");
        }
    }
}
