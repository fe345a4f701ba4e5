//! Files that are no commit's, where a commit is to have some.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use gix::objs::tree::EntryKind;

use super::{program::Program, repo::GitRepo, tree_diff::TreeChange};
use crate::{VcsError, WorkTree};

/// As [`in_the_way`], looked at with the owner's rights.
pub(super) fn what_is_in_the_way(
    repo: &GitRepo,
    git: &Program<'_>,
    changes: &Arc<Vec<TreeChange>>,
) -> Result<Vec<PathBuf>, VcsError> {
    let changes = Arc::clone(changes);
    repo.with_files(git, move |root| Ok(in_the_way(root, &changes)))
}

/// Untracked and ignored files where a new tracked one is to be.
fn in_the_way(root: &Path, changes: &[TreeChange]) -> Vec<PathBuf> {
    let old: HashSet<&Path> =
        changes.iter().filter(|change| change.old.is_some()).map(|change| &*change.path).collect();
    let mut found = Vec::new();
    // Folders that are not there, so that nothing is below them; and folders that are there, in which each file is looked
    // at.
    let mut free = HashSet::new();
    let mut folders = HashSet::new();
    for change in changes {
        let Some(new) = change.new else { continue };
        if old.contains(&*change.path) {
            continue;
        }
        match folders_of(root, &change.path, &old, &mut free, &mut folders) {
            Folders::There => {}
            Folders::Free => continue,
            Folders::Blocked(by) => {
                found.push(by);
                continue;
            }
        }
        match root.join(&change.path).symlink_metadata() {
            Err(_) => {}
            Ok(there) if !there.is_dir() => found.push(change.path.clone()),
            // A submodule may have its files already.
            Ok(_) if new.kind == EntryKind::Commit => {}
            Ok(_) => strangers(root, &change.path, &old, &mut found),
        }
        if found.len() > WorkTree::CHANGED_LIMIT {
            break;
        }
    }
    found
}

/// What the folders of a path say about it.
enum Folders {
    /// All are there.
    There,
    /// One is not, so nothing is below it.
    Free,
    /// A file is where a folder is to be.
    Blocked(PathBuf),
}

fn folders_of<'a>(
    root: &Path,
    path: &'a Path,
    old: &HashSet<&Path>,
    free: &mut HashSet<&'a Path>,
    folders: &mut HashSet<&'a Path>,
) -> Folders {
    let mut above: Vec<_> =
        path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
    above.reverse();
    for folder in above {
        if folders.contains(folder) {
            continue;
        }
        // A tracked file gives way to a folder.
        if free.contains(folder) || old.contains(folder) {
            return Folders::Free;
        }
        match root.join(folder).symlink_metadata() {
            Ok(there) if there.is_dir() => {
                folders.insert(folder);
            }
            Ok(_) => return Folders::Blocked(folder.to_owned()),
            Err(_) => {
                free.insert(folder);
                return Folders::Free;
            }
        }
    }
    Folders::There
}

/// Collects what a folder holds beside the files in `old`, which go. Empty folders are nothing to git.
pub(super) fn strangers(root: &Path, folder: &Path, old: &HashSet<&Path>, found: &mut Vec<PathBuf>) {
    let mut to_visit = vec![folder.to_owned()];
    while let Some(folder) = to_visit.pop() {
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else {
            // What cannot be read must not be removed.
            found.push(folder);
            continue;
        };
        for entry in entries {
            let Ok(entry) = entry else {
                found.push(folder.clone());
                break;
            };
            let path = folder.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                to_visit.push(path);
            } else if !old.contains(&*path) {
                found.push(path);
            }
            if found.len() > WorkTree::CHANGED_LIMIT {
                return;
            }
        }
    }
}
