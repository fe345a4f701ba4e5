//! One log file on the disk: appending, rotation, a file that was moved away, a disk that refuses to write.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, openat, openat2, renameat, unlinkat},
    io::Errno,
};
use tracing::warn;

use super::limits::LogLimits;

/// How long no write is tried after the disk refused one, and how often the name is checked to lead to the
/// open file still.
const SECOND: Duration = Duration::from_secs(1);

/// What was dropped, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) bytes: u64,
    pub(super) lines: u64,
    reason: String,
}

impl Loss {
    pub(super) fn add(&mut self, bytes: &[u8], reason: &str) {
        self.bytes += bytes.len() as u64;
        self.lines += bytes.split(|&byte| byte == b'\n').count() as u64 - 1;
        if self.reason != reason {
            reason.clone_into(&mut self.reason);
        }
    }

    fn join(&mut self, other: Self) {
        if other.bytes > 0 {
            self.bytes += other.bytes;
            self.lines += other.lines;
            self.reason = other.reason;
        }
    }
}

/// A log's file. Blocks; all calls come from one thread.
#[derive(Debug)]
pub(super) struct LogFile {
    /// Absolute and without links.
    folder: PathBuf,
    name: OsString,
    limits: LogLimits,
    open: Option<Open>,
    lost: Loss,
    /// When to try again after the disk refused.
    try_again: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    /// Device and inode.
    identity: (u64, u64),
    /// When the name was last seen to lead to this file.
    checked: Instant,
    /// The output whose line is not ended; [`UNKNOWN`] if an earlier process of the server wrote it.
    unended: Option<u64>,
}

const UNKNOWN: u64 = u64::MAX;

/// A write that failed, and how many bytes had been written before.
struct Failed {
    error: io::Error,
    written: usize,
}

impl LogFile {
    /// The log `name` in `folder`, which is absolute and without links.
    pub(super) fn new(folder: PathBuf, name: OsString, limits: LogLimits) -> Self {
        Self { folder, name, limits, open: None, lost: Loss::default(), try_again: None }
    }

    /// Appends bytes of an output, after a note of what was lost before them. What cannot be written is
    /// dropped and counted. Answers whether a note is still owed.
    pub(super) fn write(&mut self, stream: u64, bytes: &[u8], lost: Loss, now: Instant) -> bool {
        self.lost.join(lost);
        if self.try_again.is_some_and(|at| now < at) {
            let reason = self.lost.reason.clone();
            self.lost.add(bytes, &reason);
            return true;
        }
        match self.try_write(stream, bytes, now) {
            Ok(()) => self.try_again = None,
            Err(Failed { error, written }) => {
                self.lost.add(&bytes[written..], &error.to_string());
                self.try_again = Some(now + SECOND);
                // Whatever is wrong with this file, the next try opens it anew.
                self.open = None;
            }
        }
        self.lost.bytes > 0
    }

