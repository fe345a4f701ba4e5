//! Who may use the API over TCP and at the `pm3` host: other users, and what the server has started itself.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use serde_json::{Value, json};

use crate::harness::{Connection, Project, Server, is_root, signal, wait_for, write};

/// A user that is neither root nor the server's; no account is needed.
const STRANGER: u32 = 54_321;

/// Python that becomes the stranger, binds a port that others may share, and tells which. When it has closed its
/// end the kernel forgets that within a second (tcp(7), `TCP_LINGER2`).
const BECOME: &str = "
import os, socket, sys
user, port = int(sys.argv[1]), int(sys.argv[2])
os.setgroups([]); os.setgid(user); os.setuid(user)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
s.bind(('127.0.0.1', 0))
print(s.getsockname()[1], flush=True)
s.connect(('127.0.0.1', port))
";

/// An app that does what it is sent: the body of a POST is a script, the answer what that prints.
const PUPPET: &str = r#"
import http.server, os, signal, socketserver, subprocess, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        script = self.rfile.read(int(self.headers["Content-Length"])).decode()
        out = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
        self.send_response(200); self.send_header("Content-Length", str(len(out))); self.end_headers()
        self.wfile.write(out)
    def log_message(self, *a): pass
class S(socketserver.ThreadingMixIn, http.server.HTTPServer): pass
signal.signal(signal.SIGTERM, lambda *a: os._exit(0))
S((os.environ["HOST"], int(os.environ["PORT"])), H).serve_forever()
"#;

fn port(address: &str) -> u16 {
    address.parse::<SocketAddr>().unwrap().port()
}

/// What curl prints as a user: the body, and the status behind it.
fn curl(user: u32, arguments: &[&str]) -> (u16, Value) {
    let script = "import os, sys; u = int(sys.argv[1]); os.setgroups([]); os.setgid(u); os.setuid(u); \
                  os.execvp('curl', ['curl', '-qsg', '-m60', '-w', '\\n%{http_code}'] + sys.argv[2:])";
    let output =
        Command::new("python3").args(["-c", script, &user.to_string()]).args(arguments).output().unwrap();
    split(&String::from_utf8(output.stdout).unwrap())
}

