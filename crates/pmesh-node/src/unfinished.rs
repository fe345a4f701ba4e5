//! What is remembered of rollouts that failed. A plain type.

use pmesh_vcs::CommitId;

/// The commit that is checked out although not every service runs from it: an update that finds nothing new
/// tries it again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unfinished(Option<CommitId>);

impl Unfinished {
    /// A rollout of all services to `commit` has ended. None: nobody knows what is checked out.
    pub(crate) fn record(&mut self, commit: Option<&CommitId>, is_complete: bool) {
        self.0 = commit.filter(|_| !is_complete).cloned();
    }

    /// Whether the last rollout was of this commit, and failed.
    pub(crate) fn is(&self, commit: Option<&CommitId>) -> bool {
        self.0.is_some() && self.0.as_ref() == commit
    }
}

#[cfg(test)]
mod tests {
    use pmesh_vcs::testing::FakeVcs;

    use super::Unfinished;

    #[test]
    fn a_commit_is_unfinished_until_a_rollout_of_it_or_of_another_one_is_complete() {
        let (one, other) = (FakeVcs::commit_id("a1"), FakeVcs::commit_id("b2"));
        let mut unfinished = Unfinished::default();
        assert!(!unfinished.is(Some(&one)) && !unfinished.is(None));
        unfinished.record(Some(&one), false);
        assert!(unfinished.is(Some(&one)) && !unfinished.is(Some(&other)));
        unfinished.record(Some(&other), true);
        assert!(!unfinished.is(Some(&one)));
        unfinished.record(None, false);
        assert!(!unfinished.is(None), "without a commit there is none to try again");
    }
}
