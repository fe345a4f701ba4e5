//! Reading one commit, in whatever encoding it was written.

use gix::{ObjectId, bstr::ByteSlice, head::Kind};

use super::opened::{OBJECT_LIMIT, OpenedRepo};
use crate::{BranchName, CommitId, Revision, VcsError};

/// The revision that HEAD names.
pub(super) fn head(opened: &OpenedRepo) -> Result<Revision, VcsError> {
    let damaged = |error| opened.damaged(error);
    let mut head = opened.repo.head().map_err(damaged)?;
    let branch = match &head.kind {
        Kind::Symbolic(reference) => short_name(reference.name.as_bstr()),
        Kind::Unborn(name) => return Ok(Revision::unborn(short_name(name.as_bstr()))),
        Kind::Detached { .. } => BranchName::new("HEAD"),
    };
    if let Some(id) = head.id() {
        opened.size(id.detach(), OBJECT_LIMIT)?;
    }
    let id = head.peel_to_commit().map_err(damaged)?.id;
    revision(opened, branch, id)
}

/// The tip `id` of `branch`.
pub(super) fn revision(opened: &OpenedRepo, branch: BranchName, id: ObjectId) -> Result<Revision, VcsError> {
    opened.size(id, OBJECT_LIMIT)?;
    let commit = opened.repo.find_commit(id).map_err(|error| opened.damaged(error))?;
    let (author, message) = author_and_message(&commit.data);
    Ok(Revision { branch, commit: Some(commit_id(id)), author, message })
}

pub(super) fn commit_id(id: ObjectId) -> CommitId {
    CommitId::new(&id.to_string()).expect("gix writes ids as 40 or 64 lower-case hex digits")
}

/// `main` for `refs/heads/main`, `origin/main` for `refs/remotes/origin/main`.
pub(super) fn short_name(name: &gix::bstr::BStr) -> BranchName {
    let short = ["refs/heads/", "refs/remotes/", "refs/"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix.as_bytes()))
        .unwrap_or(name);
    BranchName::new(short.to_str_lossy())
}

/// Takes a raw commit apart (git's `Documentation/technical`, "commit object"): header lines, an empty line, the message. What is malformed
/// is shown as it stands; a commit that someone could make must not be an error.
fn author_and_message(commit: &[u8]) -> (String, String) {
    let (header, message) = match commit.find(b"\n\n") {
        Some(at) => (&commit[..at], &commit[at + 2..]),
        None => (commit.trim_end(), &[][..]),
    };
    let author = header.lines().find_map(|line| line.strip_prefix(b"author ")).unwrap_or_default();
    // `Name <email> seconds zone`
    let author = author.rfind_byte(b'>').map_or(author, |end| &author[..=end]);
    let author = author.to_str_lossy().trim().to_owned();

    let message = &message[..message.len().min(Revision::MESSAGE_LIMIT)];
    let end = message.iter().rposition(|&b| b != b'\n').map_or(0, |last| last + 1);
    (author, message[..end].to_str_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(commit: &[u8]) -> (String, String) {
        author_and_message(commit)
    }

    fn owned(author: &str, message: &str) -> (String, String) {
        (author.to_owned(), message.to_owned())
    }

    #[test]
    fn the_message_is_whole_but_for_its_trailing_newlines() {
        let commit =
            b"tree 1\nauthor A B <a@b> 1 +0000\ncommitter C <c@d> 1 +0000\n\n subject\n\nbody \n\n\n";
        assert_eq!(parts(commit), owned("A B <a@b>", " subject\n\nbody "));
    }

    #[test]
    fn a_header_that_only_looks_like_an_author_within_the_message_is_none() {
        let commit = b"tree 1\nauthor A <a@b> 1 +0000\n\nauthor Z <z@z> 1 +0000\n";
        assert_eq!(parts(commit), owned("A <a@b>", "author Z <z@z> 1 +0000"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let commit = b"author J\xf6rg <j@x> 1 +0000\nencoding ISO-8859-1\n\ngr\xfcn\n";
        assert_eq!(parts(commit), owned("J\u{fffd}rg <j@x>", "gr\u{fffd}n"));
    }

    #[test]
    fn a_malformed_commit_is_shown_as_far_as_it_goes() {
        assert_eq!(parts(b""), owned("", ""));
        assert_eq!(parts(b"tree 1\n\n"), owned("", ""));
        assert_eq!(parts(b"tree 1\nauthor no address 1 +0000\n"), owned("no address 1 +0000", ""));
        assert_eq!(parts(b"author  <only@address> 1 +0000\n\n\n\n"), owned("<only@address>", ""));
    }

    #[test]
    fn a_giant_message_is_cut() {
        let mut commit = b"author A <a@b> 1 +0000\n\n".to_vec();
        commit.extend(std::iter::repeat_n(b'x', 2 * Revision::MESSAGE_LIMIT));
        assert_eq!(parts(&commit).1.len(), Revision::MESSAGE_LIMIT);
    }

    #[test]
    fn names_are_shortened_as_people_write_them() {
        for (full, short) in [
            ("refs/heads/main", "main"),
            ("refs/heads/feat/ü#1", "feat/ü#1"),
            ("refs/heads/refs/heads/x", "refs/heads/x"),
            ("refs/remotes/origin/main", "origin/main"),
            ("refs/pull/1/head", "pull/1/head"),
            ("odd", "odd"),
        ] {
            assert_eq!(short_name(full.into()).as_str(), short);
        }
    }
}
