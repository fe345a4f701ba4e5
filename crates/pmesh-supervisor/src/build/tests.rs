//! Builds, with real commands and with scripted ones.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, future,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use crate::{
    AppSpec, Build, BuildError, Builder, Command, Exit, LogFolder, LogLimits, MachineFacts, OsSpawner,
    Rebuild, ServiceLog, ServiceName, Signal, Spawner, Wish, testing::FakeSpawner,
};
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::watch};

/// What no env files say.
fn no_files() -> &'static MachineFacts {
    static NONE: LazyLock<MachineFacts> = LazyLock::new(MachineFacts::default);
    &NONE
}

struct Project {
    _folder: tempfile::TempDir,
    name: ServiceName,
    spec: AppSpec,
    log: ServiceLog,
    builder: Builder,
}

/// A service whose build is these shell scripts.
fn project(steps: &[&str]) -> Project {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    fs::create_dir(root.join("web")).unwrap();
    let name: ServiceName = "web".parse().unwrap();
    let mut spec = AppSpec::new(&name, root.join("web"));
    spec.build = steps.iter().map(|step| shell(step)).collect();
    let log = LogFolder::open(&root.join("logs"), LogLimits::default(), &crate::testing::work_threads())
        .unwrap()
        .log("web.log");
    Project { _folder: folder, name, spec, log, builder: Builder::new(2, crate::testing::work_threads()) }
}

fn shell(script: &str) -> Command {
    let arguments = vec!["-c".to_owned(), script.to_owned()];
    Command { program: "sh".to_owned(), arguments, ..Command::default() }
}

impl Project {
    async fn build_by(&self, spawner: &dyn Spawner, rebuild: Rebuild) -> Result<Build, BuildError> {
        let never = future::pending();
        self.build_until(spawner, rebuild, never).await
    }

    async fn build_until(
        &self,
        spawner: &dyn Spawner,
        rebuild: Rebuild,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<Build, BuildError> {
        let env = BTreeMap::from([(OsString::from("PATH"), std::env::var_os("PATH").unwrap())]);
        let (name, spec, log) = (&self.name, &self.spec, &self.log);
        let (wishes, wished) = watch::channel(Wish::GoOn);
        let build = self.builder.build(name, spec, (no_files(), &env), rebuild, spawner, log, wished);
        let cancel = async {
            cancel.await;
            wishes.send_replace(Wish::End);
        };
        let (built, ()) = tokio::join!(build, async {
            // Some tests never cancel the build.
            tokio::select! {
                () = cancel => {}
                () = wishes.closed() => {}
            }
        });
        built.map(|build| build.expect("there are build steps"))
    }

    async fn build(&self) -> Result<Build, BuildError> {
        self.build_by(&OsSpawner::new(crate::testing::work_threads().proc), Rebuild::Changed).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.spec.folder.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn change(&self, text: &str) {
        fs::write(self.path("source"), text).unwrap();
    }

    /// The files in the folder that builds have made.
    fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.spec.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with('.')).collect();
        names.sort();
        names
    }

