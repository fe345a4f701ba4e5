//! Where descriptors run short: who is let in, who has to go, and what is said.

use std::{sync::Arc, time::Duration};

use pmesh_proxy::{
    DescriptorBudget, Destination, FilesSpec, FrontLimits, Handler, Routing, Tables, WhenEmpty,
};
use pmesh_sessions::{SessionLimits, Sessions, TrustedProxies};

use crate::rig::{Client, Rig, Upstreamer, key, one_thread, quick, route, site, to_upstreams, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";

/// A front that may take 32 descriptors, 24 of them for clients and itself.
fn short(routing: Routing, limits: FrontLimits) -> Rig {
    let sessions = Arc::new(Sessions::new(&SessionLimits::default()));
    let tables = Tables::within(DescriptorBudget::new(64), sessions, TrustedProxies::default());
    Rig::over(tables, routing, limits)
}

/// Nothing is spared, so that no test has to wait for something to have been idle.
fn sparing_nothing() -> FrontLimits {
    one_thread().with(|limits| limits.spared = Duration::ZERO)
}

fn open() -> Routing {
    let handler = Handler::Return { status: http::StatusCode::OK, text: "open".to_owned() };
    Routing::default().with(|routing| routing.sites = vec![site(vec![route("_", handler)])])
}

/// What is left of the descriptors for clients, with nobody there.
const CLIENTS: usize = 24 - 6;

async fn asked(rig: &Rig) -> Client {
    let mut client = rig.connect().await;
    client.send(GET).await;
    assert_eq!(client.answer().await.status, 200);
    client
}

#[tokio::test]
async fn the_longest_idle_connection_makes_room_for_a_new_one() {
    let rig = short(open(), sparing_nothing());
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(asked(&rig).await);
    }
    // The first is not the longest idle any more.
    clients[0].send(GET).await;
    clients[0].answer().await;
    clients.push(asked(&rig).await);
    assert!(clients[1].is_closed().await);
    assert_eq!(rig.front.connections_per_thread(), [CLIENTS]);
    for spared in [0, 2, CLIENTS] {
        clients[spared].send(GET).await;
        assert_eq!(clients[spared].answer().await.status, 200, "{spared}");
    }
}

#[tokio::test]
async fn connections_that_say_nothing_or_half_of_a_request_make_room_too() {
    let rig = short(open(), sparing_nothing());
    let mut half = rig.connect().await;
    half.send("GET / HTTP/1.1\r\n").await;
    // By the time of this answer, the half of a request has come.
    asked(&rig).await;
    let mut silent = Vec::new();
    for _ in 0..3 * CLIENTS {
        silent.push(rig.connect().await);
    }
    asked(&rig).await;
    for _ in 0..3 * CLIENTS {
        asked(&rig).await;
    }
    assert!(silent[0].is_closed().await);
    half.send("Host: site.test\r\n\r\n").await;
    assert_eq!(half.answer().await.status, 200, "half of a request is worth more than nothing");
}

#[tokio::test]
async fn where_all_are_at_work_a_new_client_waits_for_one_of_them_to_end() {
    let upstreamer = Upstreamer::new().await;
    let routing = to_upstreams(vec![upstreamer.upstream.clone()], WhenEmpty::Wait, quick());
    let rig = short(routing, sparing_nothing());
    let (mut clients, mut upstreams) = (Vec::new(), Vec::new());
    // Each takes two.
    for _ in 0..CLIENTS / 2 {
        let mut client = rig.connect().await;
        client.send(GET).await;
        clients.push(client);
        let mut upstream = upstreamer.accept().await;
        upstream.head().await;
        upstreams.push(upstream);
    }
    let mut waiting = rig.connect().await;
    waiting.send(GET).await;
    // The connection to the upstream is kept, so nothing is freed; but now somebody is idle.
    upstreams[0].send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(clients[0].answer().await.status, 204);
    let mut next = upstreamer.accept().await;
    next.head().await;
    next.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(waiting.answer().await.status, 204);
}

/// A client that has an answer of an upstream, which keeps no connection.
async fn served(rig: &Rig, upstreamer: &Upstreamer) -> Client {
    let mut client = rig.connect().await;
    client.send(GET).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
    assert!(within(upstream.is_closed()).await);
    client
}

#[tokio::test]
async fn without_a_descriptor_for_the_upstream_the_answer_is_503_and_no_error_of_the_upstream() {
    let upstreamer = Upstreamer::new().await;
    let mut balancing = quick();
    balancing.connect_timeout = Duration::from_millis(50);
    let routing = to_upstreams(vec![upstreamer.upstream.clone()], WhenEmpty::Wait, balancing);
    let rig = short(routing, one_thread());
    let mut client = served(&rig, &upstreamer).await;
    let all = rig.tables.budget().take(32 - 6 - 1).unwrap();
    client.send(GET).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
    assert_eq!(rig.tables.statistics(&key())[0].error_count, 0);
    drop(all);
    client.send(GET).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
}

#[tokio::test]
async fn an_idle_connection_to_an_upstream_goes_before_a_client() {
    let upstreamer = Upstreamer::new().await;
    let routing = to_upstreams(vec![upstreamer.upstream.clone()], WhenEmpty::Wait, quick());
    let rig = short(routing, sparing_nothing());
    let mut client = rig.connect().await;
    client.send(GET).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
    let _all = rig.tables.budget().take(24 - 6 - 2).unwrap();
    let _other = rig.connect().await;
    assert!(within(upstream.is_closed()).await);
    client.send(GET).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
}

#[tokio::test]
async fn a_file_waits_for_descriptors_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "index").unwrap();
    let files = Destination::Files(FilesSpec::of(folder.path().to_owned()));
    let routing =
        Routing::new(vec![site(vec![route("_", Handler::Destination(key()))])], [(key(), files)].into());
    let rig = short(routing, one_thread());
    let mut client = rig.connect().await;
    client.send(GET).await;
    assert_eq!(client.answer().await.body, "index");
    // One of the two that a file takes is left.
    let all = rig.tables.budget().take(32 - 6 - 2).unwrap();
    client.send(GET).await;
    tokio::task::yield_now().await;
    drop(all);
    assert_eq!(client.answer().await.body, "index");
}
