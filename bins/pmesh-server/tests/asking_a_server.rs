//! The commands as a user runs them, against a server that gives recorded answers.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

/// A server that answers each path with what it was told, and keeps what it was asked.
struct Recorded {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Recorded {
    /// Answers with the status and body that stand beside a request's path; any other is 404.
    fn answering(answers: &'static [(&'static str, u16, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), answers, &record).unwrap();
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(arguments).args(["--url", &self.url]).output().unwrap()
    }
}

fn answer(
    mut stream: TcpStream,
    answers: &[(&str, u16, &str)],
    record: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body)?;
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap().to_uppercase(), words.next().unwrap());
    record
        .lock()
        .unwrap()
        .push(format!("{method} {path} {}", String::from_utf8(body).unwrap()).trim_end().to_owned());
    let not_found = (path, 404, r#"{"error":"no such route","code":"route_not_found"}"#);
    let (_, status, body) = answers.iter().find(|(known, ..)| *known == path).copied().unwrap_or(not_found);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} Recorded\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The program with an environment in which nothing of this machine counts.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pmesh-server"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const HEALTH: &str = "{\n  \"status\": \"OK\", \"healthy\": 2,   \"total\": 2}";

const ANSWERS: &[(&str, u16, &str)] = &[
    ("/ping", 200, "\"web1\""),
    ("/version", 200, "\"v0.1.0-abc\""),
    ("/repo", 404, r#"{"error":"no repository at /srv/shop or above it","code":"repository_not_found"}"#),
    ("/service", 200, r#"{"web":"286012345678901248"}"#),
    ("/service/health/web", 200, HEALTH),
    (
        "/service/health",
        200,
        r#"{"web":{"status":"OK","healthy":2,"total":2},"mailer":{"status":"Stopped","healthy":0,"total":0}}"#,
    ),
    (
        "/service/metrics",
        200,
        r#"{"web":{"id":"7","type":"app","server":{},"processes":[],"status":"OK","healthy":2,"total":2,"new":1}}"#,
    ),
    ("/session?limit=1", 200, r#"{"num_clients":3,"sessions":{}}"#),
    (
        "/operation",
        200,
        r#"[{"id":"2","kind":"update","state":"running","started":"","ended":"","steps":[]},
            {"id":"1","kind":"start","state":"done","started":"","ended":"","steps":[]}]"#,
    ),
    ("/service/restart", 200, r#"{"count":2}"#),
    ("/service/restart/web", 200, r#"{"count":1}"#),
    ("/service/restart/nope", 404, r#"{"error":"no service \"nope\"","code":"service_not_found"}"#),
    ("/service/stop/web", 200, r#"{"count":0}"#),
    ("/reload", 200, r#"{"services":{"api":"exit code 1"}}"#),
    (
        "/repo/update",
        500,
        r#"{"error":"the rollout failed","code":"rollout_failed","services":{"web":"exit code 1\u001b[2J"},"operation":"9"}"#,
    ),
    ("/shutdown", 200, "{}"),
];

#[test]
fn an_answer_is_shown_to_a_person_and_printed_as_it_came_with_json() {
    let server = Recorded::answering(ANSWERS);
    assert_eq!(
        out(&server.run(&["ls"])),
        "SERVICE  STATUS   ID\nweb      OK       286012345678901248\nmailer   Stopped  -\n"
    );
    assert_eq!(out(&server.run(&["health", "web"])), "SERVICE  STATUS  HEALTHY\nweb      OK          2/2\n");
    assert_eq!(out(&server.run(&["health", "web", "--json"])), format!("{HEALTH}\n"));
}

#[test]
fn the_status_is_one_screen_with_the_operation_that_runs_also_without_a_repository() {
    let server = Recorded::answering(ANSWERS);
    let status = server.run(&["status"]);
    assert_eq!(
        out(&status),
        "1 service: 1 OK; 3 clients\nweb1, pmesh v0.1.0-abc\nno repository at /srv/shop or above it\n\
         an update is under way; `pmesh-server operations` shows its steps\n\n\
         SERVICE  STATUS  HEALTHY  UPTIME  RESTARTS  PORT  LOAD  CPU  MEMORY\n\
         web      OK          2/2       -         -     -     -    -       -\n"
    );
    assert_eq!((code(&status), err(&status)), (0, String::new()));
    let json: serde_json::Value = serde_json::from_slice(&server.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!((&json["host"], &json["num_clients"]), (&"web1".into(), &3.into()));
    assert_eq!(
        (&json["repo"]["code"], &json["services"]["web"]["new"]),
        (&"repository_not_found".into(), &1.into())
    );
}

#[test]
fn an_action_is_one_post_and_its_outcome_a_sentence() {
    let server = Recorded::answering(ANSWERS);
    for (arguments, sentence) in [
        (&["restart"][..], "2 services restarted\n"),
        (&["restart", "web", "--invalidate"], "1 service restarted\n"),
        (&["stop", "web"], "0 services stopped\n"),
        (&["shutdown"], "the server stops\n"),
    ] {
        let output = server.run(arguments);
        assert_eq!(
            (out(&output), code(&output)),
            (sentence.to_owned(), 0),
            "{arguments:?}: {}",
            err(&output)
        );
    }
    assert_eq!(
        server.asked(),
        [
            "POST /service/restart {}",
            "POST /service/restart/web {\"invalidate\":true}",
            "POST /service/stop/web {}",
            "POST /shutdown {}"
        ]
    );
    let reload = server.run(&["reload"]);
    assert_eq!((out(&reload), code(&reload)), ("reloaded\n".to_owned(), 0));
    assert_eq!(err(&reload), "pmesh-server: api is not ready and goes on trying: exit code 1\n");
}

#[test]
fn a_failed_action_is_exit_1_with_the_reason_of_each_service() {
    let server = Recorded::answering(ANSWERS);
    let update = server.run(&["update"]);
    assert_eq!((code(&update), out(&update)), (1, String::new()));
    assert_eq!(err(&update), "pmesh-server: the rollout failed\n  web: exit code 1\\u{1b}[2J\n");
    let restart = server.run(&["restart", "nope"]);
    assert_eq!((code(&restart), err(&restart)), (1, "pmesh-server: no service \"nope\"\n".to_owned()));
    let json = server.run(&["restart", "nope", "--json"]);
    assert_eq!(code(&json), 1);
    assert_eq!(out(&json), "{\"error\":\"no service \\\"nope\\\"\",\"code\":\"service_not_found\"}\n");
}

#[test]
fn no_server_is_exit_3_and_a_sentence_that_says_how_to_start_one() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for command_line in ["status", "restart", "ls", "shutdown"] {
        let output = command(&[command_line, "--url", &format!("http://{free}")]).output().unwrap();
        assert_eq!((code(&output), out(&output)), (3, String::new()));
        let said = err(&output);
        assert!(said.contains(&free.to_string()) && said.contains("`pmesh-server run`"), "{said}");
    }
}

#[test]
fn what_answers_without_json_is_no_server() {
    let stranger = Recorded::answering(&[("/service", 200, "<html>"), ("/repo", 404, "<html>")]);
    for arguments in [&["ls"][..], &["ls", "--json"], &["repo"]] {
        let output = stranger.run(arguments);
        assert_eq!((code(&output), out(&output)), (3, String::new()), "{arguments:?}");
        assert!(err(&output).contains("no pmesh server"), "{}", err(&output));
    }
}

#[test]
fn a_flag_wins_over_its_variable() {
    let server = Recorded::answering(ANSWERS);
    let by_variable = command(&["ls"]).env("PMESH_URL", &server.url).output().unwrap();
    assert_eq!(code(&by_variable), 0, "{}", err(&by_variable));
    let by_flag =
        command(&["ls", "--url", &server.url]).env("PMESH_URL", "http://127.0.0.1:1").output().unwrap();
    assert_eq!(code(&by_flag), 0, "{}", err(&by_flag));
    let json = command(&["health", "web", "--url", &server.url]).env("PMESH_JSON", "1").output().unwrap();
    assert_eq!(out(&json), format!("{HEALTH}\n"));
}

#[test]
fn a_wrong_variable_is_a_wrong_command_line_where_it_counts_and_only_there() {
    for (variable, value) in [
        ("PMESH_HTTP", "x"),
        ("PMESH_LOG_LEVEL", "loud"),
        ("PMESH_API", "127.0.0.1:0,y"),
        ("PMESH_NO_SOCKET", "perhaps"),
        ("PMESH_HTTPS", ":443"),
        ("PMESH_MANAGE_HOSTS", "true"),
    ] {
        let output = command(&["run", "/nowhere"]).env(variable, value).output().unwrap();
        let flag = variable.trim_start_matches("PMESH_").to_lowercase().replace('_', "-");
        assert_eq!(code(&output), 2, "{variable}: {}", err(&output));
        assert!(err(&output).contains(&format!("--{flag}")), "{}", err(&output));
        let server = Recorded::answering(ANSWERS);
        let status = command(&["ls", "--url", &server.url]).env(variable, value).output().unwrap();
        assert_eq!(code(&status), 0, "{variable}: {}", err(&status));
    }
}

#[test]
fn a_token_file_that_others_may_read_is_a_wrong_command_line() {
    let server = Recorded::answering(ANSWERS);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let output = server.run(&["ls", "--token-file", file.to_str().unwrap()]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("chmod 600"), "{}", err(&output));
    assert_eq!(server.asked(), [""; 0], "nobody was shown the token");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let server = Recorded::answering(ANSWERS);
    for arguments in [&["status"][..], &["health", "web", "--json"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = command(arguments).args(["--url", &server.url]).stdout(writer).output().unwrap();
        assert_eq!((code(&output), err(&output)), (0, String::new()), "{arguments:?}");
    }
    for arguments in [&["--version"][..], &["--help"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(code(&command(arguments).stdout(writer).output().unwrap()), 0, "{arguments:?}");
    }
}

#[test]
fn the_version_is_the_semantic_one_and_the_commit() {
    let output = command(&["--version"]).output().unwrap();
    let (version, commit) =
        out(&output).trim_end().split_once('-').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(version, concat!("v", env!("CARGO_PKG_VERSION")));
    assert!(!commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{commit}");
}

fn checked(folder: &Path, arguments: &[&str]) -> Output {
    command(&["check"]).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn check_prints_what_would_run_or_each_mistake_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("pm3.yml");
    std::fs::write(&manifest, "services:\n  web: !App\n    run: sleep 9\n").unwrap();
    let good = checked(folder.path(), &[]);
    assert_eq!(code(&good), 0, "{}", err(&good));
    assert!(out(&good).contains("web") && out(&good).contains("sleep 9"), "{}", out(&good));

    std::fs::write(
        &manifest,
        "services:\n  web: !App\n    run: sleep 9\n    stop_timeuot: 5s\n    cluster: -4\n",
    )
    .unwrap();
    for arguments in [&[][..], &["pm3.yml"], &["."]] {
        let bad = checked(folder.path(), arguments);
        assert_eq!((code(&bad), out(&bad)), (1, String::new()));
        let lines: Vec<String> = err(&bad).lines().map(str::to_owned).collect();
        assert!(lines[0].starts_with("pm3.yml:4:5: ") && lines[0].contains("stop_timeout"), "{lines:?}");
        assert!(lines[1].starts_with("pm3.yml:5:14: ") && lines[1].contains("cluster"), "{lines:?}");
    }
    let nothing = checked(folder.path(), &["nowhere"]);
    assert_eq!((code(&nothing), out(&nothing)), (1, String::new()));
    assert!(err(&nothing).contains("nowhere"), "{}", err(&nothing));
}

#[test]
fn check_warns_of_what_is_probably_not_meant_and_of_what_this_machine_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "services:\n  web: !App\n    root: .\n    run: no-such-program *\n  pictures: !FS\n";
    std::fs::write(folder.path().join("pm3.yml"), manifest).unwrap();
    let good = checked(folder.path(), &[]);
    assert_eq!(code(&good), 0, "{}", err(&good));
    assert!(out(&good).contains("no-such-program"), "{}", out(&good));
    let shown = err(&good);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("warning: pm3.yml:4:10: services.web.run: no shell is involved"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("warning: pm3.yml:4:10: services.web.run: there is no program"),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("warning: pm3.yml:5:3: services.pictures: there is no folder"), "{lines:?}");
}
