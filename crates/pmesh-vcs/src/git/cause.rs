//! Why git has failed, where the cause is on this machine: what it says, in the C locale.

use std::{io, path::Path};

use crate::{VcsError, redact};

/// What a line of git's says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Full,
    Quota,
    ReadOnly,
    Denied,
    /// A write failed, and git does not say why.
    Unsaid,
    /// The same of a file of the work tree, which git removes then, so that there may be room again.
    NoRoom,
    /// A reference is where a folder of references is to be, or the other way round.
    InTheWay,
    Damaged,
}

/// The longest line that is quoted, in bytes.
const QUOTED: usize = 400;

/// The error for a command of git that failed for a cause on this machine, by what it said on stderr; none if it says nothing
/// of the kind. What the remote or an ssh has said is not about this machine.
pub(super) fn here(root: &Path, stderr: &[u8], secrets: &[String]) -> Option<VcsError> {
    let said = String::from_utf8_lossy(stderr);
    let lines = said.split(['\n', '\r']).map(str::trim).filter(|line| !line.starts_with("remote:"));
    let (line, cause) =
        lines.filter_map(|line| Some((line, of_line(line)?))).min_by_key(|(_, cause)| order(*cause))?;
    let mut shown = redact::text(line, secrets);
    shown.truncate(shown.floor_char_boundary(QUOTED));
    let cause = match cause {
        Cause::Unsaid => of_disk(root)?,
        Cause::NoRoom => of_disk(root).unwrap_or(cause),
        told => told,
    };
    Some(match cause {
        Cause::Damaged => VcsError::damaged(root, shown),
        Cause::InTheWay => VcsError::Unwritable {
            root: root.to_owned(),
            cause: format!("a branch that the remote has no more is in the way of another one ({shown})"),
            remedy: "`git fetch --prune` there removes it",
        },
        _ => unwritable(root, cause, &shown),
    })
}

/// The error for a file that could not be read or written, where its cause has a remedy.
pub(super) fn of_io(root: &Path, path: &Path, error: io::Error) -> VcsError {
    let cause = match error.kind() {
        io::ErrorKind::StorageFull => Cause::Full,
        io::ErrorKind::QuotaExceeded => Cause::Quota,
        io::ErrorKind::ReadOnlyFilesystem => Cause::ReadOnly,
        io::ErrorKind::PermissionDenied => Cause::Denied,
        _ => return VcsError::io(path, error),
    };
    unwritable(root, cause, &redact::printable(&format!("{}: {error}", path.display())))
}

/// What the file system says itself, where git says nothing of a write that failed.
fn of_disk(root: &Path) -> Option<Cause> {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    let disk = statvfs(root).ok()?;
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        Some(Cause::ReadOnly)
    } else {
        (disk.f_bavail == 0 || disk.f_files > 0 && disk.f_favail == 0).then_some(Cause::Full)
    }
}

fn unwritable(root: &Path, cause: Cause, said: &str) -> VcsError {
    let (cause, remedy) = match cause {
        Cause::Full => ("the disk is full", "make room and try again"),
        Cause::NoRoom => (
            "the disk has no room for it, or fails",
            "make room and try again; `dmesg` names a disk that fails",
        ),
        Cause::Quota => ("the disk quota is used up", "make room or raise the quota, and try again"),
        Cause::ReadOnly => ("the file system is read-only", "mount it for writing, and try again"),
        Cause::Denied | Cause::Unsaid | Cause::InTheWay | Cause::Damaged => (
            "its owner may not write there",
            "`chown` or `chmod` what is in the way, or lift its `chattr +i`, and try again",
        ),
    };
    VcsError::Unwritable { root: root.to_owned(), cause: format!("{cause} ({said})"), remedy }
}

/// In this order: a cause that stops everything comes before one that may only follow from it.
fn order(cause: Cause) -> u8 {
    match cause {
        Cause::Full | Cause::Quota | Cause::ReadOnly => 0,
        Cause::Denied => 1,
        Cause::InTheWay => 2,
        Cause::Unsaid | Cause::NoRoom => 3,
        Cause::Damaged => 4,
    }
}

