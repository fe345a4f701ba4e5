//! Trees of real processes that do what they can to get away from whoever ends them.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use pmesh_supervisor::{Containment, Launch, NodeCgroups, OsSpawner, Signal, Spawned, Spawner};
use tokio::io::{AsyncBufReadExt, BufReader};

fn launch(program: &str, arguments: &[&str]) -> Launch {
    let path = std::env::var_os("PATH").unwrap();
    Launch::new(program, std::env::temp_dir()).with(|launch| {
        launch.arguments = arguments.iter().map(OsString::from).collect();
        launch.env = BTreeMap::from([(OsString::from("PATH"), path)]);
    })
}

/// Whether a process is there and no zombie without threads.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    !rest.starts_with('Z') || rest.split(' ').nth(17) != Some("1")
}

/// A tree, and the pids that its processes have written, a line each, `count` of them.
struct Tree {
    spawned: Spawned,
    pids: Vec<u32>,
    mark: String,
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.spawned.tree.signal(Signal::Kill);
        for pid in self.pids.iter().copied().filter(|&pid| lives(pid)) {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
}

impl Tree {
    async fn start(spawner: &OsSpawner, launch: &Launch, count: usize) -> Self {
        let mut spawned = spawner.spawn(launch).unwrap();
        let mut lines = BufReader::new(&mut spawned.output).lines();
        let mut pids = Vec::new();
        while pids.len() < count {
            let line = lines.next_line().await.unwrap().expect("all write their pids");
            pids.push(line.trim().parse().unwrap_or_else(|_| panic!("{line}")));
        }
        // While a process executes a program it has no environment.
        let mark = std::iter::repeat_with(|| mark(spawned.tree.leader())).flatten().next().unwrap();
        Self { spawned, pids, mark }
    }

    async fn kill(&self) {
        self.spawned.tree.signal(Signal::Kill);
        self.spawned.tree.ended().await;
    }

    fn is_gone(&self) -> bool {
        let others =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let marked = others
            .filter_map(|pid| pid.parse().ok())
            .filter(|&pid| lives(pid) && mark(pid).as_ref() == Some(&self.mark));
        let living: Vec<u32> = self.pids.iter().copied().filter(|&pid| lives(pid)).chain(marked).collect();
        assert_eq!(living, [], "these live");
        true
    }
}

/// The mark of the tree that a process belongs to.
fn mark(pid: u32) -> Option<String> {
    let environ = fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).ok()?;
    let environ = String::from_utf8_lossy(&environ);
    environ.split('\0').find_map(|entry| entry.strip_prefix("PM3_TREE=")).map(str::to_owned)
}

/// One for each way in which it is known who belongs to a tree.
fn spawners() -> Vec<OsSpawner> {
    let marks = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc);
    match groups() {
        Some(groups) => vec![marks.clone(), marks.contained(groups)],
        None => vec![marks],
    }
}

/// Control groups of a node of this test's own, where they may be made.
fn groups() -> Option<NodeCgroups> {
    static NODES: AtomicU32 = AtomicU32::new(0);
    let node = format!("test-{}-{}", std::process::id(), NODES.fetch_add(1, Ordering::Relaxed));
    NodeCgroups::open(&node).inspect_err(|why| eprintln!("skipped in part: {why}")).ok()
}

#[tokio::test]
async fn who_leaves_the_session_and_loses_its_parent_before_anybody_looks_ends_with_the_tree() {
    let script = "setsid sh -c 'sleep 1031 & echo $!'; echo $$; exec sleep 1032";
    for spawner in spawners() {
        let tree = Tree::start(&spawner, &launch("sh", &["-c", script]), 2).await;
        assert!(tree.pids.iter().all(|&pid| lives(pid)));
        let mut seen = tree.spawned.tree.pids();
        seen.sort_unstable();
        let mut all = tree.pids.clone();
        all.sort_unstable();
        assert_eq!(seen, all);
        tree.spawned.tree.signal(Signal::Terminate);
        tree.spawned.tree.ended().await;
        assert!(tree.is_gone());
    }
}

