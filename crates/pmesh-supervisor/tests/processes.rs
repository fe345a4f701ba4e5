//! Real processes: how they are started, signalled and seen to end.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use pmesh_supervisor::{
    Exit, ExternalAddress, Launch, Monitor, NetProber, OsSpawner, PortOwner, ProbeFailure, ProbeTarget,
    Prober, ProcessTree, Sampler, ServiceName, Signal, Spawned, Spawner, UserAccount, testing::FreePort,
};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A launch of `sh` with the PATH of the machine.
fn shell(folder: &Path, script: &str) -> Launch {
    command(folder, "sh", &["-c", script])
}

fn command(folder: &Path, program: &str, arguments: &[&str]) -> Launch {
    let path = std::env::var_os("PATH").unwrap();
    Launch::new(program, folder.to_owned()).with(|launch| {
        launch.arguments = arguments.iter().map(OsString::from).collect();
        launch.env = BTreeMap::from([(OsString::from("PATH"), path)]);
    })
}

/// A tree that does not outlive its test, however that ends.
struct Run {
    tree: Arc<dyn ProcessTree>,
    exit: BoxFuture<'static, Exit>,
    output: Box<dyn AsyncRead + Send + Unpin>,
    errors: Box<dyn AsyncRead + Send + Unpin>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.tree.signal(Signal::Kill);
    }
}

fn run(Spawned { tree, exit, output, errors, .. }: Spawned) -> Run {
    Run { tree: tree.into(), exit, output, errors: errors.unwrap() }
}

fn start_with(spawner: &OsSpawner, launch: &Launch) -> Run {
    run(spawner.spawn(launch).unwrap())
}

fn start(launch: &Launch) -> Run {
    start_with(&OsSpawner::new(pmesh_supervisor::testing::work_threads().proc), launch)
}

/// Reads the output up to its end.
async fn output(spawned: &mut Run) -> String {
    let mut text = String::new();
    spawned.output.read_to_string(&mut text).await.unwrap();
    text
}

/// The first line of the output, for scripts that say when they are where the test needs them.
async fn first_line(spawned: &mut Run) -> String {
    let mut line = Vec::new();
    loop {
        match spawned.output.read_u8().await.unwrap() {
            b'\n' => return String::from_utf8(line).unwrap(),
            byte => line.push(byte),
        }
    }
}

/// Whether a process is there and no zombie.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn output_and_errors_come_by_pipes_of_their_own_and_the_exit_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = start(&shell(folder.path(), "echo a; echo b >&2; echo c; exit 3"));
    assert_eq!(output(&mut run).await, "a\nc\n");
    assert_eq!(run.errors.read_u16().await.unwrap().to_be_bytes(), *b"b\n");
    assert_eq!((&mut run.exit).await, Exit::Code(3));
    run.tree.ended().await;
    assert_eq!(run.tree.pids(), []);
    assert!(!exists(run.tree.leader()), "the leader was reaped");
}

#[tokio::test]
async fn a_child_gets_its_environment_its_folder_a_clean_signal_state_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let script = "env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD=; pwd; ls /proc/self/fd | sort -n | xargs; \
        ulimit -Sn; readlink /proc/self/fd/0; grep -E '^Sig(Blk|Ign)' /proc/self/status; \
        cut -d' ' -f5,6 /proc/$$/stat; echo $$";
    let mut launch = shell(folder.path(), script);
    launch.env.insert("NAME".into(), "a value".into());
    launch.nofile = Some(123);
    let mut run = start(&launch);
    let text = output(&mut run).await;
    let lines: Vec<&str> = text.lines().collect();
    let (env, lines) = lines.split_at(3);
    let mut env = env.to_vec();
    env.sort_unstable();
    assert_eq!(env[0], "NAME=a value");
    assert!(env[1].starts_with("PATH=") && env[2].starts_with("PM3_TREE="), "{env:?}");
    assert_eq!(Path::new(lines[0]), folder.path().canonicalize().unwrap());
    // Descriptor 3 is ls reading that folder.
    assert_eq!(lines[1..4], ["0 1 2 3", "123", "/dev/null"]);
    assert_eq!(lines[4], "SigBlk:\t0000000000000000");
    let ignored = u64::from_str_radix(lines[5].trim_start_matches("SigIgn:\t"), 16).unwrap();
    assert_eq!(ignored & (1 << 12), 0, "SIGPIPE is not ignored");
    let leader = run.tree.leader().to_string();
    assert_eq!(lines[6..], [format!("{leader} {leader}"), leader], "group, session and pid are one");
}

