//! A project with a remote, a server that serves it, and clients that never retry. Everything that is
//! started is ended when the values are dropped, also when a test fails.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_mins(1);

/// A web app that says its version and pid, answers GET and POST, and ends on SIGTERM when its
/// connections have ended: so it shows whether somebody keeps idle connections to it.
pub(crate) const APP: &str = r#"
import http.server, json, os, signal, socketserver, sys, threading, time
VERSION = open("version.txt").read().strip()
time.sleep(float(os.environ.get("START_DELAY", "0")))
if VERSION == "broken": sys.exit("this version cannot start: missing module frobnicate")
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, extra):
        body = json.dumps({"version": VERSION, "pid": os.getpid(), "path": self.path, "headers": dict(self.headers.items()), **extra}).encode()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    def do_GET(self): self.answer({})
    def do_POST(self): self.answer({"len": len(self.rfile.read(int(self.headers.get("Content-Length") or 0)))})
    def log_message(self, *a): pass
class S(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = False
    request_queue_size = 256
s = S((os.environ["HOST"], int(os.environ["PORT"])), H)
print("listening", os.environ["LISTEN"], flush=True)
signal.signal(signal.SIGTERM, lambda *a: threading.Thread(target=s.shutdown).start())
s.serve_forever()
"#;

/// A bare remote, a clone that the server runs from, and a clone that somebody pushes from.
pub(crate) struct Project {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) work: PathBuf,
    dev: PathBuf,
}

impl Project {
    pub(crate) fn new(manifest: &str) -> Self {
        let files = [
            ("pm3.yml", manifest),
            ("web/app.py", APP),
            ("web/version.txt", "v1\n"),
            (".gitignore", ".build*\n.run\n"),
        ];
        Self::of(&files, |_| ())
    }

    /// A project of these files, and of what `prepare` makes beside them in the folder where they are written.
    pub(crate) fn of(files: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (remote, work, dev) = (path("remote.git"), path("work"), path("dev"));
        git(folder.path(), &["init", "-q", "--bare", "-b", "main", remote.to_str().unwrap()]);
        git(folder.path(), &["init", "-q", "-b", "main", dev.to_str().unwrap()]);
        git(&dev, &["remote", "add", "origin", remote.to_str().unwrap()]);
        let project = Self { work: work.clone(), dev, folder };
        for (name, text) in files {
            write(&project.dev, name, text);
        }
        prepare(&project.dev);
        project.push(&[]);
        git(project.folder.path(), &["clone", "-q", remote.to_str().unwrap(), work.to_str().unwrap()]);
        project
    }

    /// One service `web` of so many instances, at the host `site.local`.
    pub(crate) fn web(instances: u32) -> Self {
        Self::new(&web_manifest(instances, ""))
    }

    /// Somebody changes files and pushes; answers with the commit.
    pub(crate) fn push(&self, files: &[(&str, &str)]) -> String {
        for (name, text) in files {
            write(&self.dev, name, text);
        }
        git(&self.dev, &["add", "-A"]);
        git(&self.dev, &["commit", "-q", "--allow-empty", "-m", "change"]);
        git(&self.dev, &["push", "-q", "-f", "origin", "HEAD:main"]);
        git(&self.dev, &["rev-parse", "HEAD"])
    }

    /// Somebody takes the last change back and pushes; answers with the commit.
    pub(crate) fn revert(&self) -> String {
        git(&self.dev, &["revert", "--no-edit", "HEAD"]);
        git(&self.dev, &["push", "-q", "origin", "HEAD:main"]);
        git(&self.dev, &["rev-parse", "HEAD"])
    }

    /// Somebody takes the last commit away from the remote, which then has the one before; answers with that.
    pub(crate) fn rewind(&self) -> String {
        git(&self.dev, &["reset", "-q", "--hard", "HEAD~1"]);
        git(&self.dev, &["push", "-q", "-f", "origin", "HEAD:main"]);
        git(&self.dev, &["rev-parse", "HEAD"])
    }

    pub(crate) fn head(&self) -> String {
        git(&self.work, &["rev-parse", "HEAD"])
    }
}

