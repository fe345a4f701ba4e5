//! Connections over which somebody has logged in.

use pmesh_proxy::{Upstream, WhenEmpty};

use crate::rig::{Answer, Client, Rig, Upstreamer, key, quick, to_upstreams, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";
const LOGIN: &str = "GET / HTTP/1.1\r\nHost: site.test\r\nAuthorization: ntlm TlRM=\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHALLENGE: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a, b\", Negotiate\r\n\
    Content-Length: 2\r\n\r\nno";

fn rig(upstreams: Vec<Upstream>) -> Rig {
    Rig::new(to_upstreams(upstreams, WhenEmpty::Wait, quick()))
}

/// A request that comes in over this connection of the upstream, and its answer.
async fn exchange(client: &mut Client, upstream: &mut Client, request: &str, answer: &str) -> Answer {
    client.send(request).await;
    assert!(!upstream.head().await.is_empty());
    upstream.send(answer).await;
    client.answer().await
}

/// A client that has logged in, and the connection over which it has.
async fn logged_in(rig: &Rig, upstreamer: &Upstreamer) -> (Client, Client) {
    let mut client = rig.connect().await;
    client.send(LOGIN).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    assert_eq!(client.answer().await.field("connection"), None);
    (client, upstream)
}

#[tokio::test]
async fn a_connection_with_a_login_is_for_its_client_alone() {
    for (request, answer) in [(LOGIN, OK), (GET, CHALLENGE)] {
        let upstreamer = Upstreamer::new().await;
        let rig = rig(vec![upstreamer.upstream.clone()]);
        let mut alice = rig.connect().await;
        alice.send(request).await;
        let mut hers = upstreamer.accept().await;
        hers.head().await;
        hers.send(answer).await;
        alice.answer().await;

        let mut stranger = rig.connect().await;
        stranger.send(GET).await;
        let mut another = upstreamer.accept().await;
        another.head().await;
        another.send(OK).await;
        stranger.answer().await;
        // Either goes on where it was.
        assert_eq!(exchange(&mut alice, &mut hers, GET, OK).await.body, "ok");
        assert_eq!(exchange(&mut stranger, &mut another, GET, OK).await.body, "ok");

        drop(alice);
        assert!(hers.is_closed().await, "it ends with its client");
        let mut next = rig.connect().await;
        assert_eq!(exchange(&mut next, &mut another, GET, OK).await.body, "ok");
    }
}

#[tokio::test]
async fn a_login_stays_with_its_instance() {
    let (first, second) = (Upstreamer::new().await, Upstreamer::new().await);
    let rig = rig(vec![first.upstream.clone()]);
    let (mut client, mut upstream) = logged_in(&rig, &first).await;
    rig.tables.set_upstreams(&key(), vec![second.upstream, first.upstream], WhenEmpty::Wait);
    for _ in 0..4 {
        let answer = exchange(&mut client, &mut upstream, GET, OK).await;
        assert_eq!((answer.body.as_str(), answer.field("connection")), ("ok", None));
    }
}

#[tokio::test]
async fn when_the_instance_of_a_login_leaves_its_client_is_closed_behind_an_answer() {
    let first = Upstreamer::new().await;
    let (second, _heads) = Upstreamer::new().await.serving("second");
    let rig = rig(vec![first.upstream.clone()]);
    let (mut client, mut upstream) = logged_in(&rig, &first).await;
    rig.tables.set_upstreams(&key(), vec![second, first.upstream.clone()], WhenEmpty::Wait);
    // Its connection is idle, and does not keep the instance from leaving.
    within(rig.tables.withdraw(&key(), &[first.upstream.id])).await;
    assert!(upstream.is_closed().await);
    client.send(GET).await;
    let answer = client.answer().await;
    assert_eq!((answer.body.as_str(), answer.field("connection")), ("second", Some("close")));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_instance_that_leaves_answers_its_login_first() {
    let upstreamer = Upstreamer::new().await;
    let rig = rig(vec![upstreamer.upstream.clone()]);
    let (mut client, mut upstream) = logged_in(&rig, &upstreamer).await;
    client.send(GET).await;
    upstream.head().await;
    let left = rig.tables.withdraw(&key(), &[upstreamer.upstream.id]);
    upstream.send(OK).await;
    let answer = client.answer().await;
    assert_eq!((answer.body.as_str(), answer.field("connection")), ("ok", Some("close")));
    assert!(upstream.is_closed().await && client.is_closed().await);
    within(left).await;
}

#[tokio::test]
async fn a_login_that_its_app_ends_ends_its_client() {
    let upstreamer = Upstreamer::new().await;
    let rig = rig(vec![upstreamer.upstream.clone()]);
    let (mut client, mut upstream) = logged_in(&rig, &upstreamer).await;
    let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(exchange(&mut client, &mut upstream, GET, last).await.field("connection"), Some("close"));
    assert!(client.is_closed().await);

    let (mut client, upstream) = logged_in(&rig, &upstreamer).await;
    drop(upstream);
    client.send(GET).await;
    let mut another = upstreamer.accept().await;
    another.head().await;
    another.send(OK).await;
    assert_eq!(client.answer().await.field("connection"), Some("close"));
    assert!(client.is_closed().await);
}
