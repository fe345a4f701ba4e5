//! The state folder: the server's own, and locked for as long as it runs.
//!
//! What is in it is opened relative to the folder's descriptor and never through a link, and its owner
//! is asked of the open file: somebody who could once write there must not lead the server elsewhere.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, File},
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, statat,
    },
    io::Errno,
};
use tracing::warn;

/// The folder for logs, the socket and what is to outlive the server. While the value lives, no
/// other server can open the same folder.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    node_id: String,
    /// Holds the lock; the kernel ends it with the process, however that ends (flock(2)).
    _lock: File,
}

/// The name of the file with the node's id.
const NODE_ID: &str = "node-id";

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    #[error("the state folder {} is {what}; it must be a folder of the server's own user, not reached through a link: move it away, or name another with --state-dir", path.display())]
    Unsafe {
        /// The folder.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// Something in it is not what the server itself would have put there.
    #[error("{} in the state folder is {what}; whoever made it could have the server write or read elsewhere: look at it, and remove it", path.display())]
    Planted {
        /// What was found.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// Root's default folder is below one that is not root's alone.
    #[error("{}, which the state folder of root would be in, is {what}; let root own it alone, or name another state folder with --state-dir", path.display())]
    Parent {
        /// The parent.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
}

impl StateFolder {
    /// Opens the folder, and makes it (0700, with its parents) if it is not there. Its parents may be
    /// reached through links, the folder itself may not, however its path is written. A mode of the
    /// server's own folders that lets others in is mended, with a warning.
    ///
    /// # Errors
    ///
    /// [`StateError`]; nothing is changed but for parents that were made and modes that were mended.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        // A slash at the end would follow a link (path_resolution(7)).
        let path = &path.components().collect::<PathBuf>();
        let io_error = |source| StateError::Io { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(io_error)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(error)),
            _ => {}
        }
        let unsafe_folder = |what| StateError::Unsafe { path: path.to_owned(), what };
        let (folder, mended) =
            own_folder(rustix::fs::CWD, path.as_os_str()).map_err(io_error)?.map_err(unsafe_folder)?;
        say_mended(mended, path);
        // What is derived from it is compared with paths that others found in their own way.
        let path = path.canonicalize().map_err(io_error)?;
        let lock = lock(folder.as_fd(), &path)?;
        let logs = open_logs(folder.as_fd(), &path)?;
        for (folder, path) in [(&folder, &path), (&logs, &path.join("logs"))] {
            find_planted(folder.as_fd(), path)?;
        }
        let node_id = node_id(folder.as_fd(), &path)?;
        Ok(Self { path, node_id, _lock: lock })
    }

    /// The same for the folder that is used where nobody has named one. Where the server is root its
    /// parents must be root's alone as well: who owns one of them decides what is at this path, and
    /// nobody has said that this is meant. The last of them, `pmesh`, is the server's: its mode is mended.
    ///
    /// # Errors
    ///
    /// See [`open`](Self::open), and [`StateError::Parent`].
    pub fn open_default(path: &Path) -> Result<Self, StateError> {
        if rustix::process::geteuid().is_root() {
            check_parents(path)?;
        }
        Self::open(path)
    }

    /// The folder, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells the node from all others, and stays the same from one server on this folder to the next.
    pub fn node_id(&self) -> &str {
        &self.node_id
    }

    /// The folder of the services' logs.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

/// Says that others were let in until now.
fn say_mended(mended: Option<Mode>, path: &Path) {
    if let Some(mode) = mended {
        let (path, mode) = (path.display(), mode.bits());
        warn!(%path, "the folder had mode {mode:04o}, which lets others in; it has 0700 now");
    }
}

/// A descriptor of a folder, and the mode that it had before it was mended.
type OwnFolder = (OwnedFd, Option<Mode>);

/// Opens the folder `name` below `at`, for this user alone; the inner error says what it is instead of
/// a folder of this user.
fn own_folder(at: BorrowedFd<'_>, name: &OsStr) -> io::Result<Result<OwnFolder, String>> {
    // Looked at before it is opened: a descriptor of a path alone waits for nobody and follows nothing.
    let found = openat(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let seen = fstat(&found)?;
    if let Some(what) = odd(&seen, FileType::Directory) {
        return Ok(Err(what));
    }
    let mode = Mode::from_raw_mode(seen.st_mode);
    let mended = mode.intersects(Mode::RWXG | Mode::RWXO).then_some(mode);
    if mended.is_some() || !mode.contains(Mode::RWXU) {
        // The descriptor of a path has no fchmod; its entry in /proc is the file itself (open(2)).
        rustix::fs::chmod(proc_path(&found), Mode::RWXU)?;
    }
    let folder = openat(&found, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Ok((folder, mended)))
}

fn proc_path(descriptor: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(descriptor))
}

/// What a file is instead of one of this user's of `kind`.
fn odd(seen: &Stat, kind: FileType) -> Option<String> {
    let found = FileType::from_raw_mode(seen.st_mode);
    if found == FileType::Symlink {
        Some("a link".to_owned())
    } else if found != kind {
        Some(match kind {
            FileType::Directory => "no folder".to_owned(),
            _ => "no regular file".to_owned(),
        })
    } else if seen.st_uid != rustix::process::geteuid().as_raw() {
        Some(owned_by(seen))
    } else {
        None
    }
}

fn owned_by(seen: &Stat) -> String {
    format!("another user's (user id {})", seen.st_uid)
}

/// Opens, or makes, a file of the server's own that is written anew.
fn own_file(folder: BorrowedFd<'_>, path: &Path, name: &str) -> Result<File, StateError> {
    let path = path.join(name);
    let io_error = |source| StateError::Io { path: path.clone(), source };
    let planted = |what: String| StateError::Planted { path: path.clone(), what };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Not to wait for the other end of a pipe, and not to get a terminal.
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match openat(folder, name, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file,
        // With NOFOLLOW the first is a link (open(2)); the others are a folder, and a socket.
        Err(Errno::LOOP) => return Err(planted("a link".to_owned())),
        Err(Errno::ISDIR | Errno::NXIO) => return Err(planted("no regular file".to_owned())),
        Err(error) => return Err(io_error(error.into())),
    };
    let seen = fstat(&file).map_err(|error| io_error(error.into()))?;
    if let Some(what) = odd(&seen, FileType::RegularFile) {
        return Err(planted(what));
    }
    // It is emptied later: not under another name too.
    if seen.st_nlink > 1 {
        return Err(planted("a file that has another name elsewhere (a hard link)".to_owned()));
    }
    fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(|error| io_error(error.into()))?;
    Ok(File::from(file))
}

fn lock(folder: BorrowedFd<'_>, path: &Path) -> Result<File, StateError> {
    let mut file = own_file(folder, path, "lock")?;
    let io_error = |source| StateError::Io { path: path.join("lock"), source };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            /// More digits than a pid has.
            const MAX_PID_LEN: u64 = 32;
            let mut pid = String::new();
            // The holder writes its pid right behind the lock: an empty file is a moment's.
            file.take(MAX_PID_LEN).read_to_string(&mut pid).map_err(io_error)?;
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            return Err(StateError::Locked { path: path.to_owned(), pid });
        }
        Err(error) => return Err(io_error(error.into())),
    }
    file.set_len(0).map_err(io_error)?;
    writeln!(file, "{}", std::process::id()).map_err(io_error)?;
    Ok(file)
}

