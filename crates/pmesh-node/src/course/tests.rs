//! What operations do, as sentences over the plain type.

mod places;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};

use pmesh_manifest::{Manifest, ManifestText, Unsupported};
use pmesh_supervisor::{
    Remade, RunEnd, ServiceName, StepName, StopEnd, Survivor,
    rollout::{
        ActEnd, Instruction, Item, Rollout,
        RolloutAct::{self, AwaitReady, Build, Link, LookAgain, Start, StayUnbuilt, Switch},
        RolloutLimits,
    },
};
use pmesh_vcs::{BranchName, Relation, Revision, VcsError, testing::FakeVcs};
use proptest::prelude::*;

mod beginning;
mod cancelling;
mod going_back;
mod repeating;

use super::{Act, ActResult, Aim, Course, Situation};
use crate::{
    Failure, Outcome, Rebuild, Scope,
    comparison::Comparison,
    in_one_line,
    served_place::ServedPlace,
    stop_report::StopReport,
    unfinished::{Trial, Unfinished},
};

const WEB: Item =
    Item { builds: true, releases: false, overlaps: true, background: false, vital: true, after: Vec::new() };
const UPDATE: Aim = Aim::Update(Rebuild::Changed);
const RELOAD: Aim = Aim::Reload(Rebuild::Changed);

fn manifest(names: usize) -> Arc<Manifest> {
    let services = (0..names).map(|name| format!("  s{name}: !App\n    run: work\n"));
    parsed(&format!("services:\n{}", services.collect::<String>()))
}

fn parsed(text: &str) -> Arc<Manifest> {
    let source = ManifestText::new(text.as_bytes(), Path::new("pm3.yml"), Path::new("/project"));
    Arc::new(pmesh_manifest::parse(&source, Unsupported::Refuse).unwrap())
}

fn revision(commit: &str) -> Revision {
    let (author, message) = (String::new(), String::new());
    Revision { branch: BranchName::new("main"), commit: Some(FakeVcs::commit_id(commit)), author, message }
}

fn behind() -> Comparison {
    Comparison {
        head: revision("a1"),
        remote: revision("b2"),
        relation: Relation::Behind { by: 1 },
        local: 0,
        has_edited_manifest: false,
        moved_to: None,
    }
}

/// An operation, and everything that it asked for.
struct Run {
    course: Course,
    items: Vec<Item>,
    fetched: Comparison,
    /// Whether the path that was given leads to another place than before.
    elsewhere: bool,
    /// Who has to be built in place again.
    lacking: Vec<ServiceName>,
    under_way: VecDeque<Act>,
    acts: Vec<Act>,
    /// Those that ended well.
    done: Vec<Act>,
    told: Vec<(Option<ServiceName>, StepName, &'static str)>,
    /// How services end that are stopped or forgotten.
    stops: StopReport,
}

impl Run {
    fn of(aim: Aim, items: &[Item]) -> Self {
        Self::in_situation(aim, items, Unfinished::default())
    }

    fn in_situation(aim: Aim, items: &[Item], unfinished: Unfinished) -> Self {
        let manifest = manifest(items.len());
        let services = manifest.services.iter().map(|service| service.spec.name.clone()).collect();
        let situation = Situation {
            manifest,
            services,
            has_repository: true,
            deployed: Some(revision("a1")),
            unfinished,
        };
        Self {
            course: Course::new(aim, situation),
            items: items.to_vec(),
            fetched: behind(),
            elsewhere: false,
            lacking: Vec::new(),
            under_way: VecDeque::new(),
            acts: Vec::new(),
            done: Vec::new(),
            told: Vec::new(),
            stops: stops(RunEnd::default()),
        }
    }

    /// Takes what is asked for now; answers whether there is more to come.
    fn ask(&mut self) -> bool {
        loop {
            match self.course.advance() {
                Some(Instruction::Do(act)) => {
                    self.under_way.push_back(act.clone());
                    self.acts.push(act);
                }
                Some(Instruction::Tell(service, step, state)) => {
                    self.told.push((service, step, state.as_str()));
                }
                Some(Instruction::Wait) => return true,
                None => return false,
            }
        }
    }

