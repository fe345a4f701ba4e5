//! What an app says about its answer and the connection, as the client gets it.

use tokio::io::AsyncWriteExt as _;

use crate::rig::{Client, Rig, Upstreamer};

/// A request that has been sent, and the upstream's end of it behind its head.
async fn asked(rig: &Rig, upstreamer: &Upstreamer, request: &str) -> (Client, Client) {
    let mut client = rig.connect().await;
    client.send(request).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
    (client, upstream)
}

async fn rig() -> (Rig, Upstreamer) {
    let upstreamer = Upstreamer::new().await;
    (Rig::of(vec![upstreamer.upstream.clone()]), upstreamer)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";

#[tokio::test]
async fn the_reason_phrase_of_an_app_is_passed_on() {
    let (rig, upstreamer) = rig().await;
    for (sent, got) in [
        ("200 OK", "200 OK"),
        ("200 Fine by me", "200 Fine by me"),
        ("404 Größe unbekannt", "404 Größe unbekannt"),
        ("299 ", "299 "),
        ("299", "299 "),
        ("299 Odd", "299 Odd"),
        ("999 Computer says no", "999 Computer says no"),
        ("200 ", "200 OK"),
    ] {
        let (mut client, mut upstream) = asked(&rig, &upstreamer, GET).await;
        upstream.send(&format!("HTTP/1.1 {sent}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(client.head().await.lines().next(), Some(&*format!("HTTP/1.1 {got}")), "{sent:?}");
    }
}

#[tokio::test]
async fn an_answer_that_asks_for_an_upgrade_says_to_what() {
    let (rig, upstreamer) = rig().await;
    for (status, upgrade, connection) in
        [("426 Upgrade Required", Some("TLS/1.3, HTTP/1.1"), Some("upgrade")), ("200 OK", None, None)]
    {
        let (mut client, mut upstream) = asked(&rig, &upstreamer, GET).await;
        let fields = "Upgrade: TLS/1.3, HTTP/1.1\r\nConnection: Upgrade\r\nContent-Length: 2";
        upstream.send(&format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\nok")).await;
        drop(upstream);
        let answer = client.answer().await;
        assert_eq!((answer.field("upgrade"), answer.field("connection")), (upgrade, connection), "{status}");
        assert_eq!(answer.body, "ok");
        client.send(GET).await;
        let mut upstream = upstreamer.accept().await;
        assert!(upstream.head().await.starts_with("GET / "), "the connection goes on");
    }
}

#[tokio::test]
async fn a_client_of_the_old_protocol_is_not_promised_a_connection_whose_end_is_the_answers() {
    let (rig, upstreamer) = rig().await;
    let get = "GET / HTTP/1.0\r\nHost: site.test\r\nConnection: keep-alive\r\n\r\n";
    for chunked in
        ["Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "Connection: close\r\n\r\nabc"]
    {
        let (mut client, mut upstream) = asked(&rig, &upstreamer, get).await;
        upstream.send(&format!("HTTP/1.1 200 OK\r\n{chunked}")).await;
        drop(upstream);
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
        assert_eq!(crate::rig::fields(&head, "connection"), ["close"], "{head}");
        assert_eq!(crate::rig::field(&head, "transfer-encoding"), None);
        assert_eq!(client.until_end().await, "abc");
    }
    // Nor where the front closes it for another reason.
    let mut client = rig.connect().await;
    client.send("POST / HTTP/1.0\r\nHost: site.test\r\nHost: b\r\nConnection: keep-alive\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (400, Some("close")));
    assert!(client.is_closed().await);

    let (mut client, mut upstream) = asked(&rig, &upstreamer, get).await;
    for _ in 0..2 {
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await;
        let answer = client.answer().await;
        assert_eq!((answer.field("connection"), &*answer.body), (Some("keep-alive"), "abc"));
        client.send(get).await;
        upstream.head().await;
    }
}

#[tokio::test]
async fn an_early_answer_to_a_big_upload_says_that_the_connection_closes_and_is_read_whole() {
    let long = "y".repeat(3_000_000);
    // The app reads all of it while it answers, or none; the client sends all of it before it reads.
    for (fields, app_reads) in [("", true), ("Connection: close\r\n", false)] {
        let (rig, upstreamer) = rig().await;
        let size = 20_000_000;
        let post = format!("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: {size}\r\n\r\n");
        let (mut client, mut upstream) = asked(&rig, &upstreamer, &post).await;
        let answer =
            format!("HTTP/1.1 413 Too Large\r\nContent-Length: {}\r\n{fields}\r\n{long}", long.len());
        let app = tokio::spawn(async move {
            let (mut from, mut to) = upstream.stream.split();
            let read_away = async {
                if app_reads {
                    tokio::io::copy(&mut from, &mut tokio::io::sink()).await.unwrap();
                }
            };
            tokio::join!(async { to.write_all(answer.as_bytes()).await.unwrap() }, read_away);
            upstream
        });
        client.send(&"x".repeat(size)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (413, Some("close")), "{fields:?}");
        assert!(answer.body == long, "{fields:?}");
        assert!(client.is_closed().await);
        drop(app.await);
    }
}

#[tokio::test]
async fn an_early_answer_says_so_too_where_its_app_may_take_no_more() {
    let (rig, upstreamer) = rig().await;
    for (status, connection) in [("200 OK", Some("close")), ("403 Forbidden", None)] {
        let post = "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\n";
        let (mut client, mut upstream) = asked(&rig, &upstreamer, post).await;
        upstream
            .send(&format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"))
            .await;
        let answer = client.answer().await;
        assert_eq!((&*answer.body, answer.field("connection")), ("no", connection), "{status}");
        drop(upstream);
        if connection.is_none() {
            // It wants none of it, and it is little.
            client.send("abcde").await;
            client.send(GET).await;
            assert!(upstreamer.accept().await.head().await.starts_with("GET / "));
        }
    }
}

#[tokio::test]
async fn an_upload_goes_on_behind_an_early_answer_of_an_app_that_reads_it() {
    let (rig, upstreamer) = rig().await;
    let size = 3_000_000;
    let post = format!("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: {size}\r\n\r\n");
    let (mut client, mut upstream) = asked(&rig, &upstreamer, &post).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await;
    let answer = client.answer().await;
    assert_eq!((answer.field("connection"), &*answer.body), (Some("close"), "early"));
    let app = tokio::spawn(async move { upstream.exactly(size).await.len() });
    client.send(&"x".repeat(size)).await;
    assert_eq!(app.await.unwrap(), size);
    assert!(client.is_closed().await);
}
