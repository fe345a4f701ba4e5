//! Control groups (cgroups(7), version 2): where this process may make some, and those of one node.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, io::Errno};

/// How deep apps may have made groups of their own below a leaf, and how many, for as far as we look.
const DEPTH: usize = 32;
const GROUPS: usize = 4096;

/// The control groups of one node: a folder of leaves, one for each tree of processes.
#[derive(Debug)]
pub struct NodeCgroups {
    folder: PathBuf,
}

/// Why processes are not held in control groups here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoCgroups {
    /// There is no file system of version 2.
    #[error("cgroup v2 is not mounted")]
    NotMounted,
    /// The process is in a group that it cannot see.
    #[error("the group of this process lies outside of what is mounted here")]
    Outside,
    /// systemd wants nobody to make groups where it has not been told so.
    #[error("systemd has not delegated {} to it (Delegate=yes in the unit)", .0.display())]
    NotDelegated(PathBuf),
    /// A kernel before 5.14.
    #[error("this kernel has no cgroup.kill")]
    TooOld,
    /// The system's own reason.
    #[error("{}: {source}", folder.display())]
    Refused {
        /// What could not be made.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The group of one tree. Whoever is born in it stays in it.
#[derive(Debug)]
pub(crate) struct Leaf {
    folder: PathBuf,
}

impl NodeCgroups {
    /// Makes the folder of the node with this id below the group that this process is in, if it may. Blocks.
    ///
    /// Where systemd runs, only in a group that was delegated
    /// (systemd's "Control Group APIs and Delegation"): nobody else may make groups there.
    ///
    /// # Errors
    ///
    /// [`NoCgroups`]; then processes are known by session, descent and mark.
    pub fn open(node: &str) -> Result<Self, NoCgroups> {
        let refused = |folder: &Path| {
            let folder = folder.to_owned();
            move |source| NoCgroups::Refused { folder, source }
        };
        let read = |path: &str| fs::read_to_string(path).map_err(refused(Path::new(path)));
        let base = own_group(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)?;
        if fs::exists("/run/systemd/system").unwrap_or(false) && !is_delegated(&base) {
            return Err(NoCgroups::NotDelegated(base));
        }
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let folder = base.join(format!("pmesh-{}", node.chars().map(safe).collect::<String>()));
        make(&folder).map_err(refused(&folder))?;
        if !fs::exists(folder.join("cgroup.kill")).unwrap_or(false) {
            // Empty, or an earlier server's.
            drop(fs::remove_dir(&folder));
            return Err(NoCgroups::TooOld);
        }
        Ok(Self { folder })
    }

    /// A new group for one tree, and its `cgroup.procs`, by which a child enters.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn leaf(&self, name: &str) -> io::Result<(Leaf, OwnedFd)> {
        let folder = self.folder.join(name);
        let made = match make(&folder) {
            // Somebody has tidied up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&self.folder).and_then(|()| make(&folder))
            }
            made => made,
        };
        made?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(folder.join("cgroup.procs"), flags, rustix::fs::Mode::empty()) {
            Ok(entry) => Ok((Leaf { folder }, entry)),
            Err(error) => {
                remove(&folder);
                Err(error.into())
            }
        }
    }

    /// Everybody in any group of the node.
    pub(crate) fn pids(&self) -> Vec<u32> {
        members(&self.folder)
    }

    /// Removes the groups that nobody is in, the node's own too.
    pub(crate) fn remove_empty(&self) {
        remove(&self.folder);
    }
}

impl Drop for NodeCgroups {
    fn drop(&mut self) {
        self.remove_empty();
    }
}

impl Leaf {
    /// Everybody in the group, zombies not.
    pub(crate) fn pids(&self) -> Vec<u32> {
        members(&self.folder)
    }

    /// Whether a process is in the group, or below it.
    pub(crate) fn holds(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
        let group = text.lines().find_map(|line| line.strip_prefix("0::"));
        let name = self.folder.file_name().and_then(|name| name.to_str());
        group.zip(name).is_some_and(|(group, name)| group.split('/').any(|part| part == name))
    }

    /// Ends everybody in the group by SIGKILL, at once and however fast they fork.
    pub(crate) fn kill(&self) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.kill"), "1")
    }

    /// The file that says whether anybody is in the group, and that becomes ready (`POLLPRI`) when that changes.
    pub(crate) fn events(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(self.folder.join("cgroup.events"), flags, rustix::fs::Mode::empty())?)
    }

    /// Removes the group if nobody is in it.
    pub(crate) fn remove(&self) {
        remove(&self.folder);
    }
}

