//! A look at what git reads by itself, before it is started: a program that waits for a pipe says nothing.

use std::{collections::BTreeSet, ffi::OsStr, os::unix::ffi::OsStrExt, time::Instant};

use gix::bstr::ByteSlice;

use super::{opened::OpenedRepo, special_files::FileLook};
use crate::VcsError;

/// How far a repository has been looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LookScope {
    #[default]
    Nothing,
    /// All but the work tree.
    Repository,
    All,
}

impl LookScope {
    /// How far a repository must have been looked at before this command.
    pub(super) fn wanted_by(command: &str) -> Self {
        const ELSEWHERE: [&str; 6] =
            ["cat-file", "config", "fetch", "ls-remote", "maintenance", "update-ref"];
        if ELSEWHERE.contains(&command) { Self::Repository } else { Self::All }
    }
}

/// Looks at what git may read of the repository, as far as `wanted` says. What was looked at when the repository was opened
/// is left out.
///
/// # Errors
///
/// [`VcsError::NotAFile`].
pub(super) fn look(opened: &OpenedRepo, wanted: LookScope) -> Result<(), VcsError> {
    // Half of a read's time is for this look. What it has not seen by then is left to the time limit of git.
    let now = Instant::now();
    let until = now + opened.stop.until().saturating_duration_since(now) / 2;
    let is_wanted = || !opened.stop.is_cancelled() && Instant::now() < until;
    let mut looking = FileLook::new(&opened.root, &is_wanted);
    let (git_dir, common_dir) = (opened.repo.path(), opened.repo.common_dir());
    for folder in [git_dir, common_dir] {
        looking.folder(folder)?;
        for part in ["info", "rebase-merge", "rebase-apply", "sequencer", "branches", "remotes"] {
            looking.folder(&folder.join(part))?;
        }
        for part in ["refs", "logs"] {
            looking.tree(&folder.join(part))?;
        }
        if git_dir == common_dir {
            break;
        }
    }
    for objects in &opened.objects {
        for part in 0..=u8::MAX {
            looking.folder(&objects.join(format!("{part:02x}")))?;
        }
    }
    let config = opened.repo.config_snapshot();
    for name in ["core.excludesFile", "core.attributesFile"] {
        if let Ok(Some(path)) = config.trusted_path(name) {
            looking.file(&path)?;
        }
    }
    if wanted == LookScope::All { work_tree(&looking, opened, &is_wanted) } else { Ok(()) }
}

/// What git reads in the work tree beside the files themselves: in each folder that has tracked ones.
fn work_tree(
    looking: &FileLook<'_>,
    opened: &OpenedRepo,
    is_wanted: &dyn Fn() -> bool,
) -> Result<(), VcsError> {
    // What is wrong with the index is said by whoever needs it.
    let Ok(index) = opened.repo.index_or_empty() else { return Ok(()) };
    let mut folders: BTreeSet<&[u8]> = BTreeSet::from([&b""[..]]);
    for entry in index.entries() {
        let path: &[u8] = entry.path(&index);
        // Each folder above it; where one is known, those above that are.
        let mut ends = path.rfind_iter(b"/");
        while ends.next().is_some_and(|end| folders.insert(&path[..end])) {}
    }
    for folder in folders.into_iter().take_while(|_| is_wanted()) {
        let folder = opened.root.join(OsStr::from_bytes(folder));
        for name in [".gitattributes", ".gitignore"] {
            looking.file(&folder.join(name))?;
        }
    }
    Ok(())
}
