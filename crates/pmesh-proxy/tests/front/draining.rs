//! How upstreams leave, and how a front ends.

use std::{collections::BTreeMap, time::Duration};

use futures_util::poll;
use pmesh_proxy::{Destination, DestinationKey, Handler, Routing, UpstreamSet, WhenEmpty};
use pmesh_sessions::Query;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::rig::{Client, PATIENCE, Rig, Upstreamer, key, quick, tables, to_upstreams, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A request that an upstream works on.
async fn under_way(rig: &Rig, upstreamer: &Upstreamer, request: &str) -> (Client, Client) {
    let mut client = rig.connect().await;
    client.send(request).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
    (client, upstream)
}

#[tokio::test]
async fn a_withdrawn_upstream_loses_its_idle_connections_at_once_and_is_left_when_its_requests_have_ended() {
    let upstreamer = Upstreamer::new().await;
    let id = upstreamer.upstream.id;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let (mut first, mut first_up) = under_way(&rig, &upstreamer, GET).await;
    let (mut second, mut idle) = under_way(&rig, &upstreamer, GET).await;
    idle.send(OK).await;
    second.answer().await;

    let mut left = Box::pin(rig.tables.withdraw(&key(), &[id]));
    // Not polled yet.
    assert!(idle.is_closed().await);
    assert_eq!(rig.tables.statistics(&key()), []);
    assert!(poll!(&mut left).is_pending());

    first_up.send(OK).await;
    assert_eq!(first.answer().await.body, "ok");
    within(left).await;
    assert!(first_up.is_closed().await, "no connection to it is kept");
}

#[tokio::test]
async fn what_waits_or_comes_while_an_upstream_is_withdrawn_goes_to_the_next_one() {
    let old = Upstreamer::new().await;
    let (new, _seen) = Upstreamer::new().await.serving("new");
    let rig = Rig::of(vec![old.upstream.clone()]);
    within(rig.tables.withdraw(&key(), &[old.upstream.id])).await;
    let mut client = rig.connect().await;
    client.send(GET).await;
    rig.tables.set_upstreams(&key(), vec![new], WhenEmpty::Wait);
    assert_eq!(client.answer().await.body, "new");
}

#[tokio::test]
async fn a_withdrawal_goes_on_when_nobody_waits_for_it() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let (mut client, mut upstream) = under_way(&rig, &upstreamer, GET).await;
    upstream.send(OK).await;
    client.answer().await;
    drop(rig.tables.withdraw(&key(), &[upstreamer.upstream.id]));
    assert!(upstream.is_closed().await);
    // Asked again, also when its key is gone, it waits for the same.
    rig.tables.set_routing(pmesh_proxy::Routing::default());
    within(rig.tables.withdraw(&key(), &[upstreamer.upstream.id])).await;
}

#[tokio::test]
async fn a_withdrawn_upstream_may_come_back() {
    let upstreamer = Upstreamer::new().await;
    let upstream = upstreamer.upstream.clone();
    let rig = Rig::of(vec![upstream.clone()]);
    let (mut client, mut old) = under_way(&rig, &upstreamer, GET).await;
    drop(rig.tables.withdraw(&key(), &[upstream.id]));
    rig.tables.set_upstreams(&key(), vec![upstream.clone()], WhenEmpty::Wait);
    old.send(OK).await;
    assert_eq!(client.answer().await.body, "ok");
    client.send(GET).await;
    assert!(old.head().await.starts_with("GET"), "its connections are kept again");
    let mut left = Box::pin(rig.tables.withdraw(&key(), &[upstream.id]));
    assert!(poll!(&mut left).is_pending());
    old.send(OK).await;
    within(left).await;
}

#[tokio::test]
async fn one_that_comes_back_with_a_new_routing_is_at_work_as_before() {
    let upstreamer = Upstreamer::new().await;
    let routing = || to_upstreams(vec![upstreamer.upstream.clone()], WhenEmpty::Wait, quick());
    let rig = Rig::new(routing());
    let (mut client, mut upstream) = under_way(&rig, &upstreamer, GET).await;
    let left = rig.tables.withdraw(&key(), &[upstreamer.upstream.id]);
    rig.tables.set_routing(pmesh_proxy::Routing::default());
    rig.tables.set_routing(routing());
    within(left).await;
    upstream.send(OK).await;
    client.answer().await;
    client.send(GET).await;
    assert!(upstream.head().await.starts_with("GET"), "its connections are kept again");
}

#[tokio::test]
async fn without_a_front_a_withdrawal_is_done_at_once() {
    let tables = tables();
    let upstreamer = Upstreamer::new().await;
    tables.set_routing(to_upstreams(vec![upstreamer.upstream.clone()], WhenEmpty::Wait, quick()));
    within(tables.withdraw(&key(), &[upstreamer.upstream.id])).await;
    assert_eq!(tables.statistics(&key()), []);
}