#[tokio::test]
async fn a_limit_of_descriptors_above_the_hard_one_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let mut launch = shell(folder.path(), "ulimit -Sn; ulimit -Hn");
    launch.nofile = Some(u64::MAX - 1);
    let text = output(&mut start(&launch)).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], lines[1]);
}

#[tokio::test]
async fn a_script_whose_interpreter_is_missing_names_that_and_a_line_that_ends_with_cr() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("run.sh");
    for (line, said) in [
        ("#!/opt/none/bin/node", "asks for \"/opt/none/bin/node\", which is not there; install it"),
        ("#! /bin/sh\r", "asks for \"/bin/sh\\r\", which is not there; the line ends with CR LF"),
    ] {
        fs::write(&script, format!("{line}\necho\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let error = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc)
            .spawn(&command(folder.path(), "./run.sh", &[]))
            .unwrap_err();
        assert!(error.source.to_string().contains(said), "{}", error.source);
    }
}

#[tokio::test]
async fn a_program_that_cannot_run_is_an_error_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("plain"), "x").unwrap();
    let errno = |launch: &Launch| {
        let error = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc).spawn(launch).unwrap_err();
        (error.source.kind(), error.to_string())
    };
    let (kind, text) = errno(&command(folder.path(), "no-such-program", &[]));
    assert_eq!(kind, std::io::ErrorKind::NotFound);
    assert_eq!(text, format!("cannot start \"no-such-program\" in {}", folder.path().display()));
    for (program, reason) in
        [("./plain", "it is not executable; `chmod +x` makes it so"), ("./", "it is a folder")]
    {
        let error = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc)
            .spawn(&command(folder.path(), program, &[]))
            .unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(error.source.to_string(), reason);
    }
    let (kind, _) = errno(&command(&folder.path().join("none"), "sh", &[]));
    assert_eq!(kind, std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn programs_are_looked_up_in_the_path_of_the_launch() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bin")).unwrap();
    let tool = folder.path().join("bin/tool");
    fs::write(&tool, "#!/bin/sh\necho \"$0\" found\n").unwrap();
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut launch = command(folder.path(), "tool", &[]);
    assert!(OsSpawner::new(pmesh_supervisor::testing::work_threads().proc).spawn(&launch).is_err());
    launch.env.insert("PATH".into(), folder.path().join("bin").into());
    assert_eq!(output(&mut start(&launch)).await, format!("{} found\n", tool.display()));
}

#[tokio::test]
async fn an_exit_is_seen_while_a_grandchild_holds_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = start(&shell(folder.path(), "sleep 1000 & echo $!; exit 7"));
    let child: u32 = first_line(&mut run).await.parse().unwrap();
    assert_eq!((&mut run.exit).await, Exit::Code(7));
    assert_eq!(run.tree.pids(), [child]);
    run.tree.signal(Signal::Terminate);
    run.tree.ended().await;
    assert!(!lives(child));
}

#[tokio::test]
async fn a_signal_reaches_the_session_its_other_groups_and_children_that_left_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = "import os, time, sys
def child(leave):
    pid = os.fork()
    if pid == 0:
        leave()
        os.write(1, b'.')
        time.sleep(1000)
    return pid
