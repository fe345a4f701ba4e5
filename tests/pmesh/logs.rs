//! What services write is read again: over the API and by the command line.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;

use crate::harness::{Project, Server, pmesh, signal, wait_for};

/// Two instances that write to both outputs, a service that fills a log of more than one file, and one with a build.
const MANIFEST: &str = "services:
  talk: !App
    root: .
    run: sh -c 'echo \"out of $PM3_INSTANCE\"; echo \"err of $PM3_INSTANCE\" >&2; exec sleep 1000'
    cluster: 2
    background: true
  much: !App
    root: .
    run: sh -c 'seq -f \"%07g a line of more than a few letters\" 500000; exec sleep 1000'
    background: true
  built: !App
    root: .
    build: echo a step
    run: sh -c 'printf \"\\033[31mred\\033[0m\\033[2J\\n\"; exec sleep 1000'
    background: true
";

/// How many lines `much` writes; they have 20 MB, and a file of a log has 16.
const MUCH: u64 = 500_000;

fn logs(server: &Server, arguments: &[&str]) -> Output {
    pmesh().arg("logs").args(["--url", &format!("http://{}", server.api)]).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn texts(entries: &Value) -> Vec<&str> {
    entries.as_array().unwrap().iter().map(|entry| entry["text"].as_str().unwrap()).collect()
}

#[test]
fn what_services_and_builds_write_is_read_by_time_also_from_a_rotated_log() {
    let project = Project::new(MANIFEST);
    let server = Server::serve(&project);
    let last = format!("{MUCH:07} a line of more than a few letters");
    wait_for("all has been written", || texts(&server.get("/logs/much?lines=1")) == [&*last]);
    wait_for("both instances have written", || server.get("/logs/talk").as_array().unwrap().len() == 4);
    let talk = server.get("/logs/talk");
    for entry in talk.as_array().unwrap() {
        let text = entry["text"].as_str().unwrap();
        assert!(
            ["out", "err"].map(|word| format!("{word} of {}", entry["instance"])).contains(&text.to_owned()),
            "{entry}"
        );
        assert!(entry["time"].as_str().unwrap().starts_with("20"), "{entry}");
    }
    let second = server.get("/logs/talk?instance=2");
    assert_eq!(second.as_array().unwrap().len(), 2, "{second}");

    // The border between the files is in the midst of these.
    let much = said(&logs(&server, &["--json", "-n", "10000", "much"]));
    let much: Value = serde_json::from_str(&much).unwrap();
    assert_eq!(much.as_array().unwrap().len(), 10_000);
    assert!(server.state.join("logs/much.log.1").exists());
    for (text, number) in texts(&much).iter().rev().zip((1..=MUCH).rev()) {
        assert!(text.starts_with(&format!("{number:07} ")), "{text} is not {number}");
    }

    let built = server.get("/logs/built");
    let step = built.as_array().unwrap().iter().find(|entry| entry["text"] == "a step").unwrap();
    assert_eq!((&step["stream"], step.get("instance")), (&"build".into(), None));
    let all = server.get("/logs");
    let times: Vec<&str> =
        all.as_array().unwrap().iter().map(|line| line["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times.len() == 200, "{times:?}");
    let shown = said(&logs(&server, &["talk", "built"]));
    assert!(shown.lines().any(|line| line.starts_with("talk") && line.ends_with(" | err of 2")), "{shown}");
    let red = " | red\\u{1b}[2J";
    assert!(
        shown.lines().any(|line| line.ends_with(red)),
        "no colours in a pipe, and no screen is cleared: {shown}"
    );
    assert!(said(&logs(&server, &["-n", "1", "much"])).ends_with(&format!(" | {last}\n")));
    assert_eq!(said(&logs(&server, &["--since", "1h", "-n", "3"])).lines().count(), 3);
    let json: Value = serde_json::from_str(&said(&logs(&server, &["--json", "talk"]))).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 4);

    let unknown = logs(&server, &["tlak"]);
    assert_eq!(unknown.status.code(), Some(1));
    let why = String::from_utf8_lossy(&unknown.stderr);
    assert!(why.contains("no service \"tlak\"") && why.contains("did you mean \"talk\"?"), "{why}");
    let status =
        said(&pmesh().args(["status", "--url", &format!("http://{}", server.api)]).output().unwrap());
    let folder = server.state.join("logs").canonicalize().unwrap();
    assert!(status.contains(&format!("\nlogs in {}, ", folder.display())), "{status}");
}

/// `logs -f` as somebody runs it; ended when it is dropped.
struct Following {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Following {
    fn of(server: &Server, arguments: &[&str]) -> Self {
        let mut child = pmesh()
            .args(["logs", "-f", "--url", &format!("unix:{}", server.state.join("api.sock").display())])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines: Some(lines) }
    }

    fn line(&mut self) -> String {
        self.lines.as_mut().unwrap().next().expect("it goes on").unwrap()
    }

    /// The next lines up to one that contains `text`.
    fn until(&mut self, text: &str) -> Vec<String> {
        let mut lines = vec![self.line()];
        while !lines.last().unwrap().contains(text) {
            lines.push(self.line());
        }
        lines
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

/// A service that writes a line for each that is written to its pipe.
const ECHO: &str = "services:
  echo: !App
    root: .
    run: sh -c 'echo begun; while true; do cat pipe; done'
    background: true
";

fn echo() -> Project {
    let project = Project::of(&[("pm3.yml", ECHO), (".gitignore", "pipe\n")], |_| ());
    make_pipe(&project.work.join("pipe"));
    project
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn who_follows_is_told_each_line_once_over_restarts_of_the_service_and_of_the_server() {
    let project = echo();
    let say = |text: &str| fs::write(project.work.join("pipe"), text).unwrap();
    let server = Server::serve(&project);
    let mut following = Following::of(&server, &["echo"]);
    following.until("begun");
    say("one\n");
    assert!(following.until("one").last().unwrap() == "echo/1 | one");
    server.post("/service/restart/echo");
    following.until("begun");
    say("two\n");
    following.until("two");
    let state = server.state.clone();
    assert_eq!(server.terminate(), Some(0));
    // Another server on the same folder.
    let server = Server::start(&project.work, &state);
    server.settle();
    let told = following.until("begun");
    assert!(!told.iter().any(|line| line.ends_with("| one") || line.ends_with("| two")), "{told:?}");
    say("three\n");
    following.until("three");
    signal(following.child.id(), "INT");
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    following.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("waiting for it") && said.contains("the server is there again"), "{said}");
}

#[test]
fn logs_are_followed_through_the_front_too_and_the_end_of_the_server_is_the_end_of_them() {
    let project = echo();
    let server = Server::serve(&project);
    let mut followers: Vec<BufReader<TcpStream>> = [(&server.front, "pm3"), (&server.api, "localhost")]
        .map(|(address, host)| {
            let mut stream = TcpStream::connect(address).unwrap();
            let request = format!("GET /logs?follow HTTP/1.1\r\nHost: {host}\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            BufReader::new(stream)
        })
        .into();
    let until = |follower: &mut BufReader<TcpStream>, text: &str| {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(follower.read_line(&mut line).unwrap() > 0, "it ended before {text}");
        }
    };
    for follower in &mut followers {
        until(follower, "\"begun\"");
    }
    fs::write(project.work.join("pipe"), "one\n").unwrap();
    for follower in &mut followers {
        until(follower, "\"one\"");
    }
    assert_eq!(server.terminate(), Some(0));
    for mut follower in followers {
        let mut rest = String::new();
        follower.read_to_string(&mut rest).unwrap();
        assert!(
            rest.ends_with("0\r\n\r\n"),
            "the last chunk (RFC 9112, 7.1), so that it was not cut off: {rest:?}"
        );
    }
}

#[test]
fn whoever_follows_and_whose_reader_goes_away_ends_quietly() {
    let project = echo();
    let server = Server::serve(&project);
    let mut following = Following::of(&server, &["--json"]);
    let begun: Value = serde_json::from_str(&following.until("begun").pop().unwrap()).unwrap();
    assert_eq!((&begun["service"], &begun["text"]), (&"echo".into(), &"begun".into()));
    // Nothing more is written: it notices all the same.
    following.lines = None;
    let (mut said, mut stderr) = (String::new(), following.child.stderr.take().unwrap());
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!((following.child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn who_does_not_read_holds_nobody_up_and_costs_no_memory() {
    let manifest = "services:
  much: !App
    root: .
    run: sh -c 'read go < go; yes \"a line that comes again and again\" | head -c 60000000; echo; echo done; exec sleep 1000'
    background: true
";
    let project = Project::of(&[("pm3.yml", manifest), (".gitignore", "go\n")], |_| ());
    let go = project.work.join("go");
    make_pipe(&go);
    let server = Server::serve(&project);
    let mut idle: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.api).unwrap();
            stream.write_all(b"GET /logs/much?follow&lines=0 HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut byte = [0];
            // It is followed by now.
            stream.read_exact(&mut byte).unwrap();
            stream
        })
        .collect();
    fs::write(&go, "\n").unwrap();
    wait_for("all is written", || texts(&server.get("/logs/much?lines=1")) == ["done"]);
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    // 60 MB were written for each of them.
    assert!(kib < 100 * 1024, "{peak}");
    // Whoever reads again is told how it goes on.
    let mut line = String::new();
    let mut reader = BufReader::new(idle.pop().unwrap());
    while !line.contains("comes again and again") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
}
