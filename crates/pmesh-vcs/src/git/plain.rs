//! A look at files that gix reads whole, before it does: whether they are files, and how large.
//!
//! A file of a hundred gigabytes costs whoever makes it nothing (it is one hole), and whoever reads it into memory
//! everything. A pipe is never read to its end.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
    path::{Path, PathBuf},
};

use gix::{bstr::ByteSlice, config::file::Metadata};

use super::{owner::OwnedPlaces, special_files};
use crate::VcsError;

/// HEAD and other files with one reference in them.
const REFERENCE_LIMIT: u64 = 64 << 10;

/// A configuration, and a list of alternates. What is in them is gone through more than once.
pub(super) const LIST_LIMIT: u64 = 1 << 20;

/// The references that `git pack-refs` has put together: about two million of them.
pub(super) const PACKED_LIMIT: u64 = 256 << 20;

/// The commits at which a shallow clone ends.
const SHALLOW_LIMIT: u64 = 16 << 20;

/// The index: about two million files.
const INDEX_LIMIT: u64 = 512 << 20;

/// How often configurations are included, each time counted (git-config(1), "Includes"): one that includes itself
/// ten times is a billion within the ten levels that git follows.
const INCLUDE_LIMIT: usize = 1000;

/// How many levels of includes git and gix follow.
const INCLUDE_DEPTH: usize = 10;

/// How many other object directories are used (gitrepository-layout(5), "objects/info/alternates").
const ALTERNATE_LIMIT: usize = 100;

/// How many objects stand in for others (git-replace(1)).
const REPLACEMENT_LIMIT: usize = 10_000;

/// How often a symbolic reference leads to another one.
const SYMBOLIC_LIMIT: usize = 5;

/// Looks at the files of the repository at `root` that are read when it is opened and asked for its head. `own` are the
/// user's own configurations, as far as they are read as well. The answer is the folders with objects, whose packs have been
/// looked at.
///
/// # Errors
///
/// [`VcsError::RepositoryTooLarge`], and [`VcsError::NotAFile`].
pub(super) fn look(root: &Path, own: &[PathBuf]) -> Result<Vec<PathBuf>, VcsError> {
    let look = OwnedPlaces::at(root)?;
    let plain = Plain { root };
    plain.check(&root.join(".git"), REFERENCE_LIMIT)?;
    let Some((git_dir, common_dir)) = &look.directories else { return Ok(Vec::new()) };
    for pointer in ["commondir", "gitdir"] {
        plain.check(&git_dir.join(pointer), REFERENCE_LIMIT)?;
    }
    plain.check(&git_dir.join("HEAD"), REFERENCE_LIMIT)?;
    plain.check(&git_dir.join("index"), INDEX_LIMIT)?;
    plain.check(&common_dir.join("packed-refs"), PACKED_LIMIT)?;
    plain.check(&common_dir.join("shallow"), SHALLOW_LIMIT)?;
    let mut included = 0;
    let repositorys = [common_dir.join("config"), git_dir.join("config.worktree")];
    for config in repositorys.iter().chain(own) {
        plain.config(config, 0, &mut included)?;
    }
    plain.head(git_dir, common_dir)?;
    let objects = plain.alternates(&common_dir.join("objects"))?;
    objects.iter().try_for_each(|objects| special_files::look_at_packs(root, objects))?;
    plain.replacements(&common_dir.join("refs/replace"))?;
    Ok(objects)
}

/// Looks at the file of a reference, before it is read.
///
/// # Errors
///
/// As [`look`].
pub(super) fn look_at_reference(root: &Path, common_dir: &Path, name: &[u8]) -> Result<(), VcsError> {
    let path = common_dir.join(OsStr::from_bytes(name));
    Plain { root }.check(&path, REFERENCE_LIMIT)
}

struct Plain<'a> {
    root: &'a Path,
}