    fn end(&mut self, place: usize, fails: bool) {
        let act = self.under_way.remove(place).expect("it is under way");
        if !fails {
            self.done.push(act.clone());
        }
        let failure = || Failure::from(VcsError::Unrelated { branch: BranchName::new("main") });
        match act {
            Act::Service(act) if fails => {
                self.course.on_service_end(act, ActEnd::Failed("broken".to_owned()));
            }
            Act::Service(act) => self.course.on_service_end(act, ActEnd::Done(None)),
            Act::Remake(name) if fails => {
                self.course.on_remade(name, Remade::Failed("no network".to_owned()));
            }
            _ if fails => self.course.on_end(ActResult::Failed(failure())),
            Act::Fetch => self.course.on_end(ActResult::Fetched(self.fetched.clone())),
            Act::Locate => {
                let place = self.elsewhere.then(|| ServedPlace::bare("elsewhere"));
                self.course.on_end(ActResult::Located(manifest(self.items.len()), place));
            }
            Act::ServeFrom(_) => self.course.on_end(ActResult::Left(ServedPlace::bare("here"))),
            Act::CheckCommit(_) | Act::CheckFile => {
                self.course.on_end(ActResult::Checked(manifest(self.items.len())));
            }
            Act::Survey(survey) => {
                let rollout = Rollout::new(&self.items, survey.unity, RolloutLimits::of_cores(9));
                let services = survey.manifest.services.iter();
                let services = services.map(|service| service.spec.name.clone()).collect();
                let head = Some(revision("a1"));
                self.course.on_end(ActResult::Surveyed { head, rollout, services });
            }
            Act::CheckOut(_) => self.course.on_end(ActResult::CheckedOut(vec![PathBuf::from("edited")])),
            Act::Stop(_) | Act::Forget(_) => self.course.on_end(ActResult::Stopped(self.stops.clone())),
            Act::FindLacking => self.course.on_end(ActResult::Lacking(self.lacking.clone())),
            Act::Remake(name) => self.course.on_remade(name, Remade::Made(None)),
            _ => self.course.on_end(ActResult::Done),
        }
    }

    /// Carries everything out, the oldest first.
    fn go(&mut self, mut fails: impl FnMut(&Act) -> bool) {
        while self.ask() {
            let fails = fails(&self.under_way[0]);
            self.end(0, fails);
        }
    }

