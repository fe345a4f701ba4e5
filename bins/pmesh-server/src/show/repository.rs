//! `repo` and `update`.

use pmesh_api::wire::{Repo, Revision, Updated};

use super::figures::counted;
use crate::terminal::{Colour, Style, harmless};

/// How much of a commit's name a person is shown.
const SHORT: usize = 12;

/// The columns that the headings of [`repository`] take.
const HEADINGS: usize = "remote  ".len();

/// What is checked out and what the remote offers.
pub(crate) fn repository(repo: &Repo, style: Style) -> String {
    let line = |heading: &str, text: &str| {
        let gap = " ".repeat(HEADINGS - heading.len());
        format!("{}{gap}{text}\n", style.paint(Colour::Bold, heading))
    };
    let remote = match &repo.remote {
        remote if remote.hash.is_empty() => "none".to_owned(),
        remote if remote.hash == repo.head.hash => format!("{}: the same commit", harmless(&remote.branch)),
        remote => revision(remote, style),
    };
    let deployed = match other_revision(repo) {
        Some(deployed) => line("runs", &revision(deployed, style)),
        None => String::new(),
    };
    let url = if repo.url.is_empty() { String::new() } else { line("url", &harmless(&repo.url)) };
    let head = line("head", &revision(&repo.head, style));
    format!("{head}{deployed}{}{url}", line("remote", &remote))
}

/// What the services run, if that is not what is checked out.
pub(super) fn other_revision(repo: &Repo) -> Option<&Revision> {
    repo.deployed.as_ref().filter(|deployed| deployed.hash != repo.head.hash)
}

/// Says so, for the status.
pub(super) fn moved_by_hand(repo: &Repo, style: Style) -> Option<String> {
    let deployed = other_revision(repo)?;
    let sentence = format!(
        "the services run {}, and {} is checked out: `pmesh-server update` rolls over to it",
        named(deployed),
        short(&repo.head)
    );
    Some(style.paint(Colour::Yellow, &style.cut(&sentence, 0)))
}

/// The same in one line, for the status.
pub(super) fn one_line(repo: &Repo, style: Style) -> String {
    let remote = match &repo.remote {
        remote if remote.hash.is_empty() => "no remote branch".to_owned(),
        remote if remote.hash == repo.head.hash => format!("{} is the same", harmless(&remote.branch)),
        remote => format!("{} is at {}", harmless(&remote.branch), named(remote)),
    };
    style.cut(&format!("{} {}; {remote}", harmless(&repo.head.branch), named(&repo.head)), 0)
}

/// What an update did.
pub(crate) fn updated(update: &Updated, style: Style) -> String {
    let Updated { from, to, ahead, invalidated, retried, repeated, moved_to, remedy, .. } = update;
    let branch = harmless(&to.branch);
    let ahead = match ahead {
        Some(ahead) => format!(", {} ahead of the remote", counted(*ahead, "commit")),
        None => String::new(),
    };
    let sentence = if from.hash != to.hash {
        format!("{} {} → {}{ahead}", harmless(&from.branch), short(from), named(to))
    } else if *invalidated {
        format!("every service was built anew: {branch} is at {}{ahead}", named(to))
    } else if *retried {
        format!("tried again: {branch} is at {}{ahead}", named(to))
    } else if *repeated {
        format!("rolled over again: {branch} is at {}{ahead}", named(to))
    } else {
        format!("nothing new: {branch} is at {}{ahead}", named(to))
    };
    let moved = match (moved_to, remedy) {
        // The command is to be copied, so it is never cut.
        (Some(url), Some(remedy)) => {
            format!("the remote has moved to {}; `{}` makes git ask there\n", harmless(url), harmless(remedy))
        }
        _ => String::new(),
    };
    format!("{}\n{moved}", style.cut(&sentence, 0))
}

/// Branch, commit, subject and author.
fn revision(revision: &Revision, style: Style) -> String {
    let author =
        if revision.author.is_empty() { String::new() } else { format!(", {}", harmless(&revision.author)) };
    style.cut(&format!("{} {}{author}", harmless(&revision.branch), named(revision)), HEADINGS)
}

/// `9af3c21d0b4e "Fix cart rounding"`.
fn named(revision: &Revision) -> String {
    let subject = revision.message.lines().next().unwrap_or_default();
    match short(revision) {
        "" => "without a commit".to_owned(),
        hash => format!("{hash} \"{}\"", harmless(subject)),
    }
}

fn short(revision: &Revision) -> &str {
    revision.hash.get(..SHORT).unwrap_or(&revision.hash)
}

#[cfg(test)]
pub(super) mod tests {
    use pmesh_api::wire::{Repo, Updated};
    use serde_json::{Value, json};

    use super::{moved_by_hand, one_line, repository, updated};
    use crate::terminal::Style;

    pub(crate) fn commit(branch: &str, digit: char, message: &str) -> Value {
        let hash = digit.to_string().repeat(40);
        json!({"branch": branch, "hash": hash, "author": "Ada <ada@example.org>", "message": message})
    }

    fn nothing(branch: &str) -> Value {
        json!({"branch": branch, "hash": "", "author": "", "message": ""})
    }

