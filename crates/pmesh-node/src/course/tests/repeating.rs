//! Updates to what runs already.

use pmesh_vcs::Relation;

use super::{Run, UPDATE, WEB, behind, revision};
use crate::{
    Outcome,
    comparison::Comparison,
    unfinished::{Trial, Unfinished},
};

/// Somebody has moved the work tree away from `b2`, which runs and which the remote has.
#[test]
fn what_runs_and_is_checked_out_anew_is_not_tried_again_but_rolled_over_again() {
    let mut failed = Unfinished::default();
    failed.record(revision("b2").commit.as_ref(), Trial::Failed);
    for (unfinished, retries) in [(Unfinished::default(), false), (failed, true)] {
        for (fetched, deployed) in [
            (behind(), Some(revision("b2"))),
            // Nobody knows what runs.
            (Comparison { head: revision("b2"), relation: Relation::Same, ..behind() }, None),
        ] {
            let mut run = Run::in_situation(UPDATE, &[WEB], unfinished.clone());
            run.course.situation.deployed = deployed;
            run.fetched = fetched;
            run.go(|_| false);
            assert!(run.words().iter().any(|act| act == "Switch(0)"));
            let Ok(Outcome::Updated(update)) = run.course.end() else { panic!("it ends well") };
            assert_eq!((&update.from.commit, &update.to.commit), (&update.to.commit, &revision("b2").commit));
            assert_eq!((update.retried, update.repeated), (retries, !retries));
        }
    }
}