#[tokio::test]
async fn in_a_control_group_also_who_has_cleared_its_environment_ends_with_the_tree() {
    let Some(groups) = groups() else { return };
    let spawner = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc).contained(groups);
    let script = "setsid env -i sh -c 'sleep 1031 & echo $!'; exec sleep 1032";
    let tree = Tree::start(&spawner, &launch("sh", &["-c", script]), 1).await;
    assert_eq!(tree.spawned.tree.containment(), Containment::Cgroup);
    tree.spawned.tree.signal(Signal::Terminate);
    tree.spawned.tree.ended().await;
    assert!(tree.is_gone());
}

#[tokio::test]
async fn two_trees_that_lose_processes_in_the_same_way_do_not_end_each_others() {
    let launch = launch("sh", &["-c", "setsid sh -c 'sleep 1031 & echo $!'; exec sleep 1032"]);
    for spawner in spawners() {
        let (one, other) = (Tree::start(&spawner, &launch, 1).await, Tree::start(&spawner, &launch, 1).await);
        one.kill().await;
        assert!(one.is_gone() && other.pids.iter().all(|&pid| lives(pid)));
        other.kill().await;
        assert!(other.is_gone());
    }
}

/// Makes a random tree of processes from the seed; each writes its pid once it is what it wants to be. Then all wait.
const RANDOM: &str = r"
import ctypes, os, random, signal, sys, threading, time
pick = random.Random(int(sys.argv[1]))
left = int(sys.argv[2])
HOWS = {
    'session': os.setsid,
    'group': lambda: os.setpgid(0, 0),
    'deaf': lambda: [signal.signal(number, signal.SIG_IGN) for number in (1, 2, 15)],
}
plan = []   # for each process: its parent, and what it does first
for number in range(1, left):
    plan.append((pick.randrange(number), [how for how in HOWS if pick.random() < 0.4], pick.random() < 0.3))

def rest(number):
    os.write(1, b'%d\n' % os.getpid())
    if number and pick_end[number - 1] == 'closed':
        os.closerange(0, 3)
    if number and pick_end[number - 1] == 'headless':
        threading.Thread(target=lambda: time.sleep(1000)).start()
        ctypes.CDLL(None).pthread_exit(None)
    while True:
        time.sleep(1000)

pick_end = [pick.choice(['plain', 'closed', 'headless']) for _ in plan]

def become(number):
    for child, (parent, hows, twice) in enumerate(plan, 1):
        if parent != number:
            continue
        if os.fork():
            if twice: os.wait()
            continue
        if twice and os.fork():
            os._exit(0)
        for how in hows:
            try:
                HOWS[how]()
            except PermissionError:
                pass    # the leader of a session stays in it
        become(child)
    rest(number)

become(0)
";

#[tokio::test]
async fn nothing_of_a_random_tree_outlives_it() {
    const SIZE: usize = 9;
    for (seed, spawner) in (0..12).flat_map(|seed| spawners().into_iter().map(move |spawner| (seed, spawner)))
    {
        let arguments = ["-c", RANDOM, &seed.to_string(), &SIZE.to_string()];
        let tree = Tree::start(&spawner, &launch("python3", &arguments), SIZE).await;
        tree.spawned.tree.signal(Signal::Terminate);
        tree.kill().await;
        assert!(tree.is_gone(), "seed {seed}");
    }
}

#[tokio::test]
async fn who_forks_faster_than_it_can_be_looked_at_ends_all_the_same() {
    // Each makes another one in a session of its own that has lost its parent, 60 in all, while the others are signalled.
    let script = "import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for left in range(60, 0, -1):
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        continue
    if left == 50: os.write(1, b'%d\\n' % os.getpid())
    break
while True: time.sleep(1000)";
    for spawner in spawners() {
        let tree = Tree::start(&spawner, &launch("python3", &["-c", script]), 1).await;
        tree.kill().await;
        assert!(tree.is_gone());
    }
}
