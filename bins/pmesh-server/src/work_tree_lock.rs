//! One server moves a work tree: the second one on it is refused, also where its state folder is another.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, fchown, flock, open},
    io::Errno,
    process::{Gid, Uid, geteuid},
};

/// The lock's name in the git directory. Not `….lock`: that is how git names its own.
const NAME: &str = "pmesh-server";

/// Why a work tree is not this server's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkTreeError {
    #[error(
        "a server with pid {pid} updates the work tree {} already; stop it, or write `repo: {{update: false}}` into this manifest",
        root.display()
    )]
    Remnant { root: PathBuf, pid: String },
    #[error("cannot lock the work tree with {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not a file of this server's user, of root or of the git directory's owner; look at it, and remove it", .0.display())]
    Planted(PathBuf),
}

/// Takes the work tree `root` for as long as the file is open: by a lock in its git directory, or, where that cannot
/// be written, by the file `elsewhere`. The kernel ends it with the process (flock(2)). Without a git directory
/// there is nothing to take.
///
/// # Errors
///
/// [`WorkTreeError`].
pub(crate) fn lock(root: &Path, elsewhere: &Path) -> Result<Option<File>, WorkTreeError> {
    let Some((folder, owner)) = git_directory(root) else { return Ok(None) };
    let path = folder.join(NAME);
    match take(root, &path, Some(owner)) {
        Err(WorkTreeError::Io { source, .. }) if is_unwritable(&source) => {
            if let Some(parent) = elsewhere.parent() {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
                made.map_err(|source| WorkTreeError::Io { path: parent.to_owned(), source })?;
            }
            take(root, elsewhere, None).map(Some)
        }
        taken => taken.map(Some),
    }
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The git directory of this very work tree (gitrepository-layout(5)), with its owner.
fn git_directory(root: &Path) -> Option<(PathBuf, (u32, u32))> {
    /// More than a path has.
    const LONGEST: u64 = 8 << 10;
    let dot_git = root.join(".git");
    let kind = fs::symlink_metadata(&dot_git).ok()?;
    let folder = if kind.is_file() {
        let mut text = String::new();
        File::open(&dot_git).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
        root.join(text.strip_prefix("gitdir: ")?.trim_end_matches(['\n', '\r']))
    } else {
        dot_git
    };
    let metadata = fs::metadata(&folder).ok().filter(fs::Metadata::is_dir)?;
    Some((folder, (metadata.uid(), metadata.gid())))
}

/// Locks the file at `path`, which is made for `owner` where the server is root.
fn take(root: &Path, path: &Path, owner: Option<(u32, u32)>) -> Result<File, WorkTreeError> {
    let io_error = |source| WorkTreeError::Io { path: path.to_owned(), source };
    // Never through a link, and without waiting for the other end of a pipe.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(path, flags | OFlags::NOCTTY, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(WorkTreeError::Planted(path.to_owned())),
        Err(error) => return Err(io_error(error.into())),
    };
    let seen = file.metadata().map_err(io_error)?;
    let user = geteuid();
    let known = [0, user.as_raw(), owner.map_or(0, |(uid, _)| uid)];
    if !seen.is_file() || seen.nlink() > 1 || !known.contains(&seen.uid()) {
        return Err(WorkTreeError::Planted(path.to_owned()));
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            /// More digits than a pid has.
            const MAX_PID_LEN: u64 = 32;
            let mut pid = String::new();
            (&file).take(MAX_PID_LEN).read_to_string(&mut pid).map_err(io_error)?;
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            return Err(WorkTreeError::Remnant { root: root.to_owned(), pid });
        }
        Err(error) => return Err(io_error(error.into())),
    }
    if let (true, Some((uid, gid))) = (user.is_root(), owner) {
        // What root leaves in somebody's repository is that user's, or it would be in the way of a server of theirs.
        fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|error| io_error(error.into()))?;
    }
    file.set_len(0).map_err(io_error)?;
    writeln!(&file, "{}", std::process::id()).map_err(io_error)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work_tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        folder
    }

    #[test]
    fn a_second_lock_is_told_the_pid_of_the_first_until_that_ends() {
        let folder = work_tree();
        let elsewhere = folder.path().join("elsewhere");
        let held = lock(folder.path(), &elsewhere).unwrap().unwrap();
        let refused = lock(folder.path(), &elsewhere).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        assert!(refused.contains("repo: {update: false}") && !elsewhere.exists(), "{refused}");
        drop(held);
        assert!(lock(folder.path(), &elsewhere).unwrap().is_some());
    }

    #[test]
    fn each_linked_work_tree_has_a_lock_of_its_own() {
        let folder = work_tree();
        let linked = tempfile::tempdir().unwrap();
        let inner = folder.path().join(".git/worktrees/x");
        fs::create_dir_all(&inner).unwrap();
        fs::write(linked.path().join(".git"), format!("gitdir: {}\n", inner.display())).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        let _first = lock(folder.path(), &elsewhere).unwrap().unwrap();
        let _second = lock(linked.path(), &elsewhere).unwrap().unwrap();
        assert!(inner.join(NAME).exists());
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_refused_and_what_it_leads_to_stays() {
        let folder = work_tree();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join(".git").join(NAME)).unwrap();
        let refused = lock(folder.path(), &folder.path().join("elsewhere")).unwrap_err();
        assert!(matches!(refused, WorkTreeError::Planted(_)), "{refused}");
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }

    #[test]
    fn where_the_git_directory_is_no_folder_there_is_nothing_to_lock() {
        let folder = tempfile::tempdir().unwrap();
        assert!(lock(folder.path(), &folder.path().join("elsewhere")).unwrap().is_none());
    }

    /// A work tree whose git directory cannot be written by whoever runs this. Root may write what is read-only by its mode, but
    /// not to a file system that is.
    struct Unwritable(tempfile::TempDir);

    impl Unwritable {
        fn new() -> Self {
            let tree = Self(work_tree());
            if geteuid().is_root() {
                tree.run("mount -t tmpfs -o ro,size=64k none .git");
            } else {
                tree.run("chmod 555 .git");
            }
            tree
        }

        fn run(&self, line: &str) {
            let status =
                std::process::Command::new("sh").args(["-ec", line]).current_dir(self.0.path()).status();
            assert!(status.unwrap().success(), "{line}");
        }
    }

    impl Drop for Unwritable {
        fn drop(&mut self) {
            if geteuid().is_root() {
                self.run("umount -l .git");
            }
        }
    }

    #[test]
    fn where_the_git_directory_cannot_be_written_the_file_elsewhere_is_the_lock() {
        let tree = Unwritable::new();
        let state = tempfile::tempdir().unwrap();
        let elsewhere = state.path().join("pmesh/work-tree-1");
        let held = lock(tree.0.path(), &elsewhere).unwrap().unwrap();
        assert!(!tree.0.path().join(".git").join(NAME).exists());
        let mode = fs::metadata(state.path().join("pmesh")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "nobody else puts a file there");
        let pid = std::process::id().to_string();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), format!("{pid}\n"));
        let refused = lock(tree.0.path(), &elsewhere).unwrap_err();
        assert!(matches!(&refused, WorkTreeError::Remnant { pid: named, .. } if *named == pid), "{refused}");
        drop(held);
        assert!(lock(tree.0.path(), &elsewhere).unwrap().is_some());
    }

    #[test]
    fn only_what_cannot_be_written_is_locked_elsewhere() {
        for (errno, elsewhere) in
            [(Errno::ACCESS, true), (Errno::PERM, true), (Errno::ROFS, true), (Errno::NOSPC, false)]
        {
            assert_eq!(is_unwritable(&errno.into()), elsewhere, "{errno}");
        }
    }
}