/// The id in the folder, or a new one: 32 hexadecimal digits, which no other folder has. Which folder it is of is written
/// behind it: in a copy of the folder, beside which a server may run on the first one, there is a new one.
fn node_id(folder: BorrowedFd<'_>, path: &Path) -> Result<String, StateError> {
    const LEN: usize = 32;
    /// More than there is.
    const MOST: u64 = 128;
    let mut file = own_file(folder, path, NODE_ID)?;
    let io_error = |source| StateError::Io { path: path.join(NODE_ID), source };
    let seen = fstat(folder).map_err(|error| io_error(error.into()))?;
    let this_folder = format!("{}:{}", seen.st_dev, seen.st_ino);
    let mut found = String::new();
    // What cannot be read as text is none, as is what a server left that was killed while it wrote.
    drop((&file).take(MOST).read_to_string(&mut found));
    let id = found.strip_suffix('\n').and_then(|line| line.split_once(' '));
    let is_one = |id: &str| id.len() == LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some((id, _)) = id.filter(|(id, folder)| is_one(id) && *folder == this_folder) {
        return Ok(id.to_owned());
    }
    let mut random = [0; 16];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).map_err(io_error)?;
    let id = format!("{:032x}", u128::from_be_bytes(random));
    file.set_len(0).map_err(io_error)?;
    file.rewind().and_then(|()| writeln!(file, "{id} {this_folder}")).map_err(io_error)?;
    Ok(id)
}

