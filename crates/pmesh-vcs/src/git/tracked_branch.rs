//! Which branch of which remote the checked-out branch follows.

use gix::{
    bstr::{BStr, BString, ByteSlice, ByteVec},
    config::File,
};

use super::{
    commit,
    opened::{OBJECT_LIMIT, OpenedRepo},
};
use crate::{BranchName, Revision, VcsError, redact};

/// The remote branch that a local one follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TrackedBranch {
    /// The remote's name in the configuration.
    pub(super) remote: BString,
    /// The remote's first URL; git fetches from that one.
    pub(super) url: BString,
    /// The branch's full name on the remote, such as `refs/heads/main`.
    pub(super) source: BString,
    /// Where its tip is kept here, such as `refs/remotes/origin/main`.
    pub(super) tracking: BString,
}

/// The upstream of the branch that is checked out, if a branch is.
pub(super) fn of_head(repo: &gix::Repository) -> gix::Result<Option<TrackedBranch>> {
    let head = repo.head()?;
    let Some(branch) = head.referent_name() else { return Ok(None) };
    Ok(of_branch(repo.config_snapshot().plumbing(), branch.as_bstr()))
}

impl TrackedBranch {
    /// The URL as it may be shown.
    pub(super) fn shown_url(&self) -> String {
        redact::url(&self.url.to_str_lossy())
    }

    /// The branch as the remote names it.
    pub(super) fn branch(&self) -> BranchName {
        commit::short_name(self.source.as_bstr())
    }

    /// The tip as of the last fetch. Where it is the commit of `known`, that one is not read again.
    pub(super) fn revision(
        &self,
        opened: &OpenedRepo,
        known: Option<&Revision>,
    ) -> Result<Option<Revision>, VcsError> {
        let damaged = |error| opened.damaged(error);
        let Ok(name) = <&gix::refs::FullNameRef>::try_from(self.tracking.as_bstr()) else { return Ok(None) };
        opened.look_at_reference(name.as_bstr())?;
        let Some(mut reference) = opened.repo.try_find_reference(name).map_err(damaged)? else {
            return Ok(None);
        };
        // `refs/remotes/origin/HEAD` is the remote's default branch, not a branch of that name.
        if reference.target().try_name().is_some() {
            return Ok(None);
        }
        if let Some(id) = reference.try_id() {
            opened.size(id.detach(), OBJECT_LIMIT)?;
        }
        let id = reference.peel_to_commit().map_err(damaged)?.id;
        let branch = commit::short_name(self.tracking.as_bstr());
        let id_here = commit::commit_id(id);
        match known.filter(|known| known.commit.as_ref() == Some(&id_here)) {
            Some(known) => Ok(Some(Revision { branch, ..known.clone() })),
            None => commit::revision(opened, branch, id).map(Some),
        }
    }
}

/// The configured upstream of `branch` (`branch.<name>.remote` and `.merge`), else the same name at
/// `origin`, else at the only remote (git-config(1), "branch.<name>.remote").
///
/// A branch that follows another local branch, or a URL that has no name as a remote, follows nothing: there
/// is no place here that says what was fetched last.
fn of_branch(config: &File, branch: &BStr) -> Option<TrackedBranch> {
    let short = branch.strip_prefix(b"refs/heads/")?.as_bstr();
    let remotes = remotes(config);
    let find = |name: &BStr| remotes.iter().find(|(remote, _)| remote == name);

    let merge = config.string_by("branch", Some(short), "merge");
    let (remote, url) = match config.string_by("branch", Some(short), "remote") {
        Some(name) => find(name.as_bstr())?,
        None => match (find("origin".into()), &remotes[..]) {
            (Some(origin), _) => origin,
            (None, [only]) => only,
            (None, _) => return None,
        },
    };
    let source = match merge {
        Some(name) if name.starts_with(b"refs/") => name,
        Some(name) => under("refs/heads/", name.as_bstr()),
        None => branch.to_owned(),
    };
    let tracking = tracking(config, remote.as_bstr(), source.as_bstr());
    Some(TrackedBranch { remote: remote.clone(), url: url.clone(), source, tracking })
}

/// Name and first URL of every remote, in the order of the configuration.
pub(super) fn remotes(config: &File) -> Vec<(BString, BString)> {
    let mut found: Vec<(BString, BString)> = Vec::new();
    for section in config.sections_by_name("remote").into_iter().flatten() {
        let Some(name) = section.header().subsection_name() else { continue };
        let Some(url) =
            config.strings_by("remote", Some(name), "url").and_then(|urls| urls.into_iter().next())
        else {
            continue;
        };
        if !found.iter().any(|(known, _)| known == name) {
            found.push((name.to_owned(), url));
        }
    }
    found
}

/// Where the configured refspecs of `remote` put `source`; where git would by default if none covers it (a
/// clone of one branch only), or if the place is a local branch (a mirror), which a fetch must not move.
fn tracking(config: &File, remote: &BStr, source: &BStr) -> BString {
    config
        .strings_by("remote", Some(remote), "fetch")
        .unwrap_or_default()
        .iter()
        .find_map(|refspec| mapped(refspec.as_bstr(), source))
        .filter(|place| place.starts_with(b"refs/") && !place.starts_with(b"refs/heads/"))
        .unwrap_or_else(|| {
            let short = source.strip_prefix(b"refs/heads/").unwrap_or(source);
            let mut place = under("refs/remotes/", remote);
            place.push(b'/');
            place.push_str(short);
            place
        })
}

