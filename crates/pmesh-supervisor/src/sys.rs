//! The one place of this crate with unsafe code: what a child does between fork and exec, and
//! waiting for a descriptor.
//!
//! `pre_exec` is unsafe because in the child only async-signal-safe functions may run
//! (signal-safety(7)): no allocation, no lock, nothing that another thread of the parent could have
//! left half done. All calls here are bare system calls without memory of their own.
//! The standard library has set SIGPIPE to its default and emptied the signal mask by then.
//!
//! `AsyncFd::register_with_interest` is unsafe because the runtime keeps the descriptor's number:
//! the owner must neither close it nor name another one before it is dropped. An `OwnedFd` inside,
//! which nobody can take out, does neither.
#![allow(unsafe_code, reason = "see above: two calls whose rules the caller has to keep")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use rustix::{
    process::{Gid, Resource, Rlimit, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    process::Command,
};

use crate::{UserAccount, cgroups};

/// Who a child becomes.
#[derive(Debug)]
pub(crate) struct ChildUser {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    folder: CString,
}

impl ChildUser {
    /// This account, in this folder.
    pub(crate) fn new(account: &UserAccount, folder: &Path) -> io::Result<Self> {
        Ok(Self {
            uid: Uid::from_raw(account.uid),
            gid: Gid::from_raw(account.gid),
            groups: account.groups.iter().copied().map(Gid::from_raw).collect(),
            folder: CString::new(folder.as_os_str().as_bytes())?,
        })
    }
}

/// Makes the child the leader of a new session and process group, sets its soft limit of open
/// descriptors, and keeps all of ours but 0 to 2 from it, also those that were handed to this process
/// without close-on-exec.
///
/// Where there is a control group it enters that first, by the group's `cgroup.procs`: nothing of the program has run by then.
/// It becomes another user last, with that user's groups and none of ours, and enters its folder as that.
pub(crate) fn prepare_child(
    command: &mut Command,
    nofile: Option<u64>,
    entry: Option<OwnedFd>,
    user: Option<ChildUser>,
) {
    let limit = nofile.map(soft_limit);
    let prepare = move || {
        if let Some(entry) = &entry {
            cgroups::enter(entry.as_fd())?;
        }
        rustix::process::setsid()?;
        if let Some(limit) = limit {
            rustix::process::setrlimit(Resource::Nofile, limit)?;
        }
        if let Some(ChildUser { uid, gid, groups, folder }) = &user {
            // Groups first: whoever has given up root's id may set them no more.
            set_thread_groups(groups)?;
            set_thread_res_gid(*gid, *gid, *gid)?;
            set_thread_res_uid(*uid, *uid, *uid)?;
            rustix::process::chdir(folder.as_c_str())?;
        }
        close_on_exec();
        Ok(())
    };
    // SAFETY: `prepare` makes bare system calls, write, setsid, prlimit64, setgroups, setresgid, setresuid, chdir and
    // close_range, on values that it owns; a path that is a `CStr` is not copied. It neither allocates nor locks, and an error is an integer.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Marks every descriptor from 3 on to be closed at exec: not closed at once, for the standard
/// library reports a failed exec through one of them.
fn close_on_exec() {
    // SAFETY: close_range(2) reads no memory, and with CLOSE_RANGE_CLOEXEC it only sets flags, in the
    // child's own table. Linux 5.10 knows the call but not the flag and refuses it: then only what
    // this process opened itself is kept from the child, as the standard library does always.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// The hard limit of open descriptors, which children get as well.
pub(crate) fn hard_nofile() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).maximum
}

/// The limit to set: `wanted`, cut to the hard limit, which stays.
fn soft_limit(wanted: u64) -> Rlimit {
    let hard = hard_nofile();
    Rlimit { current: Some(hard.map_or(wanted, |hard| hard.min(wanted))), maximum: hard }
}

/// Lets the runtime wait until a descriptor is readable; a pidfd is from the process's end on.
/// Must be called in a runtime with its I/O driver on.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch_for(descriptor, Interest::READABLE)
}

/// The same for another readiness.
pub(crate) fn watch_for(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` always gives the same number, open until it is dropped, which `AsyncFd`
    // does after it has told the runtime.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    watched.map_err(io::Error::from)
}