#[tokio::test]
async fn an_idle_connection_to_an_upstream_is_closed_after_its_time() {
    let upstreamer = Upstreamer::new().await;
    let limits = crate::rig::one_thread().with(|limits| limits.pool_idle = Duration::from_millis(30));
    let routing = to_upstreams(vec![upstreamer.upstream.clone()], WhenEmpty::Wait, quick());
    let rig = Rig::with(routing, limits);
    for _ in 0..2 {
        let (mut client, mut upstream) = under_way(&rig, &upstreamer, GET).await;
        upstream.send(OK).await;
        client.answer().await;
        assert!(upstream.is_closed().await);
    }
}

#[tokio::test]
async fn a_front_that_is_shut_down_ends_its_requests_and_nothing_else() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let (mut client, mut upstream) = under_way(&rig, &upstreamer, GET).await;
    let (mut idle, mut idle_up) = under_way(&rig, &upstreamer, GET).await;
    idle_up.send(OK).await;
    idle.answer().await;

    let address = rig.address;
    let shutdown = tokio::spawn(rig.front.shutdown(PATIENCE));
    assert!(idle.is_closed().await, "a client that asks for nothing is let go");
    // Threads let go of the listener one after the other.
    within(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    assert!(!shutdown.is_finished());
    upstream.send(OK).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
    within(shutdown).await.unwrap();
}

#[tokio::test]
async fn a_front_whose_grace_is_over_cuts_what_is_left() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let (mut client, mut upstream) = under_way(&rig, &upstreamer, GET).await;
    within(rig.front.shutdown(Duration::from_millis(10))).await;
    assert_eq!(client.until_end().await, "");
    assert!(upstream.is_closed().await);
}

/// How many requests have come of the tests' clients.
fn counted(rig: &Rig) -> u64 {
    let (now, wall) = (std::time::Instant::now(), std::time::SystemTime::now());
    rig.tables.sessions().snapshot(Query::default(), now, wall).clients.iter().map(|one| one.num_reqs).sum()
}

#[tokio::test]
async fn what_waits_for_an_upstream_when_a_front_ends_is_503_at_once_and_what_is_answered_goes_on() {
    let (upstreamer, other) = (Upstreamer::new().await, DestinationKey::new("other"));
    let waits = |upstreams, queue: Duration| {
        let mut balancing = quick();
        balancing.queue.wait = queue;
        UpstreamSet::new(upstreams, WhenEmpty::Wait, balancing)
    };
    let serves = waits(vec![upstreamer.upstream.clone()], Duration::ZERO);
    let sites = vec![crate::rig::site(vec![
        crate::rig::route("site.test/wait", Handler::Destination(other.clone())),
        crate::rig::route("_", Handler::Destination(key())),
    ])];
    let all = [
        (key(), Destination::Upstreams(serves)),
        (other, Destination::Upstreams(waits(vec![], Duration::from_hours(1)))),
    ];
    let rig = Rig::new(Routing::new(sites, BTreeMap::from(all)));
    let (mut client, mut upstream) = under_way(&rig, &upstreamer, GET).await;
    let waiting = "POST /wait HTTP/1.1\r\nHost: site.test\r\nContent-Length: 2\r\n\r\nab";
    let (mut queued, mut left) = (rig.connect().await, rig.connect().await);
    queued.send(waiting).await;
    left.send(waiting).await;
    left.stream.shutdown().await.unwrap();
    // The client's requests are counted right before they wait.
    within(async {
        while counted(&rig) < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let shutdown = tokio::spawn(rig.front.shutdown(Duration::from_hours(1)));
    let answer = queued.answer().await;
    assert_eq!(
        (answer.status, answer.field("retry-after"), answer.field("connection")),
        (503, Some("5"), Some("close"))
    );
    assert!(answer.body.contains("about to end"), "{}", answer.body);
    assert!(queued.is_closed().await);
    assert!(left.until_end().await.starts_with("HTTP/1.1 503"));
    assert!(!shutdown.is_finished());
    upstream.send(OK).await;
    assert_eq!(client.answer().await.status, 200);
    within(shutdown).await.unwrap();
}

#[tokio::test]
async fn a_front_that_ends_does_not_wait_for_an_upstream_that_has_failed() {
    let upstreamer = Upstreamer::new().await;
    let mut balancing = quick();
    balancing.retry.backoff = Duration::from_hours(1);
    balancing.retry.timeout = Duration::from_hours(2);
    let rig = Rig::new(to_upstreams(vec![upstreamer.upstream.clone()], WhenEmpty::Wait, balancing));
    let (mut client, upstream) = under_way(&rig, &upstreamer, GET).await;
    drop(upstream);
    within(async {
        while rig.tables.statistics(&key())[0].error_count == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let shutdown = tokio::spawn(rig.front.shutdown(Duration::from_hours(1)));
    assert_eq!(client.answer().await.status, 503);
    within(shutdown).await.unwrap();
}
