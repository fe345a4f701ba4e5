//! What a check-out has left in the work tree that was cut off without a word: the server was killed, or the machine lost
//! its power.
//!
//! A tracked file that differs from the head is nobody's edit where it is exactly as a newer commit has it, in the work tree and in
//! the index: the commit that is to be checked out, or one that was fetched after the head. Nothing is lost when it goes.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use gix::{
    ObjectId,
    index::entry::{Flags, Mode, Stage},
    object::Kind,
    objs::tree::EntryKind,
};

use super::{
    hashes::hashes,
    history,
    in_the_way::strangers,
    opened::OpenedRepo,
    program::Program,
    put_back, reflog,
    repo::GitRepo,
    state, tree,
    tree_diff::{TreeChange, TreeFile},
};
use crate::{CommitId, Relation, VcsError};

/// How many of the commits that were fetched last may be the one that was being checked out, beside the one that is to be.
const FETCHED_LIMIT: usize = 8;

/// How deep folders are that are removed where they have taken the place of a file, and are empty.
const FOLDER_LIMIT: usize = 256;

/// Files that differ from the head, by whose doing.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Somebody's, in order.
    pub(super) edited: Vec<PathBuf>,
    /// A check-out's, with what the head has there.
    pub(super) left: Vec<TreeChange>,
    /// Those of them whose entry in the index is not that of the head.
    staged: Vec<PathBuf>,
}

/// What may stand at a path.
#[derive(Debug, Default)]
struct KnownVersions {
    /// What the head has there, then each newer commit that has something else.
    versions: Vec<Version>,
    /// Whether the index has something else than the head.
    is_staged: bool,
    /// Whether the index has what none of them has.
    is_anothers: bool,
}

/// What one commit has at a path; `None` for nothing or a folder.
#[derive(Clone, Copy, Debug)]
struct Version {
    file: Option<TreeFile>,
    /// The size of its blob, where that is here.
    size: Option<u64>,
}

/// What is at a path in the work tree.
enum PathContent {
    Nothing,
    Folder,
    Link(Vec<u8>),
    File {
        is_executable: bool,
        size: u64,
    },
    /// A pipe, say.
    Other,
}

/// Who has written `paths`, which differ from `head`. `changes` is what differs between it and `to`.
pub(super) fn look(
    repo: &GitRepo,
    git: &Program<'_>,
    (head, to): (&CommitId, &CommitId),
    changes: &Arc<Vec<TreeChange>>,
    paths: &[PathBuf],
) -> Result<Leftovers, VcsError> {
    if paths.is_empty() {
        return Ok(Leftovers::default());
    }
    let (from, target, all, asked) = (head.clone(), to.clone(), Arc::clone(changes), paths.to_vec());
    let (known, converts, looks_at_modes) = repo.read_bringing(git.cancel, move |opened| {
        let mut diffs = vec![Arc::clone(&all)];
        for commit in fetched_after(opened, &from, &target)? {
            diffs.push(Arc::new(tree::changes(opened, &from, &commit)?));
        }
        let config = opened.repo.config_snapshot();
        let converts =
            config.plumbing().sections_by_name("filter").is_some_and(|mut filters| filters.next().is_some());
        let looks_at_modes = config.boolean("core.fileMode").unwrap_or(true);
        Ok((known(opened, &diffs, &asked)?, converts, looks_at_modes))
    })?;
    let (mut found, known, to_hash) = repo.with_files(git, move |root| {
        let is_new =
            |known: &KnownVersions| known.versions.iter().skip(1).any(|version| version.file.is_some());
        let new: HashSet<&Path> =
            known.iter().filter(|(_, known)| is_new(known)).map(|(path, _)| &**path).collect();
        let mut found = Leftovers::default();
        let mut to_hash = Vec::new();
        for (path, known) in &known {
            let looked = Looked { root, new: &new, converts, looks_at_modes };
            match looked.at(path, known) {
                WrittenBy::Git => found.add(path, known),
                WrittenBy::Somebody(by) => found.edited.extend(by),
                WrittenBy::ByContent(ids) => to_hash.push((path.clone(), ids)),
            }
        }
        Ok((found, known, to_hash))
    })?;
    let contents = hashes(git, &to_hash.iter().map(|(path, _)| path).collect::<Vec<_>>())?;
    for ((path, ids), content) in to_hash.into_iter().zip(contents) {
        if ids.contains(&content) {
            found.add(&path, &known[&path]);
        } else {
            found.edited.push(path);
        }
    }
    found.edited.sort();
    found.edited.dedup();
    Ok(found)
}

