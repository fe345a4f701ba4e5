//! Requests that wait for an instance when the server ends, and what crashes then.

use std::{fs, io::Write, net::TcpStream, process::Command, thread};

use crate::harness::{Connection, Project, Server, git, lives, signal, wait_for};

/// Answers when somebody has written into the pipe `go` beside the work tree, and says before that it was asked.
const SLOW: &str = r#"
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open("asked", "w").close()
        with open("../../go") as go: go.read()
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *a): pass
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), H).serve_forever()
"#;

/// Serves when it is started for the first time, and is never ready after that.
const ONCE: &str = r#"
import http.server, os, time
with open("started", "a") as file: print(os.getpid(), file=file)
if len(open("started").readlines()) > 1: time.sleep(1000)
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler).serve_forever()
"#;

/// `slow` is `/slow`; requests to `once` wait for an hour where it is not ready.
const MANIFEST: &str = "services:\n  slow: !App\n    run: python3 slow.py\n    monitor:\n      test:\n        tcp: !Tcp\n  \
                        once: !App\n    run: python3 once.py\n    ready_timeout: 1h\n    lb:\n      queue:\n        for: 1h\n\
                        server:\n  site.local:\n    router:\n      - site.local/slow: slow\n      - site.local/: once\n";

#[test]
fn at_the_end_what_waits_for_an_instance_is_503_at_once_what_is_answered_goes_on_and_nothing_is_started() {
    let project = Project::new(MANIFEST);
    project.push(&[("slow/slow.py", SLOW), ("once/once.py", ONCE)]);
    git(&project.work, &["pull", "-q"]);
    let go = project.folder.path().join("go");
    assert!(Command::new("mkfifo").arg(&go).status().unwrap().success());
    let server = Server::serve(&project);
    let started = || fs::read_to_string(project.work.join("once/started")).unwrap_or_default();
    signal(started().trim().parse().unwrap(), "KILL");
    wait_for("it is started again", || started().lines().count() == 2 && started().ends_with('\n'));

    let address = server.front.clone();
    let asking = move |path: &'static str| {
        let address = address.clone();
        let json = [("Accept", "application/json")];
        thread::spawn(move || Connection::to(&address).send("GET", path, "site.local", &json, "").unwrap())
    };
    let (answered, queued) = (asking("/slow"), asking("/"));
    let mut left = TcpStream::connect(&server.front).unwrap();
    left.write_all(b"GET / HTTP/1.1\r\nHost: site.local\r\n\r\n").unwrap();
    drop(left);
    wait_for("the app is asked", || project.work.join("slow/asked").exists());
    // Requests are counted right before they wait.
    wait_for("all have come", || {
        server.get("/session")["sessions"]["127.0.0.1"]["num_reqs"].as_u64() == Some(3)
    });

    signal(server.pid(), "TERM");
    let (status, body) = queued.join().unwrap();
    assert!(status == 503 && body.contains("\"shutting_down\""), "{status} {body}");
    let crashed: u32 = started().lines().last().unwrap().parse().unwrap();
    signal(crashed, "KILL");
    wait_for("it has crashed", || !lives(crashed));
    wait_for("that is known", || server.pids("once").is_empty());
    fs::write(go, "").unwrap();
    assert_eq!(answered.join().unwrap().0, 200);
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(started().lines().count(), 2, "nothing is started any more");
}
