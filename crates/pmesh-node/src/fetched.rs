//! What was ever fetched: commits that are no local work, whatever has become of them on the remote.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use pmesh_vcs::CommitId;
use tracing::warn;

/// The most commits that are remembered; the oldest go first. Each is one state of the remote that a fetch has found, with all
/// that is in its history.
const LIMIT: usize = 1000;

/// The name of the file in the state folder.
const FILE: &str = "fetched";

/// The server's own record. git has one too, but expires it, and does not keep it everywhere.
#[derive(Debug)]
pub(crate) struct FetchedCommits {
    file: Option<PathBuf>,
    commits: Mutex<Vec<CommitId>>,
}

impl FetchedCommits {
    /// The record in this state folder. Without a folder it is kept in memory alone. A record that cannot be read counts as
    /// empty.
    pub(crate) fn open(state: Option<&Path>) -> Self {
        let file = state.map(|state| state.join(FILE));
        let mut commits = Vec::new();
        match file.as_ref().map(fs::read_to_string) {
            None => {}
            Some(Ok(text)) => {
                commits.extend(text.lines().filter_map(|line| CommitId::new(line).ok()));
                commits.drain(..commits.len().saturating_sub(LIMIT));
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Some(Err(error)) => warn!(%error, "the record of what was fetched cannot be read"),
        }
        Self { file, commits: Mutex::new(commits) }
    }

    /// Adds what a fetch has found. Blocks on the disk if that is new.
    pub(crate) fn add(&self, commit: &CommitId) {
        let mut commits = self.commits.lock();
        if commits.contains(commit) {
            return;
        }
        if commits.len() == LIMIT {
            commits.remove(0);
        }
        commits.push(commit.clone());
        if let Some(file) = &self.file
            && let Err(error) = write(file, &commits)
        {
            warn!(%error, file = %file.display(), "what was fetched is known to this run of the server alone");
        }
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<CommitId> {
        self.commits.lock().clone()
    }
}

/// Beside it and renamed: a server that is killed leaves the old record or the new one.
fn write(file: &Path, commits: &[CommitId]) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut lines = String::new();
    for commit in commits {
        lines.extend([commit.as_str(), "\n"]);
    }
    fs::write(&new, lines)?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(n: usize) -> CommitId {
        CommitId::new(&format!("{n:040x}")).unwrap()
    }

    #[test]
    fn what_was_fetched_is_known_to_the_next_server_each_once_and_the_last_thousand() {
        let folder = tempfile::tempdir().unwrap();
        let record = FetchedCommits::open(Some(folder.path()));
        for n in [1, 2, 1, 2] {
            record.add(&commit(n));
        }
        assert_eq!(FetchedCommits::open(Some(folder.path())).all(), [commit(1), commit(2)]);
        for n in 3..LIMIT + 3 {
            record.add(&commit(n));
        }
        let all = FetchedCommits::open(Some(folder.path())).all();
        assert_eq!((all.len(), &all[0]), (LIMIT, &commit(3)));
    }

    #[test]
    fn without_a_folder_or_with_one_that_cannot_be_written_it_is_known_for_as_long_as_the_server_runs() {
        for folder in [None, Some(Path::new("/proc/none"))] {
            let record = FetchedCommits::open(folder);
            record.add(&commit(1));
            assert_eq!(record.all(), [commit(1)]);
        }
    }
}