/// The destination of `source` by a refspec such as `+refs/heads/*:refs/remotes/origin/*` (git-fetch(1)).
fn mapped(refspec: &BStr, source: &BStr) -> Option<BString> {
    let refspec = refspec.strip_prefix(b"+").unwrap_or(refspec);
    if refspec.starts_with(b"^") {
        return None;
    }
    let (from, to) = refspec.split_once_str(b":")?;
    let Some((before, after)) = from.split_once_str(b"*") else {
        return (from == source.as_bytes() && !to.is_empty()).then(|| to.into());
    };
    let middle = source.strip_prefix(before)?.strip_suffix(after)?;
    let (to_before, to_after) = to.split_once_str(b"*")?;
    Some([to_before, middle, to_after].concat().into())
}

fn under(prefix: &str, name: &BStr) -> BString {
    let mut full = BString::from(prefix);
    full.push_str(name);
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(config: &str, branch: &str) -> Option<(String, String, String)> {
        let config = File::try_from(config).unwrap();
        of_branch(&config, branch.into())
            .map(|it| (it.remote.to_string(), it.source.to_string(), it.tracking.to_string()))
    }

    fn is(remote: &str, source: &str, tracking: &str) -> (String, String, String) {
        (remote.to_owned(), source.to_owned(), tracking.to_owned())
    }

    const ORIGIN: &str = "[remote \"origin\"]\nurl = u\nfetch = +refs/heads/*:refs/remotes/origin/*\n";
    const BACKUP: &str = "[remote \"backup\"]\nurl = v\nfetch = +refs/heads/*:refs/remotes/backup/*\n";

    #[test]
    fn a_configured_upstream_wins() {
        let config = format!("{ORIGIN}{BACKUP}[branch \"main\"]\nremote = backup\nmerge = refs/heads/live\n");
        assert_eq!(
            upstream(&config, "refs/heads/main"),
            Some(is("backup", "refs/heads/live", "refs/remotes/backup/live"))
        );
    }

    #[test]
    fn without_one_it_is_the_same_name_at_origin() {
        let config = format!("{BACKUP}{ORIGIN}");
        assert_eq!(
            upstream(&config, "refs/heads/a/b"),
            Some(is("origin", "refs/heads/a/b", "refs/remotes/origin/a/b"))
        );
    }

    #[test]
    fn without_origin_it_is_the_same_name_at_the_only_remote() {
        assert_eq!(
            upstream(BACKUP, "refs/heads/x"),
            Some(is("backup", "refs/heads/x", "refs/remotes/backup/x"))
        );
        let two = format!("{BACKUP}{}", BACKUP.replace("backup", "other"));
        assert_eq!(upstream(&two, "refs/heads/x"), None);
    }

    #[test]
    fn half_an_upstream_is_completed() {
        let only_remote = format!("{ORIGIN}{BACKUP}[branch \"x\"]\nremote = backup\n");
        assert_eq!(
            upstream(&only_remote, "refs/heads/x"),
            Some(is("backup", "refs/heads/x", "refs/remotes/backup/x"))
        );
        let only_merge = format!("{ORIGIN}{BACKUP}[branch \"x\"]\nmerge = refs/heads/y\n");
        assert_eq!(
            upstream(&only_merge, "refs/heads/x"),
            Some(is("origin", "refs/heads/y", "refs/remotes/origin/y"))
        );
    }

    #[test]
    fn a_local_branch_or_a_bare_url_is_not_followed() {
        for remote in [".", "https://example.org/app.git", "gone"] {
            let config = format!("{ORIGIN}[branch \"x\"]\nremote = {remote}\nmerge = refs/heads/main\n");
            assert_eq!(upstream(&config, "refs/heads/x"), None, "{remote}");
        }
    }

    #[test]
    fn a_remote_without_a_url_is_none() {
        assert_eq!(upstream("[remote \"origin\"]\nprune = true\n", "refs/heads/x"), None);
    }

    #[test]
    fn the_refspec_says_where_the_tip_is_kept() {
        for (refspec, place) in [
            ("+refs/heads/*:refs/remotes/other/*", "refs/remotes/other/main"),
            ("refs/heads/*:refs/remotes/o/*/tip", "refs/remotes/o/main/tip"),
            ("+refs/heads/main:refs/remotes/o/live", "refs/remotes/o/live"),
            // Of these none covers the branch, or the place is not fit.
            ("+refs/heads/dev:refs/remotes/o/dev", "refs/remotes/origin/main"),
            ("^refs/heads/main", "refs/remotes/origin/main"),
            ("refs/heads/main", "refs/remotes/origin/main"),
            ("+refs/*:refs/*", "refs/remotes/origin/main"),
            ("+refs/heads/*:refs/heads/*", "refs/remotes/origin/main"),
        ] {
            let config = format!("[remote \"origin\"]\nurl = u\nfetch = {refspec}\n");
            assert_eq!(
                upstream(&config, "refs/heads/main"),
                Some(is("origin", "refs/heads/main", place)),
                "{refspec}"
            );
        }
    }

    #[test]
    fn the_first_url_is_the_one_that_is_fetched() {
        let config = File::try_from("[remote \"o\"]\nurl = a\nurl = b\npushurl = c\n").unwrap();
        assert_eq!(of_branch(&config, "refs/heads/x".into()).unwrap().url, "a");
    }
}
