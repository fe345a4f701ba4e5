//! The one place of this crate with unsafe code: another user's ids for a child.
//!
//! `pre_exec` is unsafe because in the child only async-signal-safe functions may run (signal-safety(7)):
//! no allocation, no lock.
#![expect(unsafe_code, reason = "see above: std cannot give a child the groups of another user")]

use std::{os::unix::process::CommandExt, process::Command};

use rustix::{
    process::{Gid, Uid},
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
