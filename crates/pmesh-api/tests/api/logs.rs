//! What services have written, as a caller reads it.

use std::fs;

use http::{Method, Request};
use http_body_util::BodyExt as _;
use pmesh_api::{Api, ApiBody, testing::TestApi};
use serde_json::{Value, json};

use crate::{Started, api_of, node, test_api};

/// A chunk of a log: when it was written (in seconds since the epoch of Unix), by which instance, to which stream, and what.
type Chunk<'a> = (u64, u32, u8, &'a [u8]);

/// Puts a log with its index where the node has its logs.
fn put(node: &Started, name: &str, chunks: &[Chunk<'_>]) {
    let logs = node.folder.path().join("logs");
    let (mut log, mut index) = (Vec::new(), Vec::new());
    for (time, instance, stream, bytes) in chunks {
        index.extend((log.len() as u64).to_le_bytes());
        index.extend((time * 1_000_000).to_le_bytes());
        index.extend(instance.to_le_bytes());
        index.extend([*stream, 0, 0, 0]);
        log.extend(*bytes);
    }
    fs::write(logs.join(name), log).unwrap();
    fs::write(logs.join(format!("{name}.index")), index).unwrap();
}

fn texts(entries: &Value) -> Vec<&str> {
    entries.as_array().unwrap().iter().map(|entry| entry["text"].as_str().unwrap()).collect()
}

/// A node of which two services have written something.
async fn written() -> Started {
    let node = node().await;
    put(
        &node,
        "web.log",
        &[(1, 1, 0, b"one\n"), (3, 2, 1, b"th\xffree\n"), (5, u32::MAX, 5, b"[pmesh] note\n")],
    );
    put(&node, "jobs.log", &[(2, 1, 0, b"two\n"), (4, u32::MAX, 2, b"built")]);
    node
}

#[tokio::test(start_paused = true)]
async fn logs_are_lines_by_time_with_their_service_instance_and_stream() {
    let node = written().await;
    let api = test_api(&node);
    let line = |second: u64, service: &str, instance: Option<u32>, stream: &str, text: &str| {
        let time = format!("1970-01-01T00:00:0{second}.000Z");
        match instance {
            Some(instance) => {
                json!({"time": time, "service": service, "instance": instance, "stream": stream, "text": text})
            }
            None => json!({"time": time, "service": service, "stream": stream, "text": text}),
        }
    };
    let web = [
        line(1, "web", Some(1), "stdout", "one"),
        line(3, "web", Some(2), "stderr", "th\u{fffd}ree"),
        line(5, "web", None, "pmesh", "[pmesh] note"),
    ];
    let jobs = [line(2, "jobs", Some(1), "stdout", "two"), line(4, "jobs", None, "build", "built")];
    assert_eq!(api.get("/logs/web").await.json, json!(web));
    let all = api.get("/logs").await;
    assert_eq!(all.json, json!([web[0], jobs[0], web[1], jobs[1], web[2]]));
    assert_eq!(all.text.find("\"time\""), Some(2), "{}", all.text);
    assert_eq!(api.get("/logs/web,jobs,web").await.json, all.json);
    assert_eq!(api.get("/logs/files").await.json, json!([]), "files write nothing");
    assert_eq!(api.send(Method::HEAD, "/logs", &[], "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn logs_are_cut_by_number_time_and_instance() {
    let node = written().await;
    let api = test_api(&node);
    for (query, wanted) in [
        ("lines=2", &["built", "[pmesh] note"][..]),
        ("lines=0", &[]),
        ("since=1970-01-01T00:00:04Z", &["built", "[pmesh] note"]),
        ("since=1970-01-01T02:00:04%2B02:00&lines=1", &["[pmesh] note"]),
        ("since=10m", &[]),
        ("since=999999h", &["one", "two", "th\u{fffd}ree", "built", "[pmesh] note"]),
        ("instance=1", &["one", "two"]),
        ("instance=1&lines=1", &["two"]),
        ("instance=3", &[]),
    ] {
        assert_eq!(texts(&api.get(&format!("/logs?{query}")).await.json), wanted, "{query}");
    }
    for (query, code) in [
        ("lines=10001", "bad_parameter"),
        ("lines=-1", "bad_parameter"),
        ("lines", "bad_parameter"),
        ("since=yesterday", "bad_parameter"),
        ("instance=x", "bad_parameter"),
        ("instance=99999999999", "bad_parameter"),
        ("raw=x", "bad_parameter"),
        ("limit=1", "unknown_parameter"),
    ] {
        let answer = api.get(&format!("/logs/web?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{query}");
    }
    assert_eq!(
        api.get("/logs?lines=x").await.json["error"],
        "parameter lines must be a whole number up to 10000"
    );
    let since =
        "parameter since must be a time such as 2026-03-09T02:02:52Z, or how long ago that is, such as 10m";
    assert_eq!(api.get("/logs?since=x").await.json["error"], since);
}

#[tokio::test(start_paused = true)]
async fn raw_lines_are_the_bytes_as_they_were_written() {
    let node = node().await;
    let api = test_api(&node);
    put(&node, "web.log", &[(1, 1, 0, "\u{1b}[31mré\n\r\nopen".as_bytes())]);
    let raw = api.get("/logs/web?raw").await;
    assert_eq!(
        (raw.text.as_str(), &raw.headers["content-type"]),
        ("\u{1b}[31mré\n\r\nopen", &"text/plain".parse().unwrap())
    );
    assert_eq!(api.get("/logs/web?raw&lines=2").await.text, "\r\nopen");
    let json = api.get("/logs/web").await;
    assert_eq!(texts(&json.json), ["\u{1b}[31mré", "\r", "open"]);
    assert!(!json.text.contains('\u{1b}'), "a terminal that shows it stays as it is: {}", json.text);
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_is_whole() {
    let node = node().await;
    let api = test_api(&node);
    let line = [&[b'x'; 999][..], b"\n"].concat();
    put(&node, "web.log", &[(1, 1, 0, &line.repeat(5000))]);
    let long = api.get("/logs/web?lines=10000").await;
    assert_eq!((texts(&long.json).len(), long.headers.get("content-length")), (5000, None));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_there_is_not_is_404_and_one_that_the_manifest_has_lost_is_read_while_its_log_is_there()
 {
    let node = written().await;
    let api = test_api(&node);
    for path in ["/logs/wbe", "/logs/web,wbe", "/logs/a%2Fb", "/logs/web,", "/logs/,"] {
        let answer = api.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "service_not_found"), "{path}");
    }
    let error = &api.get("/logs/wbe").await.json["error"];
    assert_eq!(error, "no service \"wbe\" in the manifest; did you mean \"web\"?");
    put(&node, "gone.log", &[(1, 1, 0, b"it was here\n")]);
    assert_eq!(texts(&api.get("/logs/gone").await.json), ["it was here"]);
    assert!(!texts(&api.get("/logs").await.json).contains(&"it was here"), "it is no service");
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_the_place_of_a_log_is_named() {
    let node = node().await;
    let log = node.folder.path().join("logs/web.log");
    fs::remove_file(&log).unwrap_or_default();
    std::os::unix::fs::symlink("/etc/passwd", &log).unwrap();
    let answer = test_api(&node).get("/logs/web").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (500, "log_unreadable"));
    assert!(
        answer.json["error"].as_str().unwrap().ends_with("web.log is a link; remove it"),
        "{}",
        answer.text
    );
}

#[tokio::test(start_paused = true)]
async fn metrics_say_where_the_log_is() {
    let node = node().await;
    let log = &test_api(&node).get("/service/metrics/web").await.json["log"];
    let folder = node.folder.path().canonicalize().unwrap();
    assert_eq!(*log, folder.join("logs/web.log").display().to_string());
}

/// Somebody who follows logs.
struct Follower(ApiBody);

impl Follower {
    async fn of(node: &Started, path: &str, headers: &[(&str, &str)]) -> Self {
        let response = asked(&api_of(node), path, headers).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut follower = Self(response.into_body());
        let hello = follower.piece().await;
        assert!(hello.starts_with("retry: 1000\nid: @") && hello.ends_with("\n\n"), "{hello}");
        follower
    }

    /// The next text that comes.
    async fn piece(&mut self) -> String {
        let frame = self.0.frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    /// The next events: the id and what it says of each.
    async fn events(&mut self) -> Vec<(String, Value)> {
        let piece = self.piece().await;
        let event = |event: &str| {
            let (id, data) = event.strip_prefix("id: ").unwrap().split_once("\ndata: ").unwrap();
            (id.to_owned(), serde_json::from_str(data).unwrap())
        };
        piece.strip_suffix("\n\n").unwrap().split("\n\n").map(event).collect()
    }
}

async fn asked(api: &Api, path: &str, headers: &[(&str, &str)]) -> http::Response<ApiBody> {
    let mut request = Request::get(path).header("host", "127.0.0.1:9870");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.handle(request.body(String::new()).unwrap(), TestApi::loopback()).await
}

#[tokio::test(start_paused = true)]
async fn followed_logs_are_events_with_ids_and_a_comment_comes_where_nothing_else_does() {
    let node = node().await;
    put(&node, "web.log", &[(1, 1, 0, b"one\n"), (2, 1, 0, b"two\nopen")]);
    let mut follower = Follower::of(&node, "/logs/web?follow&lines=1", &[]).await;
    let events = follower.events().await;
    assert_eq!(events.len(), 1);
    let two = json!({"time": "1970-01-01T00:00:02.000Z", "service": "web", "instance": 1, "stream": "stdout", "text": "two"});
    assert_eq!(events[0].1, two);
    let now = tokio::time::Instant::now();
    assert_eq!(follower.piece().await, ":\n\n");
    assert_eq!(now.elapsed().as_secs(), 15);
    // What the service writes comes by itself.
    node.spawner.write(0, "three\n");
    let mut texts: Vec<String> = Vec::new();
    while texts.last().is_none_or(|text| text != "three") {
        texts.extend(
            follower.events().await.iter().map(|(_, line)| line["text"].as_str().unwrap().to_owned()),
        );
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_accepts_events_follows_and_goes_on_behind_the_last_id() {
    let node = written().await;
    let accept = ("accept", "text/event-stream");
    let events = Follower::of(&node, "/logs", &[accept]).await.events().await;
    assert_eq!(events.len(), 4, "the line that is not ended is not told: {events:?}");
    let ids: Vec<&str> = events.iter().map(|(id, _)| id.as_str()).collect();
    let mut again = Follower::of(&node, "/logs?lines=0", &[accept, ("last-event-id", ids[1])]).await;
    assert_eq!(again.events().await, events[2..]);
    let since = Follower::of(&node, "/logs?since=1970-01-01T00:00:03Z", &[accept]).await.events().await;
    assert_eq!(since.iter().map(|(_, line)| line).collect::<Vec<_>>(), [&events[2].1, &events[3].1]);
    let one = Follower::of(&node, "/logs?instance=2", &[accept]).await.events().await;
    assert_eq!(one.iter().map(|(_, line)| line).collect::<Vec<_>>(), [&events[2].1]);

    let list = test_api(&node).send(Method::GET, "/logs?follow=false", &[accept], "").await;
    assert_eq!(list.json.as_array().unwrap().len(), 5);
    for (path, headers, code) in [
        ("/logs?follow", [accept, ("last-event-id", "7")], "bad_request"),
        ("/logs?follow&raw", [accept, accept], "bad_parameter"),
        ("/logs/wbe?follow", [accept, accept], "service_not_found"),
    ] {
        let answer = TestApi::read(asked(&api_of(&node), path, &headers).await).await;
        assert_eq!(answer.code(), code, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_follows_is_told_of_services_that_come() {
    let node = node().await;
    let mut follower = Follower::of(&node, "/logs?follow&lines=0", &[]).await;
    let manifest = "services: { new: !App { run: new, background: true } }";
    fs::write(node.folder.path().join("pm3.yml"), manifest).unwrap();
    let started = node.spawner.launches().len();
    node.spawner.print_at_start("new", "from the new one\n");
    assert_eq!(test_api(&node).post("/reload").await.status, 200);
    assert!(node.spawner.launches().len() > started);
    let is_new = |line: &Value| line["service"] == "new" && line["text"] == "from the new one";
    while !follower.events().await.iter().any(|(_, line)| is_new(line)) {}
}

#[tokio::test(start_paused = true)]
async fn so_many_may_follow_and_no_more_and_the_end_of_the_server_ends_them() {
    let node = node().await;
    let api = api_of(&node);
    let mut followers = Vec::new();
    for _ in 0..64 {
        followers.push(asked(&api, "/logs?follow", &[]).await.into_body());
    }
    let refused = TestApi::read(asked(&api, "/logs?follow", &[]).await).await;
    assert_eq!((refused.code(), &refused.headers["retry-after"]), ("busy", &"5".parse().unwrap()));
    followers.pop();
    assert_eq!(asked(&api, "/logs?follow", &[]).await.status(), 200, "there is a place again");
    node.shut_down();
    for follower in followers {
        assert!(follower.collect().await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_any_more_ends_the_events_with_the_reason() {
    let node = node().await;
    put(&node, "web.log", &[(1, 1, 0, b"one\n")]);
    let mut follower = Follower::of(&node, "/logs/web?follow", &[]).await;
    assert_eq!(follower.events().await.len(), 1);
    let log = node.folder.path().join("logs/web.log");
    fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &log).unwrap();
    node.spawner.write(0, "two\n");
    let failure = loop {
        let piece = follower.piece().await;
        if piece != ":\n\n" {
            break piece;
        }
    };
    assert!(
        failure.starts_with("event: failure\ndata: {\"error\":") && failure.contains("log_unreadable"),
        "{failure}"
    );
    assert!(follower.0.frame().await.is_none());
}
