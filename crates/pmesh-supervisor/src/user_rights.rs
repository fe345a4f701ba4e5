//! Why a user may not start something, in words: the kernel says no more than that it is refused.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{Launch, UserAccount};

/// What keeps the account of a launch from its folder or its program, by the modes of files and the folders above; none where it
/// is nobody else's, or the modes do not say. Blocks on the disk.
pub(crate) fn refusal(launch: &Launch, program: &Path) -> Option<String> {
    let account = launch.account.as_ref().filter(|account| account.uid != 0)?;
    if let Some(folder) = first_shut(&launch.folder, account) {
        return Some(shut(&folder, account));
    }
    why_not_start(launch, program)
}

/// Whether the account of a launch may execute a file, as far as the modes say.
pub(crate) fn may_start(launch: &Launch, program: &Path) -> bool {
    why_not_start(launch, program).is_none()
}

fn why_not_start(launch: &Launch, program: &Path) -> Option<String> {
    let account = launch.account.as_ref().filter(|account| account.uid != 0)?;
    // Where a link leads, the folders above count as well.
    let file = fs::canonicalize(program).ok()?;
    if let Some(folder) = file.parent().and_then(|folder| first_shut(folder, account)) {
        return Some(shut(&folder, account));
    }
    let (who, file) = (account.shown(), file.display());
    (!may_execute(program, account))
        .then(|| format!("{who} may not execute {file}; `chmod o+x {file}` lets everybody"))
}

fn shut(folder: &Path, account: &UserAccount) -> String {
    let (who, folder) = (account.shown(), folder.display());
    format!("{who} may not enter {folder}; `chmod o+x {folder}` lets everybody pass")
}

/// The first folder on the way to `folder`, itself included, that the account may not enter.
fn first_shut(folder: &Path, account: &UserAccount) -> Option<PathBuf> {
    let mut way: Vec<&Path> = folder.ancestors().collect();
    way.reverse();
    way.into_iter().find(|folder| !may_execute(folder, account)).map(Path::to_owned)
}

/// Whether the modes let it enter a folder, or execute a file. What cannot be looked at is not judged.
fn may_execute(path: &Path, account: &UserAccount) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return true };
    let bits = if metadata.uid() == account.uid {
        metadata.mode() >> 6
    } else if account.groups.contains(&metadata.gid()) || metadata.gid() == account.gid {
        metadata.mode() >> 3
    } else {
        metadata.mode()
    };
    bits & 1 == 1
}