/// Puts back what the head has in the place of leftovers, in the index and in the work tree. The head is locked.
pub(super) fn clear_away(
    repo: &GitRepo,
    git: &Program<'_>,
    head: &CommitId,
    found: Leftovers,
) -> Result<(), VcsError> {
    // Another git that is at work now has written what looks like leftovers.
    if let Some(lock) = repo.read(git.cancel, |opened| Ok(state::index_lock(&opened.repo)))? {
        return Err(state::locked(lock));
    }
    tracing::info!(files = found.left.len(), "puts back what a check-out has left that was cut off");
    if !found.staged.is_empty() {
        let args = ["-q", head.as_str(), "--pathspec-from-file=-", "--pathspec-file-nul"].map(OsStr::new);
        put_back::feed(git, "reset", &args, &found.staged)?;
    }
    let folders: Vec<_> =
        found.left.iter().filter(|change| change.old.is_some()).map(|change| change.path.clone()).collect();
    repo.with_files(git, move |root| {
        for folder in folders {
            remove_empty(&root.join(folder), FOLDER_LIMIT);
        }
        Ok(())
    })?;
    put_back::put_back(repo, git, Arc::new(found.left))
}

/// Removes a folder in which no file is, at most so many folders deep. One that holds something stays.
fn remove_empty(folder: &Path, depth: usize) {
    if depth == 0 || !folder.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        remove_empty(&entry.path(), depth - 1);
    }
    // It fails where something is left in it: then the folder stays, and the check-out names it.
    std::fs::remove_dir(folder).ok();
}

impl Leftovers {
    fn add(&mut self, path: &Path, known: &KnownVersions) {
        let Some(of_head) = known.versions.first() else { return };
        let new = known.versions.get(1).and_then(|version| version.file);
        self.left.push(TreeChange { path: path.to_owned(), old: of_head.file, new });
        if known.is_staged {
            self.staged.push(path.to_owned());
        }
    }
}

