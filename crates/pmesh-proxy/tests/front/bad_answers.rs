//! Answers of an app that cannot be passed on: the client gets 502, the log says why, and they are counted.

use std::{
    fmt::Write as _,
    sync::{Mutex, OnceLock},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::rig::{Rig, Upstreamer, key};

/// Warnings of all fronts of this process, a line each.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Warnings;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        LINES.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Has warnings collected from here on.
fn collect() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| tracing::subscriber::set_global_default(Warnings).unwrap());
}

/// What was said about an address.
fn lines_about(address: &str) -> Vec<String> {
    LINES.lock().unwrap().iter().filter(|line| line.contains(address)).cloned().collect()
}

/// Answers one request with this, and closes.
async fn answered(rig: &Rig, upstreamer: &Upstreamer, text: &str) -> crate::rig::Client {
    let mut client = rig.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n").await;
    let mut app = upstreamer.accept().await;
    app.head().await;
    app.send(text).await;
    client
}

#[tokio::test]
async fn a_head_that_is_refused_is_502_counted_and_one_line_says_why() {
    collect();
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let address = upstreamer.upstream.address.to_string();
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(101));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(64 << 10));
    let twice =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut errors = 0;
    let broken = "it breaks the rules of HTTP";
    let large = "its head is too large";
    for (text, told, why) in [
        (twice, broken, "Transfer-Encoding is something else than chunked, once"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
            broken,
            "a space stands before the colon of a field",
        ),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", broken, "a field goes on in another line"),
        (&many, large, "the head has more than 100 fields"),
        (&long, large, "the head has more than 64 KiB"),
        (
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            "it changes to a protocol that was not asked for",
            "101 to a request",
        ),
        ("HTTP/1.1 200 OK\r\nA:", "it was broken off", "the connection ended within the head"),
    ] {
        let answer = answered(&rig, &upstreamer, text).await.answer().await;
        let page = format!("502 Bad Gateway: what this service answered was refused: {told}\n");
        assert_eq!((answer.status, answer.body), (502, page), "{why}");
        errors += 1;
        let lines = lines_about(&address);
        assert_eq!(lines.len(), errors, "{lines:?}");
        let line = lines.last().unwrap();
        let event =
            if told == "it was broken off" { "an answer was broken off" } else { "an answer was refused" };
        for part in [event, "service=web ", &format!("address={address} "), why] {
            assert!(line.contains(part), "{part:?} is not in {line}");
        }
        let statistics = &rig.tables.statistics(&key())[0];
        assert_eq!(statistics.error_count, errors as u64, "{why}");
    }
    answered(&rig, &upstreamer, twice).await.answer().await;
    assert_eq!(lines_about(&address).len(), errors, "the same is said once a minute");
    assert_eq!(rig.tables.statistics(&key())[0].error_count, errors as u64 + 1, "and counted each time");
}

#[tokio::test]
async fn a_switch_to_another_protocol_than_was_asked_for_is_refused_and_one_to_some_of_it_is_not() {
    for (asked, switched, status) in
        [("websocket", "x", 502), ("websocket", "websocket, x", 502), ("x, websocket", "WebSocket", 101)]
    {
        let upstreamer = Upstreamer::new().await;
        let rig = Rig::of(vec![upstreamer.upstream.clone()]);
        let mut client = rig.connect().await;
        let request =
            format!("GET / HTTP/1.1\r\nHost: site.test\r\nConnection: upgrade\r\nUpgrade: {asked}\r\n\r\n");
        client.send(&request).await;
        let mut app = upstreamer.accept().await;
        app.head().await;
        app.send(&format!("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: {switched}\r\n\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{asked} {switched}: {head}");
    }
}

#[tokio::test]
async fn programs_know_an_answer_that_was_refused_from_one_that_never_came() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let mut client = rig.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: site.test\r\nAccept: application/json\r\n\r\n").await;
    let mut app = upstreamer.accept().await;
    app.head().await;
    app.send("HTTP/1.1 200 OK\r\nSecret-Thing : 0\r\n\r\n").await;
    let answer = client.answer().await;
    // Nothing of what the app said, and not which of its fields it was.
    let error = "what this service answered was refused: it breaks the rules of HTTP";
    assert_eq!(answer.body, format!("{{\"error\":\"{error}\",\"code\":\"bad_answer\"}}\n"));
}

#[tokio::test]
async fn where_there_is_no_answer_the_page_says_that_and_not_that_one_was_refused() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let mut client = rig.connect().await;
    // It may not be sent twice.
    client.send("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n\r\n").await;
    let mut app = upstreamer.accept().await;
    app.head().await;
    drop(app);
    let answer = client.answer().await;
    assert_eq!((answer.status, &*answer.body), (502, "502 Bad Gateway: this service did not answer\n"));
}

#[tokio::test]
async fn a_body_that_is_cut_or_no_body_is_counted_and_told_too() {
    collect();
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let address = upstreamer.upstream.address.to_string();
    for (count, text, why) in [
        (1, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "the connection ended within the body"),
        (2, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx", "a chunk of the body"),
    ] {
        let all = answered(&rig, &upstreamer, text).await.until_end().await;
        assert!(all.starts_with("HTTP/1.1 200 OK\r\n") && !all.contains("0\r\n\r\n"), "{all}");
        assert!(lines_about(&address).last().is_some_and(|line| line.contains(why)), "{why}");
        assert_eq!(rig.tables.statistics(&key())[0].error_count, count, "{why}");
    }
}
