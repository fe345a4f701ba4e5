//! The files of one log in its folder: opened safely, and moved on when the log is full.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, renameat, statat,
        unlinkat,
    },
    io::Errno,
};
use tracing::warn;

use super::index_file::IndexFile;

/// Logs are not for everybody.
pub(super) const FOLDER_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP);

/// The names of a log: `x.log`, the older `x.log.1`, `x.log.2`…, and beside each its index, `x.log.index`,
/// `x.log.1.index`…
#[derive(Debug)]
pub(super) struct LogFiles {
    /// Absolute and without links.
    folder: PathBuf,
    name: OsString,
    /// How many logs are kept, the one that is written among them.
    keep: u32,
}

impl LogFiles {
    /// Those of the log `name` in `folder`, which is absolute and without links.
    pub(super) fn new(folder: PathBuf, name: OsString, keep: u32) -> Self {
        Self { folder, name, keep }
    }

    /// Opens or creates the log. It must be a regular file of this user, with this one name: somebody else
    /// may have put anything else there to have it overwritten.
    pub(super) fn open(&self) -> io::Result<(File, Option<IndexFile>)> {
        let folder = self.open_or_make_folder()?;
        let mut file = self.open_in(&folder, &self.name, OFlags::APPEND)?;
        if file.metadata()?.nlink() != 1 {
            // The file has a second name: a backup made of hard links, or a file elsewhere that somebody has
            // linked here. It must not change, so it is rotated like an older log.
            self.move_on_in(&folder)?;
            file = self.open_in(&folder, &self.name, OFlags::APPEND)?;
        }
        let index = self.open_index(&folder, &file).inspect_err(|error| {
            let path = self.folder.join(index_of(&self.name));
            warn!(%error, path = %path.display(), "a log is written without its index: the times of its lines are lost");
        });
        Ok((file, index.ok()))
    }

    /// A folder that was moved away or removed is made again, but for those that it was in: where these are gone, it is not
    /// known what else is.
    fn open_or_make_folder(&self) -> io::Result<OwnedFd> {
        match open_folder(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match mkdirat(CWD, &self.folder, FOLDER_MODE) {
                    Ok(()) | Err(Errno::EXIST) => open_folder(&self.folder),
                    // Its parent is gone.
                    Err(_) => Err(error),
                }
            }
            opened => opened,
        }
    }

    fn open_index(&self, folder: &OwnedFd, log: &File) -> io::Result<IndexFile> {
        let name = index_of(&self.name);
        let mut file = self.open_in(folder, &name, OFlags::empty())?;
        if file.metadata()?.nlink() != 1 {
            unlinkat(folder, &name, AtFlags::empty())?;
            file = self.open_in(folder, &name, OFlags::empty())?;
        }
        IndexFile::of_log(file, log.metadata()?.len())
    }

    fn open_in(&self, folder: &OwnedFd, name: &OsStr, more: OFlags) -> io::Result<File> {
        let path = || self.folder.join(name);
        let odd = |what: String| io::Error::other(format!("{} {what}", path().display()));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        // Neither wait for the other end of a pipe, nor get a controlling terminal.
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
        // 0640: an app's output can hold what only its operators may see.
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        let file = match openat(folder, name, flags, mode) {
            Ok(file) => File::from(file),
            // NOFOLLOW gives ELOOP for the last part of the path (open(2)).
            Err(Errno::LOOP) => return Err(odd("is a link; remove it".to_owned())),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(odd("is no regular file; remove it".to_owned()));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(odd(format!("belongs to another user (user id {}); remove it", metadata.uid())));
        }
        let mode = Mode::from_raw_mode(metadata.mode());
        let others = Mode::WGRP | Mode::WOTH;
        if mode.intersects(others) {
            fchmod(&file, mode - others)?;
            warn!(path = %path().display(), "others could write to this log; they cannot any more");
        }
        Ok(file)
    }

    /// Whether the names of the log and its index lead to these files still.
    pub(super) fn lead_to(&self, log: (u64, u64), index: Option<(u64, u64)>) -> bool {
        let leads_to = |name: &OsStr, identity| {
            let found = statat(CWD, self.folder.join(name), AtFlags::SYMLINK_NOFOLLOW);
            found.is_ok_and(|found| (found.st_dev, found.st_ino) == identity)
        };
        leads_to(&self.name, log) && index.is_none_or(|index| leads_to(&index_of(&self.name), index))
    }

    /// Renames `x.log` to `x.log.1` and so on, each with its index, and removes the oldest.
    pub(super) fn move_on(&self) -> io::Result<()> {
        self.move_on_in(&open_folder(&self.folder)?)
    }

    fn move_on_in(&self, folder: &OwnedFd) -> io::Result<()> {
        let last = self.keep.saturating_sub(1);
        if last == 0 {
            unless_gone(unlinkat(folder, index_of(&self.name), AtFlags::empty()))?;
            unlinkat(folder, &self.name, AtFlags::empty())?;
        }
        for number in (1..last).rev() {
            move_log(folder, &self.older(number), &self.older(number + 1))?;
        }
        if last > 0 {
            move_log(folder, &self.name, &self.older(1))?;
        }
        Ok(())
    }

    fn older(&self, number: u32) -> OsString {
        let mut name = self.name.clone();
        name.push(format!(".{number}"));
        name
    }
}

/// The name of a log's index.
pub(super) fn index_of(log: &OsStr) -> OsString {
    let mut name = log.to_owned();
    name.push(".index");
    name
}

/// Renames a log and its index. Somebody may have moved one of them before us; that is no reason to stop.
///
/// The index goes first: where the server ends between the two, a log has no times, and never those of another one.
fn move_log(folder: &OwnedFd, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match renameat(folder, index_of(from), folder, index_of(to)) {
        Err(Errno::NOENT) => unless_gone(unlinkat(folder, index_of(to), AtFlags::empty()))?,
        renamed => renamed?,
    }
    Ok(unless_gone(renameat(folder, from, folder, to))?)
}

fn unless_gone(done: Result<(), Errno>) -> Result<(), Errno> {
    if done == Err(Errno::NOENT) { Ok(()) } else { done }
}

/// Opens a folder by a path that had no links when it was resolved, and must not have any now.
pub(super) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // The call is forbidden by a system call filter that is older than it (some containers).
        Err(Errno::NOSYS | Errno::PERM) => Ok(openat(CWD, path, flags, Mode::empty())?),
        opened => Ok(opened?),
    }
}