    fn try_write(&mut self, stream: u64, bytes: &[u8], now: Instant) -> Result<(), Failed> {
        let nothing = |error| Failed { error, written: 0 };
        if bytes.is_empty() && self.lost.bytes == 0 {
            return Ok(());
        }
        self.open(now).map_err(nothing)?;
        self.write_note().map_err(nothing)?;
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let failed = |error| Failed { error, written };
            let open = self.open.as_mut().expect("opened above, and again by each rotation");
            if open.unended.is_some_and(|other| other != stream) {
                open.append(b"\n").map_err(|(error, _)| failed(error))?;
                open.unended = None;
            }
            let room = usize::try_from(self.limits.bytes.saturating_sub(open.size)).unwrap_or(usize::MAX);
            let Some(end) = part(rest, room, open.unended.is_some() || open.size == 0) else {
                self.rotate(now).map_err(failed)?;
                continue;
            };
            open.append(&rest[..end]).map_err(|(error, some)| Failed { error, written: written + some })?;
            open.unended = (rest[end - 1] != b'\n').then_some(stream);
            written += end;
        }
        Ok(())
    }

    /// Continues in a file that a test has opened, such as a device that refuses to write.
    #[cfg(test)]
    pub(super) fn open_as(&mut self, file: File, now: Instant) {
        let identity = identity(&file.metadata().expect("a test's file is open"));
        self.open = Some(Open { file, size: 0, identity, checked: now, unended: None });
    }

    /// Opens the file, if none is open or the name leads to another file by now.
    fn open(&mut self, now: Instant) -> io::Result<()> {
        if let Some(open) = &mut self.open
            && now.duration_since(open.checked) >= SECOND
        {
            open.checked = now;
            let found = fs::symlink_metadata(self.folder.join(&self.name));
            let same = found.is_ok_and(|found| identity(&found) == open.identity);
            if !same {
                self.open = None;
            }
        }
        if self.open.is_none() {
            let mut file = self.open_own()?;
            let metadata = file.metadata()?;
            let size = metadata.len();
            let mut unended = None;
            if size > 0 {
                let mut last = [0];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                unended = (last != *b"\n").then_some(UNKNOWN);
            }
            self.open = Some(Open { file, size, identity: identity(&metadata), checked: now, unended });
        }
        Ok(())
    }

    /// Opens or creates the file. It must be a regular file of this user, with this one name: somebody else
    /// may have put anything else there to have it overwritten.
    fn open_own(&self) -> io::Result<File> {
        let folder = open_folder(&self.folder)?;
        let file = self.open_in(&folder)?;
        if file.metadata()?.nlink() == 1 {
            return Ok(file);
        }
        // The file has a second name: a backup made of hard links, or a file elsewhere that somebody has
        // linked here. It must not change, so it is rotated like an older log.
        self.move_on(&folder)?;
        self.open_in(&folder)
    }

    fn open_in(&self, folder: &OwnedFd) -> io::Result<File> {
        let odd =
            |what: String| io::Error::other(format!("{} {what}", self.folder.join(&self.name).display()));
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Neither wait for the other end of a pipe, nor get a controlling terminal.
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
        // 0640: an app's output can hold what only its operators may see.
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        let file = match openat(folder, &self.name, flags, mode) {
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
            let path = self.folder.join(&self.name);
            warn!(path = %path.display(), "others could write to this log; they cannot any more");
        }
        Ok(file)
    }

    fn write_note(&mut self) -> io::Result<()> {
        if self.lost.bytes == 0 {
            return Ok(());
        }
        let Loss { bytes, lines, reason } = &self.lost;
        let open = self.open.as_mut().expect("opened by the caller");
        let before = if open.unended.is_some() { "\n" } else { "" };
        let note = format!("{before}[pmesh] {bytes} bytes, {lines} lines were dropped: {reason}\n");
        let size = open.size;
        if let Err((error, _)) = open.append(note.as_bytes()) {
            // Half a note would make the next one count the same loss twice. Only we write to the file.
            open.file.set_len(size)?;
            return Err(error);
        }
        open.unended = None;
        self.lost = Loss::default();
        Ok(())
    }

    fn rotate(&mut self, now: Instant) -> io::Result<()> {
        self.move_on(&open_folder(&self.folder)?)?;
        self.open = None;
        self.open(now)
    }

    /// Renames `x.log` to `x.log.1` and so on, and removes the oldest.
    fn move_on(&self, folder: &OwnedFd) -> io::Result<()> {
        let old = |number: u32| {
            let mut name = self.name.clone();
            name.push(format!(".{number}"));
            name
        };
        let last = self.limits.files.saturating_sub(1);
        if last == 0 {
            unlinkat(folder, &self.name, AtFlags::empty())?;
        }
        // Somebody may have moved one of them before us; that is no reason to stop.
        for number in (1..last).rev() {
            unless_gone(renameat(folder, old(number), folder, old(number + 1)))?;
        }
        if last > 0 {
            unless_gone(renameat(folder, &self.name, folder, old(1)))?;
        }
        Ok(())
    }
}

