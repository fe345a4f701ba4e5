//! Whose a repository is: as whom git may run in it, and as whom it is read.
//!
//! Whoever may write a repository's configuration decides what git executes, so git runs as the one
//! user who owns all of it, or not at all. [`OwnedPlaces`] looks, by descriptors and without following `.git`; what
//! follows from what it has found is decided by plain functions.

use std::{
    fmt::Write,
    fs::File,
    io::{self, Read},
    os::{fd::OwnedFd, unix::ffi::OsStrExt, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};

use crate::VcsError;

/// The longest path in a `.git` or `commondir` file, in bytes (`PATH_MAX`), with what stands beside it.
const POINTER_LIMIT: u64 = 4096 + 64;

/// A place that has an owner of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnedPlace {
    /// What it is to the repository.
    pub(super) part: Part,
    /// Where it is; absolute.
    pub(super) path: PathBuf,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether it is a symbolic link; the owner is that of the link then.
    pub(super) is_link: bool,
}

/// The parts of a repository, in the order in which one leads to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    WorkTree,
    DotGit,
    GitDir,
    CommonDir,
    Config,
}

impl Part {
    fn shown(self) -> &'static str {
        match self {
            Self::WorkTree => "the work tree",
            Self::DotGit => "its",
            Self::GitDir => "the git directory",
            Self::CommonDir => "the common directory",
            Self::Config => "the configuration",
        }
    }
}

/// Why git does not run in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its places have different owners.
    Differ {
        /// Whose it should be.
        to: u32,
        /// What is to be given to that user.
        paths: Vec<PathBuf>,
    },
    /// All of it belongs to somebody who is not the server's user, and that is not root.
    NotOurs {
        /// The owner.
        of: u32,
    },
}

/// The user as whom git runs for a server that is `server`, where these are the repository's places.
pub(super) fn runs_as(places: &[OwnedPlace], server: u32) -> Result<u32, Refusal> {
    let Some(owner) = places.first().map(|place| place.uid) else { return Ok(server) };
    if places.iter().any(|place| place.uid != owner) {
        let to = receiver(places);
        return Err(Refusal::Differ { to, paths: to_give(places, to) });
    }
    if server == 0 || server == owner { Ok(owner) } else { Err(Refusal::NotOurs { of: owner }) }
}

/// The user as whom a repository is read by a server of root: the owner nearest to the configuration who
/// is not root, and the group of what that one has. What one of them has written must not be read with the
/// rights of another.
pub(super) fn read_as(places: &[OwnedPlace]) -> (u32, u32) {
    let strangers = places.iter().rev().find(|place| place.uid != 0);
    strangers.map_or((0, 0), |place| (place.uid, place.gid))
}

/// Whose a repository should be whose places have different owners.
///
/// Not root's, as long as somebody else has written part of it. But what lies elsewhere is not to be given
/// to the one who only points there: a `.git` that is a link to `/usr` must not end with `chown -R … /usr`.
///
/// Whoever owns all but configurations keeps it: to have written one is no title to the rest.
fn receiver(places: &[OwnedPlace]) -> u32 {
    let mut others = places.iter().filter(|place| place.part != Part::Config).map(|place| place.uid);
    if let Some(owner) = others.next()
        && others.all(|uid| uid == owner)
    {
        return owner;
    }
    let (first, _) = read_as(places);
    let Some(top) = places.first().map(|place| &place.path) else { return first };
    let pointed_at = places.windows(2).rev().find_map(|pair| {
        let [pointer, target] = pair else { return None };
        let is_elsewhere = !target.path.starts_with(top);
        (is_elsewhere && target.uid != first && pointer.uid == first).then_some(target.uid)
    });
    pointed_at.unwrap_or(first)
}

/// The paths that are not `to`'s, without those below another one: `chown -R` reaches them.
fn to_give(places: &[OwnedPlace], to: u32) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for place in places.iter().filter(|place| place.uid != to) {
        if !paths.iter().any(|above| place.path.starts_with(above)) {
            paths.push(place.path.clone());
        }
    }
    paths
}

