//! A git work tree: where it is, and who may read it.

use std::{
    cell::Cell,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use gix::ObjectId;

use super::{
    child::EndReason,
    deadline::Deadline,
    git_limits::GitLimits,
    http_remote::{self, HttpRemote},
    network,
    opened::OpenedRepo,
    program::{Extra, Program, message},
    readers::Readers,
};
use crate::{Cancel, VcsError};

/// How long a remote may take to send one object that a partial clone has left there.
const BRING_LIMIT: Duration = Duration::from_mins(1);

/// How long objects are brought from a remote for one question.
const BRINGING_LIMIT: Duration = Duration::from_mins(2);

/// A git work tree.
///
/// Reads are made on threads of its own, which bear the ids of the repository's owner where the server is
/// root and the owner is not; clones share them. Bare repositories and the reftable format are not supported.
#[derive(Clone, Debug)]
pub struct GitRepo {
    pub(super) root: PathBuf,
    git: PathBuf,
    pub(super) readers: Arc<Readers>,
    pub(super) limits: GitLimits,
}

impl GitRepo {
    /// The repository whose work tree is `root`.
    pub(super) fn new(root: PathBuf, readers: Arc<Readers>) -> Self {
        Self { root, git: PathBuf::from("git"), readers, limits: GitLimits::default() }
    }

    /// The same repository with another `git` program than the one in the `PATH`.
    #[must_use]
    pub fn with_git(mut self, git: impl Into<PathBuf>) -> Self {
        self.git = git.into();
        self
    }

    /// The same repository with other limits than the usual ones.
    #[must_use]
    pub fn with_limits(mut self, limits: GitLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Opens the repository as it is now and asks it something.
    ///
    /// # Errors
    ///
    /// Those of `question`; [`VcsError::Timeout`] when it has no answer within [`GitLimits::read`], [`VcsError::Cancelled`].
    pub(super) fn read<T: Send + 'static>(
        &self,
        cancel: &Cancel,
        question: impl FnOnce(&OpenedRepo) -> Result<T, VcsError> + Send + 'static,
    ) -> Result<T, VcsError> {
        let root = self.root.clone();
        self.readers.run(&self.root, self.limits.read, cancel, move |rights, stop| {
            question(&OpenedRepo::at(&root, rights, stop)?)
        })
    }

    /// As [`read`](Self::read), for what may need objects that a partial clone has left on its remote: they are
    /// brought one after the other, and the question is asked again.
    pub(super) fn read_bringing<T: Send + 'static>(
        &self,
        cancel: &Cancel,
        question: impl Fn(&OpenedRepo) -> Result<T, VcsError> + Clone + Send + 'static,
    ) -> Result<T, VcsError> {
        let until = Instant::now() + BRINGING_LIMIT;
        loop {
            let question = question.clone();
            let found = self.read(cancel, move |opened| match question(opened) {
                Ok(answer) => Ok(Ok(answer)),
                Err(error) => opened.wanted_of_remote().map(Err).ok_or(error),
            })?;
            match found {
                Ok(answer) => return Ok(answer),
                Err(_) if Instant::now() > until => {
                    return Err(VcsError::Timeout { root: self.root.clone(), after: BRINGING_LIMIT });
                }
                Err(on_remote) => self.bring(on_remote, cancel)?,
            }
        }
    }

    /// Brings an object that is on the remote: git brings what it is asked for, and of a tree all that is below it but the
    /// files (`gitformat-promisor(5)`, "partial clone").
    fn bring(&self, id: ObjectId, cancel: &Cancel) -> Result<(), VcsError> {
        const COMMAND: &str = "cat-file";
        let git = self.program_that_brings(cancel)?;
        let id = id.to_string();
        let limit = Deadline::after(BRING_LIMIT);
        match git.run_limited(COMMAND, &["-e", &id].map(OsStr::new), &git.promisors, limit)? {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                Err(VcsError::Git { command: COMMAND, message: message(&output.stderr, &git.secrets) })
            }
            Err(EndReason::Cancelled) => Err(VcsError::Cancelled),
            Err(EndReason::TimedOut) => Err(VcsError::Git {
                command: COMMAND,
                message: format!("the remote did not send it within {} s", BRING_LIMIT.as_secs()),
            }),
        }
    }

    /// Does something with the files of the work tree, which is given, and with the owner's rights: a folder that
    /// has become a link must lead to nothing that the owner could not have touched.
    pub(super) fn with_files<T: Send + 'static>(
        &self,
        git: &Program<'_>,
        work: impl FnOnce(&Path) -> Result<T, VcsError> + Send + 'static,
    ) -> Result<T, VcsError> {
        let root = self.root.clone();
        self.readers.run(&self.root, git.deadline.left(), git.cancel, move |_, _| work(&root))
    }

    /// The git program in this repository, for work that may take as long as a check-out and that `cancel` ends.
    pub(super) fn program<'a>(&'a self, cancel: &'a Cancel) -> Program<'a> {
        Program {
            git: &self.git,
            root: &self.root,
            readers: &self.readers,
            limits: self.limits,
            cancel,
            deadline: Deadline::after(self.limits.check_out),
            secrets: Vec::new(),
            promisors: Extra::default(),
            looked_at: Cell::default(),
        }
    }

    /// As [`program`](Self::program), where git may have to bring objects of a partial clone from their remote.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub(super) fn program_that_brings<'a>(&'a self, cancel: &'a Cancel) -> Result<Program<'a>, VcsError> {
        let mut program = self.program(cancel);
        if !self.read(cancel, |opened| Ok(opened.is_partial()))? {
            return Ok(program);
        }
        let (config, is_anothers) = (program.configuration()?, program.is_anothers()?);
        let promisors = http_remote::promisors(&config, is_anothers);
        program.secrets = promisors.iter().flat_map(HttpRemote::secrets).cloned().collect();
        program.promisors = network::extra(network::ssh_command(&config, is_anothers), None);
        program.promisors.settings = (!promisors.is_empty()).then(|| http_remote::settings(&promisors));
        Ok(program)
    }
}
