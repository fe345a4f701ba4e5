//! Whether a build has changed anything in its service's folder outside of its own product. Seen by the times
//! of the last change that the kernel records (ctime), because no program can set them.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use super::own::Own;

/// How many files are looked at. In a folder with more, every build counts as one that has changed something.
const MOST: usize = 2_000_000;

/// How often, and with what pause between, the clock of the file system is read until it has moved on: the
/// kernel moves it in steps of at most 10 ms.
const LOOKS: u32 = 25;
const PAUSE: Duration = Duration::from_millis(1);

/// A moment by the clock of a file system: seconds and nanoseconds.
type Changed = (i64, i64);

fn changed(metadata: &Metadata) -> Changed {
    (metadata.ctime(), metadata.ctime_nsec())
}

/// The state of a service's folder before a build.
#[derive(Debug)]
pub(super) struct FolderBefore {
    own: Own,
    /// Every later change has this time or a later one.
    since: Changed,
    /// The names at the top of the folder: a removed file leaves no other trace, because the folder's own
    /// time is not compared.
    names: BTreeSet<OsString>,
}

impl FolderBefore {
    /// Looks at the folder. `file` is a file in the same file system whose times may be changed. Afterwards
    /// earlier changes have an earlier time than later ones, unless the file system counts in steps of more
    /// than some milliseconds. Blocks for one such step.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn of(own: Own, file: &File) -> io::Result<Self> {
        let names = names(&own)?;
        let tick = || {
            file.set_modified(SystemTime::now())?;
            Ok::<_, io::Error>(changed(&file.metadata()?))
        };
        let first = tick()?;
        let mut since = first;
        for _ in 0..LOOKS {
            since = tick()?;
            if since > first {
                break;
            }
            thread::sleep(PAUSE);
        }
        Ok(Self { own, since, names })
    }

    /// The folder.
    pub(super) fn root(&self) -> &Path {
        self.own.root()
    }

    /// Whether anything in the folder was changed since. Stops at the first change. A folder that cannot be
    /// read counts by its own time.
    pub(super) fn has_changed(&self) -> bool {
        match names(&self.own) {
            Ok(now) if self.names.is_subset(&now) => {}
            // Something is gone, or the folder cannot be read: then it counts as changed.
            _ => return true,
        }
        let mut folders = vec![self.own.root().to_owned()];
        let mut left = MOST;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if self.own.has(&path) {
                    continue;
                }
                // Removed during the walk, by somebody else.
                let Ok(metadata) = entry.metadata() else { continue };
                if changed(&metadata) >= self.since || left == 0 {
                    return true;
                }
                left -= 1;
                if metadata.is_dir() {
                    folders.push(path);
                }
            }
        }
        false
    }
}

fn names(own: &Own) -> io::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(own.root())? {
        let entry = entry?;
        if !own.has(&entry.path()) {
            names.insert(entry.file_name());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_right_before_is_no_trace_and_what_is_changed_right_after_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let clock = File::create(folder.path().join(".build-clock")).unwrap();
        let file = folder.path().join("file");
        for _ in 0..50 {
            fs::write(&file, "before").unwrap();
            let before =
                FolderBefore::of(Own::new(folder.path(), Path::new("/logs/web.log"), None), &clock).unwrap();
            assert!(!before.has_changed());
            fs::write(&file, "after").unwrap();
            assert!(before.has_changed());
        }
    }

    #[test]
    fn a_big_tree_is_looked_through_and_the_one_change_in_it_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for package in 0..100 {
            let package = folder.path().join(format!("node_modules/{package}/lib"));
            fs::create_dir_all(&package).unwrap();
            for file in 0..20 {
                fs::write(package.join(file.to_string()), "").unwrap();
            }
        }
        let clock = File::create(folder.path().join(".build-clock")).unwrap();
        let before =
            FolderBefore::of(Own::new(folder.path(), Path::new("/logs/web.log"), None), &clock).unwrap();
        assert!(!before.has_changed());
        fs::write(folder.path().join("node_modules/57/lib/13"), "x").unwrap();
        assert!(before.has_changed());
    }
}