pub(crate) fn web_manifest(instances: u32, more: &str) -> String {
    format!(
        "services:\n  web: !App\n    run: python3 app.py\n    cluster: {instances}\n    stop_timeout: 5s\n    \
         ready_timeout: 10s\n{more}server:\n  site.local:\n    router:\n      - site.local/: web\n"
    )
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .envs([
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_AUTHOR_NAME", "Ada Lovelace"),
            ("GIT_AUTHOR_EMAIL", "ada@example.org"),
            ("GIT_COMMITTER_NAME", "Ada Lovelace"),
            ("GIT_COMMITTER_EMAIL", "ada@example.org"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The binary as a user runs it.
pub(crate) fn pmesh() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pmesh-server-under-test"));
    command.env_remove("PMESH_URL").stdin(Stdio::null());
    command
}

/// The binary as this user runs it, for whom the project is, by a command that `prefix` ends with.
pub(crate) fn pmesh_as(prefix: &str, user: u32, project: &Project) -> Command {
    // By a descriptor: the user may not have a way to the binary.
    let script = format!(
        "exec 3<\"$0\" && exec {prefix}setpriv --reuid {user} --regid {user} --clear-groups -- /proc/self/fd/3 \"$@\""
    );
    let pmesh = pmesh();
    let mut other = Command::new("sh");
    other.args(["-c", &script]).arg(pmesh.get_program()).env_remove("PMESH_URL").stdin(Stdio::null());
    other.env("HOME", project.folder.path()).env_remove("XDG_STATE_HOME");
    other
}

/// A server on free ports.
pub(crate) struct Server {
    child: Child,
    pub(crate) front: String,
    pub(crate) api: String,
    pub(crate) state: PathBuf,
}

impl Server {
    /// Starts it and waits until every service is OK.
    pub(crate) fn serve(project: &Project) -> Self {
        let server = Self::start(&project.work, &project.folder.path().join("state"));
        server.settle();
        server
    }

    /// Starts it and waits for its listeners.
    pub(crate) fn start(manifest: &Path, state: &Path) -> Self {
        Self::start_with(manifest, state, &[])
    }

    /// The same, with more in its environment.
    pub(crate) fn start_with(manifest: &Path, state: &Path, env: &[(&str, &str)]) -> Self {
        Self::started(pmesh(), manifest, state, env)
    }

    /// Starts it by a command that runs its binary.
    pub(crate) fn started_by(command: Command, manifest: &Path, state: &Path) -> Self {
        Self::started(command, manifest, state, &[])
    }

    /// Starts it with so many descriptors, and waits until every service is OK.
    pub(crate) fn serve_within(descriptors: u32, project: &Project) -> Self {
        let pmesh = pmesh();
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]);
        limited.arg(pmesh.get_program()).env_remove("PMESH_URL").stdin(Stdio::null());
        let server = Self::started(limited, &project.work, &project.folder.path().join("state"), &[]);
        server.settle();
        server
    }

    /// Starts it as this user, for whom the project is, and waits until every service is OK.
    pub(crate) fn serve_as(user: u32, project: &Project) -> Self {
        Self::serve_by("", user, project)
    }

    /// The same, where no process or thread can be started while the user has so many.
    pub(crate) fn serve_among(processes: u32, user: u32, project: &Project) -> Self {
        Self::serve_by(&format!("prlimit --nproc={processes} "), user, project)
    }

    fn serve_by(prefix: &str, user: u32, project: &Project) -> Self {
        let other = pmesh_as(prefix, user, project);
        let server = Self::started(other, &project.work, &project.folder.path().join("state"), &[]);
        server.settle();
        server
    }

    fn started(mut pmesh: Command, manifest: &Path, state: &Path, env: &[(&str, &str)]) -> Self {
        let log = fs::File::create(state.with_extension("stderr")).unwrap();
        let mut child = pmesh
            .arg("run")
            .arg(manifest)
            .envs(env.iter().copied())
            .args(["--http", "127.0.0.1:0", "--api", "127.0.0.1:0", "--state-dir"])
            .arg(state)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |what: &str| {
            let line = lines.next().expect("the server ended early").unwrap();
            let line = line.strip_prefix(what).expect("a line per listener").trim();
            line.strip_prefix("http://").unwrap().to_owned()
        };
        let (front, api) = (address("front"), address("api"));
        Self { child, front, api, state: state.to_owned() }
    }

    /// What the server has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.state.with_extension("stderr")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs as root, as the tests do that need other users.
    pub(crate) fn is_of_root(&self) -> bool {
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}", self.pid())).unwrap()) == 0
    }

    /// Waits until every service is OK with all its instances.
    pub(crate) fn settle(&self) {
        wait_for("every service is OK", || {
            let health = self.get("/service/health");
            let services = health.as_object().unwrap();
            services.values().all(|one| one["status"] == "OK" && one["healthy"] == one["total"])
        });
    }

    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let mut connection = Connection::to(&self.api);
        let (status, body) = connection.send(method, path, "localhost", headers, body).unwrap();
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, &[], "");
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    pub(crate) fn post(&self, path: &str) -> Value {
        let (status, body) = self.call("POST", path, &[], "");
        assert_eq!(status, 200, "POST {path}: {body}");
        body
    }

    pub(crate) fn site(&self, path: &str) -> (u16, String) {
        Connection::to(&self.front).send("GET", path, "site.local", &[], "").unwrap()
    }

    pub(crate) fn pids(&self, service: &str) -> Vec<u32> {
        let metrics = self.get(&format!("/service/metrics/{service}"));
        let trees = metrics["processes"].as_array().unwrap().iter();
        trees
            .flat_map(|one| one["tree"].as_object().unwrap().keys().map(|pid| pid.parse().unwrap()))
            .collect()
    }

    /// Whether it has been asked to end.
    pub(crate) fn is_stopping(&self) -> bool {
        let operations = self.get("/operation");
        operations.as_array().unwrap().iter().any(|operation| operation["kind"] == "shutdown")
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        signal(self.pid(), "TERM");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Twice: the second one cuts all waiting short, and no service is left behind.
            signal(self.pid(), "TERM");
            signal(self.pid(), "TERM");
            self.child.wait().unwrap();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log());
        }
    }
}

