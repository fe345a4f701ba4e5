//! What a branch has pointed at, as far as git remembers it (git-reflog(1); its files are described in
//! gitrepository-layout(5), "logs").

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use gix::bstr::ByteSlice;

use super::{opened::OpenedRepo, tracked_branch};
use crate::{CommitId, VcsError};

/// How much of a log is read, from its end, in bytes: some thousand lines.
const LIMIT: u64 = 1 << 20;

/// The commits at which the tracking branch of the head's upstream has been, the oldest first. Without a log there are none.
pub(super) fn of_upstream(opened: &OpenedRepo) -> Result<Vec<CommitId>, VcsError> {
    let upstream = tracked_branch::of_head(&opened.repo).map_err(|error| opened.damaged(error))?;
    let Some(upstream) = upstream else { return Ok(Vec::new()) };
    let path = opened.repo.common_dir().join("logs").join(OsStr::from_bytes(&upstream.tracking));
    match last_of(&path) {
        Ok(log) => Ok(commits(&log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(VcsError::io(&path, source)),
    }
}

fn last_of(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe in its place is never read to its end.
    if !path.metadata()?.is_file() {
        return Ok(Vec::new());
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LIMIT)))?;
    let mut log = Vec::new();
    file.take(LIMIT).read_to_end(&mut log)?;
    Ok(log)
}

/// Each line has the old commit, the new one and who, when and why. The first line may be cut, the old commit may be all zeros.
fn commits(log: &[u8]) -> Vec<CommitId> {
    let words = log.lines().flat_map(|line| line.splitn(3, |&b| b == b' ').take(2));
    let commit = |word: &[u8]| CommitId::new(word.to_str().ok()?).ok();
    let mut found: Vec<CommitId> =
        words.filter(|word| word.iter().any(|&b| b != b'0')).filter_map(commit).collect();
    // The new one of a line is the old one of the next.
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_commit_of_a_log_is_named_once_and_what_is_cut_is_left_out() {
        let id = |digit: &str| digit.repeat(40);
        let log = format!(
            "34 {}\t1\n{} {} A <a@b> 1 +0000\tpush\n{} {} A <a@b> 1 +0000\tx\n{}\n",
            id("a"),
            id("0"),
            id("1"),
            id("1"),
            id("2"),
            &id("3")[..20],
        );
        let found: Vec<_> = commits(log.as_bytes()).iter().map(ToString::to_string).collect();
        assert_eq!(found, [id("1"), id("2")]);
    }
}