impl Refusal {
    /// The error, with names that `shown` gives to users in sentences and `word` in commands.
    pub(super) fn into_error(
        self,
        places: &[OwnedPlace],
        server: u32,
        shown: impl Fn(u32) -> String,
        word: impl Fn(u32) -> String,
    ) -> VcsError {
        match self {
            Self::Differ { to, paths } => {
                let mut owners = String::new();
                for (at, place) in places.iter().enumerate() {
                    let link = if place.is_link { ", a link," } else { "" };
                    let (part, path, owner) = (place.part.shown(), place.path.display(), shown(place.uid));
                    let verb = if at == 0 { " belongs" } else { "" };
                    let comma = if at == 0 { "" } else { ", " };
                    write!(owners, "{comma}{part} {path}{link}{verb} to {owner}")
                        .expect("writing to a string does not fail");
                }
                VcsError::OwnersDiffer { owners, remedy: chown(&word(to), &paths) }
            }
            Self::NotOurs { of } => {
                let root = places.first().map(|place| place.path.clone()).unwrap_or_default();
                let remedy = chown(&word(server), &to_give(places, server));
                VcsError::NotTheOwner { root, owner: shown(of), user: shown(server), remedy }
            }
        }
    }
}

/// The command that gives `paths` to a user. `-h`: never what a link leads to.
fn chown(user: &str, paths: &[PathBuf]) -> String {
    let mut command = format!("chown -hR {user}");
    for path in paths {
        let path = path.to_string_lossy();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
        if path.chars().all(is_plain) {
            write!(command, " {path}").expect("writing to a string does not fail");
        } else {
            write!(command, " '{}'", path.replace('\'', r"'\''")).expect("writing to a string does not fail");
        }
    }
    command
}

/// What there is of a repository at one moment.
#[derive(Debug)]
pub(super) struct OwnedPlaces {
    /// The work tree itself, whatever its path leads to by now.
    pub(super) work_tree: OwnedFd,
    /// In the order of [`Part`], the work tree first. Places that are not there are left out: git or
    /// gix says what is missing.
    pub(super) places: Vec<OwnedPlace>,
    /// Where HEAD and the index are, and where what linked work trees share.
    pub(super) directories: Option<(PathBuf, PathBuf)>,
}

impl OwnedPlaces {
    /// Looks at the repository whose work tree is the folder `root`.
    ///
    /// # Errors
    ///
    /// [`VcsError::NotFound`] if there is no `.git`, [`VcsError::Io`] if something cannot be looked at.
    pub(super) fn at(root: &Path) -> Result<Self, VcsError> {
        let about = |errno: Errno| match errno {
            Errno::NOENT | Errno::NOTDIR => VcsError::NotFound(root.to_owned()),
            errno => VcsError::io(root, errno.into()),
        };
        let work_tree = folder_at(CWD, root, OFlags::NOFOLLOW).map_err(about)?;
        let stat = fstat(&work_tree).map_err(about)?;
        let mut places = vec![place(Part::WorkTree, root, &stat)];
        let dot_git = root.join(".git");
        let stat = statat(&work_tree, ".git", AtFlags::SYMLINK_NOFOLLOW).map_err(about)?;
        places.push(place(Part::DotGit, &dot_git, &stat));
        let mut look = Self { work_tree, places, directories: None };
        if let Some((git_dir, folder)) = look.git_dir(root, &stat)? {
            look.common_dir(&git_dir, &folder)?;
        }
        Ok(look)
    }

    /// Adds the git directory, unless it is `.git` itself.
    fn git_dir(&mut self, root: &Path, dot_git: &Stat) -> Result<Option<(PathBuf, OwnedFd)>, VcsError> {
        let shown = root.join(".git");
        if FileType::from_raw_mode(dot_git.st_mode).is_dir() {
            let folder = there(&shown, folder_at(&self.work_tree, Path::new(".git"), OFlags::NOFOLLOW))?;
            return Ok(folder.map(|folder| (shown, folder)));
        }
        // A link to the directory, or a file that names it (gitrepository-layout(5)).
        let path = match pointer(&self.work_tree, Path::new(".git"), &shown)? {
            Some(text) => match text.strip_prefix(b"gitdir: ") {
                Some(path) => root.join(std::ffi::OsStr::from_bytes(path)),
                None => return Ok(None),
            },
            None => shown,
        };
        self.folder(Part::GitDir, &path)
    }

    /// Adds the directory that linked work trees share, unless there is none beside the git directory, and
    /// the configurations in both.
    fn common_dir(&mut self, git_dir: &Path, folder: &OwnedFd) -> Result<(), VcsError> {
        let shown = git_dir.join("commondir");
        let common = match pointer(folder, Path::new("commondir"), &shown)? {
            Some(path) => self.folder(Part::CommonDir, &git_dir.join(std::ffi::OsStr::from_bytes(&path)))?,
            None => None,
        };
        let (common_dir, common) = match &common {
            Some((path, common)) => (path.as_path(), common),
            None => (git_dir, folder),
        };
        self.config(common_dir, common, "config")?;
        self.directories = Some((git_dir.to_owned(), common_dir.to_owned()));
        self.config(git_dir, folder, "config.worktree")
    }