pids = [child(lambda: None), child(lambda: os.setpgid(0, 0)), child(os.setsid)]
print('\\n' + ' '.join(map(str, pids)), flush=True)
time.sleep(1000)";
    let mut run = start(&command(folder.path(), "python3", &["-c", script]));
    let mut text = Vec::new();
    // Three dots say that each child is where it wants to be; the pids stand on a line of their own.
    let pids = loop {
        text.push(run.output.read_u8().await.unwrap());
        let line = String::from_utf8_lossy(&text).replace('.', "");
        let dots = text.split(|&byte| byte == b'.').count() - 1;
        if dots == 3 && line.len() > 2 && line.ends_with('\n') {
            break line.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>();
        }
    };
    let mut all = vec![run.tree.leader()];
    all.extend(&pids);
    assert_eq!(run.tree.pids(), all);
    run.tree.signal(Signal::Terminate);
    assert_eq!((&mut run.exit).await, Exit::Signal(15));
    run.tree.ended().await;
    assert!(pids.iter().all(|&pid| !lives(pid)), "{pids:?}");
}

#[tokio::test]
async fn a_tree_that_ignores_sigterm_ends_by_sigkill_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; echo ready; while :; do sleep 1000; done";
    let mut run = start(&shell(folder.path(), script));
    first_line(&mut run).await;
    run.tree.signal(Signal::Terminate);
    let still = tokio::time::timeout(Duration::from_millis(100), run.tree.ended()).await;
    assert!(still.is_err());
    run.tree.signal(Signal::Kill);
    run.tree.ended().await;
    assert_eq!((&mut run.exit).await, Exit::Signal(9));
}

#[tokio::test]
async fn a_stopped_process_ends_by_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = start(&shell(folder.path(), "kill -STOP $$"));
    let stopped = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", run.tree.leader())).unwrap();
        stat.contains(") T ")
    };
    while !stopped() {
        tokio::task::yield_now().await;
    }
    run.tree.signal(Signal::Terminate);
    run.tree.ended().await;
    assert_eq!((&mut run.exit).await, Exit::Signal(15));
}

#[tokio::test]
async fn processes_that_fork_without_end_are_all_gone_after_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    // At most 40 at a time; each is replaced by a child of its own before it ends.
    let script = "import os, time, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(40):
    if os.fork() == 0:
        while True:
            if os.fork(): os._exit(0)
            time.sleep(0.001)
print('on', flush=True)
while True: time.sleep(1)";
    let mut run = start(&command(folder.path(), "python3", &["-c", script]));
    first_line(&mut run).await;
    run.tree.signal(Signal::Kill);
    run.tree.ended().await;
    let session = run.tree.leader().to_string();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        assert!(fields[3] != session || fields[0] == "Z", "{stat}");
    }
}

#[tokio::test]
async fn a_dropped_spawn_leaves_no_zombie() {
    let folder = tempfile::tempdir().unwrap();
    let Spawned { tree, exit, output, .. } = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc)
        .spawn(&shell(folder.path(), "sleep 0.05"))
        .unwrap();
    let pid = tree.leader();
    drop((tree, exit, output));
    let deadline = Instant::now() + Duration::from_secs(10);
    while exists(pid) {
        assert!(Instant::now() < deadline, "{pid} is still there");
        // Runs the driver, which reaps when SIGCHLD comes.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_hundred_trees_end_with_a_few_looks_at_the_process_table() {
    let folder = tempfile::tempdir().unwrap();
    let spawner = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc);
    let launch = command(folder.path(), "sleep", &["1000"]);
    let runs: Vec<Run> = (0..100).map(|_| start_with(&spawner, &launch)).collect();
    for run in &runs {
        run.tree.signal(Signal::Terminate);
    }
    let all = runs.iter().map(|run| run.tree.ended());
    futures_util::future::join_all(all).await;
    assert!(runs.iter().all(|run| !exists(run.tree.leader())));
}

fn target(run: Option<&Run>, port: u16) -> ProbeTarget {
    let name = "web".parse::<ServiceName>().unwrap();
    ProbeTarget::new(name, ExternalAddress::new("127.0.0.1", port)).with(|target| {
        target.tree = run.map(|run| Arc::clone(&run.tree));
        target.prove_owner = true;
        target.seek = true;
    })
}

const LISTEN: &str = "import socket, sys, time
s = socket.socket(); s.bind((sys.argv[2], int(sys.argv[1]))); s.listen()
print('listening', flush=True)
time.sleep(1000)";