    async fn log(&self) -> String {
        self.log.flush().await;
        fs::read_to_string(self.log.path()).unwrap()
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_product_is_where_the_steps_put_it_by_the_variable_or_by_the_link() {
    let project = project(&[
        "echo \"$PM3_OUT $PM3_BUILD $PM3_BUILDING\" > $PM3_OUT/a",
        "pwd > .build/b; readlink .build > .build/c; echo to the log; echo error >&2",
    ]);
    let build = project.build().await.unwrap();
    let folder = build.folder().to_str().unwrap();
    assert_eq!(build.folder(), project.path(&format!(".build-{}", build.id())));
    let read = |file: &str| fs::read_to_string(build.folder().join(file)).unwrap();
    assert_eq!(read("a"), format!("{folder} {} 1\n", build.id()));
    assert_eq!(read("b"), format!("{}\n", project.spec.folder.display()));
    assert_eq!(read("c"), format!(".build-{}\n", build.id()));
    assert_eq!(project.leftovers(), [name(build.folder()), format!(".build-{}.ok", build.id())]);
    let log = project.log().await;
    assert!(log.contains("\nto the log\nerror\n"), "{log}");
    assert!(log.starts_with(&format!("[pmesh] build {}: sh -c 'echo", build.id())), "{log}");
}

#[tokio::test]
async fn the_same_content_is_built_once() {
    let project = project(&["echo run >> ../runs"]);
    let first = project.build().await.unwrap();
    assert_eq!(project.build().await.unwrap(), first);
    assert_eq!(project.read("../runs"), "run\n");
    project.change("x");
    assert_ne!(project.build().await.unwrap().id(), first.id());
    assert_eq!(project.read("../runs"), "run\nrun\n");
}

#[tokio::test]
async fn a_service_without_steps_has_no_build() {
    let project = project(&[]);
    let spawner = FakeSpawner::new();
    let env = BTreeMap::new();
    let (name, spec, log) = (&project.name, &project.spec, &project.log);
    let wishes = watch::channel(Wish::GoOn).1;
    let build = project
        .builder
        .build(name, spec, (no_files(), &env), Rebuild::Everything, &spawner, log, wishes)
        .await;
    assert_eq!(build.unwrap(), None);
    assert_eq!(spawner.launches(), []);
}

#[tokio::test]
async fn a_forced_build_leaves_the_files_of_the_one_that_runs_alone() {
    let project = project(&["echo $$ > .build/pid"]);
    let first = project.build().await.unwrap();
    let pid = fs::read_to_string(first.folder().join("pid")).unwrap();
    let second = project
        .build_by(&OsSpawner::new(crate::testing::work_threads().proc), Rebuild::Everything)
        .await
        .unwrap();
    assert_eq!(second.id(), first.id());
    assert_eq!(name(second.folder()), format!(".build-{}-2", first.id()));
    assert_eq!(fs::read_to_string(first.folder().join("pid")).unwrap(), pid);
    assert_eq!(project.build().await.unwrap(), second, "the newer one is taken from now on");
}

#[tokio::test]
async fn a_failed_step_is_named_with_its_exit_and_last_lines_and_leaves_nothing() {
    let project =
        project(&["echo fine", "echo half > .build/x; echo 'no such module' >&2; exit 3", "exit 0"]);
    let error = project.build().await.unwrap_err();
    let step = project.spec.build[1].to_string();
    let wanted = format!("build step `{step}` ended with exit code 3; its last lines:\nno such module");
    assert_eq!(error.to_string(), wanted);
    assert_eq!(project.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_command_that_is_not_there_is_an_error_with_the_reason() {
    let mut project = project(&["exit 0"]);
    project.spec.build[0].program = "no-such-tool".to_owned();
    let error = project.build().await.unwrap_err();
    assert!(error.to_string().starts_with("build step `no-such-tool -c"), "{error}");
    assert!(matches!(error, BuildError::Spawn { error, .. } if error.source.raw_os_error() == Some(2)));
}

#[tokio::test]
async fn a_build_that_takes_too_long_ends_with_all_its_processes() {
    let mut project = project(&["sleep 1000 & echo $! > ../pid; echo waiting; wait"]);
    project.spec.build_timeout = Duration::from_millis(300);
    let error = project.build().await.unwrap_err();
    let BuildError::Timeout { limit, lines, .. } = &error else { panic!("{error}") };
    assert_eq!((*limit, &lines[..]), (Duration::from_millis(300), &["waiting".to_owned()][..]));
    assert!(!Path::new("/proc").join(project.read("../pid").trim()).join("fd/0").exists());
    assert_eq!(project.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_step_that_leaves_processes_behind_does_not_keep_the_build_waiting() {
    let project = project(&["sleep 1000 & echo $! > ../pid"]);
    project.build().await.unwrap();
    assert!(!Path::new("/proc").join(project.read("../pid").trim()).join("fd/0").exists());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_build_can_be_hurried_to_its_end() {
    let project = project(&["a build"]);
    let spawner = FakeSpawner::new();
    spawner.ignore_terminate(true);
    let (wishes, wished) = watch::channel(Wish::GoOn);
    let (env, begin) = (BTreeMap::new(), tokio::time::Instant::now());
    let (name, spec, log) = (&project.name, &project.spec, &project.log);
    let build =
        project.builder.build(name, spec, (no_files(), &env), Rebuild::Changed, &spawner, log, wished);
    let (built, ()) = tokio::join!(build, async {
        spawner.wait_for_launches(1).await;
        wishes.send_replace(Wish::End);
        spawner.wait_for_signal(0, Signal::Terminate).await;
        wishes.send_replace(Wish::Kill);
    });
    assert!(matches!(built, Err(BuildError::Cancelled)));
    assert_eq!(spawner.signals(0), [Signal::Terminate, Signal::Kill]);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_build_is_ended_and_by_sigkill_when_it_must_be() {
    let project = project(&["a build"]);
    let spawner = FakeSpawner::new();
    spawner.ignore_terminate(true);
    let cancel = spawner.wait_for_launches(1);
    let error = project.build_until(&spawner, Rebuild::Changed, cancel).await.unwrap_err();
    assert!(matches!(error, BuildError::Cancelled));
    assert_eq!(spawner.signals(0), [Signal::Terminate, Signal::Kill]);
    assert_eq!(project.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn an_unfinished_product_is_not_taken_for_a_build() {
    let project = project(&["test ! -e .build/torn; echo whole > .build/x"]);
    let id = project.build().await.unwrap().id().clone();
    let product = project.path(&format!(".build-{id}"));
    // The state that a `kill -9` in the middle of a build leaves.
    fs::remove_file(project.path(&format!(".build-{id}.ok"))).unwrap();
    fs::write(product.join("torn"), "").unwrap();
    let build = project.build().await.unwrap();
    assert_eq!(build.folder(), product);
    assert!(!product.join("torn").exists() && product.join("x").exists());
}

#[tokio::test]
async fn a_step_may_make_a_folder_in_the_place_of_the_link() {
    let project = project(&["rm -rf .build; mkdir .build; echo new > .build/x"]);
    let build = project.build().await.unwrap();
    assert_eq!(fs::read_to_string(build.folder().join("x")).unwrap(), "new\n");
    assert!(!project.path(".build").exists());
}

#[tokio::test]
async fn the_run_link_moves_in_one_step_and_back() {
    let project = project(&["true"]);
    let folder = &project.spec.folder;
    assert_eq!(Build::active(folder), None);
    let first = project.build().await.unwrap();
    first.activate().unwrap();
    project.change("x");
    let second = project.build().await.unwrap();
    assert_eq!(Build::active(folder).as_ref(), Some(&first));
    second.activate().unwrap();
    assert_eq!(fs::read_link(project.path(".run")).unwrap(), Path::new(&name(second.folder())));
    first.activate().unwrap();
    assert_eq!(Build::active(folder), Some(first));
    Build::deactivate(folder).unwrap();
    Build::deactivate(folder).unwrap();
    assert_eq!(Build::active(folder), None);
    assert!(project.leftovers().iter().all(|name| name.starts_with(".build-")));
}

#[tokio::test]
async fn a_folder_in_the_place_of_the_run_link_is_left_and_named() {
    let project = project(&["true"]);
    let build = project.build().await.unwrap();
    fs::create_dir(project.path(".run")).unwrap();
    let error = build.activate().unwrap_err();
    let wanted = format!("cannot put a link in the place of {}", project.path(".run").display());
    assert_eq!(error.to_string(), wanted);
}

#[tokio::test]
async fn an_instance_runs_from_its_own_build_after_the_link_moved_on() {
    let project = project(&["true"]);
    let build = project.build().await.unwrap();
    assert_eq!(build.resolve(".run/server"), build.folder().join("server"));
    for other in ["server", "a.run/x", ".running/x", "--dir=.run/x"] {
        assert_eq!(build.resolve(other), other);
    }
}

#[tokio::test]
async fn the_last_two_builds_the_active_one_and_those_in_use_are_kept() {
    let project = project(&["true"]);
    let mut builds = Vec::new();
    for text in ["1", "2", "3", "4", "5"] {
        project.change(text);
        let build = project.build().await.unwrap();
        // Files made within one tick of the file system's clock have the same time.
        let mark = fs::File::open(build.folder().with_extension("ok")).or_else(|_| {
            let mut mark = build.folder().as_os_str().to_owned();
            mark.push(".ok");
            fs::File::open(mark)
        });
        let age = Duration::from_secs(1000 - 10 * builds.len() as u64);
        mark.unwrap().set_modified(std::time::SystemTime::now() - age).unwrap();
        builds.push(build);
    }
    builds[0].activate().unwrap();
    fs::create_dir(project.path(".build-00000000000000aa")).unwrap();
    fs::create_dir(project.path(".build-00000000000000bb")).unwrap();
    fs::write(project.path(".build-00000000000000bb.ok"), "other\n").unwrap();
    fs::create_dir(project.path(".buildkite")).unwrap();
    project.builder.prune(&project.name, &project.spec.folder, &builds[1..2]).await;
    let there = |nth: usize| builds[nth].folder().exists();
    assert_eq!([there(0), there(1), there(2), there(3), there(4)], [true, true, false, true, true]);
    let left = project.leftovers();
    assert!(!left.iter().any(|name| name.contains("00aa")), "unfinished: {left:?}");
    assert!(left.iter().any(|name| name.contains("00bb")), "another service's: {left:?}");
    assert!(left.contains(&".buildkite".to_owned()), "not a build: {left:?}");
}

#[tokio::test]
async fn builds_in_one_folder_take_turns() {
    let project = project(&["one"]);
    let mut other = project.spec.clone();
    other.build[0].arguments[1] = "two".to_owned();
    let spawner = FakeSpawner::new();
    let env = BTreeMap::new();
    let build = |spec| {
        let (spawner, log) = (&spawner, &project.log);
        project.builder.build(
            &project.name,
            spec,
            (no_files(), &env),
            Rebuild::Changed,
            spawner,
            log,
            watch::channel(Wish::GoOn).1,
        )
    };
    let script = async {
        for nth in 0..2 {
            spawner.wait_for_launches(nth + 1).await;
            assert_eq!(spawner.running(), [nth]);
            spawner.crash(nth, Exit::Code(0));
        }
    };
    let (first, second, ()) = tokio::join!(build(&project.spec), build(&other), script);
    assert_ne!(first.unwrap(), second.unwrap());
}

/// A service whose build makes its product in a folder that git ignores, beside its sources, as most builds
/// do.
fn in_place(step: &str) -> Project {
    let project = project(&[step]);
    fs::write(project.path(".gitignore"), "dist/\nnode_modules/\n*.db\n.build*\n").unwrap();
    project.change("v1");
    project
}

const TO_DIST: &str = "mkdir -p dist && cp source dist/ && echo run >> ../runs";

impl Project {
    fn runs(&self) -> usize {
        fs::read_to_string(self.path("../runs")).map_or(0, |runs| runs.lines().count())
    }

    /// The id in the file that says which build's product the folder holds in place.
    fn holds(&self) -> Option<String> {
        Some(fs::read_to_string(self.path(".build-in-place")).ok()?.trim().to_owned())
    }
}

#[tokio::test]
async fn what_was_built_in_place_before_is_built_again_when_its_content_comes_back() {
    let project = in_place(TO_DIST);
    let first = project.build().await.unwrap();
    assert!(first.is_in_place());
    assert_eq!(project.build().await.unwrap(), first, "what the folder holds is not built again");
    project.change("v2");
    let second = project.build().await.unwrap();
    assert_eq!(
        (project.read("dist/source").as_str(), project.holds()),
        ("v2", Some(second.id().to_string()))
    );
    assert!(second.is_whole() && !first.is_whole());
    project.change("v1");
    let again = project.build().await.unwrap();
    assert_eq!((project.read("dist/source").as_str(), project.runs()), ("v1", 3));
    assert_eq!((again.id(), project.holds()), (first.id(), Some(first.id().to_string())));
    assert!(again.is_whole() && !second.is_whole());
}

#[tokio::test]
async fn a_build_that_fills_its_own_folder_and_another_is_in_place_too() {
    let project = in_place("mkdir -p node_modules && cp source node_modules/ && cp source $PM3_OUT/");
    let first = project.build().await.unwrap();
    project.change("v2");
    project.build().await.unwrap();
    project.change("v1");
    let again = project.build().await.unwrap();
    assert_eq!(project.read("node_modules/source"), "v1");
    assert_eq!(fs::read_to_string(again.folder().join("source")).unwrap(), "v1");
    assert_ne!(again.folder(), first.folder(), "what instances run from is left alone");
}

#[tokio::test]
async fn a_build_into_its_own_folder_alone_is_not_made_again() {
    let project = in_place("cp source $PM3_OUT/ && echo run >> ../runs");
    fs::create_dir_all(project.path("node_modules/deep")).unwrap();
    fs::write(project.path("node_modules/deep/before"), "").unwrap();
    for text in ["v1", "v2", "v1", "v2"] {
        project.change(text);
        let build = project.build().await.unwrap();
        assert!(build.is_whole() && !build.is_in_place());
    }
    assert_eq!((project.runs(), project.holds()), (2, None));
}

#[tokio::test]
async fn whatever_a_build_changes_in_the_folder_is_seen() {
    for step in [
        "echo x > node_modules/deep/old",
        "chmod 700 node_modules/deep/old",
        "rm node_modules/deep/old",
        "rm -r node_modules",
        "mkdir -p dist/empty",
        "cp -p source some.db",
        "ln -s source node_modules/link",
        "ln node_modules/deep/old node_modules/hard",
        "touch -d 2001-01-01 node_modules/deep/old",
        "mv node_modules/deep node_modules/moved",
        // This file is not ignored by git, so the content has another hash afterwards.
        "echo x > untracked",
    ] {
        let project = in_place(step);
        fs::create_dir_all(project.path("node_modules/deep")).unwrap();
        fs::write(project.path("node_modules/deep/old"), "").unwrap();
        let build = project.build().await.unwrap();
        assert_eq!(project.holds().as_deref(), Some(build.id().as_str()), "{step}");
    }
}

#[tokio::test]
async fn logs_and_what_pmesh_itself_writes_are_no_product() {
    let mut project = in_place("echo to the log; mkdir -p .build/x; echo > web.log; echo > state/lock");
    project.log =
        LogFolder::open(&project.spec.folder, LogLimits::default(), &crate::testing::work_threads())
            .unwrap()
            .log("web.log");
    fs::create_dir(project.path("state")).unwrap();
    project.builder = project.builder.clone().with_state(project.path("state"));
    assert!(!project.build().await.unwrap().is_in_place());
    assert_eq!(project.holds(), None);
}

#[tokio::test]
async fn a_build_in_place_that_fails_leaves_a_product_that_is_nobodys() {
    let project = in_place("rm -rf dist && mkdir -p dist && cp source dist/ && ! grep -q broken source");
    let first = project.build().await.unwrap();
    project.change("broken");
    project.build().await.unwrap_err();
    assert_eq!(project.holds().as_deref(), Some("unfinished"));
    assert!(!first.is_whole());
    project.change("v1");
    let again = project.build().await.unwrap();
    assert_eq!((project.read("dist/source").as_str(), again.id()), ("v1", first.id()));
}

#[tokio::test]
async fn a_build_that_fails_before_it_changes_anything_leaves_the_product_that_is_there() {
    let project =
        in_place("! grep -q broken source && mkdir -p dist && cp source dist/ && echo run >> ../runs");
    let first = project.build().await.unwrap();
    project.change("broken");
    project.build().await.unwrap_err();
    assert!(first.is_whole());
    project.change("v1");
    assert_eq!((project.build().await.unwrap(), project.runs()), (first, 1));
}

#[tokio::test]
async fn a_build_that_nobody_sees_end_claims_nothing() {
    let project = in_place(
        "mkdir -p dist && cp source dist/ && ! grep -q hang source || { echo > ../hangs; exec sleep 1000; }",
    );
    let hangs = project.path("../hangs");
    rustix::fs::mkfifoat(rustix::fs::CWD, &hangs, rustix::fs::Mode::RWXU).unwrap();
    let mut hangs = pipe::OpenOptions::new().open_receiver(&hangs).unwrap();
    let first = project.build().await.unwrap();
    project.change("hang");
    let spawner = OsSpawner::new(crate::testing::work_threads().proc);
    // As a `kill -9` in the middle of the build: nothing runs after it.
    tokio::select! {
        _ = project.build_by(&spawner, Rebuild::Changed) => panic!("it hangs"),
        read = hangs.read_u8() => assert_eq!(read.unwrap(), b'\n'),
    }
    assert_eq!(project.holds().as_deref(), Some("unfinished"));
    project.change("v1");
    let again = project.build().await.unwrap();
    assert_eq!((project.read("dist/source").as_str(), again.id()), ("v1", first.id()));
}

#[tokio::test]
async fn a_build_into_its_own_folder_is_as_good_as_what_it_was_made_beside() {
    let project = in_place(
        "if grep -q v2 source; then cp source $PM3_OUT/; else mkdir -p dist && cp source dist/; fi; echo run >> ../runs",
    );
    let first = project.build().await.unwrap();
    project.change("v2");
    let second = project.build().await.unwrap();
    assert_eq!(project.holds().as_deref(), Some(first.id().as_str()), "it has left dist alone");
    assert!(first.is_whole() && second.is_whole());
    assert_eq!((project.build().await.unwrap(), project.runs()), (second.clone(), 2));
    project.change("v3");
    project.build().await.unwrap();
    assert!(!second.is_whole(), "dist is another one than when it was made");
}

#[tokio::test]
async fn two_services_that_are_built_in_place_in_one_folder_take_turns_to_hold_it() {
    let mut project = in_place(TO_DIST);
    let web = project.build().await.unwrap();
    project.name = "worker".parse().unwrap();
    let worker = project.build().await.unwrap();
    assert!(worker.is_whole() && !web.is_whole() && web.id() != worker.id());
    assert_eq!(project.build().await.unwrap(), worker);
    project.name = "web".parse().unwrap();
    project.build().await.unwrap();
    assert_eq!(project.runs(), 3);
    project.builder.prune(&project.name, &project.spec.folder, &[]).await;
    assert!(worker.folder().exists() && project.holds().is_some());
}

#[tokio::test]
async fn an_invalidated_build_in_place_is_made_again_and_the_last_two_are_kept() {
    let project = in_place(TO_DIST);
    let mut builds = vec![project.build().await.unwrap()];
    for _ in 0..3 {
        builds.push(
            project
                .build_by(&OsSpawner::new(crate::testing::work_threads().proc), Rebuild::Everything)
                .await
                .unwrap(),
        );
    }
    assert_eq!(project.runs(), 4);
    project.builder.prune(&project.name, &project.spec.folder, &[]).await;
    let there: Vec<_> = builds.iter().map(|build| build.folder().exists()).collect();
    assert_eq!(there, [false, false, true, true]);
    assert!(project.build().await.unwrap().is_whole());
    assert_eq!(project.runs(), 4);
}

#[tokio::test]
async fn nothing_is_written_through_links_that_somebody_has_put_into_the_folder() {
    let project = project(&["echo made > .build/x"]);
    let victim = project.path("victim");
    fs::write(&victim, "precious").unwrap();
    let id = project.build().await.unwrap().id().clone();
    for name in [".build-in-place.new".to_owned(), format!(".build-{id}-2.ok.new")] {
        std::os::unix::fs::symlink(&victim, project.path(&name)).unwrap();
    }
    let spawner = OsSpawner::new(crate::testing::work_threads().proc);
    project.build_by(&spawner, Rebuild::Everything).await.unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}
