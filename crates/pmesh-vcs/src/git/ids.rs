//! The one place of this crate with unsafe code: what a child does before it becomes a program, and another user's ids for a
//! thread.
//!
//! `pre_exec` is unsafe because in the child only async-signal-safe functions may run (signal-safety(7)):
//! no allocation, no lock. `setfsuid` and `setfsgid` are unsafe only because they come from C: they read no memory.
#![expect(unsafe_code, reason = "see above: calls that neither std nor rustix have")]

use std::{io, os::unix::process::CommandExt, process::Command};

use rustix::{
    process::{
        DumpableBehavior, Gid, Signal, Uid, dumpable_behavior, getpid, getppid, set_dumpable_behavior,
        set_parent_process_death_signal,
    },
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::account::User;

/// Has `command` run as `user` from its first instruction on, with that user's groups and none of ours.
pub(super) fn run_as(command: &mut Command, user: &User) {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups: Vec<_> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let become_user = move || {
        // Groups first: whoever has given up root's id may set them no more.
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    };
    // SAFETY: `become_user` makes three bare system calls on values that it owns. It neither allocates nor
    // locks, and an error is an integer.
    unsafe {
        command.pre_exec(become_user);
    }
}

/// Has `command` told to end (SIGTERM, at which git removes its locks) when the calling thread ends without having waited for it:
/// when this process is killed (`PR_SET_PDEATHSIG(2const)`). After [`run_as`], because new ids take that back.
pub(super) fn end_with_this_thread(command: &mut Command) {
    let server = getpid();
    let be_told = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // It may have ended before.
        if getppid() == Some(server) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ECANCELED)) }
    };
    // SAFETY: two bare system calls on values that it owns. It neither allocates nor locks, and an error is an integer.
    unsafe {
        command.pre_exec(be_told);
    }
}

/// Whether this process leaves core files (prctl(2), `PR_SET_DUMPABLE`).
///
/// To be asked before the first thread takes another user's ids: where two do at the same time, one would find what
/// the other has changed.
pub(super) fn leaves_core_files() -> bool {
    dumpable_behavior() == Ok(DumpableBehavior::Dumpable)
}

/// Makes the calling thread, and the threads that it starts, open files as `user`, for good.
///
/// That holds for opening files alone: a program that such a thread executes is root again, and so nothing is
/// ever started from one. The real and effective ids stay those of the server, so that the user cannot signal the
/// thread and with it the server (`kill(2)`). `leaves_core_files` is what
/// [`leaves_core_files`] has said before.
///
/// # Errors
///
/// What the system says; `PermissionDenied` where it has silently refused (setfsuid(2), "RETURN VALUE").
pub(super) fn open_files_as(user: &User, leaves_core_files: bool) -> io::Result<()> {
    let groups: Vec<_> = user.groups.iter().copied().map(Gid::from_raw).collect();
    // The system call itself, which is about this thread alone: the function of that name in the C library changes every
    // thread.
    set_thread_groups(&groups)?;
    // The group first: without root's id it could not be set.
    set_and_compare(user.gid, |gid| {
        // SAFETY: a system call that takes a number and answers with one (setfsgid(2)).
        unsafe { libc::setfsgid(gid) }
    })?;
    set_and_compare(user.uid, |uid| {
        // SAFETY: as above (setfsuid(2)).
        unsafe { libc::setfsuid(uid) }
    })?;
    // The call above has turned core files off for the whole process, and that is not a thread's to decide.
    if leaves_core_files {
        set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    }
    Ok(())
}

/// Both calls answer with the id that was there before, whether they have changed it or not. So there is a second call,
/// with an id that does not exist and changes nothing: its answer shows what the first one has done.
fn set_and_compare(id: u32, set: impl Fn(u32) -> libc::c_int) -> io::Result<()> {
    set(id);
    if set(u32::MAX).cast_unsigned() == id { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}
