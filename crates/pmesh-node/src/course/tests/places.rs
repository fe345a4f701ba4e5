//! Operations that come to another place.

use pmesh_supervisor::rollout::{Item, RolloutAct::AwaitReady};

use super::{Act, RELOAD, Run};
use crate::served_place::ServedPlace;

#[test]
fn a_reload_from_another_place_serves_from_there_before_anything_starts_and_goes_back_there_where_it_fails() {
    let mut run = Run::of(
        RELOAD,
        &[Item {
            builds: false,
            releases: false,
            overlaps: true,
            background: true,
            vital: true,
            after: Vec::new(),
        }],
    );
    run.elsewhere = true;
    run.go(|act| matches!(act, Act::Service(AwaitReady(_))));
    let words = run.words();
    assert_eq!(words[..3], ["locate", "serve from", "survey"], "{words:?}");
    let places: Vec<_> = run.done.iter().filter(|act| matches!(act, Act::ServeFrom(_))).collect();
    assert_eq!(
        places,
        [&Act::ServeFrom(ServedPlace::bare("elsewhere")), &Act::ServeFrom(ServedPlace::bare("here"))]
    );
    assert!(
        words.iter().rposition(|word| word == "serve from") < words.iter().position(|word| word == "revive")
    );
}
