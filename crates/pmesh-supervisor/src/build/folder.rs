//! What builds leave in a service's folder: products, the marks of finished ones, the links `.run` and
//! `.build`, and the file that says which build's product is in place.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::{
    error::{BuildError, files},
    holding::Holding,
    own::Own,
    product::{Build, BuildId},
    traces::FolderBefore,
};
use crate::{ServiceName, causes::with_causes};

/// The link to the build that the service runs from.
pub(super) const RUN: &str = ".run";
/// The link to the build that is being made.
pub(super) const BUILD: &str = ".build";

/// The file that says which build made what is in place in the folder.
const IN_PLACE: &str = ".build-in-place";

const PREFIX: &str = ".build-";

impl Build {
    /// Lets the service's link `.run` lead to this build, in one atomic step. To go back, call this for the
    /// build before, or [`Build::deactivate`] if there was none. Blocks for a few system calls.
    ///
    /// # Errors
    ///
    /// [`BuildError::Files`].
    pub(crate) fn activate(&self) -> Result<(), BuildError> {
        link(&self.folder, RUN)
    }

    /// Removes the link `.run` from a service's folder, if it exists.
    ///
    /// # Errors
    ///
    /// [`BuildError::Files`].
    pub(crate) fn deactivate(folder: &Path) -> Result<(), BuildError> {
        unlink(&folder.join(RUN))
    }

    /// Whether the service's folder still holds what it held in place when this build was finished; if not,
    /// the build has to be made again. Blocks for a few system calls.
    pub(crate) fn is_whole(&self) -> bool {
        self.folder.parent().is_some_and(|folder| holding(folder).fits(self.held.as_ref()))
    }

    /// The finished build that `.run` leads to in a service's folder.
    pub fn active(folder: &Path) -> Option<Self> {
        active(folder)
    }
}

/// The build whose product is in a folder of this name: `.build-<id>` or `.build-<id>-<n>`.
fn parse(folder: &Path, name: &str) -> Option<Build> {
    let rest = name.strip_prefix(PREFIX)?;
    let (id, number) = rest.split_once('-').map_or((rest, None), |(id, number)| (id, Some(number)));
    let id = BuildId::parse(id)?;
    if number.is_some_and(|number| number.parse::<u32>().is_err()) {
        return None;
    }
    let build = Build { id, folder: folder.join(name), held: None };
    let held = Mark::of(&build).and_then(|mark| mark.held);
    Some(Build { held, ..build })
}

/// The content of the file that says that a build is finished.
struct Mark {
    /// The service that it was made for.
    service: String,
    /// Which build's product the folder held in place at that time.
    held: Option<BuildId>,
}

impl Mark {
    fn of(build: &Build) -> Option<Self> {
        let text = fs::read_to_string(mark(build)).ok()?;
        let mut lines = text.lines();
        let service = lines.next().unwrap_or_default().to_owned();
        Some(Self { service, held: lines.next().and_then(BuildId::parse) })
    }

    fn text(&self) -> String {
        let held = self.held.as_ref().map(|id| format!("{id}\n")).unwrap_or_default();
        format!("{}\n{held}", self.service)
    }
}

/// The path of the file that says that a build is finished, and for which service it was made.
fn mark(build: &Build) -> PathBuf {
    let mut path = build.folder.clone().into_os_string();
    path.push(".ok");
    path.into()
}

fn is_finished(build: &Build) -> bool {
    mark(build).is_file() && build.folder.is_dir()
}

/// All builds in a folder, finished or not, the oldest first.
fn all(folder: &Path) -> Vec<Build> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut builds: Vec<(SystemTime, Build)> = entries
        .filter_map(|entry| {
            let build = parse(folder, entry.file_name().to_str()?)?;
            let made = fs::metadata(mark(&build)).and_then(|mark| mark.modified());
            Some((made.unwrap_or(SystemTime::UNIX_EPOCH), build))
        })
        .collect();
    builds.sort_by(|(a, one), (b, other)| (a, &one.folder).cmp(&(b, &other.folder)));
    builds.into_iter().map(|(_, build)| build).collect()
}