#[tokio::test]
async fn a_port_passes_when_a_process_of_the_tree_listens_on_it() {
    let folder = tempfile::tempdir().unwrap();
    for host in ["127.0.0.1", "0.0.0.0"] {
        let port = FreePort::new();
        let number = port.to_string();
        let script = format!("python3 -c \"$CODE\" {number} {host} & wait");
        let mut launch = shell(folder.path(), &script);
        launch.env.insert("CODE".into(), LISTEN.into());
        let mut run = start(&launch);
        first_line(&mut run).await;
        let target = target(Some(&run), port.number());
        assert_eq!(
            NetProber::new(&pmesh_supervisor::testing::work_threads())
                .probe(&target, &Monitor::default())
                .await,
            Ok(())
        );
    }
}

const LISTEN_ELSEWHERE: &str = "import os, socket, sys, time
s = socket.socket(getattr(socket, sys.argv[1])); s.bind(eval(sys.argv[2])); s.listen()
print('listening', flush=True)
time.sleep(1000)";

#[tokio::test]
async fn an_instance_that_listens_elsewhere_is_told_where_and_where_it_must() {
    let folder = tempfile::tempdir().unwrap();
    let (port, other) = (FreePort::new(), FreePort::new());
    let here = format!("$PORT, {port} in that try");
    let address = format!("$HOST:$PORT, 127.0.0.1:{port} in that try");
    let path = folder.path().join("app.sock").display().to_string();
    let mut ways = vec![
        ("AF_INET", format!("('127.0.0.1', {other})"), format!("127.0.0.1:{other}; it must be {here}")),
        ("AF_INET", format!("('127.0.0.2', {port})"), format!("127.0.0.2:{port}; it must be {address}")),
        ("AF_UNIX", format!("'{path}'"), format!("the socket {path}; it must be {here}")),
    ];
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        ways.push(("AF_INET6", format!("('::1', {port})"), format!("[::1]:{port}; it must be {address}")));
    }
    for (family, bind, told) in ways {
        let arguments = ["-c", LISTEN_ELSEWHERE, family, &bind];
        let mut run = start(&command(folder.path(), "python3", &arguments));
        first_line(&mut run).await;
        let target = target(Some(&run), port.number());
        let monitor = Monitor::default();
        let probed = NetProber::new(&pmesh_supervisor::testing::work_threads())
            .probe(&target, &monitor)
            .await
            .unwrap_err();
        let asked = NetProber::new(&pmesh_supervisor::testing::work_threads())
            .ask(&target, &monitor, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(
            (probed.to_string(), asked.to_string()),
            (format!("it listens on {told}"), probed.to_string())
        );
        let unsought = target.with(|target| target.seek = false);
        let failure = NetProber::new(&pmesh_supervisor::testing::work_threads())
            .probe(&unsought, &monitor)
            .await
            .unwrap_err();
        assert!(matches!(failure, ProbeFailure::Connect { .. }), "{failure:?}");
    }
    let nowhere = start(&command(folder.path(), "sleep", &["1000"]));
    let failure = NetProber::new(&pmesh_supervisor::testing::work_threads())
        .probe(&target(Some(&nowhere), port.number()), &Monitor::default())
        .await;
    let told = failure.unwrap_err().to_string();
    assert!(told.starts_with(&format!("it listens nowhere; it must listen on {here}")), "{told}");
}

/// Threads that all stand still, and who holds them.
async fn stuck() -> (pmesh_threads::Threads, std::sync::mpsc::Sender<()>) {
    let limits = pmesh_threads::PoolLimits::new(1, 1).with(|limits| limits.replacements = 0);
    let threads = pmesh_threads::Threads::start("proc", limits).unwrap();
    let (held, until) = std::sync::mpsc::channel::<()>();
    assert!(threads.run(Duration::ZERO, move |_| until.recv().is_ok()).await.is_err());
    (threads, held)
}