/// Whether this runs as root, who alone can become somebody else. If not, it is said that a test is skipped; in
/// CI nothing is skipped.
pub(crate) fn is_root() -> bool {
    let is_root = Path::new("/proc/self").metadata().unwrap().uid() == 0;
    is_root || skipped("only root can become somebody else")
}

/// Whether a line of a shell ends well; else `why` not, as [`is_root`] says it. In CI it is taken to.
pub(crate) fn works(line: &str, why: &str) -> bool {
    let ends_well = || {
        let output = Command::new("sh").args(["-ec", line]).stdin(Stdio::null()).output();
        output.is_ok_and(|output| output.status.success())
    };
    is_ci() || ends_well() || skipped(why)
}

fn is_ci() -> bool {
    std::env::var("CI").as_deref() == Ok("true")
}

/// Whether a program of Debian's is here; else as [`is_root`].
pub(crate) fn has_program(program: &str) -> bool {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let is_there = folders.iter().any(|folder| Path::new(folder).join(program).exists());
    is_there || skipped(&format!("there is no {program} here; install Debian's"))
}

/// Says that a test is skipped, and why; in CI nothing is skipped. False.
pub(crate) fn skipped(why: &str) -> bool {
    assert!(!is_ci(), "nothing is skipped in CI: {why}");
    eprintln!("skipped: {why}");
    false
}

pub(crate) fn signal(pid: u32, name: &str) {
    Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
}

/// Whether a process lives; a zombie does not.
pub(crate) fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), Some('Z' | 'X'))
    })
}

/// Asks again until it is so.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A keep-alive connection that never retries.
pub(crate) struct Connection(BufReader<Box<dyn Stream>>);

pub(crate) trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Connection {
    pub(crate) fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    pub(crate) fn to_socket(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        host: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.0.get_mut().write_all(format!("{head}\r\n{body}").as_bytes())?;
        self.read()
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> std::io::Result<(u16, String)> {
        self.0.get_mut().write_all(bytes)?;
        self.read()
    }

    fn read(&mut self) -> std::io::Result<(u16, String)> {
        let lost = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(lost)?;
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// Keep-alive clients that send GET and POST in turn until they are told to end.
pub(crate) struct Load {
    ending: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Load {
    pub(crate) fn on(server: &Server) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (address, ending) = (server.front.clone(), Arc::clone(&ending));
            std::thread::spawn(move || {
                let (mut good, mut bad) = (0, Vec::new());
                let mut connection = Connection::to(&address);
                while !ending.load(Ordering::Relaxed) {
                    let (method, body) = if good % 2 == 0 { ("GET", "") } else { ("POST", "some text") };
                    match connection.send(method, "/", "site.local", &[], body) {
                        Ok((200, _)) => good += 1,
                        other => {
                            bad.push(format!("{method}: {other:?}"));
                            connection = Connection::to(&address);
                        }
                    }
                }
                (good, bad)
            })
        };
        Self { clients: (0..8).map(client).collect(), ending }
    }

    /// Ends it; fails if one request did.
    pub(crate) fn ends_without_a_failure(self) {
        self.ending.store(true, Ordering::Relaxed);
        let mut good = 0;
        for client in self.clients {
            let (count, bad) = client.join().unwrap();
            assert!(bad.is_empty(), "{} requests failed, such as {}", bad.len(), bad[0]);
            good += count;
        }
        assert!(good > 100, "only {good} requests");
    }
}