    fn folder(&mut self, part: Part, path: &Path) -> Result<Option<(PathBuf, OwnedFd)>, VcsError> {
        let Some(folder) = there(path, folder_at(CWD, path, OFlags::empty()))? else { return Ok(None) };
        let stat = fstat(&folder).map_err(|errno| VcsError::io(path, errno.into()))?;
        // For the sentence and the remedy; the descriptor is what counts.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.places.push(place(part, &path, &stat));
        Ok(Some((path, folder)))
    }

    fn config(&mut self, git_dir: &Path, folder: &OwnedFd, name: &str) -> Result<(), VcsError> {
        let path = git_dir.join(name);
        // The link and what it leads to: whoever has one of them decides what is read.
        for follow in [AtFlags::SYMLINK_NOFOLLOW, AtFlags::empty()] {
            let Some(stat) = there(&path, statat(folder, name, follow))? else { break };
            let found = place(Part::Config, &path, &stat);
            let is_link = found.is_link;
            self.places.push(found);
            if !is_link {
                break;
            }
        }
        Ok(())
    }
}

fn place(part: Part, path: &Path, stat: &Stat) -> OwnedPlace {
    let is_link = FileType::from_raw_mode(stat.st_mode).is_symlink();
    OwnedPlace { part, path: path.to_owned(), uid: stat.st_uid, gid: stat.st_gid, is_link }
}

fn folder_at(at: impl std::os::fd::AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | flags, Mode::empty())
}

/// `None` for what is not there, or a link that leads nowhere.
fn there<T>(path: &Path, result: Result<T, Errno>) -> Result<Option<T>, VcsError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(VcsError::io(path, errno.into())),
    }
}