#[tokio::test]
async fn what_cannot_be_looked_up_says_nothing_about_an_instance_and_measures_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let instance = start(&command(folder.path(), "sleep", &["1000"]));
    let target = target(Some(&instance), listener.local_addr().unwrap().port());
    let (proc, _held) = stuck().await;
    let threads = pmesh_supervisor::testing::work_threads().with(|threads| threads.proc = proc);
    let failure = NetProber::new(&threads).probe(&target, &Monitor::default()).await.unwrap_err();
    assert!(matches!(failure, ProbeFailure::Unmade { .. }), "{failure}");
    let figures = Sampler::new(threads.proc).measure(vec![vec![instance.tree.leader()]]).await;
    assert_eq!((figures.len(), figures[0].figures.rss, figures[0].tree.len()), (1, 0, 0));
}

#[tokio::test]
async fn a_port_that_a_stranger_holds_fails_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let port = FreePort::new();
    let arguments = ["-c", LISTEN, &port.to_string(), "127.0.0.1"];
    let mut stranger = start(&command(folder.path(), "python3", &arguments));
    first_line(&mut stranger).await;
    let instance = start(&command(folder.path(), "sleep", &["1000"]));
    let target = target(Some(&instance), port.number());

    let failure = NetProber::new(&pmesh_supervisor::testing::work_threads())
        .probe(&target, &Monitor::default())
        .await
        .unwrap_err();
    let ProbeFailure::ForeignPort { port: named, holder: Some(holder) } = &failure else {
        panic!("{failure}")
    };
    assert_eq!((*named, holder.pid), (port.number(), stranger.tree.leader()));
    let text = format!("port {port} is held by pid {} `{}`; end it, or", holder.pid, holder.command);
    assert!(failure.to_string().starts_with(&text) && holder.command.contains("socket"), "{failure}");

    let any = Monitor::default().with(|monitor| monitor.port_owner = PortOwner::Any);
    assert_eq!(NetProber::new(&pmesh_supervisor::testing::work_threads()).probe(&target, &any).await, Ok(()));
    let proven = target.clone().with(|target| target.prove_owner = false);
    assert_eq!(
        NetProber::new(&pmesh_supervisor::testing::work_threads()).probe(&proven, &Monitor::default()).await,
        Ok(())
    );
}

#[tokio::test]
async fn a_port_on_which_nobody_listens_fails_with_the_check_and_the_address() {
    let port = FreePort::new();
    let failure = NetProber::new(&pmesh_supervisor::testing::work_threads())
        .probe(&target(None, port.number()), &Monitor::default())
        .await
        .unwrap_err();
    let text = format!("check tcp: cannot connect to 127.0.0.1:{port}: Connection refused (os error 111)");
    assert_eq!(failure.to_string(), text);
}

/// Listens on the port of its first argument, and treats a request as the second one says.
const ANSWER: &str = "import socket, sys, time
s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen()
print('listening', flush=True)
c = s.accept()[0]
print(c.recv(1000), flush=True)
if sys.argv[2] != 'close':
    time.sleep(float(sys.argv[2]))
    c.sendall(b'HTTP/1.0 500 Oh\\r\\n\\r\\nno')
c.close()
time.sleep(1000)";

#[tokio::test]
async fn a_request_asks_for_a_page_says_who_it_is_and_any_answer_in_its_time_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let (monitor, limit) = (Monitor::default(), Duration::from_mins(1));
    for (how, expected) in [("0", Ok(Some(500))), ("0.2", Ok(Some(500))), ("close", Err(()))] {
        let port = FreePort::new();
        let mut run = start(&command(folder.path(), "python3", &["-c", ANSWER, &port.to_string(), how]));
        first_line(&mut run).await;
        let target = target(Some(&run), port.number());
        let answer =
            NetProber::new(&pmesh_supervisor::testing::work_threads()).ask(&target, &monitor, limit).await;
        assert_eq!(answer.as_ref().map(|answer| answer.status).map_err(drop), expected, "{answer:?}");
        let request = format!(
            r"b'GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: pmesh-probe\r\nConnection: close\r\n\r\n'"
        );
        assert_eq!(first_line(&mut run).await, request);
    }
}

