//! What builds leave in a service's folder: products, the marks of finished ones, and two links.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    error::{BuildError, files},
    product::{Build, BuildId},
};
use crate::ServiceName;

/// The link to the build that runs, in the sense of the service.
pub(super) const RUN: &str = ".run";
/// The link to the build that is being made.
pub(super) const BUILD: &str = ".build";

const PREFIX: &str = ".build-";

impl Build {
    /// Lets the service's link `.run` lead to this build, in one atomic step. Going back is the same
    /// call for the build before, or [`Build::deactivate`] where there was none. Blocks for a few
    /// system calls.
    ///
    /// # Errors
    ///
    /// [`BuildError::Files`].
    pub fn activate(&self) -> Result<(), BuildError> {
        link(&self.folder, RUN)
    }

    /// Removes the link `.run` of a service's folder, if there is one.
    ///
    /// # Errors
    ///
    /// [`BuildError::Files`].
    pub fn deactivate(folder: &Path) -> Result<(), BuildError> {
        unlink(&folder.join(RUN))
    }

    /// The finished build that `.run` leads to in a service's folder.
    pub fn active(folder: &Path) -> Option<Self> {
        active(folder)
    }
}

/// The build whose product a folder of this name is: `.build-<id>` or `.build-<id>-<n>`.
fn parse(folder: &Path, name: &str) -> Option<Build> {
    let rest = name.strip_prefix(PREFIX)?;
    let (id, number) = rest.split_once('-').map_or((rest, None), |(id, number)| (id, Some(number)));
    let good = id.len() == 16
        && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && number.is_none_or(|number| number.parse::<u32>().is_ok());
    good.then(|| Build { id: BuildId(id.into()), folder: folder.join(name) })
}

/// The file that says that a build is finished, and whose it is.
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

/// The finished builds of an id, the oldest first.
pub(super) fn finished(folder: &Path, id: &BuildId) -> Vec<Build> {
    let mut builds = all(folder);
    builds.retain(|build| build.id == *id && is_finished(build));
    builds
}

pub(super) fn active(folder: &Path) -> Option<Build> {
    let target = fs::read_link(folder.join(RUN)).ok()?;
    let build = parse(folder, target.to_str()?)?;
    is_finished(&build).then_some(build)
}

/// An empty folder for a product, which no finished build has.
pub(super) fn begin(folder: &Path, id: &BuildId) -> Result<Build, BuildError> {
    let names = std::iter::once(format!("{PREFIX}{id}")).chain((2..).map(|n| format!("{PREFIX}{id}-{n}")));
    for name in names {
        let build = Build { id: id.clone(), folder: folder.join(name) };
        if is_finished(&build) {
            continue;
        }
        remove(&build);
        fs::create_dir(&build.folder).map_err(files("make", &build.folder))?;
        return Ok(build);
    }
    unreachable!("there is a name for each number")
}

/// Takes what the steps have left as the product of a finished build.
pub(super) fn finish(build: &Build, service: &ServiceName) -> Result<(), BuildError> {
    let link = build.folder.with_file_name(BUILD);
    // A step may have removed the link, as "clean", and made a folder of that name.
    if fs::symlink_metadata(&link).is_ok_and(|found| found.is_dir()) {
        if build.folder.is_dir() {
            fs::remove_dir_all(&build.folder).map_err(files("remove", &build.folder))?;
        }
        fs::rename(&link, &build.folder).map_err(files("move", &link))?;
    } else {
        unlink(&link)?;
    }
    if !build.folder.is_dir() {
        fs::create_dir(&build.folder).map_err(files("make", &build.folder))?;
    }
    let mark = mark(build);
    fs::write(&mark, format!("{service}\n")).map_err(files("write", &mark))
}

/// Removes a build and the link to it under construction. What cannot be removed is left, with a
/// warning.
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
    let owner = |build: &Build| fs::read_to_string(mark(build)).ok();
    let own = format!("{service}\n");
    let mut builds = all(folder);
    // An unfinished one is nobody's: its maker had the folder to itself, and is gone.
    builds.retain(|build| owner(build).is_none_or(|owner| owner == own));
    let last = builds.iter().rev().filter(|build| is_finished(build)).take(2).cloned().collect::<Vec<_>>();
    for build in builds {
        let kept = last.contains(&build) || keep.contains(&build) || active.as_ref() == Some(&build);
        if !kept {
            remove(&build);
        }
    }
}

/// Lets the link `name` beside a product lead to it. Who looks sees the old or the new one.
pub(super) fn link(product: &Path, name: &str) -> Result<(), BuildError> {
    let link = product.with_file_name(name);
    let target = product.file_name().expect("a product's folder has a name");
    // Begins with `.build`, as all that is not the service's own.
    let temporary = product.with_file_name(format!(".build{name}.new"));
    gone(fs::remove_file(&temporary)).map_err(files("remove", &temporary))?;
    symlink(target, &temporary).map_err(files("link", &temporary))?;
    fs::rename(&temporary, &link).map_err(|source| {
        // A folder of that name, which is not ours to remove.
        drop(fs::remove_file(&temporary));
        files("put a link in the place of", &link)(source)
    })
}

pub(super) fn unlink(link: &Path) -> Result<(), BuildError> {
    match fs::read_link(link) {
        Ok(_) => gone(fs::remove_file(link)).map_err(files("remove", link)),
        // Not there, or not a link.
        Err(_) => Ok(()),
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