/// The commits that were fetched last and lie ahead of the head, but `to`.
fn fetched_after(opened: &OpenedRepo, head: &CommitId, to: &CommitId) -> Result<Vec<CommitId>, VcsError> {
    let mut seen = HashSet::from([head.clone(), to.clone()]);
    let mut found = reflog::of_upstream(opened)?;
    found.reverse();
    found.retain(|commit| seen.insert(commit.clone()));
    found.truncate(FETCHED_LIMIT);
    let mut after = Vec::new();
    for commit in found {
        match history::relation(opened, head, &commit) {
            Ok(Relation::Behind { .. }) => after.push(commit),
            // What git has thrown away has no files any more.
            Ok(_) | Err(VcsError::UnknownCommit(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(after)
}

/// What may stand at `paths`, and at those where a folder of a newer commit has taken the place of one of them.
fn known(
    opened: &OpenedRepo,
    diffs: &[Arc<Vec<TreeChange>>],
    paths: &[PathBuf],
) -> Result<BTreeMap<PathBuf, KnownVersions>, VcsError> {
    let asked: HashSet<&Path> = paths.iter().map(|path| &**path).collect();
    let mut found: BTreeMap<PathBuf, KnownVersions> =
        paths.iter().map(|path| (path.clone(), KnownVersions::default())).collect();
    let version = |file: Option<TreeFile>| -> Result<Version, VcsError> {
        let id = file.map(|file| file.id).filter(|id| opened.repo.has_object(id));
        let size = id.map(|id| opened.header(id)).transpose()?.map(|header| header.size());
        Ok(Version { file, size })
    };
    for diff in diffs {
        for change in &**diff {
            let is_below = || change.path.ancestors().skip(1).any(|above| asked.contains(above));
            if !(asked.contains(&*change.path) || change.new.is_some() && is_below()) {
                continue;
            }
            let known = found.entry(change.path.clone()).or_default();
            if known.versions.is_empty() {
                known.versions.push(version(change.old)?);
            }
            known.versions.push(version(change.new)?);
        }
    }
    let index = opened.repo.index_or_empty().map_err(|error| opened.damaged(error))?;
    for (path, known) in &mut found {
        let Some(of_head) = known.versions.first().copied() else { continue };
        let entries =
            index.entry_range(path.as_os_str().as_bytes().into()).map(|range| &index.entries()[range]);
        let staged = match entries {
            None | Some([]) => None,
            Some([entry])
                if entry.stage() == Stage::Unconflicted && !entry.flags.contains(Flags::INTENT_TO_ADD) =>
            {
                Some((entry.mode, entry.id))
            }
            Some(_) => {
                known.is_anothers = true;
                continue;
            }
        };
        let is_it = |version: &Version| version.file.map(|file| (mode(file.kind), file.id)) == staged;
        known.is_staged = !is_it(&of_head);
        known.is_anothers = !known.versions.iter().any(is_it);
    }
    Ok(found)
}

fn mode(kind: EntryKind) -> Mode {
    match kind {
        EntryKind::Tree => Mode::DIR,
        EntryKind::Blob => Mode::FILE,
        EntryKind::BlobExecutable => Mode::FILE_EXECUTABLE,
        EntryKind::Link => Mode::SYMLINK,
        EntryKind::Commit => Mode::COMMIT,
    }
}

/// Whose a path is, by a look at it.
enum WrittenBy {
    Git,
    /// These are somebody's.
    Somebody(Vec<PathBuf>),
    /// Git's, if its content is one of these.
    ByContent(Vec<ObjectId>),
}

struct Looked<'a> {
    root: &'a Path,
    /// Where newer commits have files that may be here.
    new: &'a HashSet<&'a Path>,
    /// Whether a filter may make files of another size than their blobs.
    converts: bool,
    looks_at_modes: bool,
}

impl Looked<'_> {
    fn at(&self, path: &Path, known: &KnownVersions) -> WrittenBy {
        let edited = || WrittenBy::Somebody(vec![path.to_owned()]);
        if known.is_anothers || known.versions.is_empty() {
            return edited();
        }
        let files = || known.versions.iter().filter_map(|version| Some((version.file?, version.size)));
        match self.there(path) {
            PathContent::Nothing if known.versions.iter().any(|version| version.file.is_none()) => {
                WrittenBy::Git
            }
            PathContent::Nothing | PathContent::Other => edited(),
            // The files below it have a look of their own.
            PathContent::Folder => {
                let is_theirs = self.new.iter().any(|new| *new != path && new.starts_with(path));
                let mut found = Vec::new();
                strangers(self.root, path, self.new, &mut found);
                match found {
                    _ if !is_theirs => edited(),
                    found if found.is_empty() => WrittenBy::Git,
                    found => WrittenBy::Somebody(found),
                }
            }
            PathContent::Link(target) => {
                let is_it = |(file, _): (TreeFile, _)| {
                    let id = gix::objs::compute_hash(file.id.kind(), Kind::Blob, &target);
                    file.kind == EntryKind::Link && id.is_ok_and(|id| id == file.id)
                };
                if files().any(is_it) { WrittenBy::Git } else { edited() }
            }
            PathContent::File { is_executable, size } => {
                let may_be = |(file, blob): &(TreeFile, Option<u64>)| {
                    let has_its_mode = match file.kind {
                        EntryKind::Blob => !self.looks_at_modes || !is_executable,
                        EntryKind::BlobExecutable => !self.looks_at_modes || is_executable,
                        _ => false,
                    };
                    // Other line ends and encodings make at most four bytes of one.
                    let could_be =
                        |blob: u64| self.converts || (blob / 4..=blob.saturating_mul(4)).contains(&size);
                    has_its_mode && blob.is_none_or(could_be)
                };
                let ids: Vec<_> = files().filter(may_be).map(|(file, _)| file.id).collect();
                if ids.is_empty() { edited() } else { WrittenBy::ByContent(ids) }
            }
        }
    }

    /// As git looks: what is behind a link is not there.
    fn there(&self, path: &Path) -> PathContent {
        let mut above: Vec<_> = path.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()).collect();
        above.reverse();
        let is_folder = |it: &Path| self.root.join(it).symlink_metadata().is_ok_and(|it| it.is_dir());
        if !above.into_iter().all(is_folder) {
            return PathContent::Nothing;
        }
        let path = self.root.join(path);
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => PathContent::Nothing,
            Err(_) => PathContent::Other,
            Ok(it) if it.is_dir() => PathContent::Folder,
            Ok(it) if it.is_symlink() => match std::fs::read_link(&path) {
                Ok(target) => PathContent::Link(target.into_os_string().as_bytes().to_vec()),
                Err(_) => PathContent::Other,
            },
            Ok(it) if it.is_file() => {
                PathContent::File { is_executable: it.permissions().mode() & 0o100 != 0, size: it.len() }
            }
            Ok(_) => PathContent::Other,
        }
    }
}