/// Whether the content of `cgroup.events` says that somebody is in the group or below it.
pub(crate) fn is_populated(events: &str) -> bool {
    events.lines().any(|line| line == "populated 1")
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The processes of a group and of those below it.
fn members(folder: &Path) -> Vec<u32> {
    let mut pids: Vec<u32> = Vec::new();
    for group in groups(folder) {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|&pid| pid != 0));
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// A group and those below it, each before what is below it.
fn groups(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![(folder.to_owned(), 0)];
    let mut next = 0;
    while next < found.len() && found.len() < GROUPS {
        let (group, depth) = found[next].clone();
        next += 1;
        let entries = fs::read_dir(&group).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        if depth < DEPTH {
            found.extend(below.map(|entry| (entry.path(), depth + 1)));
        }
    }
    found.into_iter().map(|(group, _)| group).collect()
}

/// Removes a group and those below it, as far as nobody is in them.
fn remove(folder: &Path) {
    for group in groups(folder).iter().rev() {
        if let Err(error) = fs::remove_dir(group)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, group = %group.display(), "a control group stays");
        }
    }
}

/// The folder of the group that this process is in.
fn own_group(mounts: &str, groups: &str) -> Result<PathBuf, NoCgroups> {
    let mount = mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup2 ").then_some((root, point))
    });
    let (root, point) = mount.ok_or(NoCgroups::NotMounted)?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).ok_or(NoCgroups::NotMounted)?;
    if own.starts_with("/..") || root.starts_with("/..") {
        return Err(NoCgroups::Outside);
    }
    // Only a part of the tree may be mounted.
    let below = Path::new(own).strip_prefix(root).map_err(|_| NoCgroups::Outside)?;
    Ok(if below.as_os_str().is_empty() { PathBuf::from(point) } else { Path::new(point).join(below) })
}

/// Whether systemd has given a group to whoever runs in it.
fn is_delegated(folder: &Path) -> bool {
    let mut value = [0; 8];
    let marked = ["trusted.delegate", "user.delegate"]
        .into_iter()
        .any(|name| matches!(rustix::fs::getxattr(folder, name, &mut value), Ok(1) if value[0] == b'1'));
    let own = rustix::process::geteuid().as_raw();
    // Before 250 systemd marks it for root alone.
    let is_ours = || {
        let owner = |path: PathBuf| fs::metadata(path).map(|it| it.uid());
        own != 0
            && owner(folder.to_owned()).is_ok_and(|uid| uid == own)
            && owner(folder.join("cgroup.procs")).is_ok_and(|uid| uid == own)
    };
    marked || is_ours()
}

/// Writes this process into the group whose `cgroup.procs` this is. Only a system call, for the time between fork and exec.
pub(crate) fn enter(entry: rustix::fd::BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::io::write(entry, b"0").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "23 1 0:20 / /proc rw - proc proc rw\n\
                          36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";

    #[test]
    fn the_own_group_is_found_below_the_mount_of_version_2() {
        let hybrid =
            format!("{MOUNTS}41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
        let found = |mounts: &str, groups: &str| own_group(mounts, groups).map_err(|error| error.to_string());
        let path = |text: &str| Ok(PathBuf::from(text));
        assert_eq!(found(&hybrid, "9:name=systemd:/\n0::/\n"), path("/sys/fs/cgroup/unified"));
        assert_eq!(found(&hybrid, "0::/a/b.service\n"), path("/sys/fs/cgroup/unified/a/b.service"));
        let part = format!("{MOUNTS}41 31 0:38 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(found(&part, "0::/a/b\n"), path("/sys/fs/cgroup/b"));
        assert_eq!(found(&part, "0::/other\n"), Err(NoCgroups::Outside.to_string()));
        assert_eq!(found(&hybrid, "0::/../x\n"), Err(NoCgroups::Outside.to_string()));
        assert_eq!(found(MOUNTS, "0::/\n"), Err(NoCgroups::NotMounted.to_string()));
        assert_eq!(found(&hybrid, "4:memory:/x\n"), Err(NoCgroups::NotMounted.to_string()));
    }

    #[test]
    fn a_group_is_populated_where_its_events_say_so() {
        assert!(is_populated("populated 1\nfrozen 0\n"));
        assert!(!is_populated("populated 0\nfrozen 0\n") && !is_populated(""));
    }
}
