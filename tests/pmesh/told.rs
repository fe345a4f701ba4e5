//! What people are told: reasons that help, and no word of success for what is down.

use std::{collections::BTreeSet, process::Output};

use serde_json::json;

use crate::harness::{APP, Project, Server, pmesh, wait_for, web_manifest};

/// A command for the server as a person's script calls it.
fn command(server: &Server, words: &[&str]) -> Output {
    pmesh().args(words).args(["--url", &format!("http://{}", server.api)]).output().unwrap()
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A project of one healthy service and this one, which runs a file of this program.
fn project(name: &str, runs: &str, program: &str, more: &str) -> Project {
    let service = format!("  {name}: !App\n    root: .\n    run: {runs} program\n{more}");
    let manifest = web_manifest(1, &service);
    let files = [
        ("pm3.yml", manifest.as_str()),
        ("web/app.py", APP),
        ("web/version.txt", "v1\n"),
        (".gitignore", ".build*\n.run\n"),
        ("program", program),
    ];
    Project::of(&files, |_| ())
}

#[test]
fn an_app_that_ignores_its_port_is_told_where_it_listens_and_where_it_must() {
    let other = "import socket, time\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\n\
                 print('PORT', s.getsockname()[1])\ntime.sleep(600)\n";
    let project = project("other", "python3 -u", other, "    ready_timeout: 6s\n    stop_timeout: 1s\n");
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    wait_for("it is down", || server.get("/service/health/other")["status"] == "Down");
    let health = server.get("/service/health/other");
    let reason = health["reason"].as_str().unwrap();
    let lines = health["last_lines"].as_array().unwrap();
    let port = lines.last().unwrap().as_str().unwrap().strip_prefix("PORT ").unwrap();
    let told = format!("it was not ready within 6s: it listens on 127.0.0.1:{port}; it must be $PORT, 2");
    assert!(reason.contains(&told), "{health}");
    let (shown, _) = said(&command(&server, &["status"]));
    assert!(shown.contains("it must be $PORT, 2"), "{shown}");
    let (_, failed) = said(&command(&server, &["restart", "other"]));
    assert!(failed.contains("it must be $PORT, 2"), "{failed}");
}

#[test]
fn nothing_says_done_or_taken_over_for_a_service_that_is_down() {
    let project = project("bad", "sh", "echo no database\nexit 3\n", "");
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    wait_for("the start has ended", || server.get("/operation")[0]["state"] == "done");
    assert_eq!(server.get("/service/health/bad")["status"], "Down");
    for (change, words) in [(true, ["update"]), (false, ["reload"])] {
        if change {
            project.push(&[("web/version.txt", "v2\n")]);
        }
        let (shown, warned) = said(&command(&server, &words));
        assert!(
            warned.contains("bad is not ready and goes on trying: instance 1: it ended with exit code 3"),
            "{warned}"
        );
        assert!(!shown.contains("done") && !shown.contains("taken over"), "{shown}");
    }
    let output = command(&server, &["restart"]);
    assert!(output.status.code() == Some(1) && said(&output).0.is_empty(), "{output:?}");
    let log = server.log();
    for line in log.lines() {
        assert!(!line.contains("\"message\":\"done\""), "{line}");
        assert!(!line.contains("has taken over") || !line.contains("\"service\":\"bad\""), "{line}");
    }
    let reason = "\"reason\":\"instance 1: it ended with exit code 3";
    let tells = |line: &str| {
        line.contains("\"service\":\"bad\"") && line.contains(reason) && line.contains("no database")
    };
    assert!(log.lines().any(tells), "the log has the reason with the last line: {log}");
    assert!(log.contains("has taken over"), "of the other service it is said: {log}");
    assert_eq!(log.matches("done, but these services are not ready").count(), 3, "{log}");
    assert!(log.contains("the old run has ended, and nothing of the new one is ready"), "{log}");
}

/// A key that an object of this JSON has twice, which each reader takes in its own way (RFC 8259, 4).
fn key_that_is_there_twice(json: &str) -> Option<&str> {
    let mut objects: Vec<BTreeSet<&str>> = Vec::new();
    let mut rest = json;
    while let Some(at) = rest.find(['{', '}', '"']) {
        let (found, behind) = rest[at..].split_at(1);
        rest = behind;
        match found {
            "{" => objects.push(BTreeSet::new()),
            "}" => drop(objects.pop()),
            _ => {
                let mut is_escaped = false;
                let end = rest.find(|c| {
                    let ends = c == '"' && !is_escaped;
                    is_escaped = c == '\\' && !is_escaped;
                    ends
                })?;
                let (text, behind) = (&rest[..end], &rest[end + 1..]);
                rest = behind;
                if rest.starts_with(':') && !objects.last_mut()?.insert(text) {
                    return Some(text);
                }
            }
        }
    }
    None
}

#[test]
fn no_object_of_the_log_has_a_key_twice_and_a_line_says_which_service_it_is_of() {
    assert_eq!(key_that_is_there_twice(r#"{"a\"":"{","b":[{"a":1}],"c":{"b":"b"}}"#), None);
    assert_eq!(key_that_is_there_twice(r#"{"a":[{"b":1,"c":2,"b":"}"}]}"#), Some("b"));
    let project = project("bad", "sh", "echo no database\nexit 3\n", "");
    let state = project.folder.path().join("state");
    let server = Server::start_with(&project.work, &state, &[("PMESH_LOG_LEVEL", "trace")]);
    wait_for("the start has ended", || server.get("/operation")[0]["state"] == "done");
    assert_eq!(server.site("/").0, 200);
    project.push(&[("web/version.txt", "v2\n")]);
    server.post("/repo/update");
    let log = server.log();
    for line in log.lines() {
        assert_eq!(key_that_is_there_twice(line), None, "{line}");
    }
    for span in [r#"{"service":"web","name":"service"}"#, r#""name":"instance""#, r#""name":"operation""#] {
        assert!(log.contains(span), "{span}: {log}");
    }
}

#[test]
fn a_first_answer_of_500_is_told_in_the_result_and_by_the_command_line() {
    let failing = "import http.server, os\nclass H(http.server.BaseHTTPRequestHandler):\n    \
                   def do_GET(self): self.send_error(500)\n\
                   http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()\n";
    let project = project("failing", "python3", failing, "");
    let server = Server::serve(&project);
    let warning = "service failing: instance 1: its first answer, to `GET /`, has status 500";
    assert_eq!(server.post("/service/restart/failing"), json!({"count": 1, "warnings": [warning]}));
    let output = command(&server, &["restart", "failing"]);
    let (shown, warned) = said(&output);
    assert!(output.status.success() && shown == "1 service restarted\n", "{output:?}");
    assert_eq!(warned, format!("pmesh-server: warning: {warning}\n"));
    project.push(&[("web/version.txt", "v2\n")]);
    assert_eq!(server.post("/repo/update")["warnings"], json!([warning]));
}

#[test]
fn a_stop_that_needed_sigkill_says_so_in_its_operation_on_the_command_line_and_in_the_log() {
    let deaf = "trap : TERM\necho up\nwhile :; do sleep 1; done\n";
    let project = project("deaf", "sh", deaf, "    background: true\n    stop_timeout: 300ms\n");
    let server = Server::serve(&project);
    let output = command(&server, &["stop", "deaf"]);
    let (shown, warned) = said(&output);
    let killed = "service deaf: instance 1 did not end within stop_timeout 300ms, killed";
    assert_eq!(
        (shown.as_str(), warned),
        ("1 service stopped\n", format!("pmesh-server: warning: {killed}\n"))
    );
    let operation = &server.get("/operation")[0];
    assert_eq!((&operation["kind"], &operation["steps"][0]["detail"]), (&json!("stop"), &json!(killed)));
    let log = server.log();
    assert!(log.contains("it did not end within stop_timeout 300ms, killed"), "{log}");
}