/// Of the finished builds of an id that need not be made again, the one that was made last.
pub(super) fn cached(folder: &Path, id: &BuildId) -> Option<Build> {
    let mut builds = all(folder);
    builds.retain(|build| build.id == *id && is_finished(build) && build.is_whole());
    builds.pop()
}

pub(super) fn active(folder: &Path) -> Option<Build> {
    let target = fs::read_link(folder.join(RUN)).ok()?;
    let build = parse(folder, target.to_str()?)?;
    is_finished(&build).then_some(build)
}

/// What a service's folder holds in place.
fn holding(folder: &Path) -> Holding {
    match fs::read_to_string(folder.join(IN_PLACE)) {
        Ok(text) => Holding::parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Holding::Nothing,
        Err(_) => Holding::Unfinished,
    }
}

/// Writes down what a service's folder holds in place.
fn hold(folder: &Path, holding: &Holding) -> Result<(), BuildError> {
    let path = folder.join(IN_PLACE);
    match holding.text() {
        Some(text) => put(&path, &text).map(drop),
        None => gone(fs::remove_file(&path)).map_err(files("remove", &path)),
    }
}

/// A build whose steps may run.
#[derive(Debug)]
pub(super) struct BuildInProgress {
    /// The build with its product as far as it has been made.
    pub(super) build: Build,
    /// What the folder held in place before.
    held: Holding,
    before: FolderBefore,
    owner: Option<(u32, u32)>,
}

/// Makes an empty folder for a product, under a name that no finished build has. From here on
/// `.build-in-place` says that the build is unfinished, so that it is made again even if the server dies now.
///
/// The folder belongs to `owner`, a user and a group, if that is said.
pub(super) fn begin(
    own: Own,
    id: &BuildId,
    owner: Option<(u32, u32)>,
) -> Result<BuildInProgress, BuildError> {
    let folder = own.root().to_owned();
    let names = std::iter::once(format!("{PREFIX}{id}")).chain((2..).map(|n| format!("{PREFIX}{id}-{n}")));
    for name in names {
        let build = Build { id: id.clone(), folder: folder.join(name), held: None };
        if is_finished(&build) {
            continue;
        }
        remove(&build);
        make(&build.folder, owner)?;
        let held = holding(&folder);
        let path = folder.join(IN_PLACE);
        let text = Holding::Unfinished.text().unwrap_or_default();
        let before =
            put(&path, &text).and_then(|clock| FolderBefore::of(own, &clock).map_err(files("read", &folder)));
        return match before {
            Ok(before) => Ok(BuildInProgress { build, held, before, owner }),
            Err(error) => {
                remove(&build);
                Err(error)
            }
        };
    }
    unreachable!("there is a name for each number")
}

impl BuildInProgress {
    /// Takes what the steps have left as the product of a finished build.
    pub(super) fn finish(self, service: &ServiceName) -> Result<Build, BuildError> {
        let Self { mut build, held, before, owner } = self;
        let touched = before.has_changed();
        let finish = || {
            take(&build, owner)?;
            let holding = held.after_success(&build.id, touched);
            build.held = holding.remembered();
            let text = Mark { service: service.to_string(), held: build.held.clone() }.text();
            put(&mark(&build), &text)?;
            // Last, because this claims that everything before it is in place.
            hold(before.root(), &holding)?;
            Ok(build.clone())
        };
        finish().inspect_err(|_| remove(&build))
    }

    /// Removes what a failed build has made.
    pub(super) fn give_up(self) {
        let Self { build, held, before, .. } = self;
        remove(&build);
        let holding = held.after_failure(before.has_changed());
        if let Err(error) = hold(before.root(), &holding) {
            // The file still says "unfinished": the only harm is one build more than necessary.
            tracing::warn!(reason = with_causes(&error), "what the folder holds is not known any more");
        }
    }
}

