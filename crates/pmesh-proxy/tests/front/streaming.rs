//! Bodies and tunnels: bytes as they come, both ways.

use futures_util::poll;

use crate::rig::{Client, Rig, Upstreamer, field, key, within};

async fn begun(rig: &Rig, upstreamer: &Upstreamer, request: &str) -> (Client, Client, String) {
    let mut client = rig.connect().await;
    client.send(request).await;
    let mut upstream = upstreamer.accept().await;
    let head = upstream.head().await;
    (client, upstream, head)
}

async fn rig() -> (Rig, Upstreamer) {
    let upstreamer = Upstreamer::new().await;
    (Rig::of(vec![upstreamer.upstream.clone()]), upstreamer)
}

#[tokio::test]
async fn each_piece_of_a_body_is_passed_on_before_the_next_one_comes() {
    let (rig, upstreamer) = rig().await;
    let request = "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut upstream, head) = begun(&rig, &upstreamer, request).await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    for _ in 0..3 {
        client.send("2\r\nup\r\n").await;
        assert_eq!(upstream.exactly(7).await, "2\r\nup\r\n");
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(upstream.exactly(5).await, "0\r\n\r\n");
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.head().await;
    for _ in 0..3 {
        upstream.send("4\r\ndown\r\n").await;
        assert_eq!(client.exactly(9).await, "4\r\ndown\r\n");
    }
    upstream.send("0\r\n\r\n").await;
    assert_eq!(client.exactly(5).await, "0\r\n\r\n");
}

#[tokio::test]
async fn an_answer_that_ends_by_close_ends_for_the_client_and_one_that_is_cut_is_cut() {
    let (rig, upstreamer) = rig().await;
    let get = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";
    let (mut client, mut upstream, _) = begun(&rig, &upstreamer, get).await;
    upstream.send("HTTP/1.0 200 OK\r\n\r\nall").await;
    drop(upstream);
    assert_eq!(client.answer().await.body, "all");

    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhal",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal",
    ] {
        let (mut client, mut upstream, _) = begun(&rig, &upstreamer, get).await;
        upstream.send(answer).await;
        drop(upstream);
        client.head().await;
        let rest = client.until_end().await;
        assert!(["3\r\nhal\r\n", "hal"].contains(&rest.as_str()), "no end was made up: {rest:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_the_protocol_is_502() {
    let (rig, upstreamer) = rig().await;
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nBad name: x\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let (mut client, mut upstream, _) =
            begun(&rig, &upstreamer, "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
        upstream.send(answer).await;
        assert_eq!(client.answer().await.status, 502, "{answer}");
        assert!(upstream.is_closed().await, "{answer}");
    }
}

#[tokio::test]
async fn an_upload_that_is_no_body_is_400_and_the_upstream_sees_no_end_of_it() {
    let (rig, upstreamer) = rig().await;
    let request = "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nup\r\n";
    let (mut client, mut upstream, _) = begun(&rig, &upstreamer, request).await;
    client.send("0x2\r\nup\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 400);
    assert!(client.is_closed().await);
    assert_eq!(upstream.until_end().await, "2\r\nup\r\n");
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked_once() {
    let (rig, upstreamer) = rig().await;
    let request = "POST / HTTP/1.1\r\nHost: site.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (mut client, mut upstream, head) = begun(&rig, &upstreamer, request).await;
    assert_eq!(field(&head, "expect"), Some("100-continue"));
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("up").await;
    assert_eq!(upstream.exactly(2).await, "up");
    upstream.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.body, "ok");
}

#[tokio::test]
async fn answers_without_a_body_leave_both_connections_usable() {
    let (rig, upstreamer) = rig().await;
    let (mut client, mut upstream, _) =
        begun(&rig, &upstreamer, "GET /1 HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    upstream.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 304"));
    client.send("HEAD /2 HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    assert!(upstream.head().await.starts_with("HEAD /2 "));
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(field(&head, "content-length"), Some("5"));
    client.send("GET /3 HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    assert!(upstream.head().await.starts_with("GET /3 "));
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
}

const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nHost: site.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n";

#[tokio::test]
async fn a_websocket_is_a_tunnel_once_the_upstream_agrees_and_is_in_flight_until_it_ends() {
    let (rig, upstreamer) = rig().await;
    // Bytes right behind the request wait for the answer, and so do those right behind the answer.
    let (mut client, mut upstream, head) = begun(&rig, &upstreamer, &format!("{WEBSOCKET}early")).await;
    assert_eq!((field(&head, "connection"), field(&head, "upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(field(&head, "sec-websocket-key"), Some("x"));
    upstream.send(&format!("{SWITCH}first")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!((field(&head, "connection"), field(&head, "upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(field(&head, "sec-websocket-accept"), Some("y"));
    assert_eq!(client.exactly(5).await, "first");
    assert_eq!(upstream.exactly(5).await, "early");
    client.send("ping").await;
    assert_eq!(upstream.exactly(4).await, "ping");
    upstream.send("pong").await;
    assert_eq!(client.exactly(4).await, "pong");

    assert_eq!(rig.tables.statistics(&key())[0].in_flight, 1);
    assert_eq!(rig.front.connections_per_thread(), [1]);
    let mut left = Box::pin(rig.tables.withdraw(&key(), &[upstreamer.upstream.id]));
    assert!(poll!(&mut left).is_pending());
    client.send("still").await;
    assert_eq!(upstream.exactly(5).await, "still");
    drop(client);
    assert!(upstream.is_closed().await);
    drop(upstream);
    within(left).await;
}

#[tokio::test]
async fn an_upgrade_that_is_refused_leaves_the_connection_to_ordinary_requests() {
    let (rig, upstreamer) = rig().await;
    let smuggled = "GET /second HTTP/1.1\r\nHost: other.test\r\n\r\n";
    let (mut client, mut upstream, _) = begun(&rig, &upstreamer, &format!("{WEBSOCKET}{smuggled}")).await;
    upstream.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno").await;
    assert_eq!(client.answer().await.status, 426);
    assert_eq!(client.answer().await.status, 421, "the second request went through the routes");
}

#[tokio::test]
async fn an_upgrade_with_a_body_is_an_ordinary_request() {
    let (rig, upstreamer) = rig().await;
    let request = "POST / HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Content-Length: 2\r\n\r\nup";
    let (mut client, mut upstream, head) = begun(&rig, &upstreamer, request).await;
    assert_eq!(field(&head, "upgrade"), None);
    assert_eq!(upstream.exactly(2).await, "up");
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
}
