//! What instances are told of the work tree that they run from.

use std::path::PathBuf;

use crate::saved::saved;

/// What instances are told of the work tree that they run from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevisionFacts {
    /// The project's root (`PM3_ROOT`).
    pub root: PathBuf,
    /// The commit in full.
    pub commit: Option<String>,
    /// The branch.
    pub branch: Option<String>,
}

impl RevisionFacts {
    /// Those of a project at `root` of which no commit is known.
    pub fn of(root: PathBuf) -> Self {
        Self { root, ..Self::default() }
    }

    /// The same with something changed: `revision.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

saved!(struct RevisionFacts { root, commit, branch });
