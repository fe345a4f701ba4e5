//! Where a node serves from, and how it comes to serve from another place.

use std::{
    any::Any,
    error::Error,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pmesh_vcs::{Vcs, VcsError};

/// The right to move a work tree. Whoever gave it takes it back when the last clone is dropped.
pub type WorkTreeHold = Arc<dyn Any + Send + Sync>;

/// Finds repositories, and takes their work trees: a reload follows the path of the manifest that was given, and a link in it may
/// lead to another clone by then.
pub trait RepositorySource: Send + Sync {
    /// The repository that tracks the manifest in `file`, which is absolute, its folder without links; none if none
    /// does. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// It cannot be looked at now.
    fn find(&self, file: &Path) -> Result<Option<Arc<dyn Vcs>>, VcsError>;

    /// Takes the work tree at `root` for this node; none where nobody has to. Not asked for one that the node holds.
    ///
    /// # Errors
    ///
    /// Why it cannot be had, and what to do about it: somebody else moves it.
    fn take(&self, root: &Path) -> Result<Option<WorkTreeHold>, Box<dyn Error + Send + Sync>>;
}

/// A source for nodes without repositories.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoRepositories;

impl RepositorySource for NoRepositories {
    fn find(&self, _: &Path) -> Result<Option<Arc<dyn Vcs>>, VcsError> {
        Ok(None)
    }

    fn take(&self, _: &Path) -> Result<Option<WorkTreeHold>, Box<dyn Error + Send + Sync>> {
        Ok(None)
    }
}

/// Where a node serves from. It never changes: a node that serves from elsewhere has another one.
#[derive(Clone)]
pub(crate) struct ServedPlace {
    /// The manifest's file, its folder without links.
    pub(crate) file: PathBuf,
    /// The repository that tracks it.
    pub(crate) vcs: Option<Arc<dyn Vcs>>,
    /// The right to move its work tree, where the manifest says that the server does.
    pub(crate) hold: Option<WorkTreeHold>,
}

impl ServedPlace {
    /// The manifest's file as mistakes in it name it: relative to the top of the repository, without one its name alone.
    pub(crate) fn shown_file(&self) -> &Path {
        let top = self.vcs.as_deref().map(Vcs::root).or(self.file.parent());
        top.and_then(|top| self.file.strip_prefix(top).ok()).unwrap_or(&self.file)
    }

    /// The same repository without the work tree, or another one at `file`. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// Those of [`RepositorySource::find`].
    pub(crate) fn at(&self, file: PathBuf, source: &dyn RepositorySource) -> Result<Self, VcsError> {
        let vcs = match self.vcs.as_ref().filter(|_| file == self.file) {
            Some(vcs) => Some(Arc::clone(vcs)),
            None => source.find(&file)?,
        };
        Ok(Self { file, vcs, hold: None })
    }

    /// This place with the right to move its work tree, if the server is to move it. The right may be the one that the
    /// place before had.
    ///
    /// # Errors
    ///
    /// Those of [`RepositorySource::take`].
    pub(crate) fn taken(
        self,
        moves: bool,
        before: &Self,
        source: &dyn RepositorySource,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let Some(vcs) = self.vcs.as_deref().filter(|_| moves) else { return Ok(self) };
        let held = before.hold.as_ref().filter(|_| before.root() == Some(vcs.root()));
        let hold = match held {
            Some(hold) => Some(Arc::clone(hold)),
            None => source.take(vcs.root())?,
        };
        Ok(Self { hold, ..self })
    }

    /// One without a repository.
    #[cfg(test)]
    pub(crate) fn bare(file: &str) -> Arc<Self> {
        Arc::new(Self { file: file.into(), vcs: None, hold: None })
    }

    fn root(&self) -> Option<&Path> {
        self.vcs.as_deref().map(Vcs::root)
    }
}

/// Whether it is the very same: one that was found anew is another.
impl PartialEq for ServedPlace {
    fn eq(&self, other: &Self) -> bool {
        let is_same_vcs = match (&self.vcs, &other.vcs) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let is_same_hold = match (&self.hold, &other.hold) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.file == other.file && is_same_vcs && is_same_hold
    }
}

impl fmt::Debug for ServedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedPlace").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use pmesh_vcs::testing::FakeVcs;

    use super::*;

    /// Every manifest is in one repository, and each taking of its work tree is counted.
    struct OneRepository {
        vcs: FakeVcs,
        taken: Mutex<Vec<PathBuf>>,
    }

    impl RepositorySource for OneRepository {
        fn find(&self, _: &Path) -> Result<Option<Arc<dyn Vcs>>, VcsError> {
            Ok(Some(Arc::new(self.vcs.clone())))
        }

        fn take(&self, root: &Path) -> Result<Option<WorkTreeHold>, Box<dyn Error + Send + Sync>> {
            self.taken.lock().push(root.to_owned());
            Ok(Some(Arc::new(())))
        }
    }

    #[test]
    fn another_project_of_the_same_work_tree_keeps_the_hold_and_one_that_moves_nothing_has_none() {
        let source = OneRepository { vcs: FakeVcs::at("a1"), taken: Mutex::default() };
        let nowhere = ServedPlace { file: "/a/pm3.yml".into(), vcs: None, hold: None };
        let go = |from: &ServedPlace, file: &str, moves| {
            from.at(file.into(), &source).unwrap().taken(moves, from, &source).unwrap()
        };
        let one = go(&nowhere, "/a/pm3.yml", true);
        let two = go(&one, "/b/pm3.yml", true);
        assert_eq!(source.taken.lock().len(), 1, "a second lock of our own would be refused");
        assert!(Arc::ptr_eq(one.hold.as_ref().unwrap(), two.hold.as_ref().unwrap()));
        assert_eq!(go(&two, "/b/pm3.yml", true), two, "nothing of it has changed");
        assert!(two != one && go(&two, "/b/pm3.yml", false).hold.is_none());
    }
}