/// What of git's words means damage, whatever it was about.
const DAMAGE: [&str; 15] = [
    "index file corrupt",
    "bad index file",
    "index file smaller than expected",
    "bad signature 0x",
    "index uses ",
    "is corrupt",
    "corrupt loose object",
    "corrupt patch",
    "inflate: data stream error",
    "unable to read tree",
    "unable to parse object",
    "missing tree",
    "missing blob",
    "hash mismatch",
    "bad object",
];

fn of_line(line: &str) -> Option<Cause> {
    let has = |words: &str| line.contains(words);
    // git's own sentences about files here; an ssh says `git@host: Permission denied (publickey)`.
    let is_about_a_file = [
        "cannot",
        "unable to",
        "Unable to",
        "could not",
        "Could not",
        "failed to",
        "insufficient permission",
    ]
    .iter()
    .any(|words| has(words));
    if has("No space left on device") {
        Some(Cause::Full)
    } else if has("Disk quota exceeded") {
        Some(Cause::Quota)
    } else if has("Read-only file system") {
        Some(Cause::ReadOnly)
    } else if is_about_a_file
        && (has("Permission denied") || has("Operation not permitted") || has("insufficient permission"))
    {
        Some(Cause::Denied)
    } else if has("cannot lock ref")
        && (has("exists; cannot create") || has("there is a non-empty directory"))
    {
        Some(Cause::InTheWay)
    } else if has("couldn't write") || has("could not write") || has("write error") {
        Some(Cause::Unsaid)
    } else if has("unable to write file") {
        Some(Cause::NoRoom)
    } else if (has("object file") && has("is empty")) || DAMAGE.iter().any(|words| has(words)) {
        Some(Cause::Damaged)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_gits_has_its_cause() {
        for (line, cause) in [
            ("error: file write error: No space left on device", Some(Cause::Full)),
            (
                "fatal: sha1 file '/x' write error. Out of diskspace: No space left on device",
                Some(Cause::Full),
            ),
            ("error: unable to create file a: Read-only file system", Some(Cause::ReadOnly)),
            ("fatal: cannot create directory at 'd': Disk quota exceeded", Some(Cause::Quota)),
            (
                "error: insufficient permission for adding an object to repository database .git/objects",
                Some(Cause::Denied),
            ),
            ("error: cannot open '.git/FETCH_HEAD': Permission denied", Some(Cause::Denied)),
            ("error: unable to unlink old 'a': Operation not permitted", Some(Cause::Denied)),
            ("git@host: Permission denied (publickey).", None),
            ("fatal: unable to access 'https://x/': Could not resolve host: x", None),
            (
                "error: cannot lock ref 'refs/remotes/o/x/y': 'refs/remotes/o/x' exists; cannot create it",
                Some(Cause::InTheWay),
            ),
            ("error: unable to write file big", Some(Cause::NoRoom)),
            ("error: unable to write file big: Permission denied", Some(Cause::Denied)),
            ("fatal: index file corrupt", Some(Cause::Damaged)),
            ("error: object file .git/objects/ab/cd is empty", Some(Cause::Damaged)),
            ("fatal: unable to read tree 0123", Some(Cause::Damaged)),
            ("error: Entry 'a' not uptodate. Cannot merge.", None),
        ] {
            assert_eq!(of_line(line), cause, "{line}");
        }
    }

    #[test]
    fn what_the_remote_says_is_not_about_this_machine_and_what_stops_everything_is_named() {
        let error = |stderr: &str| here(Path::new("/srv"), stderr.as_bytes(), &["secret".to_owned()]);
        assert!(error("remote: fatal: No space left on device\nfatal: early EOF\n").is_none());
        let full =
            error("error: bad object x\nerror: cannot write secret: No space left on device\n").unwrap();
        let said = full.to_string();
        assert!(
            said.contains("the disk is full") && said.contains("make room") && !said.contains("secret"),
            "{said}"
        );
    }
}
