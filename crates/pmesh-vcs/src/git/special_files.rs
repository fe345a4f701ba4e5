//! Pipes and devices where git has files: whoever opens one may wait for ever (fifo(7)), so they are looked for before gix or
//! git read. Sockets cannot be opened at all, and git itself makes one (git-fsmonitor--daemon(1)).

use crate::VcsError;
use std::{
    fs::{self, DirEntry, FileType, Metadata},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// The number of `/dev/null`, at whose end every read is at once: some use it as an empty file.
const NULL: (u32, u32) = (1, 3);

/// How many entries of folders are looked at. What comes after them is left to the limits of time.
const ENTRY_LIMIT: usize = 200_000;

/// What a path is where reading it could block; none for a file and a folder.
pub(super) fn kind(metadata: &Metadata) -> Option<&'static str> {
    let device = metadata.rdev();
    let is_null = (rustix::fs::major(device), rustix::fs::minor(device)) == NULL;
    kind_of(metadata.file_type()).filter(|_| !(metadata.file_type().is_char_device() && is_null))
}

fn kind_of(kind: FileType) -> Option<&'static str> {
    if kind.is_fifo() {
        Some("a pipe")
    } else if kind.is_char_device() || kind.is_block_device() {
        Some("a device")
    } else {
        None
    }
}

/// Looks at an object's own file, if it has one in these folders.
///
/// # Errors
///
/// [`VcsError::NotAFile`].
pub(super) fn look_at_object(root: &Path, objects: &[PathBuf], id: &gix::oid) -> Result<(), VcsError> {
    let name = id.to_string();
    let (folder, file) = name.split_at(2);
    objects.iter().try_for_each(|objects| check(root, &objects.join(folder).join(file)))
}

/// Looks at packs and what is beside them.
///
/// # Errors
///
/// [`VcsError::NotAFile`].
pub(super) fn look_at_packs(root: &Path, objects: &Path) -> Result<(), VcsError> {
    let mut looking = FileLook::new(root, &|| true);
    ["pack", "info", "info/commit-graphs"].iter().try_for_each(|part| looking.folder(&objects.join(part)))
}

/// Looks at one path; what is not there, or cannot be looked at, is said by whoever reads it.
fn check(root: &Path, path: &Path) -> Result<(), VcsError> {
    match fs::metadata(path).ok().and_then(|metadata| kind(&metadata)) {
        Some(kind) => Err(VcsError::NotAFile { root: root.to_owned(), path: path.to_owned(), kind }),
        None => Ok(()),
    }
}

/// One look at many files.
pub(super) struct FileLook<'a> {
    root: &'a Path,
    is_wanted: &'a dyn Fn() -> bool,
    left: usize,
}

impl<'a> FileLook<'a> {
    /// A look at files of the repository at `root` that goes on for as long as it `is_wanted`.
    pub(super) fn new(root: &'a Path, is_wanted: &'a dyn Fn() -> bool) -> Self {
        Self { root, is_wanted, left: ENTRY_LIMIT }
    }

    /// One file.
    pub(super) fn file(&self, path: &Path) -> Result<(), VcsError> {
        check(self.root, path)
    }

    /// The entries of a folder, but not those of its folders.
    pub(super) fn folder(&mut self, folder: &Path) -> Result<(), VcsError> {
        self.entries(folder, |_| ())
    }

    /// A folder and those below it.
    pub(super) fn tree(&mut self, folder: &Path) -> Result<(), VcsError> {
        let mut to_visit = vec![folder.to_owned()];
        while let Some(folder) = to_visit.pop() {
            self.entries(&folder, |entry| {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    to_visit.push(entry.path());
                }
            })?;
        }
        Ok(())
    }

    fn entries(&mut self, folder: &Path, mut visit: impl FnMut(&DirEntry)) -> Result<(), VcsError> {
        // That there is no such folder is no mistake.
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        for entry in entries.flatten() {
            if self.left == 0 || !(self.is_wanted)() {
                return Ok(());
            }
            self.left -= 1;
            // On most file systems the kind is in the folder already, and the entry itself is not looked at.
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_symlink() || kind_of(kind).is_some() {
                self.file(&entry.path())?;
            }
            visit(&entry);
        }
        Ok(())
    }
}