#[tokio::test]
async fn a_socket_that_nobody_serves_passes_checks_and_answers_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let port = FreePort::new();
    let mut run = start(&command(folder.path(), "python3", &["-c", LISTEN, &port.to_string(), "127.0.0.1"]));
    first_line(&mut run).await;
    let target = target(Some(&run), port.number());
    assert_eq!(
        NetProber::new(&pmesh_supervisor::testing::work_threads()).probe(&target, &Monitor::default()).await,
        Ok(())
    );
    let failure = NetProber::new(&pmesh_supervisor::testing::work_threads())
        .ask(&target, &Monitor::default(), Duration::from_millis(50))
        .await
        .unwrap_err();
    let text = format!(
        "127.0.0.1:{port} accepts connections, and does not answer `GET /`: it has said nothing for 50ms"
    );
    assert_eq!(failure.to_string(), text);
}

/// Whether this runs as root, who alone can start the processes of others.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        let in_ci = std::env::var("CI").as_deref() == Ok("true");
        assert!(!in_ci, "nothing is skipped in CI");
        eprintln!("skipped: only root can start the processes of others");
    }
    is_root
}

#[tokio::test]
async fn a_process_of_another_user_has_its_groups_alone_and_can_take_nothing_back() {
    if !is_root() {
        return;
    }
    let account =
        UserAccount::of_number(4242).with(|account| (account.gid, account.groups) = (4243, vec![4243, 4250]));
    let script = "id -u; id -g; id -G; grep -E '^(Uid|Gid|CapEff|CapPrm):' /proc/self/status; ulimit -n";
    let launch = shell(Path::new("/"), script).with(|launch| {
        (launch.account, launch.nofile) = (Some(account), Some(100));
    });
    let mut run = start(&launch);
    let said = output(&mut run).await;
    let words: Vec<&str> = said.split_ascii_whitespace().collect();
    let no_capability = "0000000000000000";
    let wanted = "4242 4243 4243 4250 Uid: 4242 4242 4242 4242 Gid: 4243 4243 4243 4243";
    assert_eq!(words.join(" "), format!("{wanted} CapPrm: {no_capability} CapEff: {no_capability} 100"));
    assert_eq!(run.exit.as_mut().await, Exit::Code(0));
}

#[tokio::test]
async fn whoever_may_not_enter_a_folder_or_execute_a_program_is_told_what_is_shut() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(folder.path(), 0o755);
    for shut in ["bin", "shut", "shut/deep"] {
        fs::create_dir(path(shut)).unwrap();
    }
    for (program, mode) in [("bin/tool", 0o700), ("shut/tool", 0o755)] {
        fs::write(path(program), "#!/bin/sh\necho ran\n").unwrap();
        open(&path(program), mode);
    }
    open(&path("shut"), 0o700);
    let spawner = OsSpawner::new(pmesh_supervisor::testing::work_threads().proc);
    let start = |folder: &Path, program: &str| {
        let account = Some(UserAccount::of_number(4242));
        let launch = command(folder, program, &[]).with(|launch| {
            launch.account = account;
            let paths = format!("{}:{}:/bin", path("shut").display(), path("bin").display());
            launch.env.insert("PATH".into(), paths.into());
        });
        spawner.spawn(&launch).map(run)
    };
    for (inside, program, said) in [
        ("shut/deep", "true", format!("user 4242 may not enter {}", path("shut").display())),
        (".", "bin/tool", format!("user 4242 may not execute {}", path("bin/tool").display())),
        (".", "shut/tool", format!("user 4242 may not enter {}", path("shut").display())),
        (".", "tool", format!("user 4242 may not enter {}", path("shut").display())),
    ] {
        let error = start(&path(inside), program).err().expect(program);
        assert!(error.source.to_string().contains(&said), "{program}: {}", error.source);
    }
    // What is shut is passed over, as that user would.
    open(&path("bin/tool"), 0o755);
    let mut run = start(&path("."), "tool").unwrap();
    assert_eq!(output(&mut run).await, "ran\n");
}