/// Moves what is now at the path `.build` into the product's folder, if a step has put something else in the
/// place of the link.
fn take(build: &Build, owner: Option<(u32, u32)>) -> Result<(), BuildError> {
    let link = build.folder.with_file_name(BUILD);
    // A step such as "clean" may have removed the link and made a folder of that name.
    if fs::symlink_metadata(&link).is_ok_and(|found| found.is_dir()) {
        if build.folder.is_dir() {
            fs::remove_dir_all(&build.folder).map_err(files("remove", &build.folder))?;
        }
        fs::rename(&link, &build.folder).map_err(files("move", &link))?;
    } else {
        unlink(&link)?;
    }
    if !build.folder.is_dir() {
        make(&build.folder, owner)?;
    }
    Ok(())
}

/// Makes the folder of a product, which belongs to `owner`. Whoever may write beside it may put a link in its place
/// meanwhile: what is given away is the folder itself.
fn make(folder: &Path, owner: Option<(u32, u32)>) -> Result<(), BuildError> {
    let make = || {
        fs::create_dir(folder)?;
        let Some((uid, gid)) = owner else { return Ok(()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::open(folder, flags, Mode::empty())?;
        rustix::fs::fchown(made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        Ok(())
    };
    make().map_err(files("make", folder))
}

/// Writes a file atomically: it exists completely or not at all, also after a loss of power.
fn put(path: &Path, text: &str) -> Result<File, BuildError> {
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let write = || {
        // Never through a link that a service has put there: where the service is another user's, that would write files of ours.
        gone(fs::remove_file(&temporary))?;
        let mut file = File::create_new(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(file)
    };
    write().map_err(files("write", path))
}

/// Removes a build, and the link `.build` if it leads there. What cannot be removed is left, with a warning.
pub(super) fn remove(build: &Build) {
    let link = build.folder.with_file_name(BUILD);
    let result = gone(fs::remove_file(mark(build)))
        .and_then(|()| gone(fs::remove_dir_all(&build.folder)))
        .and_then(|()| match fs::read_link(&link) {
            Ok(target) if build.folder.ends_with(&target) => gone(fs::remove_file(&link)),
            _ => Ok(()),
        });
    if let Err(error) = result {
        tracing::warn!(folder = %build.folder.display(), %error, "cannot remove a build");
    }
}

pub(super) fn prune(service: &ServiceName, folder: &Path, keep: &[Build]) {
    let active = active(folder);
    let owner = |build: &Build| Some(Mark::of(build)?.service);
    let mut builds = all(folder);
    // An unfinished build has no owner: whoever made it had the folder alone, and is gone.
    builds.retain(|build| owner(build).is_none_or(|owner| owner == service.as_str()));
    let last = builds.iter().rev().filter(|build| is_finished(build)).take(2).cloned().collect::<Vec<_>>();
    for build in builds {
        let kept = last.contains(&build) || keep.contains(&build) || active.as_ref() == Some(&build);
        if !kept {
            remove(&build);
        }
    }
}

/// Lets the link `name` beside a product lead to that product. Readers see either the old or the new link.
pub(super) fn link(product: &Path, name: &str) -> Result<(), BuildError> {
    let link = product.with_file_name(name);
    let target = product.file_name().expect("a product's folder has a name");
    // The name begins with `.build`, as all names do that are no content of the service.
    let temporary = product.with_file_name(format!(".build{name}.new"));
    gone(fs::remove_file(&temporary)).map_err(files("remove", &temporary))?;
    symlink(target, &temporary).map_err(files("link", &temporary))?;
    fs::rename(&temporary, &link).map_err(|source| {
        // At the link's name is a folder, which is not ours to remove.
        drop(fs::remove_file(&temporary));
        files("put a link in the place of", &link)(source)
    })
}

pub(super) fn unlink(link: &Path) -> Result<(), BuildError> {
    match fs::read_link(link) {
        Ok(_) => gone(fs::remove_file(link)).map_err(files("remove", link)),
        // Nothing is there, or it is no link.
        Err(_) => Ok(()),
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
