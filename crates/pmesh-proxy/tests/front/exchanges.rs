//! A request and its answer on one connection to an upstream: framing, order, and what ends the connection.

use tokio::join;

use crate::rig::{Client, Rig, Upstreamer, field, key, within};

const MEGABYTE: usize = 1 << 20;

async fn begun(request: &str) -> (Rig, Upstreamer, Client, Client) {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let mut client = rig.connect().await;
    client.send(request).await;
    let mut upstream = upstreamer.accept().await;
    assert!(!upstream.head().await.is_empty());
    (rig, upstreamer, client, upstream)
}

/// A text that is another one wherever a piece of it is lost, doubled or moved.
fn long_text() -> String {
    (0_u32..).map(|number| format!("{number:07},")).take(MEGABYTE / 8).collect()
}

#[tokio::test]
async fn long_bodies_pass_unchanged_in_both_directions_and_either_framing() {
    let text = long_text();
    let (_rig, _upstreamer, mut client, mut upstream) =
        begun(&format!("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: {MEGABYTE}\r\n\r\n")).await;
    let ((), received) = join!(client.send(&text), upstream.exactly(MEGABYTE));
    assert!(received == text, "the upload");
    for answer in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {MEGABYTE}\r\n\r\n{text}"),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{MEGABYTE:x};x=y\r\n{text}\r\n0\r\nT: r\r\n\r\n"
        ),
    ] {
        let ((), received) = join!(upstream.send(&answer), client.answer());
        assert!(received.body == text, "{}", received.head);
        // The same connections, once more.
        client.send("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
        upstream.head().await;
    }
}

#[tokio::test]
async fn an_early_answer_reaches_the_client_and_the_upload_goes_on() {
    let (rig, _upstreamer, mut client, mut upstream) =
        begun("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nab").await;
    assert_eq!(upstream.exactly(2).await, "ab");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await;
    assert_eq!(client.answer().await.body, "early");
    assert_eq!(rig.tables.statistics(&key())[0].in_flight, 1, "it is still the upstream's work");
    client.send("cd").await;
    assert_eq!(upstream.exactly(2).await, "cd");
    client.send("GET /next HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    assert!(upstream.head().await.starts_with("GET /next "));
}

#[tokio::test]
async fn an_upstream_that_refuses_an_upload_and_closes_is_heard() {
    let (_rig, _upstreamer, mut client, mut upstream) =
        begun("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 9\r\n\r\n").await;
    upstream
        .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        .await;
    drop(upstream);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "big"));
}

#[tokio::test]
async fn an_answer_comes_behind_any_number_of_interim_ones_in_any_pieces() {
    let (_rig, _upstreamer, mut client, mut upstream) =
        begun("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    let answer = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                  HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    upstream.stream.set_nodelay(true).unwrap();
    for byte in answer.chars() {
        upstream.send(&byte.to_string()).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str(), answer.field("x-a")), (200, "abc", Some("b")));
}

#[tokio::test]
async fn what_an_upstream_says_unasked_is_the_answer_to_nothing() {
    for unasked in ["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", "\r\n"] {
        let (rig, upstreamer, mut client, mut upstream) =
            begun("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
        upstream.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{unasked}")).await;
        assert_eq!(client.answer().await.body, "ok");
        assert!(upstream.is_closed().await);
        client.send("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
        let mut next = upstreamer.accept().await;
        next.head().await;
        next.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood").await;
        assert_eq!(client.answer().await.body, "good");
        within(rig.tables.withdraw(&key(), &[upstreamer.upstream.id])).await;
    }
}

#[tokio::test]
async fn an_upstream_that_wants_to_close_is_not_asked_again() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let (_rig, _upstreamer, mut client, mut upstream) =
            begun("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
        upstream.send(answer).await;
        let received = client.answer().await;
        assert_eq!((received.body.as_str(), field(&received.head, "connection")), ("ok", None), "{answer}");
        assert!(upstream.is_closed().await, "{answer}");
    }
}

#[tokio::test]
async fn the_length_of_a_body_is_said_once_and_an_empty_one_is_said_where_the_client_did() {
    for (fields, expected) in [
        ("Content-Length: 0\r\n", Some("0")),
        ("Content-Length: 2\r\nContent-Length: 2\r\n", Some("2")),
        ("", None),
    ] {
        let upstreamer = Upstreamer::new().await;
        let rig = Rig::of(vec![upstreamer.upstream.clone()]);
        let mut client = rig.connect().await;
        let body = if expected == Some("2") { "up" } else { "" };
        client.send(&format!("POST / HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n{body}")).await;
        let head = upstreamer.accept().await.head().await;
        assert_eq!(field(&head, "content-length"), expected, "{fields:?}");
        assert_eq!(crate::rig::fields(&head, "content-length").len(), usize::from(expected.is_some()));
        assert_eq!(field(&head, "transfer-encoding"), None);
    }
}

#[tokio::test]
async fn an_upstream_that_answers_early_and_goes_takes_no_answer_away_from_a_client_that_sends_on() {
    for expect in ["", "Expect: 100-continue\r\n"] {
        let (_rig, upstreamer, mut client, mut upstream) =
            begun(&format!("POST / HTTP/1.1\r\nHost: site.test\r\n{expect}Content-Length: 1000000\r\n\r\n"))
                .await;
        if !expect.is_empty() {
            assert!(client.head().await.starts_with("HTTP/1.1 100 "));
        }
        upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
        drop(upstream);
        client.send(&"x".repeat(1_000_000)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (413, "big"));
        client.send("GET /next HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
        assert!(upstreamer.accept().await.head().await.starts_with("GET /next "));
    }
}

#[tokio::test]
async fn the_length_of_an_answer_is_said_once() {
    let (_rig, _upstreamer, mut client, mut upstream) =
        begun("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok").await;
    let head = client.head().await;
    assert_eq!(crate::rig::fields(&head, "content-length"), ["2"]);
    assert_eq!(client.exactly(2).await, "ok");
}

#[tokio::test]
async fn an_upgrade_of_the_old_protocol_is_an_ordinary_request() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let mut client = rig.connect().await;
    client
        .send("GET / HTTP/1.0\r\nHost: site.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let mut upstream = upstreamer.accept().await;
    let head = upstream.head().await;
    assert_eq!((field(&head, "upgrade"), field(&head, "connection")), (None, None));
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(client.until_end().await.contains(" 204 "));
}