impl Plain<'_> {
    /// What is not there, or is a folder, is no affair of a look at sizes.
    fn check(&self, path: &Path, limit: u64) -> Result<(), VcsError> {
        // What cannot be looked at is said by whoever reads it.
        let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
        if metadata.is_dir() {
            return Ok(());
        }
        if !metadata.is_file() {
            let kind = if metadata.file_type().is_socket() {
                Some("a socket")
            } else {
                special_files::kind(&metadata)
            };
            let (root, path) = (self.root.to_owned(), path.to_owned());
            return kind.map_or(Ok(()), |kind| Err(VcsError::NotAFile { root, path, kind }));
        }
        if metadata.len() > limit {
            let size = metadata.len();
            return Err(
                self.too_large(format!("{} has {size} bytes; at most {limit} are read", path.display()))
            );
        }
        Ok(())
    }

    fn too_large(&self, what: String) -> VcsError {
        VcsError::RepositoryTooLarge { root: self.root.to_owned(), what }
    }

    /// The content of a small file; empty if it cannot be read, which whoever needs it will say.
    fn content(&self, path: &Path, limit: u64) -> Result<Vec<u8>, VcsError> {
        self.check(path, limit)?;
        let read = || -> io::Result<Vec<u8>> {
            let mut content = Vec::new();
            File::open(path)?.take(limit).read_to_end(&mut content)?;
            Ok(content)
        };
        Ok(read().unwrap_or_default())
    }

    /// A configuration and what it includes, whatever the conditions of that are.
    fn config(&self, path: &Path, depth: usize, included: &mut usize) -> Result<(), VcsError> {
        *included += 1;
        if *included > INCLUDE_LIMIT {
            return Err(self.too_large(format!("its configuration includes more than {INCLUDE_LIMIT} files")));
        }
        if !path.is_file() {
            return self.check(path, LIST_LIMIT);
        }
        let content = self.content(path, LIST_LIMIT)?;
        let meta = Metadata::from(gix::config::Source::Local);
        let options = gix::config::file::init::Options::default();
        let Ok(config) = gix::config::File::from_bytes_no_includes(&content, meta, options) else {
            // gix says where the mistake is.
            return Ok(());
        };
        if depth == INCLUDE_DEPTH {
            return Ok(());
        }
        let includes =
            ["include", "includeIf"].into_iter().filter_map(|name| config.sections_by_name(name)).flatten();
        for section in includes {
            for path_value in section.values("path") {
                let target = OsStr::from_bytes(&path_value);
                // `~` is the server's own user's, or not followed.
                if !target.as_bytes().starts_with(b"~") {
                    self.config(&path.parent().unwrap_or(path).join(target), depth + 1, included)?;
                }
            }
        }
        Ok(())
    }

    /// The references to which HEAD leads.
    fn head(&self, git_dir: &Path, common_dir: &Path) -> Result<(), VcsError> {
        let mut path = git_dir.join("HEAD");
        for _ in 0..SYMBOLIC_LIMIT {
            let content = self.content(&path, REFERENCE_LIMIT)?;
            let Some(name) = content.strip_prefix(b"ref: ") else { return Ok(()) };
            path = common_dir.join(OsStr::from_bytes(name.trim()));
        }
        Ok(())
    }

    /// The object directories, by their lists of others, each of which may have one.
    fn alternates(&self, objects: &Path) -> Result<Vec<PathBuf>, VcsError> {
        let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
        let mut to_visit = vec![objects.to_owned()];
        while let Some(objects) = to_visit.pop() {
            if !seen.insert(objects.clone()) {
                continue;
            }
            if seen.len() > ALTERNATE_LIMIT {
                return Err(
                    self.too_large(format!("its objects are in more than {ALTERNATE_LIMIT} directories"))
                );
            }
            let list = self.content(&objects.join("info/alternates"), LIST_LIMIT)?;
            let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with(b"#"));
            to_visit
                .extend(lines.map(|line| objects.join(OsStr::from_bytes(line))).take(ALTERNATE_LIMIT + 1));
        }
        Ok(seen.into_iter().collect())
    }

    /// The references that are read to know what stands in for what.
    fn replacements(&self, folder: &Path) -> Result<(), VcsError> {
        let mut found = 0;
        let mut to_visit = vec![folder.to_owned()];
        while let Some(folder) = to_visit.pop() {
            // It need not be there.
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                found += 1;
                if found > REPLACEMENT_LIMIT {
                    return Err(self.too_large(format!("it replaces more than {REPLACEMENT_LIMIT} objects")));
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    to_visit.push(entry.path());
                } else {
                    self.check(&entry.path(), REFERENCE_LIMIT)?;
                }
            }
        }
        Ok(())
    }
}