/// The text of a small file that names a folder; `None` if it is no file, or not there.
fn pointer(at: &OwnedFd, name: &Path, shown: &Path) -> Result<Option<Vec<u8>>, VcsError> {
    // Not blocking: it may be a pipe.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Some(opened) = there(shown, openat(at, name, flags, Mode::empty()))? else { return Ok(None) };
    let read = || -> io::Result<Option<Vec<u8>>> {
        let file = File::from(opened);
        let kind = file.metadata()?.file_type();
        if !kind.is_file() || kind.is_fifo() {
            return Ok(None);
        }
        let mut text = Vec::new();
        file.take(POINTER_LIMIT).read_to_end(&mut text)?;
        let end = text.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |last| last + 1);
        text.truncate(end);
        Ok(Some(text))
    };
    read().map_err(|source| VcsError::io(shown, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOY: u32 = 1001;
    const OTHER: u32 = 1002;

    fn places(of: &[(Part, &str, u32)]) -> Vec<OwnedPlace> {
        of.iter()
            .map(|&(part, path, uid)| OwnedPlace { part, path: path.into(), uid, gid: uid, is_link: false })
            .collect()
    }

    fn remedy(places: &[OwnedPlace]) -> String {
        let refusal = runs_as(places, 0).unwrap_err();
        let shown = |uid| format!("uid {uid}");
        match refusal.into_error(places, 0, shown, |uid| uid.to_string()) {
            VcsError::OwnersDiffer { remedy, .. } => remedy,
            other => panic!("{other}"),
        }
    }

    use Part::{CommonDir, Config, DotGit, GitDir, WorkTree};

    #[test]
    fn git_runs_as_the_owner_of_all() {
        let own = places(&[
            (WorkTree, "/a", DEPLOY),
            (DotGit, "/a/.git", DEPLOY),
            (Config, "/a/.git/config", DEPLOY),
        ]);
        assert_eq!(runs_as(&own, 0), Ok(DEPLOY));
        assert_eq!(runs_as(&own, DEPLOY), Ok(DEPLOY));
        assert_eq!(runs_as(&own, OTHER), Err(Refusal::NotOurs { of: DEPLOY }));
        assert_eq!(runs_as(&places(&[(WorkTree, "/a", 0), (DotGit, "/a/.git", 0)]), 0), Ok(0));
    }

    #[test]
    fn one_owner_who_differs_is_enough_to_refuse() {
        let parts = [
            (WorkTree, "/a"),
            (DotGit, "/a/.git"),
            (GitDir, "/r/.git/worktrees/a"),
            (CommonDir, "/r/.git"),
            (Config, "/r/.git/config"),
        ];
        for (odd, _) in parts.iter().enumerate() {
            for (most, one) in [(0, DEPLOY), (DEPLOY, 0), (DEPLOY, OTHER)] {
                let owned: Vec<_> = parts
                    .iter()
                    .enumerate()
                    .map(|(at, &(part, path))| (part, path, if at == odd { one } else { most }))
                    .collect();
                assert!(matches!(runs_as(&places(&owned), 0), Err(Refusal::Differ { .. })), "{owned:?}");
            }
        }
    }

    #[test]
    fn the_remedy_gives_what_root_has_left_to_the_owner_of_the_rest() {
        let configured_by_root =
            places(&[(WorkTree, "/a", DEPLOY), (DotGit, "/a/.git", DEPLOY), (Config, "/a/.git/config", 0)]);
        assert_eq!(remedy(&configured_by_root), "chown -hR 1001 /a/.git/config");
        let cloned_by_root = places(&[
            (WorkTree, "/my app", DEPLOY),
            (DotGit, "/my app/.git", 0),
            (Config, "/my app/.git/config", 0),
        ]);
        assert_eq!(remedy(&cloned_by_root), "chown -hR 1001 '/my app/.git'");
        let linked_by_root = places(&[
            (WorkTree, "/t", 0),
            (DotGit, "/t/.git", 0),
            (GitDir, "/r/.git/worktrees/t", 0),
            (CommonDir, "/r/.git", DEPLOY),
            (Config, "/r/.git/config", DEPLOY),
        ]);
        assert_eq!(remedy(&linked_by_root), "chown -hR 1001 /t /r/.git/worktrees/t");
    }

    #[test]
    fn who_owns_all_but_the_configuration_is_given_that() {
        for (owner, stranger) in [(DEPLOY, OTHER), (0, DEPLOY), (DEPLOY, 0)] {
            let configured = places(&[
                (WorkTree, "/a", owner),
                (DotGit, "/a/.git", owner),
                (Config, "/a/.git/config", stranger),
            ]);
            assert_eq!(remedy(&configured), format!("chown -hR {owner} /a/.git/config"));
        }
    }

    #[test]
    fn nobody_is_given_what_he_only_points_at() {
        let link_to_usr =
            places(&[(WorkTree, "/a", DEPLOY), (DotGit, "/a/.git", DEPLOY), (GitDir, "/usr", 0)]);
        assert_eq!(remedy(&link_to_usr), "chown -hR 0 /a");
        let through_commondir = places(&[
            (WorkTree, "/a", DEPLOY),
            (DotGit, "/a/.git", DEPLOY),
            (CommonDir, "/root/.git", 0),
            (Config, "/root/.git/config", 0),
        ]);
        assert_eq!(remedy(&through_commondir), "chown -hR 0 /a");
    }

    #[test]
    fn a_mixed_repository_is_read_with_the_rights_of_who_wrote_its_configuration_never_roots() {
        let linked = places(&[(WorkTree, "/t", 0), (GitDir, "/r/x", OTHER), (Config, "/r/config", DEPLOY)]);
        assert_eq!(read_as(&linked), (DEPLOY, DEPLOY));
        let configured = places(&[(WorkTree, "/t", DEPLOY), (DotGit, "/t/.git", DEPLOY), (Config, "/c", 0)]);
        assert_eq!(read_as(&configured), (DEPLOY, DEPLOY));
        assert_eq!(read_as(&places(&[(WorkTree, "/t", 0), (DotGit, "/t/.git", 0)])), (0, 0));
    }

    #[test]
    fn the_sentence_names_each_with_its_owner() {
        let mut places =
            places(&[(WorkTree, "/a", DEPLOY), (DotGit, "/a/.git", DEPLOY), (GitDir, "/usr", 0)]);
        places[1].is_link = true;
        let refusal = runs_as(&places, 0).unwrap_err();
        let name = |uid: u32| if uid == 0 { "root".to_owned() } else { format!("uid {uid}") };
        let error = refusal.into_error(&places, 0, name, |uid| uid.to_string());
        assert_eq!(
            error.to_string(),
            "the work tree /a belongs to uid 1001, its /a/.git, a link, to uid 1001, the git directory /usr to root; \
             git runs only as the one user who owns all of it, and `chown -hR 0 /a` makes that so"
        );
    }
}