fn unless_gone(renamed: Result<(), Errno>) -> Result<(), Errno> {
    if renamed == Err(Errno::NOENT) { Ok(()) } else { renamed }
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

impl Open {
    /// Appends all bytes, or says how many were appended before the error.
    fn append(&mut self, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
                Ok(count) => {
                    written += count;
                    self.size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((error, written)),
            }
        }
        Ok(())
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// How many bytes of `rest` go into a file with `room` bytes left, up to the end of a line; `None`: the file
/// is full. If the file `must` take something (a line is open in it, or it is empty), it takes at least the
/// rest of one line.
fn part(rest: &[u8], room: usize, must: bool) -> Option<usize> {
    if rest.len() <= room {
        return Some(rest.len());
    }
    let line_end = |bytes: &[u8]| bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
    let within = rest[..room].iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
    within.or_else(|| must.then(|| line_end(rest).unwrap_or(rest.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
        file: LogFile,
        now: Instant,
    }

    fn log(bytes: u64, files: u32) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits { bytes, files, line: 1000 };
        let file = LogFile::new(folder.path().canonicalize().unwrap(), "x.log".into(), limits);
        Fixture { folder, file, now: Instant::now() }
    }

    impl Fixture {
        fn write(&mut self, stream: u64, text: &str) -> bool {
            self.file.write(stream, text.as_bytes(), Loss::default(), self.now)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
        }

        /// The log's path as messages show it.
        fn shown(&self) -> String {
            self.folder.path().canonicalize().unwrap().join("x.log").display().to_string()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_full_file_is_moved_on_at_a_line_border_and_the_oldest_goes() {
        let mut log = log(10, 3);
        log.write(1, "aaaa\nbbbb\ncc");
        assert_eq!((log.read("x.log.1").as_str(), log.read("x.log").as_str()), ("aaaa\nbbbb\n", "cc"));
        log.write(1, "ccccccccccc\nd\n");
        assert_eq!(log.read("x.log.1"), "ccccccccccccc\n", "a line is not cut");
        assert_eq!((log.read("x.log.2").as_str(), log.read("x.log").as_str()), ("aaaa\nbbbb\n", "d\n"));
        log.write(1, "eeeeeeeee\nfffffffff\n");
        assert_eq!(log.read("x.log.1"), "eeeeeeeee\n");
        assert_eq!(log.names(), ["x.log", "x.log.1", "x.log.2"]);
    }

    #[test]
    fn one_file_begins_anew_when_it_is_full() {
        let mut log = log(10, 1);
        log.write(1, "aaaaaaaa\nbbbb\n");
        assert_eq!((log.read("x.log").as_str(), log.names().len()), ("bbbb\n", 1));
    }

    #[test]
    fn a_line_that_one_output_left_open_is_closed_before_another_goes_on() {
        let mut log = log(1000, 2);
        log.write(1, "one ");
        log.write(1, "more ");
        log.write(2, "two\n");
        log.write(1, "rest\n");
        assert_eq!(log.read("x.log"), "one more \ntwo\nrest\n");
    }

    #[test]
    fn an_older_log_is_continued_on_a_line_of_its_own() {
        let mut log = log(1000, 2);
        fs::write(log.folder.path().join("x.log"), "torn").unwrap();
        log.write(1, "new\n");
        assert_eq!(log.read("x.log"), "torn\nnew\n");
    }

    #[test]
    fn a_file_that_was_moved_or_deleted_is_made_again_within_a_second() {
        let mut log = log(1000, 2);
        log.write(1, "a\n");
        fs::rename(log.folder.path().join("x.log"), log.folder.path().join("moved")).unwrap();
        log.write(1, "b\n");
        assert_eq!(log.read("moved"), "a\nb\n");
        log.now += SECOND;
        log.write(1, "c\n");
        assert_eq!((log.read("x.log").as_str(), log.read("moved").as_str()), ("c\n", "a\nb\n"));
    }

    #[test]
    fn what_the_disk_refuses_is_counted_and_written_down_when_it_takes_again() {
        let mut log = log(1000, 2);
        // A folder has the name of the file: every open fails.
        fs::create_dir(log.folder.path().join("x.log")).unwrap();
        assert!(log.write(1, "a\nb\n"));
        fs::remove_dir(log.folder.path().join("x.log")).unwrap();
        assert!(log.write(1, "c\n"), "not tried again at once");
        assert_eq!(log.names(), Vec::<String>::new());
        log.now += SECOND;
        assert!(!log.write(1, "d\n"));
        let note = "[pmesh] 6 bytes, 3 lines were dropped: Is a directory (os error 21)\nd\n";
        assert_eq!(log.read("x.log"), note);
    }

    #[test]
    fn a_loss_before_the_writer_is_noted_also_without_more_output() {
        let mut log = log(1000, 2);
        let mut lost = Loss::default();
        lost.add(b"12\n4", "slow");
        assert!(!log.file.write(1, b"", lost, log.now));
        assert_eq!(log.read("x.log"), "[pmesh] 4 bytes, 1 lines were dropped: slow\n");
    }

    #[test]
    fn a_full_disk_loses_exactly_what_is_counted() {
        let mut log = log(1000, 2);
        // /dev/full refuses every write with ENOSPC (full(4)).
        log.file.open_as(File::options().append(true).open("/dev/full").unwrap(), log.now);
        assert!(log.write(1, "a\nb"));
        log.now += SECOND;
        assert!(!log.write(1, "c\n"));
        let note = "[pmesh] 3 bytes, 1 lines were dropped: No space left on device (os error 28)\nc\n";
        assert_eq!(log.read("x.log"), note);
    }

    #[test]
    fn nothing_is_written_through_a_link_and_the_loss_says_why() {
        let mut log = log(1000, 2);
        let (victim, path) = (log.folder.path().join("victim"), log.folder.path().join("x.log"));
        fs::write(&victim, "kept").unwrap();
        for target in ["victim", "nothing"] {
            std::os::unix::fs::symlink(log.folder.path().join(target), &path).unwrap();
            assert!(log.write(1, "a\n"));
            fs::remove_file(&path).unwrap();
            log.now += SECOND;
        }
        assert!(!log.write(1, "b\n"));
        let note =
            format!("[pmesh] 4 bytes, 2 lines were dropped: {} is a link; remove it\nb\n", log.shown());
        assert_eq!((log.read("x.log"), log.read("victim").as_str()), (note, "kept"));
        assert_eq!(log.names(), ["victim", "x.log"]);
    }

    #[test]
    fn a_link_that_takes_the_name_of_an_open_log_is_not_followed_either() {
        let mut log = log(1000, 2);
        log.write(1, "a\n");
        let path = log.folder.path().join("x.log");
        fs::rename(&path, log.folder.path().join("moved")).unwrap();
        std::os::unix::fs::symlink("moved", &path).unwrap();
        log.now += SECOND;
        assert!(log.write(1, "b\n"), "it leads to the same file, but is not it");
        assert_eq!(log.read("moved"), "a\n");
    }

    #[test]
    fn a_folder_that_has_become_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (logs, elsewhere) = (root.join("logs"), root.join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &logs).unwrap();
        let mut file = LogFile::new(logs, "x.log".into(), LogLimits::default());
        assert!(file.write(1, b"a\n", Loss::default(), Instant::now()));
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_regular_file_of_this_user_is_not_written_to() {
        let mut log = log(1000, 2);
        let path = log.folder.path().join("x.log");
        rustix::fs::mkfifoat(CWD, &path, Mode::RWXU).unwrap();
        assert!(log.write(1, "a\n"), "and nobody waits for its other end");
        fs::remove_file(&path).unwrap();
        log.now += SECOND;
        assert!(!log.write(1, ""));
        assert!(log.read("x.log").contains("is no regular file; remove it"));
        if !rustix::process::geteuid().is_root() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
            eprintln!("skipped in part: only root can give a file to another user");
            return;
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        std::os::unix::fs::chown(&path, Some(54_321), None).unwrap();
        log.now += SECOND;
        assert!(log.write(1, "b\n"));
        assert_eq!(log.read("x.log"), "");
    }

    #[test]
    fn a_file_that_has_another_name_is_moved_on_and_not_written_to() {
        for files in [1, 2] {
            let mut log = log(1000, files);
            let victim = log.folder.path().join("victim");
            fs::write(&victim, "kept").unwrap();
            fs::hard_link(&victim, log.folder.path().join("x.log")).unwrap();
            assert!(!log.write(1, "a\n"));
            assert_eq!((log.read("x.log").as_str(), log.read("victim").as_str()), ("a\n", "kept"));
            assert_eq!(log.read("x.log.1"), if files == 1 { "" } else { "kept" });
        }
    }

    #[test]
    fn a_log_that_others_could_write_to_is_mended() {
        let mut log = log(1000, 2);
        let path = log.folder.path().join("x.log");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        log.write(1, "a\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    }
}