fn open_logs(folder: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, StateError> {
    let path = path.join("logs");
    let io_error = |source| StateError::Io { path: path.clone(), source };
    match mkdirat(folder, "logs", Mode::RWXU) {
        Err(error) if error != Errno::EXIST => return Err(io_error(error.into())),
        _ => {}
    }
    let (logs, mended) = own_folder(folder, OsStr::new("logs"))
        .map_err(io_error)?
        .map_err(|what| StateError::Planted { path: path.clone(), what })?;
    say_mended(mended, &path);
    Ok(logs)
}

/// Looks for what somebody else has left in a folder, and for links where the server has its files.
/// What root has put there is no danger: root needs no trick.
fn find_planted(folder: BorrowedFd<'_>, path: &Path) -> Result<(), StateError> {
    let io_error = |error: Errno| StateError::Io { path: path.to_owned(), source: error.into() };
    let own = [0, rustix::process::geteuid().as_raw()];
    for entry in Dir::read_from(folder).map_err(io_error)? {
        let entry = entry.map_err(io_error)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let seen = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(seen) => seen,
            // Removed meanwhile.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(io_error(error)),
        };
        let is_link = FileType::from_raw_mode(seen.st_mode) == FileType::Symlink;
        let what = if is_link && is_servers(name) {
            "a link".to_owned()
        } else if !own.contains(&seen.st_uid) {
            owned_by(&seen)
        } else {
            continue;
        };
        return Err(StateError::Planted { path: path.join(name), what });
    }
    Ok(())
}

/// Whether the server itself has files of this name: the socket, what was fetched, `x.log` and `x.log.1` with
/// their indexes.
fn is_servers(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let name = name.strip_suffix(b".index").unwrap_or(name);
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let without = if digits > 0 { name[..name.len() - digits].strip_suffix(b".") } else { Some(name) };
    matches!(name, b"api.sock" | b"fetched" | b"fetched.new" | b"node-id")
        || without.is_some_and(|name| name.ends_with(b".log"))
}

