//! A moment in which the system gives no thread and no process (`EAGAIN`).

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{Project, Server, has_program, is_root, signal, wait_for};

/// How many processes and threads the server's user may have.
const LIMIT: u32 = 200;

/// Becomes the user, takes as many places as the user may have, and keeps them until its input ends. Its own limit is a
/// higher one, so that what ends meanwhile leaves no place for the server.
const CROWD: &str = "
import os, resource, sys, threading
user, count = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NPROC, (2 * count, 2 * count))
os.setgroups([]); os.setgid(user); os.setuid(user)
threading.stack_size(65536)
end = threading.Event()
for _ in range(count): threading.Thread(target=end.wait, daemon=True).start()
print('here', flush=True)
sys.stdin.read()
os._exit(0)
";

/// A moment, which passes when this is dropped.
struct Moment(Child);

impl Moment {
    fn of(user: u32) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", CROWD, &user.to_string(), &LIMIT.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "here\n");
        let moment = Self(child);
        assert!(!can_start(user), "the moment has begun");
        moment
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// Whether a process of the user with the server's limit can be started (execve(2), `EAGAIN`).
fn can_start(user: u32) -> bool {
    let line = format!("prlimit --nproc={LIMIT} setpriv --reuid {user} --regid {user} --clear-groups true");
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("Resource temporarily unavailable"), "{said}");
    output.status.success()
}

/// An app without threads of its own.
const APP: &str = r#"
import http.server, os, signal, sys
VERSION = open("version.txt").read().strip()
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", str(len(VERSION))); self.end_headers()
        self.wfile.write(VERSION.encode())
    def log_message(self, *a): print(self.path, flush=True)
signal.signal(signal.SIGTERM, lambda *a: os._exit(0))
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), H).serve_forever()
"#;

/// A project of the user, with a newer commit at its remote.
fn project(user: u32) -> Project {
    let manifest = "services:\n  web: !App\n    run: python3 app.py\n    ready_timeout: 3s\n    stop_timeout: 5s\n  \
                    job: !App {root: ., run: sleep 1000, background: true, ready_timeout: 3s, stop_timeout: 1s}\n  \
                    built: !App\n    root: web\n    build: [sh -c 'echo built > $PM3_OUT/made']\n    \
                    build_timeout: 5s\n    run: python3 app.py\n\
                    server:\n  site.local:\n    router:\n      - site.local/: web\n";
    let files = [
        ("pm3.yml", manifest),
        ("web/app.py", APP),
        ("web/version.txt", "v1\n"),
        (".gitignore", ".build*\n.run\n"),
    ];
    let project = Project::of(&files, |_| ());
    project.push(&[("web/version.txt", "v2\n")]);
    let folder = project.folder.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let owner = format!("{user}:{user}");
    assert!(Command::new("chown").args(["-hR", &owner]).arg(folder).status().unwrap().success());
    project
}

/// A server among [`LIMIT`] processes of its user, if that can be shown here.
fn serve(user: u32) -> Option<(Project, Server)> {
    if !is_root() || !has_program("setpriv") || !has_program("prlimit") {
        return None;
    }
    let project = project(user);
    let server = Server::serve_among(LIMIT, user, &project);
    Some((project, server))
}

/// What a reason says that helps.
const HELPS: &str = "raise the limit of processes and threads (TasksMax= of systemd, pids.max, ulimit -u)";

/// What is checked out. The server's user is asked, because git refuses to look into another user's repository.
fn head(server: &Server) -> Value {
    server.get("/repo")["ref"]["hash"].take()
}

/// Each read, whose answer is whole or says that there is no thread for it.
fn read_all(server: &Server) {
    for path in
        ["/repo", "/service", "/service/health", "/service/metrics", "/session", "/operation", "/ping"]
    {
        let (status, answer) = server.call("GET", path, &[], "");
        let is_good = status == 200 || (status == 503 && answer["code"] == "busy");
        assert!(is_good, "{path}: {status} {answer}");
    }
}

/// An action that cannot be done, and after which the turn is free.
fn fails(server: &Server, path: &str) -> (u16, Value) {
    let answer = server.call("POST", path, &[], "");
    let operations = server.get("/operation");
    let is_over = |one: &Value| one["state"] == "done" || one["state"] == "failed";
    assert!(operations.as_array().unwrap().iter().all(is_over), "{operations}");
    assert_eq!(operations[0]["state"], "failed", "{operations}");
    answer
}

/// That all works which a moment has kept from being done.
fn all_works(server: &Server) {
    let update = server.post("/repo/update");
    assert_eq!(update["to"]["hash"], head(server));
    assert_eq!(server.site("/after"), (200, "v2".to_owned()));
    assert_eq!(server.post("/service/restart?invalidate"), json!({"count": 3}));
    server.settle();
    assert_eq!(server.get("/repo")["deployed"]["hash"], head(server));
    read_all(server);
    assert_eq!(server.pids("job").len(), 1);
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

#[test]
fn in_a_moment_without_processes_reads_and_requests_are_answered_an_update_fails_and_nothing_stays_taken() {
    const USER: u32 = 54_331;
    let Some((_project, server)) = serve(USER) else { return };
    let moment = Moment::of(USER);
    read_all(&server);
    assert_eq!(server.site("/during"), (200, "v1".to_owned()));
    let before = head(&server);
    for (path, is_operation) in [("/repo/update", true), ("/repo/fetch", false)] {
        let (status, answer) =
            if is_operation { fails(&server, path) } else { server.call("POST", path, &[], "") };
        assert_eq!((status, &answer["code"]), (503, &json!("busy")), "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(HELPS), "{path}: {answer}");
    }
    assert_eq!(head(&server), before);
    read_all(&server);
    assert_eq!(server.site("/during"), (200, "v1".to_owned()));
    let log = server.state.join("logs/web.log");
    wait_for("the log is written", || fs::read_to_string(&log).unwrap().contains("/during"));
    drop(moment);
    all_works(&server);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn what_dies_in_a_moment_without_processes_is_down_with_what_helps_and_comes_back_by_itself() {
    const USER: u32 = 54_332;
    let Some((_project, server)) = serve(USER) else { return };
    let moment = Moment::of(USER);
    let pid = server.pids("job")[0];
    signal(pid, "KILL");
    wait_for("it is told why it is down", || {
        let health = server.get("/service/health/job");
        health["reason"].as_str().is_some_and(|reason| reason.contains(HELPS))
    });
    let metrics = server.get("/service/metrics/job");
    assert_eq!((&metrics["status"], &metrics["processes"]), (&json!("Down"), &json!([])), "{metrics}");

    for (path, service) in [("job", "job"), ("web", "web"), ("built?invalidate", "built")] {
        let (status, answer) = fails(&server, &format!("/service/restart/{path}"));
        assert_eq!((status, &answer["code"], &answer["count"]), (500, &json!("rollout_failed"), &json!(0)));
        let reason = answer["services"][service].as_str().unwrap_or_default();
        assert!(reason.contains(HELPS), "{answer}");
        assert_eq!(reason.contains("build step"), service == "built", "{answer}");
    }
    // Their old instances have served throughout.
    assert_eq!(server.site("/during"), (200, "v1".to_owned()));
    assert_eq!(server.get("/service/health/built")["status"], "OK");
    assert_eq!(server.get("/service/health/job")["status"], "Down");
    drop(moment);
    server.settle();
    assert_ne!(server.pids("job"), [pid]);
    all_works(&server);
    assert_eq!(server.terminate(), Some(0));
}
