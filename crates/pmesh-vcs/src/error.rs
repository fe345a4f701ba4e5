//! Why a version control operation failed.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{BranchName, CommitId, InProgress, redact};

/// Why a version control operation failed. Every text can be shown: what could be a password or a token is
/// taken out of it.
#[derive(Debug, thiserror::Error)]
pub enum VcsError {
    /// The path is in no repository, or only in one that does not track it.
    #[error("no repository tracks {}; run `git init` in its folder, or clone the project", shown(.0))]
    NotFound(PathBuf),
    /// There is a repository, and it cannot be read.
    #[error("the repository at {} is damaged; `git -C {} fsck` says where", shown(.root), shown(.root))]
    Damaged {
        /// The top of the work tree.
        root: PathBuf,
        /// What could not be read.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Where git has a file is something that blocks whoever opens it: nothing of it was read.
    #[error(
        "{} is {kind} where git has a file, and could keep whoever reads it waiting for ever; look at it with `ls -l`, remove it, and take \
         what git needs there from a clone", shown(.path)
    )]
    NotAFile {
        /// The top of the work tree.
        root: PathBuf,
        /// Where.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// Whoever reads it – its owner, where the server is root – may not.
    #[error(
        "the repository at {} cannot be read with the rights of its owner; `chown` or `chmod` what is in the way, there or \
         in the folders above it", shown(.root)
    )]
    Unreadable {
        /// The top of the work tree.
        root: PathBuf,
        /// What could not be read.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The branch follows no remote branch.
    #[error("branch {branch} follows no remote; `git branch --set-upstream-to=<remote>/<branch>` sets one")]
    NoRemote {
        /// The branch that is checked out.
        branch: BranchName,
    },
    /// The remote has no such branch.
    #[error("{} has no branch {branch}; push it, or set another upstream", redact::printable(.remote))]
    NoRemoteBranch {
        /// The name of the remote.
        remote: String,
        /// The branch as the remote would name it.
        branch: BranchName,
    },
    /// No branch is checked out.
    #[error("the head is detached at {}, so there is no branch to follow; `git switch` to one", .commit.as_str())]
    Detached {
        /// The commit that is checked out.
        commit: CommitId,
    },
    /// The branch has no commit yet.
    #[error("branch {branch} has no commit yet; commit or pull once by hand")]
    Unborn {
        /// The branch that is checked out.
        branch: BranchName,
    },
    /// Someone has begun an operation and not finished it.
    #[error("a {operation} is in progress; finish or abort it with git")]
    InProgress {
        /// What has begun.
        operation: InProgress,
    },
    /// The places of the repository have different owners, so there is no user as whom git could run: whoever may
    /// write its configuration decides what git executes. Reads go on.
    #[error("{owners}; git runs only as the one user who owns all of it, and `{remedy}` makes that so")]
    OwnersDiffer {
        /// Work tree, `.git`, git directory, common directory and configuration, each with its owner.
        owners: String,
        /// The command that makes the owners one.
        remedy: String,
    },
    /// The repository belongs to another user, and the server's is not root. Reads go on.
    #[error(
        "{} belongs to {owner}, and this server runs as {user}: run it as {owner}, or make the repository its own \
         with `{remedy}`", shown(.root)
    )]
    NotTheOwner {
        /// The top of the work tree.
        root: PathBuf,
        /// Whose it is.
        owner: String,
        /// As whom the server runs.
        user: String,
        /// The command that gives it to that user.
        remedy: String,
    },
    /// Another process holds a lock, or left it behind.
    #[error(
        "{} is {} s old: another git is at work; if none is, delete the file", shown(.path), .age.as_secs()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The time since it was written.
        age: Duration,
    },
    /// The head is not where our own check-out has put it: somebody has committed or moved it since.
    #[error("somebody has moved the head from {expected} to {found}; move it by hand")]
    HeadMoved {
        /// Where it is.
        found: CommitId,
        /// Where it was to be.
        expected: CommitId,
    },
    /// Something would be lost: tracked files have changes, or untracked files are in the way.
    #[error("{} would be overwritten; commit, stash or move what is there", listed(.paths))]
    Dirty {
        /// The files, relative to the top of the work tree; at most
        /// [`WorkTree::CHANGED_LIMIT`](crate::WorkTree::CHANGED_LIMIT).
        paths: Vec<PathBuf>,
    },
    /// A move of the work tree failed half-way, and what it had written could not be undone: some of its files are those
    /// of the other commit. The head is where it was.
    #[error("{failed}; and not all files could be put back (`git status` names them)")]
    HalfMoved {
        /// Why the move failed.
        failed: Box<VcsError>,
        /// Why it could not be undone.
        source: Box<VcsError>,
    },
    /// The head is no ancestor of the remote head, nor the other way round.
    #[error(
        "the branch has {ahead} commits that the remote lacks and lacks {behind} of its; `git rebase` or \
         `git reset` it by hand"
    )]
    Diverged {
        /// Commits that only this machine has.
        ahead: usize,
        /// Commits that only the remote has.
        behind: usize,
    },
    /// The remote was rewound, and the branch has commits on top of what was there: as [`Diverged`](Self::Diverged).
    #[error(
        "the remote was rewound, and the branch has {local} commit(s) of its own on top of what was there; `git rebase` or \
         `git reset` it by hand"
    )]
    Rewound {
        /// Commits that only this machine has ever had.
        local: usize,
    },
    /// The head and the remote head have no commit in common.
    #[error(
        "branch {branch} and the remote branch have no commit in common; `git reset` it by hand, or set another \
         upstream"
    )]
    Unrelated {
        /// The branch that is checked out.
        branch: BranchName,
    },
    /// The remote could not be reached, or refused.
    #[error("cannot fetch {url}: {message}")]
    Fetch {
        /// The remote's URL, without credentials.
        url: String,
        /// What git and the remote said about it, without credentials; at most 2 KiB.
        message: String,
    },
    /// The remote did not answer in time. Nothing was changed.
    #[error("fetching {url} took longer than {} s; check the network", .after.as_secs_f32())]
    FetchTimeout {
        /// The remote's URL, without credentials.
        url: String,
        /// The time limit.
        after: Duration,
    },
    /// What would have to be read is more than a server should take.
    #[error("the repository at {} is too large: {what}", shown(.root))]
    RepositoryTooLarge {
        /// The top of the work tree.
        root: PathBuf,
        /// What is too much, and its limit.
        what: String,
    },
    /// The repository or its work tree cannot be written, for a cause on this machine.
    #[error("the repository at {} cannot be written: {cause}; {remedy}", shown(.root))]
    Unwritable {
        /// The top of the work tree.
        root: PathBuf,
        /// What is in the way, with what git or the system says of it.
        cause: String,
        /// What ends it.
        remedy: &'static str,
    },
    /// A shallow clone whose history does not reach to where the head and the remote head part.
    #[error(
        "this clone is shallow, and its history does not reach to where branch {branch} and the remote branch part; \
         `git fetch --unshallow` brings the rest"
    )]
    Shallow {
        /// The branch that is checked out.
        branch: BranchName,
    },
    /// The commit has something that a check-out would not bring.
    #[error("{what}")]
    Unsupported {
        /// What that is, where, and what to do instead.
        what: String,
    },
    /// The repository has not answered: a disk that hangs, or something that blocks where git has a file.
    #[error(
        "the repository at {} has not answered within {} s; look for a disk that hangs, a filter that does not end, or a \
         pipe in the place of a file", shown(.root), .after.as_secs_f32()
    )]
    Timeout {
        /// The top of the work tree.
        root: PathBuf,
        /// The time limit.
        after: Duration,
    },
    /// As many questions wait for the repository as may.
    #[error("too much is asked of the repository at {} at a time; try again", shown(.root))]
    Busy {
        /// The top of the work tree.
        root: PathBuf,
    },
    /// A thread to read the repository could not be started, or could not take the rights of the repository's owner.
    #[error("cannot start a thread to read {}; raise the limit of processes and threads (TasksMax= of systemd, \
             pids.max, ulimit -u), and look at CAP_SETUID where root serves another user's repository", shown(.root))]
    NoThread {
        /// The top of the work tree.
        root: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The caller's [`Cancel`](crate::Cancel) was set. Nothing was changed.
    #[error("cancelled")]
    Cancelled,
    /// The repository does not have this commit (yet).
    #[error("the repository has no commit {0}; fetch it first")]
    UnknownCommit(CommitId),
    /// A file of a commit is larger than what is read into memory.
    #[error("{} has {size} bytes; at most {limit} are read", shown(.path))]
    TooLarge {
        /// The file, relative to the top of the work tree.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file could not be read or written.
    #[error("cannot access {}", shown(.path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The program of the version control system cannot be run.
    #[error("cannot run {program}; is it installed and in the PATH of the pmesh user?")]
    Program {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// No process could be started for the program of the version control system, also after some seconds.
    #[error(
        "cannot start a process for {program}; raise the limit of processes and threads (TasksMax= of systemd, \
             pids.max, ulimit -u)"
    )]
    NoProcess {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The implementation panicked.
    #[error("a call of the repository ended early: {message}; that is a defect of pmesh")]
    Defect {
        /// What the panic said.
        message: String,
    },
    /// The program of the version control system failed in a way that has no variant of its own.
    #[error("`git {command}` failed: {message}")]
    Git {
        /// The git command.
        command: &'static str,
        /// What it said, without credentials; at most 2 KiB.
        message: String,
    },
}

impl VcsError {
    pub(crate) fn damaged(root: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        let mut said = source.to_string();
        let mut cause = source.source();
        while let Some(error) = cause {
            said = format!("{said}: {error}");
            cause = error.source();
        }
        // What cannot be read is quoted there, such as a line of the configuration with a URL in it.
        Self::Damaged { root: root.to_owned(), source: redact::text(&said, &[]).into() }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// A path in a sentence: whoever pushes names the files.
fn shown(path: &Path) -> String {
    redact::printable(&path.display().to_string())
}

/// The first ten paths, for a sentence.
fn listed(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<_> = paths.iter().take(SHOWN).map(|path| shown(path)).collect();
    let shown = shown.join(", ");
    match paths.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_sentence_cannot_steer_a_terminal() {
        let error = VcsError::Dirty { paths: vec![PathBuf::from("a\u{1b}[2J\n\u{202e}b")] };
        assert!(error.to_string().starts_with("a\\u{1b}[2J\\n\\u{202e}b would be"), "{error}");
        let branch = BranchName::new("x\u{9b}2J");
        let error = VcsError::NoRemoteBranch { remote: "o\u{1b}".to_owned(), branch };
        assert!(error.to_string().starts_with("o\\u{1b} has no branch x\\u{9b}2J;"), "{error}");
    }

    #[test]
    fn a_sentence_names_ten_files_and_counts_the_rest() {
        let paths = (0..12).map(|n| PathBuf::from(format!("f{n}"))).collect();
        assert_eq!(
            VcsError::Dirty { paths }.to_string(),
            "f0, f1, f2, f3, f4, f5, f6, f7, f8, f9 and 2 more would be overwritten; commit, stash or move what \
             is there"
        );
    }
}
