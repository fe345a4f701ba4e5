//! Bodies on their way to an upstream: when it is taken for them, and what becomes of those that rest.

use std::time::Duration;

use pmesh_proxy::{LoadBalancing, Upstream, WhenEmpty};

use crate::rig::{Client, Rig, Upstreamer, field, key, one_thread, quick, to_upstreams, within};

const GET: &str = "GET /other HTTP/1.1\r\nHost: site.test\r\n\r\n";

/// A front that waits for bodies as it does by default, and for clients that rest only shortly.
fn impatient(upstreams: Vec<Upstream>, balancing: LoadBalancing) -> Rig {
    let limits = one_thread().with(|limits| limits.body_rest = Duration::from_millis(50));
    Rig::with(to_upstreams(upstreams, WhenEmpty::Wait, balancing), limits)
}

fn patient(upstreams: Vec<Upstream>, balancing: LoadBalancing) -> Rig {
    Rig::new(to_upstreams(upstreams, WhenEmpty::Wait, balancing))
}

fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n\r\n")
}

async fn sent(rig: &Rig, text: &str) -> Client {
    let mut client = rig.connect().await;
    client.send(text).await;
    client
}

#[tokio::test]
async fn silent_uploads_take_no_upstream_and_are_answered_408() {
    let (upstream, _heads) = Upstreamer::new().await.serving("web");
    let rig = impatient(vec![upstream], LoadBalancing::default());
    for fields in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut silent = sent(&rig, &post(fields)).await;
        let answer = silent.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (408, Some("close")), "{fields}");
        assert!(silent.is_closed().await);
    }
    assert_eq!(rig.tables.statistics(&key())[0].request_count, 0);
    assert_eq!(rig.get("/").await.body, "web");
}

#[tokio::test]
async fn an_upstream_is_taken_when_enough_of_a_body_came() {
    let upstreamer = Upstreamer::new().await;
    let balancing = LoadBalancing::default().with(|balancing| balancing.buffer = 8);
    let rig = patient(vec![upstreamer.upstream.clone()], balancing);
    let mut client = sent(&rig, &post("Content-Length: 100")).await;
    // Nothing of the body is there, so this one comes first.
    let mut other = sent(&rig, GET).await;
    let mut upstream = upstreamer.accept().await;
    assert!(upstream.head().await.starts_with("GET /other "));
    upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    assert_eq!(other.answer().await.status, 204);

    client.send("12345678").await;
    let mut upstream = upstreamer.accept().await;
    assert_eq!(field(&upstream.head().await, "content-length"), Some("100"));
    assert_eq!(upstream.exactly(8).await, "12345678");
    client.send("9").await;
    assert_eq!(upstream.exactly(1).await, "9");
}

#[tokio::test]
async fn an_upstream_is_taken_when_all_of_a_body_came_or_a_second_after_its_first_byte() {
    for (fields, body, expected) in [
        ("Content-Length: 2", "up", "up"),
        ("Transfer-Encoding: chunked", "1\r\nu\r\n1\r\np\r\n0\r\n\r\n", "2\r\nup\r\n0\r\n\r\n"),
        // And no more.
        ("Content-Length: 3", "up", "up"),
        ("Transfer-Encoding: chunked", "2\r\nup\r\n", "2\r\nup\r\n"),
    ] {
        let upstreamer = Upstreamer::new().await;
        let rig = patient(vec![upstreamer.upstream.clone()], LoadBalancing::default());
        let _client = sent(&rig, &(post(fields) + body)).await;
        let mut upstream = upstreamer.accept().await;
        upstream.head().await;
        assert_eq!(upstream.exactly(expected.len()).await, expected);
    }
}

#[tokio::test]
async fn with_a_buffer_of_zero_an_upstream_is_taken_at_once() {
    let upstreamer = Upstreamer::new().await;
    let rig = patient(vec![upstreamer.upstream.clone()], quick());
    let _client = sent(&rig, &post("Content-Length: 100")).await;
    assert!(upstreamer.accept().await.head().await.starts_with("POST / "));
}

#[tokio::test]
async fn a_body_that_rests_is_408_and_its_app_is_told() {
    let upstreamer = Upstreamer::new().await;
    let rig = impatient(vec![upstreamer.upstream.clone()], quick());
    let mut client = sent(&rig, &(post("Content-Length: 9") + "up")).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (408, Some("close")));
    assert_eq!(upstream.until_end().await, "up");
    let statistics = &rig.tables.statistics(&key())[0];
    assert_eq!((statistics.error_count, statistics.request_count), (0, 1), "it is the client's fault");
}

#[tokio::test]
async fn a_body_that_rests_while_its_answer_brings_nothing_ends_both() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let upstreamer = Upstreamer::new().await;
        let rig = impatient(vec![upstreamer.upstream.clone()], quick());
        let mut client = sent(&rig, &post("Content-Length: 9")).await;
        let mut upstream = upstreamer.accept().await;
        upstream.head().await;
        upstream.send(answer).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK"));
        client.until_end().await;
        assert!(upstream.is_closed().await);
        within(rig.tables.withdraw(&key(), &[upstreamer.upstream.id])).await;
    }
}

#[tokio::test]
async fn an_app_that_is_asked_whether_it_wants_a_body_decides() {
    let request = post("Content-Length: 2\r\nExpect: 100-Continue");
    for (says, is_asked) in [
        ("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 100 Continue\r\n\r\n", true),
        // Nothing: then the body comes after a second, as it would have without having been asked for.
        ("", true),
    ] {
        let upstreamer = Upstreamer::new().await;
        let rig = patient(vec![upstreamer.upstream.clone()], LoadBalancing::default());
        let mut client = sent(&rig, &request).await;
        let mut upstream = upstreamer.accept().await;
        assert_eq!(field(&upstream.head().await, "expect"), Some("100-continue"));
        upstream.send(says).await;
        if is_asked {
            assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
            client.send("up").await;
            assert_eq!(upstream.exactly(2).await, "up");
        } else {
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.field("connection")), (413, Some("close")));
            assert!(upstream.is_closed().await, "what would come next on it would be no request");
        }
    }
}

#[tokio::test]
async fn what_is_read_ahead_counts_in_the_queue() {
    let mut balancing = LoadBalancing::default();
    balancing.queue.bytes = 1000;
    let rig = patient(vec![], balancing);
    let mut waiting = sent(&rig, &(post("Content-Length: 2") + "up")).await;
    let mut refused = sent(&rig, &(post("Content-Length: 2000") + &"x".repeat(2000))).await;
    assert_eq!(refused.answer().await.status, 503);
    let (upstream, _heads) = Upstreamer::new().await.serving("web");
    rig.tables.set_upstreams(&key(), vec![upstream], WhenEmpty::Wait);
    assert_eq!(waiting.answer().await.body, "web");
}

#[tokio::test]
async fn a_stopped_service_waits_for_no_body() {
    let rig = Rig::new(to_upstreams(vec![], WhenEmpty::Refuse, LoadBalancing::default()));
    let mut client = sent(&rig, &post("Content-Length: 100")).await;
    assert_eq!(client.answer().await.status, 503);
}
