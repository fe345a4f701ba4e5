//! What is remembered of rollouts that failed. A plain type.

use std::collections::BTreeMap;

use pmesh_supervisor::ServiceName;
use pmesh_vcs::CommitId;

/// What has come of a rollout of every service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// All of them run from the commit.
    Complete,
    /// At least some do not.
    Failed,
    /// The services run what they ran before. The manifest on the disk failed, which says nothing of the commit that was
    /// checked out beside it.
    ManifestFailed,
}

impl Trial {
    /// What has come of a rollout in which these services failed, and which was not taken back.
    pub(crate) fn of(failed: &BTreeMap<ServiceName, String>) -> Self {
        if failed.is_empty() { Self::Complete } else { Self::Failed }
    }
}

/// The commit that is checked out although not every service runs from it with its manifest: an update that finds nothing new
/// rolls over to it once more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unfinished(Option<(CommitId, Trial)>);

impl Unfinished {
    /// A rollout of all services to `commit` has ended. None: nobody knows what is checked out.
    pub(crate) fn record(&mut self, commit: Option<&CommitId>, trial: Trial) {
        self.0 = commit.filter(|_| trial != Trial::Complete).map(|commit| (commit.clone(), trial));
    }

    /// Whether the last rollout was of this commit, and is not complete.
    pub(crate) fn is(&self, commit: Option<&CommitId>) -> bool {
        self.0.as_ref().is_some_and(|(unfinished, _)| Some(unfinished) == commit)
    }

    /// Whether it was the commit that failed, and not a manifest beside it.
    pub(crate) fn has_failed(&self, commit: Option<&CommitId>) -> bool {
        self.is(commit) && self.0.as_ref().is_some_and(|(_, trial)| *trial == Trial::Failed)
    }
}

#[cfg(test)]
mod tests {
    use pmesh_vcs::testing::FakeVcs;

    use super::{Trial, Unfinished};

    #[test]
    fn a_commit_is_unfinished_until_a_rollout_of_it_or_of_another_one_is_complete() {
        let (one, other) = (FakeVcs::commit_id("a1"), FakeVcs::commit_id("b2"));
        let mut unfinished = Unfinished::default();
        assert!(!unfinished.is(Some(&one)) && !unfinished.is(None));
        unfinished.record(Some(&one), Trial::Failed);
        assert!(unfinished.is(Some(&one)) && !unfinished.is(Some(&other)));
        unfinished.record(Some(&other), Trial::Complete);
        assert!(!unfinished.is(Some(&one)));
        unfinished.record(None, Trial::Failed);
        assert!(!unfinished.is(None), "without a commit there is none to try again");
    }

    #[test]
    fn a_manifest_that_failed_leaves_a_commit_unfinished_that_has_not_failed() {
        let one = FakeVcs::commit_id("a1");
        let mut unfinished = Unfinished::default();
        for (trial, has_failed) in [(Trial::Failed, true), (Trial::ManifestFailed, false)] {
            unfinished.record(Some(&one), trial);
            assert!(unfinished.is(Some(&one)));
            assert_eq!(unfinished.has_failed(Some(&one)), has_failed);
        }
    }
}
