//! What a server that was killed has left running, and who is left alone.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use pmesh_supervisor::{Launch, NodeCgroups, NodeMark, OsSpawner, Spawner};

/// Processes that a shell has started, whose pids it writes a line each, `count` of them. They end with this.
struct Left {
    shell: Child,
    pids: Vec<i32>,
}

impl Left {
    fn by(mark: Option<&str>, script: &str, count: usize) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("PM3_SERVICE", "web").env_remove("PM3_NODE").stdout(Stdio::piped());
        command.envs(mark.map(|mark| ("PM3_NODE", mark))).process_group(0);
        let mut shell = command.spawn().unwrap();
        let lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let pids = lines.take(count).map(|line| line.unwrap().trim().parse().unwrap()).collect();
        Self { shell, pids }
    }

    /// How many of them live.
    fn living(&self) -> usize {
        let lives = |pid: &&i32| {
            let mut stat = String::new();
            let read = std::fs::File::open(format!("/proc/{pid}/stat"))
                .map(|mut file| file.read_to_string(&mut stat));
            read.is_ok() && stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        self.pids.iter().filter(lives).count()
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        for pid in self.pids.iter().filter_map(|&pid| rustix::process::Pid::from_raw(pid)) {
            _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        drop(self.shell.kill());
        self.shell.wait().unwrap();
    }
}

/// Ids of nodes that no test beside this one has.
fn node(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

#[test]
fn everything_that_bears_the_mark_ends_and_what_descends_from_it_and_nobody_else() {
    let (own, other) = (node("own"), node("other"));
    // In the shell's session and group; in a session of its own; without an environment; two of the latter kinds at once.
    let script = "echo $$; sleep 1000 & echo $!; setsid sleep 1000 & echo $!; env -i sleep 1000 & echo $!; \
                  env -i setsid sh -c 'sleep 1000 & echo $!; wait' & wait";
    let left = Left::by(Some(&own), script, 5);
    let others = [
        Left::by(Some(&other), "echo $$; exec sleep 1000", 1),
        Left::by(None, "echo $$; exec sleep 1000", 1),
    ];
    assert_eq!(left.living(), 5);
    let found = NodeMark::new(&own).end_leftovers(None, Duration::from_mins(1)).unwrap();
    assert_eq!(left.living(), 0);
    assert!(found.processes >= 5 && found.survivors.is_empty(), "{found:?}");
    assert!(found.services.iter().eq(["web"]), "{found:?}");
    assert!(others.iter().all(|other| other.living() == 1));
    let again = NodeMark::new(&own).end_leftovers(None, Duration::ZERO).unwrap();
    assert_eq!(again.processes, 0, "{again:?}");
}

#[test]
fn what_is_deaf_to_sigterm_or_stopped_is_killed_when_its_time_is_over() {
    let mark = node("deaf");
    let deaf = Left::by(Some(&mark), "trap '' TERM; echo $$; while :; do sleep 1000; done", 1);
    let stopped = Left::by(Some(&mark), "echo $$; kill -STOP $$", 1);
    let found = NodeMark::new(&mark).end_leftovers(None, Duration::from_millis(200)).unwrap();
    assert_eq!((deaf.living(), stopped.living(), found.survivors), (0, 0, vec![]));
}

#[test]
fn whoever_looks_is_left_alone_though_it_is_marked_itself() {
    const INNER: &str = "PMESH_TEST_INNER";
    if let Ok(mark) = std::env::var(INNER) {
        NodeMark::new(&mark).end_leftovers(None, Duration::from_mins(1)).unwrap();
        println!("it lives");
        return;
    }
    let mark = node("inner");
    let test = "whoever_looks_is_left_alone_though_it_is_marked_itself";
    let output = Command::new("sh")
        .args(["-c", "\"$0\" --exact --nocapture \"$1\"; echo so does its parent"])
        .args([std::env::current_exe().unwrap().as_os_str(), test.as_ref()])
        .envs([(INNER, &mark), ("PM3_NODE", &mark)])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("it lives") && said.contains("so does its parent"), "{said}");
}

#[tokio::test]
async fn who_is_in_a_control_group_of_the_node_ends_also_without_mark_session_and_parent() {
    let id = node("group");
    let opened = || NodeCgroups::open(&id).inspect_err(|why| eprintln!("skipped: {why}")).ok();
    let (Some(dead), Some(next)) = (opened(), opened()) else { return };
    let spawner = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc).contained(dead);
    let script = "setsid env -i sh -c 'sleep 1000 & echo $!'; exec sleep 1001";
    let launch = Launch::new("/bin/sh", std::env::temp_dir()).with(|launch| {
        launch.arguments = vec!["-c".into(), script.into()];
    });
    let mut spawned = spawner.spawn(&launch).unwrap();
    let mut line = String::new();
    let mut output = tokio::io::BufReader::new(&mut spawned.output);
    tokio::io::AsyncBufReadExt::read_line(&mut output, &mut line).await.unwrap();
    let is_there = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", line.trim())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    assert!(is_there());
    let found = NodeMark::new(&id).end_leftovers(Some(&next), Duration::from_mins(1)).unwrap();
    assert!(found.processes >= 2 && found.survivors.is_empty() && !is_there(), "{found:?}");
    spawned.tree.ended().await;
}
