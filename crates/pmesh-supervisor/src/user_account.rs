//! Who a service runs as, by the lines of passwd(5) and group(5). Pure.

use std::path::PathBuf;

use crate::saved::saved;

/// The most groups that a process can be in (`setgroups(2)`, `NGROUPS_MAX`).
const GROUP_LIMIT: usize = 65_536;

/// The group of nobody, by the kernel's default for ids without a name (`user_namespaces(7)`, `overflowgid`).
const NO_GROUP: u32 = 65_534;

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserAccount {
    /// Its number.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// All its groups, the primary one among them.
    pub groups: Vec<u32>,
    /// Its name; none where no account has this number.
    pub name: Option<String>,
    /// Its home; `/` where no account has this number.
    pub home: PathBuf,
}

saved!(struct UserAccount { uid, gid, groups, name, home });

impl UserAccount {
    /// Whoever has this number without being in any list: in no group of others.
    pub fn of_number(uid: u32) -> Self {
        Self { uid, gid: NO_GROUP, groups: vec![NO_GROUP], name: None, home: "/".into() }
    }

    /// The same with something changed: `account.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The account that `user` names, by its name or number; its groups are those that list it.
    pub(crate) fn find(user: &str, passwd: &str, group: &str) -> Option<Self> {
        let wanted = number(user);
        passwd.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
            let (uid, gid) = (number(uid)?, number(gid)?);
            let is_it = wanted.map_or(name == user, |wanted| wanted == uid);
            let home = if home.is_empty() { "/" } else { home };
            is_it.then(|| Self {
                uid,
                gid,
                groups: groups_of(group, name, gid),
                name: Some(name.to_owned()),
                home: home.into(),
            })
        })
    }

    /// As a sentence names it.
    pub(crate) fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("user {}", self.uid))
    }
}

/// A user or group that is written as a number.
pub(crate) fn number(text: &str) -> Option<u32> {
    // The last one stands for "none" (chown(2), setresuid(2)).
    text.parse().ok().filter(|&number| number != u32::MAX && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The groups of an account, the primary one first.
fn groups_of(group: &str, name: &str, primary: u32) -> Vec<u32> {
    let mut groups = vec![primary];
    for line in group.lines() {
        let fields: Vec<_> = line.split(':').collect();
        let [_, _, gid, members, ..] = fields[..] else { continue };
        let Some(gid) = number(gid) else { continue };
        let is_member = members.split(',').any(|member| member == name);
        if is_member && !groups.contains(&gid) && groups.len() < GROUP_LIMIT {
            groups.push(gid);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:1001:100::/srv/web:/bin/sh\nbare:x:7:8::\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:web,bob\nadm:x:4:bob\nusers:x:100:web\nbroken\nx:x:9:webs\n";

    fn find(user: &str) -> Option<UserAccount> {
        UserAccount::find(user, PASSWD, GROUP)
    }

    #[test]
    fn an_account_is_found_by_its_name_and_number_with_all_its_groups() {
        let web = find("web").unwrap();
        assert_eq!((web.uid, web.gid, &web.groups[..]), (1001, 100, &[100, 33][..]));
        assert_eq!((web.name.as_deref(), web.home.to_str()), (Some("web"), Some("/srv/web")));
        assert_eq!(find("1001"), Some(web));
        assert_eq!(find("root").unwrap().groups, [0]);
        assert_eq!(find("bare").unwrap().home.to_str(), Some("/"));
        for nobody in ["we", "x", "broken", "", "1002", "+1001", "-1"] {
            assert_eq!(find(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn who_is_in_no_list_is_in_no_group_of_others() {
        let stranger = UserAccount::of_number(4242);
        assert_eq!(
            (stranger.gid, &stranger.groups[..], stranger.shown()),
            (NO_GROUP, &[NO_GROUP][..], "user 4242".to_owned())
        );
        assert_eq!(number("4294967295"), None);
        assert_eq!(number("4294967294"), Some(4_294_967_294));
    }
}
