//! What a commit may have that a check-out would not bring: submodules, and files that are kept by Git LFS where git is not
//! set up for it. Looked for before a file is touched.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use gix::{
    ObjectId,
    bstr::{BString, ByteSlice},
    index::{
        State,
        entry::{Flags, Mode, Stat},
    },
    objs::tree::EntryKind,
    worktree::stack::state::attributes::Source,
};

use super::{
    history,
    opened::OpenedRepo,
    program::Program,
    repo::GitRepo,
    tree,
    tree_diff::{TreeChange, TreeFile},
    walk::Walk,
};
use crate::{CommitId, VcsError, redact};

/// A pointer to a file that LFS keeps is smaller than this, and begins so (git-lfs, `docs/spec.md`, "The Pointer").
const POINTER_LIMIT: u64 = 1024;
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The most paths that a sentence names.
const NAMED: usize = 3;

pub(super) fn refuse(
    repo: &GitRepo,
    git: &Program<'_>,
    to: &CommitId,
    changes: &Arc<Vec<TreeChange>>,
) -> Result<(), VcsError> {
    let submodules =
        changes.iter().filter(|change| change.new.is_some_and(|file| file.kind == EntryKind::Commit));
    let submodules: Vec<_> = submodules.map(|change| change.path.clone()).collect();
    if !submodules.is_empty() {
        return Err(VcsError::Unsupported {
            what: format!(
                "commit {to} brings or moves {}, and this server moves no submodules; do it by hand: `git pull && git \
                 submodule update --init --recursive`, then update again",
                named("the submodule", &submodules)
            ),
        });
    }
    let (commit, changed) = (to.clone(), Arc::clone(changes));
    let pointers = repo.read_bringing(git.cancel, move |opened| lfs_pointers(opened, &commit, &changed))?;
    if pointers.is_empty() || is_set_up(git)? {
        return Ok(());
    }
    Err(VcsError::Unsupported {
        what: format!(
            "commit {to} keeps {} with Git LFS, and git is not set up for it here: what would be checked out is a pointer \
             instead of the file; install git-lfs and run `git lfs install` as the owner of the repository",
            named("the file", &pointers)
        ),
    })
}

fn named(what: &str, paths: &[PathBuf]) -> String {
    let shown: Vec<_> =
        paths.iter().take(NAMED).map(|path| redact::printable(&path.display().to_string())).collect();
    let more = match paths.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{what} {}{more}", shown.join(", "))
}

/// Whether git turns pointers into files when it checks them out, for whom it runs as.
fn is_set_up(git: &Program<'_>) -> Result<bool, VcsError> {
    let args = ["--get-regexp", r"^filter\.lfs\.(process|smudge)$"].map(OsStr::new);
    let output = git.run("config", &args)?;
    let has_value = |line: &[u8]| line.trim().contains(&b' ');
    Ok(output.status.success() && output.stdout.lines().any(has_value))
}

/// The changed files that a commit keeps as pointers by its own `.gitattributes`.
fn lfs_pointers(
    opened: &OpenedRepo,
    commit: &CommitId,
    changes: &[TreeChange],
) -> Result<Vec<PathBuf>, VcsError> {
    let id = history::find(opened, commit)?;
    let damaged = |error| opened.damaged(error);
    let Some(attributes) = attributes(opened, id, changes)? else { return Ok(Vec::new()) };
    let mut stack = opened.repo.attributes_only(&attributes, Source::IdMapping).map_err(damaged)?;
    let mut outcome = stack.selected_attribute_matches(["filter"]);
    let mut found = Vec::new();
    for change in written(changes) {
        let name = change.path.as_os_str().as_bytes().as_bstr();
        let platform =
            stack.at_entry(name, Some(Mode::FILE)).map_err(|error| damaged(gix::Error::from_error(error)))?;
        platform.matching_attributes(&mut outcome);
        let is_lfs = outcome
            .iter_selected()
            .any(|attribute| attribute.assignment.state.as_bstr().is_some_and(|value| value == "lfs"));
        if is_lfs
            && let Some(blob) = tree::find_blob(opened, id, &change.path)?
            && is_pointer(opened, blob)?
        {
            found.push(change.path.clone());
        }
    }
    Ok(found)
}

/// The files that a move writes.
fn written(changes: &[TreeChange]) -> impl Iterator<Item = &TreeChange> {
    let is_file = |file: TreeFile| matches!(file.kind, EntryKind::Blob | EntryKind::BlobExecutable);
    changes.iter().filter(move |change| change.new.is_some_and(is_file))
}

/// The `.gitattributes` of a commit above its changed files, as an index; none where none of them speaks of LFS.
fn attributes(
    opened: &OpenedRepo,
    commit: ObjectId,
    changes: &[TreeChange],
) -> Result<Option<State>, VcsError> {
    const NAME: &str = ".gitattributes";
    let walk = Walk::new(opened);
    let mut seen: BTreeSet<&Path> = BTreeSet::new();
    let mut state = State::new(opened.repo.object_hash());
    let mut speaks_of_lfs = false;
    for change in written(changes) {
        for folder in change.path.ancestors().skip(1) {
            if !seen.insert(folder) {
                break;
            }
            walk.step(0)?;
            let path = folder.join(NAME);
            let Some(content) = tree::content(opened, commit, &path)? else { continue };
            let Some(blob) = tree::find_blob(opened, commit, &path)? else { continue };
            speaks_of_lfs |= content.contains_str("lfs");
            let name = BString::from(path.as_os_str().as_bytes());
            let (stat, flags) = (Stat::default(), Flags::empty());
            state.dangerously_push_entry(stat, blob, flags, Mode::FILE, name.as_bstr());
        }
    }
    state.sort_entries();
    Ok(speaks_of_lfs.then_some(state))
}

fn is_pointer(opened: &OpenedRepo, blob: ObjectId) -> Result<bool, VcsError> {
    // It is still on the remote: that it might be a pointer is no reason to bring it.
    if !opened.repo.has_object(blob) {
        return Ok(true);
    }
    if opened.header(blob)?.size() >= POINTER_LIMIT {
        return Ok(false);
    }
    let blob = opened.repo.find_blob(blob).map_err(|error| opened.damaged(error))?;
    Ok(blob.data.starts_with(POINTER))
}