    fn words(&self) -> Vec<String> {
        self.acts.iter().map(word).collect()
    }
}

fn word(act: &Act) -> String {
    let word = match act {
        Act::Service(act) => return format!("{act:?}"),
        Act::Remember { trial, .. } => return format!("remember {trial:?}"),
        Act::Fetch => "fetch",
        Act::CheckCommit(_) => "check the commit",
        Act::CheckFile => "check the file",
        Act::Locate => "locate",
        Act::ServeFrom(_) => "serve from",
        Act::TakeTurn => "take turn",
        Act::Hold => "hold",
        Act::CheckOut(_) => "check out",
        Act::Survey(_) => "survey",
        Act::PutInForce(_) => "put in force",
        Act::Forget(_) => "forget",
        Act::GoBack { .. } => "go back",
        Act::Return(_) => "return",
        Act::FindLacking => "find lacking",
        Act::Remake(name) => return format!("remake {name}"),
        Act::Release => "release",
        Act::Revive => "revive",
        Act::Route(_) => "route",
        Act::Stop(_) => "stop",
        Act::Abandon => "abandon",
        Act::Deployed(_) => "deployed",
        Act::TidyUp => "tidy up",
    };
    word.to_owned()
}

/// A whole operation in which these acts fail.
fn run(aim: Aim, items: &[Item], fails: impl FnMut(&Act) -> bool) -> Run {
    let mut run = Run::of(aim, items);
    run.go(fails);
    run
}

const BEFORE_AN_UPDATE_ROLLS: [&str; 6] =
    ["fetch", "check the commit", "take turn", "hold", "check out", "survey"];

#[test]
fn the_acts_of_an_update_are_these() {
    let update = run(UPDATE, &[WEB], |_| false);
    let (before, then) = update.acts.split_at(6);
    assert_eq!(before.iter().map(word).collect::<Vec<_>>(), BEFORE_AN_UPDATE_ROLLS);
    assert_eq!(
        then.iter().map(word).collect::<Vec<_>>(),
        [
            "Build(0)",
            "Link(0)",
            "Start(0)",
            "AwaitReady(0)",
            "LookAgain(0)",
            "put in force",
            "Switch(0)",
            "LookAgain(0)",
            "Drain(0)",
            "Stop(0)",
            "Prune(0)",
            "forget",
            "release",
            "deployed",
            "remember Complete",
            "tidy up",
        ]
    );
    assert!(matches!(update.course.end(), Ok(Outcome::Updated(update)) if update.to == revision("b2")));
}

#[test]
fn the_acts_of_the_other_operations_are_these() {
    let plain = [Item { builds: false, ..WEB }];
    let started = ["Start(0)", "AwaitReady(0)", "Switch(0)", "Drain(0)", "Stop(0)"];
    let look = ["LookAgain(0)"];
    let rolled = [&started[..2], &look, &started[2..3], &look, &started[3..]].concat();
    let all = || Scope::All;
    for (aim, acts) in [
        (Aim::Start, [&["survey"], &started[..], &["deployed", "remember Complete"]].concat()),
        (Aim::Restart(all(), Rebuild::Changed), [&["survey"], &rolled[..], &["route"]].concat()),
        (Aim::Stop(all()), vec!["stop", "route"]),
        (Aim::Mend, vec!["abandon", "find lacking", "release", "revive", "forget"]),
    ] {
        assert_eq!(run(aim.clone(), &plain, |_| false).words(), acts, "{aim:?}");
    }
    let reload = run(RELOAD, &plain, |_| false);
    let first =
        ["locate", "survey", "Start(0)", "AwaitReady(0)", "LookAgain(0)", "put in force", "Switch(0)"];
    assert_eq!(reload.words()[..7], first);
    assert_eq!(reload.words()[10..], ["forget", "deployed", "remember Complete"]);
}

/// Which act fails.
type Which<'a> = &'a dyn Fn(&Act) -> bool;

#[test]
fn an_update_that_fails_at_any_act_goes_back_along_the_same_acts() {
    let service = |act: &Act, wanted: RolloutAct| *act == Act::Service(wanted);
    let fails: [(Which<'_>, &[&str]); 6] = [
        (&|act| *act == Act::Fetch, &[]),
        (&|act| matches!(act, Act::CheckCommit(_)), &[]),
        (&|act| *act == Act::TakeTurn, &[]),
        (&|act| matches!(act, Act::CheckOut(_)), &["release"]),
        (
            &|act| service(act, Build(0)),
            &["GoBack(0)", "go back", "find lacking", "release", "revive", "forget"],
        ),
        (
            &|act| service(act, AwaitReady(0)),
            &["GoBack(0)", "Unlink(0)", "go back", "find lacking", "release", "revive", "forget"],
        ),
    ];
    for (fails, back) in fails {
        let update = run(UPDATE, &[WEB], fails);
        let failed_at = update.acts.iter().position(fails).unwrap();
        assert_eq!(update.words()[failed_at + 1..], *back);
        assert!(update.course.end().is_err());
    }
}

#[test]
fn an_update_that_fails_the_look_after_its_switch_goes_back_with_the_manifest_and_the_files() {
    let mut looks = 0;
    let mut update = Run::of(UPDATE, &[WEB]);
    update.go(|act| {
        looks += usize::from(*act == Act::Service(LookAgain(0)));
        *act == Act::Service(LookAgain(0)) && looks == 2
    });
    let switch = update.acts.iter().position(|act| *act == Act::Service(Switch(0))).unwrap();
    let back = [
        "LookAgain(0)",
        "GoBack(0)",
        "Unlink(0)",
        "put in force",
        "go back",
        "find lacking",
        "release",
        "revive",
        "forget",
    ];
    assert_eq!(update.words()[switch + 1..], back);
    assert_goes_back(&update);
}

#[test]
fn a_reload_that_fails_starts_the_old_runs_and_forgets_the_new_services() {
    let reload = run(RELOAD, &[WEB], |act| *act == Act::Service(AwaitReady(0)));
    assert_eq!(
        reload.words()[6..],
        ["GoBack(0)", "Unlink(0)", "find lacking", "remember ManifestFailed", "revive", "forget"]
    );
    let Err(Failure::Rollout(failure)) = reload.course.end() else { panic!("it failed") };
    assert!(failure.rolled_back && failure.services.len() == 1, "{failure:?}");
}

#[test]
fn an_update_with_nothing_new_touches_nothing_unless_the_last_rollout_failed_or_everything_is_wanted() {
    let mut failed = Unfinished::default();
    failed.record(revision("a1").commit.as_ref(), Trial::Failed);
    let mut reloaded = Unfinished::default();
    reloaded.record(revision("a1").commit.as_ref(), Trial::ManifestFailed);
    for (aim, unfinished, second) in [
        (UPDATE, Unfinished::default(), "tidy up"),
        (UPDATE, failed, "check the file"),
        (UPDATE, reloaded, "check the file"),
        (Aim::Update(Rebuild::Everything), Unfinished::default(), "check the file"),
    ] {
        let rolls_over = second == "check the file" && aim == UPDATE;
        // What failed in a reload was a manifest; the commit has not.
        let has_failed = unfinished.has_failed(revision("a1").commit.as_ref());
        let mut run = Run::in_situation(aim, &[WEB], unfinished);
        run.fetched = Comparison { remote: revision("a1"), relation: Relation::Same, ..behind() };
        run.go(|_| false);
        assert_eq!(run.words()[1], second);
        assert!(!run.words().iter().any(|act| act == "hold" || act == "check out"));
        let Ok(Outcome::Updated(update)) = run.course.end() else { panic!("it ends well") };
        assert_eq!((update.retried, update.repeated), (has_failed, rolls_over && !has_failed));
    }
}

/// Somebody has pulled by hand: `b2` is checked out, and `a1` runs.
fn pulled() -> Comparison {
    Comparison { head: revision("b2"), relation: Relation::Same, ..behind() }
}

#[test]
fn what_was_pulled_by_hand_is_rolled_over_to_with_its_own_manifest() {
    let mut run = Run::of(UPDATE, &[WEB]);
    run.fetched = pulled();
    run.go(|_| false);
    let words = run.words();
    assert_eq!(words[..3], ["fetch", "check the file", "survey"]);
    assert!(words.iter().any(|act| act == "put in force"));
    let Ok(Outcome::Updated(update)) = run.course.end() else { panic!("it ends well") };
    assert_eq!((update.from, update.to), (revision("a1"), revision("b2")));
}

#[test]
fn a_manifest_that_was_edited_by_hand_and_that_the_commit_leaves_alone_is_the_one_to_follow() {
    let mut run = Run::of(UPDATE, &[WEB]);
    run.fetched.has_edited_manifest = true;
    run.go(|_| false);
    assert_eq!(run.words()[..2], ["fetch", "check the file"]);
}

#[test]
fn history_that_is_not_followed_is_refused_before_anything_is_touched() {
    type IsRight = fn(&VcsError) -> bool;
    let rows: [(_, _, IsRight, _); 4] = [
        (
            Relation::Diverged { ahead: 2, behind: 3 },
            1,
            |error| matches!(error, VcsError::Diverged { ahead: 2, behind: 3 }),
            "the branch has 2 commits that the remote lacks and lacks 3 of its; `git rebase` or `git reset` it by hand",
        ),
        (
            Relation::Unrelated,
            2,
            |error| matches!(error, VcsError::Unrelated { .. }),
            "branch main and the remote branch have no commit in common; `git reset` it by hand, or set another upstream",
        ),
        (
            Relation::Unknown,
            1,
            |error| matches!(error, VcsError::Shallow { .. }),
            "this clone is shallow, and its history does not reach to where branch main and the remote branch part; \
             `git fetch --unshallow` brings the rest",
        ),
        // Two were fetched once.
        (
            Relation::Ahead { by: 3 },
            1,
            |error| matches!(error, VcsError::Rewound { local: 1 }),
            "the remote was rewound, and the branch has 1 commit(s) of its own on top of what was there; `git rebase` or \
             `git reset` it by hand",
        ),
    ];
    for (relation, local, is_right, sentence) in rows {
        let mut run = Run::of(UPDATE, &[WEB]);
        run.fetched = Comparison { relation, local, ..behind() };
        run.go(|_| false);
        assert_eq!(run.words(), ["fetch"]);
        let Err(Failure::Vcs(error)) = run.course.end() else { panic!("{relation:?} is refused") };
        assert!(is_right(&error), "{relation:?}: {error:?}");
        assert_eq!(error.to_string(), sentence);
    }
}

#[test]
fn history_in_which_nothing_is_local_is_followed_wherever_the_remote_goes() {
    for relation in [
        Relation::Diverged { ahead: 2, behind: 2 },
        Relation::Unrelated,
        Relation::Unknown,
        Relation::Ahead { by: 3 },
    ] {
        let mut run = Run::of(UPDATE, &[WEB]);
        run.fetched = Comparison { relation, ..behind() };
        run.go(|_| false);
        assert!(run.words().iter().any(|act| act == "check out"), "{relation:?}");
    }
}

#[test]
fn a_restart_says_how_many_switched_and_puts_nothing_in_force() {
    let aim = Aim::Restart(Scope::All, Rebuild::Changed);
    let restart = run(aim, &[WEB, WEB], |act| *act == Act::Service(AwaitReady(0)));
    assert!(restart.words().iter().all(|act| act != "put in force"));
    assert_eq!(restart.words().last().unwrap(), "route");
    let Err(Failure::Rollout(failure)) = restart.course.end() else { panic!("one failed") };
    assert_eq!((failure.restarted, failure.services.len()), (Some(1), 1));
}

#[test]
fn the_steps_of_an_update_are_told_with_their_ends() {
    let update = run(UPDATE, &[WEB], |act| *act == Act::Service(AwaitReady(0)));
    let told: Vec<_> =
        update.told.iter().map(|(_, step, state)| format!("{} {state}", step.as_str())).collect();
    assert_eq!(
        told,
        [
            "fetch running",
            "fetch done",
            "check running",
            "check done",
            "check_out running",
            "check_out done",
            "build running",
            "build done",
            "start running",
            "start done",
            "ready running",
            "ready failed",
            "roll_back running",
            "roll_back done",
            "roll_back running",
            "roll_back done",
        ]
    );
}

#[test]
fn a_stop_after_which_something_lives_has_failed_and_files_are_routed_all_the_same() {
    let mut stop = Run::of(Aim::Stop(Scope::All), &[WEB]);
    let survivor = Survivor { pid: 7, ..Survivor::default() };
    stop.stops = stops(RunEnd::default().with(|end| end.survivors = vec![survivor]));
    stop.go(|_| false);
    assert!(stop.told.contains(&(None, StepName::Stop, "failed")), "{:?}", stop.told);
    assert!(matches!(stop.acts.last(), Some(Act::Route(_))));
    assert!(matches!(stop.course.end(), Err(Failure::Stop(_))));
}

#[test]
fn a_removed_service_that_needed_sigkill_has_a_step_that_says_so_and_another_has_none() {
    for (notes, told) in [(vec!["killed".to_owned()], true), (vec![], false)] {
        let mut run = Run::of(RELOAD, &[WEB]);
        run.stops = stops(RunEnd::default().with(|end| end.notes = notes));
        run.go(|_| false);
        let step = (Some("gone".parse().unwrap()), StepName::Stop, "done");
        assert_eq!(run.told.contains(&step), told, "{:?}", run.told);
    }
}

/// One service that was up ended like this.
fn stops(end: RunEnd) -> StopReport {
    StopReport([("gone".parse().unwrap(), StopEnd { was_up: true, end })].into())
}

/// Everything that was done and has a counterpart is undone in reverse, or everything is in force.
fn assert_goes_back(run: &Run) {
    let place = |acts: &[Act], which: &dyn Fn(&Act) -> bool| acts.iter().position(which);
    let words = run.words();
    let put_in_force = place(&run.acts, &|act| matches!(act, Act::PutInForce(_)));
    // The second time it is the old manifest.
    let put_back = run.acts.iter().rposition(|act| matches!(act, Act::PutInForce(_)));
    let put_back = put_back.filter(|_| put_back != put_in_force);
    let is_in_force = put_in_force.filter(|_| put_back.is_none());
    let held = run.done.contains(&Act::Hold);
    let checked_out = place(&run.done, &|act| matches!(act, Act::CheckOut(_))).is_some();
    let release = place(&run.acts, &|act| *act == Act::Release);
    assert_eq!(release.is_some(), held, "{words:?}");
    let back = place(&run.acts, &|act| matches!(act, Act::GoBack { .. }));
    assert_eq!(back.is_some(), checked_out && is_in_force.is_none(), "{words:?}");
    let of_services = |which: fn(&RolloutAct) -> bool| {
        run.acts.iter().rposition(|act| matches!(act, Act::Service(act) if which(act)))
    };
    let order = [
        of_services(|act| matches!(act, RolloutAct::GoBack(_) | RolloutAct::Unlink(_))),
        put_back,
        back,
        release,
        place(&run.acts, &|act| *act == Act::Revive),
        is_in_force.is_none().then(|| place(&run.acts, &|act| matches!(act, Act::Forget(_)))).flatten(),
    ];
    assert!(order.iter().flatten().is_sorted(), "{words:?}");
    let moves = run.done.iter().filter(|act| matches!(act, Act::ServeFrom(_))).count();
    let ends_elsewhere = moves == 1;
    assert!(moves == 0 || ends_elsewhere == is_in_force.is_some(), "{words:?}");

    let first_switch =
        run.acts.iter().position(|act| matches!(act, Act::Service(Switch(_) | StayUnbuilt(_))));
    let last_before = of_services(|act| matches!(act, Build(_) | Link(_) | Start(_) | AwaitReady(_)));
    if let Some(switch) = first_switch {
        assert!(put_in_force.is_some_and(|place| place < switch), "{words:?}");
        assert!(last_before.is_none_or(|place| place < switch), "{words:?}");
    }
}

proptest! {
    /// Whatever fails and whenever it is cancelled: every act that was done and has a counterpart is undone
    /// in reverse, and nothing is switched before everything is ready and the manifest is in force.
    #[test]
    fn whatever_fails_what_was_done_is_undone_in_reverse(
        kinds in proptest::collection::vec(any::<[bool; 4]>(), 1..6),
        reloads in any::<bool>(),
        elsewhere in any::<bool>(),
        fates in proptest::collection::vec((any::<u16>(), 0_u8..20), 100),
        cancelled_at in proptest::option::of(0_usize..60),
    ) {
        let items: Vec<Item> = kinds
            .iter()
            .map(|&[builds, overlaps, background, vital]| Item { builds, releases: false, overlaps, background, vital, after: Vec::new() })
            .collect();
        let mut run = Run::of(if reloads { RELOAD } else { UPDATE }, &items);
        run.elsewhere = elsewhere;
        let mut fates = fates.into_iter().cycle();
        for turn in 0..10_000 {
            if cancelled_at == Some(turn) {
                run.course.cancel();
            }
            if !run.ask() { break }
            let (which, fate) = fates.next().expect("it cycles");
            let place = usize::from(which) % run.under_way.len();
            let can_fail = matches!(
                run.under_way[place],
                Act::Fetch | Act::CheckCommit(_) | Act::CheckFile | Act::Locate | Act::TakeTurn | Act::CheckOut(_)
                    | Act::GoBack { .. } | Act::Service(Build(_) | Link(_) | AwaitReady(_) | LookAgain(_))
            );
            run.end(place, can_fail && fate == 0);
        }
        prop_assert_eq!(run.course.advance(), None, "nothing is under way, and nothing is asked for");
        assert_goes_back(&run);
        let is_in_force = run.acts.iter().filter(|act| matches!(act, Act::PutInForce(_))).count() == 1;
        match run.course.end() {
            Ok(_) => prop_assert!(is_in_force),
            Err(failure) => prop_assert!(!is_in_force, "{}", in_one_line(&failure)),
        }
    }
}