/// Checks that only root decides what is at `path`: each parent that is there, as it is written and
/// with its links resolved.
fn check_parents(path: &Path) -> Result<(), StateError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let there = parent.ancestors().find(|parent| parent.exists()).unwrap_or(Path::new("/"));
    let real = there.canonicalize().map_err(|source| StateError::Io { path: there.to_owned(), source })?;
    for parent in parent.ancestors().chain(real.ancestors()) {
        let refuse = |what| Err(StateError::Parent { path: parent.to_owned(), what });
        let seen = match rustix::fs::lstat(parent) {
            Ok(seen) => seen,
            // It will be made, as root's.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(StateError::Io { path: parent.to_owned(), source: error.into() }),
        };
        if seen.st_uid != 0 {
            return refuse(owned_by(&seen));
        }
        let (kind, mode) = (FileType::from_raw_mode(seen.st_mode), Mode::from_raw_mode(seen.st_mode));
        // A link further up was made by root, because the folder that it is in is checked as well. The last of the parents
        // is the server's own, and never a link.
        if kind == FileType::Symlink && Some(parent) == path.parent() {
            return refuse("a link".to_owned());
        }
        // In a folder with the sticky bit each can replace what is his own alone (unlink(2)).
        let others = Mode::WGRP | Mode::WOTH;
        if kind == FileType::Directory && mode.intersects(others) && !mode.contains(Mode::SVTX) {
            if Some(parent) != path.parent() {
                return refuse(format!("writable for others (mode {:04o})", mode.bits()));
            }
            let io_error = |error: Errno| StateError::Io { path: parent.to_owned(), source: error.into() };
            rustix::fs::chmod(parent, mode - others).map_err(io_error)?;
            let (path, mode) = (parent.display(), mode.bits());
            warn!(%path, "the folder had mode {mode:04o}, which lets others write; it does not any more");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
        path::{Path, PathBuf},
    };

    use super::{StateError, StateFolder};

    /// A user that is not this one.
    const STRANGER: Option<u32> = Some(54_321);

    /// A state folder as an earlier run has left it.
    fn used() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("state");
        drop(StateFolder::open(&path).unwrap());
        (folder, path)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Whether files can be given to somebody else here.
    fn is_root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
            eprintln!("skipped: only root can give a file to another user");
        }
        is_root
    }

    /// What was found, if the folder is refused for something in it.
    fn planted(path: &Path) -> Option<(PathBuf, String)> {
        match StateFolder::open(path) {
            Ok(_) => None,
            Err(StateError::Planted { path, what }) => Some((path, what)),
            Err(other) => panic!("{other:?}"),
        }
    }

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
    fn the_id_of_a_node_stays_and_one_that_is_damaged_or_was_copied_is_made_anew() {
        let id = |path: &Path| StateFolder::open(path).unwrap().node_id().to_owned();
        let ((_one, path), (_two, copy)) = (used(), used());
        let first = id(&path);
        assert_eq!((first.len(), id(&path)), (32, first.clone()));
        fs::copy(path.join("node-id"), copy.join("node-id")).unwrap();
        assert_ne!(id(&copy), first);
        let mut ids = BTreeSet::from([first]);
        for damaged in ["", "\n", "x 1:2\n", "\u{0}\u{0}"] {
            fs::write(path.join("node-id"), damaged).unwrap();
            assert!(ids.insert(id(&path)), "{damaged:?}");
        }
    }

    #[test]
    fn the_folder_is_for_its_owner_alone_whatever_it_was_before() {
        let (_folder, path) = used();
        for mode in [0o700, 0o777, 0o755, 0o1777, 0o500] {
            set_mode(&path, mode);
            set_mode(&path.join("logs"), mode);
            set_mode(&path.join("lock"), mode);
            drop(StateFolder::open(&path).unwrap());
            for (name, wanted) in [("", 0o700), ("logs", 0o700), ("lock", 0o600)] {
                let found = fs::metadata(path.join(name)).unwrap().mode() & 0o7777;
                assert_eq!(found, wanted, "{name:?} after {mode:o}");
            }
        }
    }

    #[test]
    fn a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        for way in ["link", "link/", "link/.", "./link//"] {
            let opened = StateFolder::open(&folder.path().join(way));
            assert!(
                matches!(&opened, Err(StateError::Unsafe { what, .. }) if what == "a link"),
                "{way}: {opened:?}"
            );
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

    #[test]
    fn links_where_the_server_has_its_files_are_refused_by_name() {
        let (folder, path) = used();
        let victim = folder.path().join("victim");
        fs::write(&victim, "kept").unwrap();
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        for (name, target) in [
            ("lock", "victim"),
            ("logs", "elsewhere"),
            ("api.sock", "victim"),
            ("fetched", "victim"),
            ("fetched.new", "victim"),
            ("node-id", "victim"),
            ("logs/web.log", "victim"),
            ("logs/web.log.3", "victim"),
            ("logs/new.log", "nothing"),
            ("logs/web.log.3.index", "victim"),
        ] {
            let (link, aside) = (path.join(name), folder.path().join("aside"));
            let was_there = fs::rename(&link, &aside).is_ok();
            symlink(folder.path().join(target), &link).unwrap();
            assert_eq!(planted(&path), Some((link.clone(), "a link".to_owned())), "{name}");
            fs::remove_file(&link).unwrap();
            if was_there {
                fs::rename(&aside, &link).unwrap();
            }
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert!(!folder.path().join("nothing").exists());
        assert_eq!(planted(&path), None);
    }

    #[test]
    fn what_a_stranger_has_left_in_an_open_folder_is_refused_by_name_with_the_remedy() {
        if !is_root() {
            return;
        }
        let (folder, path) = used();
        fs::write(path.join("logs/web.log"), "text").unwrap();
        fs::write(path.join("note"), "text").unwrap();
        for name in ["logs", "lock", "logs/web.log", "note"] {
            set_mode(&path, 0o777);
            chown(path.join(name), STRANGER, None).unwrap();
            let (found, what) = planted(&path).expect("it is refused");
            assert_eq!((found, what.as_str()), (path.join(name), "another user's (user id 54321)"));
            let text = StateFolder::open(&path).unwrap_err().to_string();
            assert!(text.contains("look at it, and remove it"), "{text}");
            chown(path.join(name), Some(0), None).unwrap();
        }
        // A link of a name that the server does not use is its maker's affair, unless that is a stranger.
        symlink(folder.path(), path.join("logs/latest")).unwrap();
        assert_eq!(planted(&path), None);
        lchown(path.join("logs/latest"), STRANGER, None).unwrap();
        assert_eq!(planted(&path).map(|(found, _)| found), Some(path.join("logs/latest")));
        fs::remove_file(path.join("logs/latest")).unwrap();
        chown(&path, STRANGER, None).unwrap();
        let text = StateFolder::open(&path).unwrap_err().to_string();
        assert!(text.contains("is another user's (user id 54321)") && text.contains("--state-dir"), "{text}");
    }

    #[test]
    fn a_lock_that_is_another_file_too_or_no_file_is_refused_and_left_alone() {
        let (folder, path) = used();
        let (victim, lock) = (folder.path().join("victim"), path.join("lock"));
        fs::write(&victim, "kept").unwrap();
        fs::remove_file(&lock).unwrap();
        fs::hard_link(&victim, &lock).unwrap();
        assert!(planted(&path).is_some_and(|(found, what)| found == lock && what.contains("hard link")));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        fs::remove_file(&lock).unwrap();
        // A pipe would have the server wait for its other end.
        rustix::fs::mkfifoat(rustix::fs::CWD, &lock, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(planted(&path), Some((lock.clone(), "no regular file".to_owned())));
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();
        assert_eq!(planted(&path), Some((lock, "no regular file".to_owned())));
    }

    #[test]
    fn roots_default_folder_is_below_folders_of_root_alone() {
        if !is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (home, pmesh) = (root.join("home"), root.join("home/pmesh"));
        let path = pmesh.join("shop");
        let refused = |at: &Path| match StateFolder::open_default(&path) {
            Err(StateError::Parent { path, what }) => path == at && !what.is_empty(),
            other => panic!("{other:?}"),
        };
        drop(StateFolder::open_default(&path).unwrap());
        for at in [&home, &pmesh] {
            chown(at, STRANGER, None).unwrap();
            assert!(refused(at), "{}", at.display());
            chown(at, Some(0), None).unwrap();
        }
        set_mode(&home, 0o777);
        assert!(refused(&home));
        set_mode(&home, 0o755);
        set_mode(&pmesh, 0o777);
        drop(StateFolder::open_default(&path).unwrap());
        assert_eq!(fs::metadata(&pmesh).unwrap().mode() & 0o777, 0o755, "the server's own is mended");
        fs::rename(&pmesh, root.join("real")).unwrap();
        symlink(root.join("real"), &pmesh).unwrap();
        assert!(refused(&pmesh));
        // Whoever names a folder has decided where it is.
        StateFolder::open(&path).unwrap();
    }
}
