//! Who a user is beside a number: account, home and groups, as initgroups(3) would give them.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    child::{ChildEnd, ChildLimits, RunningChild},
    executable,
};
use crate::Cancel;

/// How long a directory service may take to say who somebody is.
const ASKING_LIMIT: Duration = Duration::from_secs(5);

/// How long whoever asks it may take to end.
const ASKING_GRACE: Duration = Duration::from_secs(1);

/// The most that is kept of what it says, in bytes.
const OUTPUT_LIMIT: usize = 64 << 10;

/// The most groups that a process can be in (`setgroups(2)`, `NGROUPS_MAX`).
const GROUP_LIMIT: usize = 65536;

/// The group of nobody, by the kernel's default for ids that have no name (`user_namespaces(7)`, overflowgid).
const NO_GROUP: u32 = 65534;

/// A user as whom something runs or is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    /// The primary group.
    pub(super) gid: u32,
    /// All groups, the primary one among them.
    pub(super) groups: Vec<u32>,
    /// `None` where no account has this number.
    pub(super) account: Option<Account>,
}

/// What an account says beside its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: OsString,
    pub(super) home: PathBuf,
}

impl User {
    /// The user with this number, from the files or from wherever this machine has its users (LDAP, say). `group`
    /// is the group of what the user owns.
    pub(super) fn of(uid: u32, group: u32) -> Self {
        let passwd = file("/etc/passwd");
        if let Some((gid, account)) = find_account(&passwd, uid) {
            let groups = groups_of(&file("/etc/group"), &account.name, gid);
            return Self { uid, gid, groups, account: Some(account) };
        }
        let number = uid.to_string();
        let asked = asked("getent", &["passwd", &number]).and_then(|said| find_account(&said, uid));
        if let Some((gid, account)) = asked {
            let said = asked_groups(&number).unwrap_or_default();
            let groups = if said.contains(&gid) { said } else { vec![gid] };
            return Self { uid, gid, groups, account: Some(account) };
        }
        // Whoever is in no list is in no group. That a folder of theirs has one proves nothing (a `chown` by
        // root leaves root's), unless it bears their own number, as in most containers.
        let gid = if group == uid { group } else { NO_GROUP };
        Self { uid, gid, groups: vec![gid], account: None }
    }
}

/// The user as a sentence names it: `deploy`, or `uid 4242` where no account has that number.
pub(super) fn shown(uid: u32) -> String {
    name(uid).unwrap_or_else(|| format!("uid {uid}"))
}

/// The account's name, if one has this number and can be written down in a command.
pub(super) fn name(uid: u32) -> Option<String> {
    let (_, account) = find_account(&file("/etc/passwd"), uid)
        .or_else(|| find_account(&asked("getent", &["passwd", &uid.to_string()])?, uid))?;
    let is_plain = |name: &str| {
        !name.starts_with('-')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@'))
    };
    account.name.into_string().ok().filter(|name| is_plain(name))
}

fn file(path: &str) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| {
        tracing::debug!(%error, path, "cannot read who is who");
        Vec::new()
    })
}

/// What getent(1) or id(1) says; they are the programs that ask what nsswitch.conf(5) names.
fn asked(program: &str, args: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new(executable::find(Path::new(program))?);
    command.args(args).current_dir("/").process_group(0);
    let cancel = Cancel::new();
    let limits =
        ChildLimits { time: ASKING_LIMIT, cancel: &cancel, grace: ASKING_GRACE, output_bytes: OUTPUT_LIMIT };
    match RunningChild::start(&mut command, Stdio::null(), ASKING_GRACE)
        .and_then(|running| running.finish(&limits))
    {
        Ok(ChildEnd::Exited(output)) => Some(output.stdout),
        ended => {
            tracing::debug!(?ended, program, "no answer to who somebody is");
            None
        }
    }
}

fn asked_groups(uid: &str) -> Option<Vec<u32>> {
    let said = asked("id", &["-G", uid])?;
    std::str::from_utf8(&said).ok()?.split_ascii_whitespace().map(|gid| gid.parse().ok()).collect()
}

/// The account of a user by the lines of passwd(5), and its primary group.
fn find_account(passwd: &[u8], uid: u32) -> Option<(u32, Account)> {
    passwd.split(|&b| b == b'\n').find_map(|line| {
        let fields: Vec<_> = line.split(|&b| b == b':').collect();
        let [name, _, of, gid, _, home, ..] = fields[..] else { return None };
        (number(of)? == uid).then_some(())?;
        let account =
            Account { name: OsStr::from_bytes(name).to_owned(), home: OsStr::from_bytes(home).into() };
        Some((number(gid)?, account))
    })
}

/// The groups of an account by the lines of group(5), the primary one first.
fn groups_of(group: &[u8], name: &OsStr, primary: u32) -> Vec<u32> {
    let mut groups = vec![primary];
    for line in group.split(|&b| b == b'\n') {
        let fields: Vec<_> = line.split(|&b| b == b':').collect();
        let [_, _, gid, members, ..] = fields[..] else { continue };
        let Some(gid) = number(gid) else { continue };
        let is_member = members.split(|&b| b == b',').any(|member| member == name.as_bytes());
        if is_member && !groups.contains(&gid) && groups.len() < GROUP_LIMIT {
            groups.push(gid);
        }
    }
    groups
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken\ndeploy:x:1001:100::/srv/deploy:/bin/sh\n";

    #[test]
    fn an_account_is_found_by_its_number() {
        let account = Account { name: "deploy".into(), home: "/srv/deploy".into() };
        assert_eq!(find_account(PASSWD, 1001), Some((100, account)));
        assert_eq!(find_account(PASSWD, 7), None);
    }

    #[test]
    fn an_account_that_no_file_has_is_asked_for() {
        let said = asked("getent", &["passwd", "0"]).expect("this machine has getent");
        assert_eq!(find_account(&said, 0).unwrap().1, User::of(0, 0).account.unwrap());
    }

    #[test]
    fn the_groups_are_those_that_name_the_account_and_its_own() {
        let group =
            b"root:x:0:\nwww:x:33:deploy,bob\nadm:x:4:bob\nusers:x:100:deploy\nbroken\nx:x:7:deployer\n";
        assert_eq!(groups_of(group, OsStr::new("deploy"), 100), [100, 33]);
        assert_eq!(groups_of(group, OsStr::new("nobody"), 9), [9]);
    }

    #[test]
    fn who_has_no_account_is_in_no_group_of_others() {
        let invented = u32::MAX - 7;
        let of_root = User::of(invented, 0);
        assert_eq!((of_root.gid, &of_root.groups[..]), (NO_GROUP, &[NO_GROUP][..]));
        assert_eq!(of_root.account, None);
        assert_eq!(User::of(invented, invented).groups, [invented]);
        assert_eq!(shown(invented), format!("uid {invented}"));
    }
}