    fn repo(head: &Value, remote: &Value) -> Repo {
        let url = "https://example.org/shop.git";
        serde_json::from_value(json!({"sys": "git", "ref": head, "remote": remote, "url": url})).unwrap()
    }

    #[test]
    fn a_repository_is_its_head_and_what_the_remote_offers() {
        let behind = repo(&commit("main", 'a', "Fix cart\n\nbody"), &commit("origin/main", 'b', "New cart"));
        assert_eq!(
            repository(&behind, Style::PLAIN),
            "head    main aaaaaaaaaaaa \"Fix cart\", Ada <ada@example.org>\n\
             remote  origin/main bbbbbbbbbbbb \"New cart\", Ada <ada@example.org>\n\
             url     https://example.org/shop.git\n"
        );
        let same = repo(&commit("main", 'a', "x"), &commit("origin/main", 'a', "x"));
        assert!(repository(&same, Style::PLAIN).contains("remote  origin/main: the same commit\n"));
        let unborn = repo(&nothing("main"), &nothing(""));
        assert!(
            repository(&unborn, Style::PLAIN).starts_with("head    main without a commit\nremote  none\n")
        );
    }

    #[test]
    fn the_status_says_in_one_line_where_both_are() {
        let line = |head: Value, remote: Value| one_line(&repo(&head, &remote), Style::PLAIN);
        assert_eq!(
            line(commit("main", 'a', "Fix"), commit("origin/main", 'b', "New")),
            "main aaaaaaaaaaaa \"Fix\"; origin/main is at bbbbbbbbbbbb \"New\""
        );
        assert_eq!(
            line(commit("main", 'a', "Fix"), commit("origin/main", 'a', "Fix")),
            "main aaaaaaaaaaaa \"Fix\"; origin/main is the same"
        );
        assert_eq!(
            line(commit("HEAD", 'a', "\x1b[2J"), nothing("")),
            "HEAD aaaaaaaaaaaa \"\\u{1b}[2J\"; no remote branch"
        );
    }

    #[test]
    fn what_runs_is_named_where_something_else_is_checked_out() {
        let same = json!({"sys": "git", "ref": commit("main", 'b', "New"), "remote": nothing(""), "url": "",
            "deployed": commit("main", 'b', "New")});
        let mut other = same.clone();
        other["deployed"] = commit("main", 'a', "Fix");
        let [same, other] = [same, other].map(|repo| serde_json::from_value::<Repo>(repo).unwrap());
        assert_eq!(moved_by_hand(&same, Style::PLAIN), None);
        assert_eq!(
            moved_by_hand(&other, Style::PLAIN).unwrap(),
            "the services run aaaaaaaaaaaa \"Fix\", and bbbbbbbbbbbb is checked out: `pmesh-server update` rolls over to it"
        );
        assert!(repository(&other, Style::PLAIN).contains("\nruns    main aaaaaaaaaaaa \"Fix\", Ada"));
        assert!(!repository(&same, Style::PLAIN).contains("runs"));
    }

    #[test]
    fn an_update_says_what_moved_or_why_nothing_did() {
        let shown = |value: Value| updated(&serde_json::from_value::<Updated>(value).unwrap(), Style::PLAIN);
        let (old, new) = (commit("main", 'a', "Fix"), commit("origin/main", 'b', "New"));
        assert_eq!(shown(json!({"from": old, "to": new})), "main aaaaaaaaaaaa → bbbbbbbbbbbb \"New\"\n");
        assert_eq!(
            shown(json!({"from": old, "to": commit("origin/main", 'a', "Fix")})),
            "nothing new: origin/main is at aaaaaaaaaaaa \"Fix\"\n"
        );
        assert_eq!(
            shown(json!({"from": old, "to": old, "ahead": 2})),
            "nothing new: main is at aaaaaaaaaaaa \"Fix\", 2 commits ahead of the remote\n"
        );
        assert_eq!(
            shown(json!({"from": old, "to": commit("main", 'b', "New"), "ahead": 1})),
            "main aaaaaaaaaaaa → bbbbbbbbbbbb \"New\", 1 commit ahead of the remote\n"
        );
        assert_eq!(
            shown(json!({"from": old, "to": old, "invalidated": true})),
            "every service was built anew: main is at aaaaaaaaaaaa \"Fix\"\n"
        );
        assert_eq!(
            shown(json!({"from": old, "to": old, "repeated": true})),
            "rolled over again: main is at aaaaaaaaaaaa \"Fix\"\n"
        );
        assert_eq!(
            shown(json!({"from": old, "to": old, "retried": true})),
            "tried again: main is at aaaaaaaaaaaa \"Fix\"\n"
        );
        let (url, remedy) = ("https://b.org/x\u{1b}", "git remote set-url origin https://b.org/x\u{1b}");
        assert_eq!(
            shown(json!({"from": old, "to": new, "moved_to": url, "remedy": remedy})),
            "main aaaaaaaaaaaa → bbbbbbbbbbbb \"New\"\nthe remote has moved to https://b.org/x\\u{1b}; \
             `git remote set-url origin https://b.org/x\\u{1b}` makes git ask there\n"
        );
    }
}