fn split(printed: &str) -> (u16, Value) {
    let (body, status) = printed.trim_end().rsplit_once('\n').unwrap_or(("", printed));
    (
        status.trim().parse().unwrap_or_else(|_| panic!("{printed}")),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

#[test]
fn another_user_is_refused_over_tcp_and_at_the_pm3_host_unless_the_api_is_open() {
    if !is_root() {
        return;
    }
    let project = Project::web(1);
    let state = project.folder.path().join("state");
    let server = Server::start(&project.work, &state);
    server.settle();
    let before = server.get("/service");
    let mapped = format!("http://[::ffff:127.0.0.1]:{}", port(&server.api));
    for base in [format!("http://{}", server.api), mapped, format!("http://{}", server.front)] {
        for (method, path) in [("GET", "/ping"), ("POST", "/service/stop"), ("GET", "/service/stop")] {
            let url = format!("{base}{path}");
            let (status, answer) = curl(STRANGER, &["-X", method, "-H", "Host: pm3", &url]);
            assert_eq!((status, &answer["code"]), (403, &json!("not_internal")), "{method} {url}");
            let sentence = answer["error"].as_str().unwrap();
            assert!(sentence.contains("user id 54321") && sentence.contains("--api-open"), "{sentence}");
        }
        let url = format!("{base}/ping");
        assert_eq!(curl(0, &["-H", "Host: pm3", &url]).0, 200, "root is let in: {url}");
    }
    assert_eq!(server.get("/service"), before);
    for (user, is_internal) in [(STRANGER, false), (0, true)] {
        let url = format!("http://{}/", server.front);
        let (status, seen) = curl(user, &["-H", "Host: site.local", &url]);
        let mut names = seen["headers"].as_object().unwrap().keys();
        let found = names.any(|name| name.eq_ignore_ascii_case("p-internal"));
        assert_eq!((status, found), (200, is_internal), "{seen}");
    }
    assert_eq!(server.terminate(), Some(0));

    let open = Server::start_with(&project.work, &state, &[("PMESH_API_OPEN", "true")]);
    open.settle();
    for base in [&open.api, &open.front] {
        let url = format!("http://{base}/ping");
        assert_eq!(curl(STRANGER, &["-H", "Host: pm3", &url]).0, 200);
        assert_eq!(curl(STRANGER, &["-H", "Host: pm3", "-H", "Via: 1.1 x", &url]).0, 403);
    }
}

/// Whoever sends and closes at once is asked for when its socket is gone already: then its row has no inode, and
/// on some kernels user 0. When the row is gone too and somebody listens on its port, the kernel answers with
/// that listener, here one of root's.
#[test]
fn a_second_user_that_sends_and_closes_at_once_is_never_root() {
    if !is_root() {
        return;
    }
    let project = Project::web(1);
    let server = Server::serve(&project);
    let before = server.get("/service");
    for (address, host) in [(&server.api, "localhost"), (&server.front, "pm3")] {
        for somebody_listens in [false, true] {
            // So that it asks when the other end has gone for sure.
            signal(server.pid(), "STOP");
            let script = format!(
                "{BECOME}s.sendall(b'POST /service/stop HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n')\ns.close()\n"
            );
            let arguments = ["-c", &script, &STRANGER.to_string(), &port(address).to_string()];
            let output = Command::new("python3").args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let peer = String::from_utf8(output.stdout).unwrap().trim().parse::<u16>().unwrap();
            let _listener = somebody_listens.then(|| {
                wait_for("the kernel has forgotten the peer", || !is_known(peer));
                TcpListener::bind(("127.0.0.1", peer)).unwrap()
            });
            signal(server.pid(), "CONT");
            // A request of its own behind it on each listener: the other one has been read by then.
            for _ in 0..5 {
                let mut connection = Connection::to(address);
                assert_eq!(connection.send("GET", "/ping", host, &[], "").unwrap().0, 200);
            }
        }
    }
    let operations = server.get("/operation");
    assert!(operations.as_array().unwrap().iter().all(|one| one["kind"] != "stop"), "{operations}");
    assert_eq!(server.get("/service"), before);
}

/// Whether the kernel has a socket of 127.0.0.1 with this port of its own.
fn is_known(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let own = format!("0100007F:{port:04X}");
    table.lines().any(|line| line.split_whitespace().nth(1) == Some(&own))
}

/// One service that does what it is told.
fn puppet_project() -> Project {
    let project = Project::web(1);
    write(&project.work, "web/app.py", PUPPET);
    project
}

/// Has the app run a script; what that prints.
fn order(server: &Server, script: &str) -> String {
    let mut connection = Connection::to(&server.front);
    let script = format!(
        "API={} FRONT={} SOCKET={}\n{script}",
        server.api,
        server.front,
        server.state.join("api.sock").display()
    );
    let (status, body) = connection.send("POST", "/", "site.local", &[], &script).unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

const CURL: &str = "curl -qsg -m60 -w '\\n%{http_code}'";

#[test]
fn an_app_and_what_it_starts_never_act_by_get_and_may_by_post() {
    let project = puppet_project();
    let server = Server::serve(&project);
    let before = server.get("/service");
    let stop = "service/stop?wait=false";
    for (script, what) in [
        (format!("{CURL} http://$API/{stop}"), "a child"),
        (format!("{CURL} http://$API/repo?fetch"), "a fetch"),
        (format!("{CURL} -H 'Host: pm3' http://$FRONT/{stop}"), "the pm3 host"),
        (format!("{CURL} --unix-socket $SOCKET http://pm3/{stop}"), "the socket"),
        // Their parents have ended before they ask, and they have left the session.
        (format!("mkfifo p; (setsid sh -c \"{CURL} http://$API/{stop}\" > p &) ; cat p; rm p"), "an orphan"),
        (
            format!(
                "mkfifo p; (setsid sh -c \"{CURL} --unix-socket $SOCKET http://pm3/{stop}\" > p &) ; cat p; rm p"
            ),
            "an orphan at the socket",
        ),
    ] {
        let (status, answer) = split(&order(&server, &script));
        assert_eq!((status, &answer["code"]), (403, &json!("get_from_service")), "{what}: {answer}");
    }
    assert_eq!(server.get("/service"), before, "nothing was stopped");
    let read = split(&order(&server, &format!("{CURL} http://$API/service")));
    assert_eq!(read, (200, before.clone()), "reading is no action");
    let (status, _) =
        split(&order(&server, &format!("{CURL} -X POST http://$API/service/restart/web?wait=false")));
    assert_eq!(status, 202, "by POST it acts");
    wait_for("it has acted", || server.get("/service") != before);
    server.settle();
    // Who the server has not started acts by GET.
    let (status, answer) = server.call("GET", "/service/restart/web", &[], "");
    assert_eq!((status, &answer["count"]), (200, &json!(1)), "{answer}");
    let mut socket = Connection::to_socket(&server.state.join("api.sock"));
    assert_eq!(socket.send("GET", "/service/restart/web", "pm3", &[], "").unwrap().0, 200);
    let mut pm3 = Connection::to(&server.front);
    assert_eq!(pm3.send("GET", "/service/restart/web", "pm3", &[], "").unwrap().0, 200);
}

#[test]
fn an_app_with_the_token_does_not_act_by_get_either() {
    const TOKEN: &str = "0123456789abcdef";
    let project = puppet_project();
    let file = project.folder.path().join("token");
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let state = project.folder.path().join("state");
    let env = [("PMESH_API_TOKEN_FILE", file.to_str().unwrap())];
    let server = Server::start_with(&project.work, &state, &env);
    let shown = [("Authorization", "Bearer 0123456789abcdef")];
    wait_for("the app is there", || {
        let (_, health) = server.call("GET", "/service/health/web", &shown, "");
        health["status"] == "OK"
    });
    let with_token = format!("{CURL} -H 'Authorization: Bearer {TOKEN}' http://$API/service/restart");
    let (status, answer) = split(&order(&server, &with_token));
    assert_eq!((status, &answer["code"]), (403, &json!("get_from_service")));
    let (status, _) = split(&order(&server, &format!("{with_token}?wait=false -X POST -H 'Via: 1.1 x'")));
    assert_eq!(status, 202, "the token stands for everything else");
}

#[test]
fn git_that_follows_a_redirect_to_the_api_stops_nothing() {
    let project = puppet_project();
    let server = Server::serve(&project);
    let before = server.get("/service");
    let script = r#"
cat > redirect.py <<'END'
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", "http://" + sys.argv[1] + "/service/stop?wait=false")
        self.end_headers()
    def log_message(self, *a): pass
s = http.server.HTTPServer(("127.0.0.1", 0), H)
print(s.server_address[1], flush=True)
s.handle_request()
END
exec 3< <(python3 redirect.py $API); read -u 3 port
GIT_TERMINAL_PROMPT=0 git -c http.followRedirects=true ls-remote http://127.0.0.1:$port/x.git
"#;
    let printed = order(&server, script);
    assert!(printed.contains("403"), "{printed}");
    assert_eq!(server.get("/service"), before);
}

#[test]
fn a_build_does_not_act_by_get() {
    let project = Project::new(
        "services:\n  web: !App\n    build: sh ask.sh\n    run: python3 app.py\n    ready_timeout: 10s\n\
         server:\n  site.local:\n    router:\n      - site.local/: web\n",
    );
    let asked = project.folder.path().join("asked");
    let script = |api: &str| {
        format!("{CURL} -o /dev/null http://{api}/service/stop?wait=false > {}\n", asked.display())
    };
    write(&project.work, "web/ask.sh", "true\n");
    let server = Server::serve(&project);
    write(&project.work, "web/ask.sh", &script(&server.api));
    let before = server.get("/service");
    assert_eq!(server.post("/service/restart/web?invalidate"), json!({"count": 1}));
    assert_eq!(fs::read_to_string(&asked).unwrap().trim(), "403");
    assert_ne!(server.get("/service"), before, "it was restarted and not stopped");
}

#[test]
fn a_proxy_service_that_leads_to_the_api_opens_nothing() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let manifest = format!(
        "services:\n  api: !Proxy {}\nserver:\n  localhost:\n    router:\n      - localhost/: api\n",
        server.api
    );
    write(&project.work, "pm3.yml", &manifest);
    assert_eq!(server.post("/reload"), json!({}));
    for (method, path) in [("GET", "/service"), ("POST", "/service/stop")] {
        let mut connection = Connection::to(&server.front);
        let (status, answer) = connection.send(method, path, "localhost", &[], "").unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["code"]), (403, &json!("not_internal")));
        assert!(answer["error"].as_str().unwrap().starts_with("the server itself"), "{answer}");
    }
}

#[test]
fn orphans_come_to_the_server_and_leave_no_zombie() {
    let project = puppet_project();
    let server = Server::serve(&project);
    order(&server, "for i in $(seq 30); do (setsid true &); done; (setsid sh -c 'sleep 0.1' &)");
    wait_for("every orphan is reaped", || zombies_of(server.pid()).is_empty());
}

/// The children of a process that have ended and that nobody has waited for.
fn zombies_of(parent: u32) -> Vec<u32> {
    let stats = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.unwrap().file_name().to_str()?.parse::<u32>().ok()?;
        Some((pid, fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
    });
    let is_one =
        |stat: &str| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(&format!("Z {parent} ")));
    stats.filter(|(_, stat)| is_one(stat)).map(|(pid, _)| pid).collect()
}
