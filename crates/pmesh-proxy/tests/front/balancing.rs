//! Which upstream gets a request, when it waits, and what is tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pmesh_proxy::{Destination, DestinationKey, Handler, Routing, Strategy, UpstreamSet, WhenEmpty};

use crate::rig::{Rig, Upstreamer, dead_upstream, key, quick, route, site, to_upstreams, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nbody";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_request_and_its_answer_pass_through_and_the_connections_are_used_again() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let mut client = rig.connect().await;
    client.send("GET /a?b=c HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    let mut upstream = upstreamer.accept().await;
    assert!(upstream.head().await.starts_with("GET /a?b=c HTTP/1.1\r\n"));
    upstream.send(OK).await;
    assert_eq!(client.answer().await.body, "ok");
    client.send("POST /d HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nbody").await;
    assert!(upstream.head().await.starts_with("POST /d HTTP/1.1\r\n"));
    assert_eq!(upstream.exactly(4).await, "body");
    upstream.send(OK).await;
    assert_eq!(client.answer().await.body, "ok");
    let statistics = &rig.tables.statistics(&key())[0];
    assert_eq!((statistics.request_count, statistics.error_count, statistics.in_flight), (2, 0, 0));
}

#[tokio::test]
async fn round_robin_takes_the_upstreams_in_turn() {
    let mut upstreams = Vec::new();
    for name in ["a", "b", "c"] {
        upstreams.push(Upstreamer::new().await.serving(name).0);
    }
    let mut balancing = quick();
    balancing.strategy = Strategy::RoundRobin;
    let rig = Rig::new(to_upstreams(upstreams, WhenEmpty::Wait, balancing));
    let mut names = String::new();
    for _ in 0..6 {
        names += &rig.get("/").await.body;
    }
    assert!("abcabcabc".contains(&names), "{names}");
}

#[tokio::test]
async fn least_takes_the_upstream_with_the_fewest_requests_in_flight() {
    let busy = Upstreamer::new().await;
    let (free, _seen) = Upstreamer::new().await.serving("free");
    let rig = Rig::of(vec![busy.upstream.clone()]);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = rig.connect().await;
        client.send(GET).await;
        let mut upstream = busy.accept().await;
        upstream.head().await;
        held.push((client, upstream));
    }
    rig.tables.set_upstreams(&key(), vec![busy.upstream.clone(), free], WhenEmpty::Wait);
    for _ in 0..6 {
        assert_eq!(rig.get("/").await.body, "free");
    }
    assert_eq!(rig.tables.statistics(&key()).iter().map(|one| one.in_flight).collect::<Vec<_>>(), [2, 0]);
}

#[tokio::test]
async fn equals_are_taken_in_turn() {
    let mut upstreams = Vec::new();
    for name in ["a", "b"] {
        upstreams.push(Upstreamer::new().await.serving(name).0);
    }
    let rig = Rig::of(upstreams);
    let mut names = BTreeSet::new();
    for _ in 0..2 {
        names.insert(rig.get("/").await.body);
    }
    assert_eq!(names.len(), 2);
}

#[tokio::test]
async fn a_connection_that_is_refused_sends_any_request_to_the_next_upstream() {
    let (upstream, mut seen) = Upstreamer::new().await.serving("hello");
    let rig = Rig::of(vec![dead_upstream(), upstream]);
    for _ in 0..4 {
        assert_eq!(rig.ask(POST).await.body, "hello");
        assert!(within(seen.recv()).await.unwrap().starts_with("POST / "));
    }
    let statistics = rig.tables.statistics(&key());
    assert_eq!((statistics[1].request_count, statistics[1].error_count), (4, 0));
    assert!(statistics[0].error_count > 0);
}

#[tokio::test]
async fn where_no_upstream_can_be_reached_it_is_502_after_the_tries_are_used_up() {
    let rig = Rig::of(vec![dead_upstream()]);
    assert_eq!(rig.get("/").await.status, 502);
    assert_eq!(rig.tables.statistics(&key())[0].error_count, 3);
}

#[tokio::test]
async fn an_idle_connection_that_the_app_has_closed_loses_no_request_of_any_method() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    for request in [GET, POST, POST] {
        let mut client = rig.connect().await;
        client.send(request).await;
        let mut upstream = upstreamer.accept().await;
        upstream.head().await;
        upstream.send(OK).await;
        assert_eq!(client.answer().await.status, 200);
        drop(upstream);
    }
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_tried_again_only_where_that_does_no_harm() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    for method in ["GET", "OPTIONS"] {
        let mut client = rig.connect().await;
        client.send(&format!("{method} / HTTP/1.1\r\nHost: site.test\r\n\r\n")).await;
        let mut first = upstreamer.accept().await;
        first.head().await;
        drop(first);
        let mut second = upstreamer.accept().await;
        assert!(second.head().await.starts_with(method));
        second.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        assert_eq!(client.answer().await.body, "ok");
    }
    let before = rig.tables.statistics(&key())[0].request_count;
    for request in [
        POST,
        "PUT / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n\r\n",
        "DELETE / HTTP/1.1\r\nHost: site.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        let mut client = rig.connect().await;
        client.send(request).await;
        let mut upstream = upstreamer.accept().await;
        upstream.head().await;
        drop(upstream);
        assert_eq!(client.answer().await.status, 502, "{request}");
    }
    assert_eq!(rig.tables.statistics(&key())[0].request_count, before + 4, "each was executed at most once");
}

#[tokio::test]
async fn a_request_that_is_lost_over_an_idle_connection_counts_as_an_error() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let mut client = rig.connect().await;
    client.send(GET).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    client.answer().await;
    client.send(POST).await;
    upstream.head().await;
    drop(upstream);
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(rig.tables.statistics(&key())[0].error_count, 1);
}

#[tokio::test]
async fn a_request_that_ends_its_upstream_is_executed_twice_at_most() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let mut client = rig.connect().await;
    client.send(GET).await;
    for _ in 0..2 {
        upstreamer.accept().await.head().await;
    }
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(rig.tables.statistics(&key())[0].request_count, 2);
}

#[tokio::test]
async fn warm_connections_make_no_third_execution_of_it() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let (mut clients, mut upstreams) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut client = rig.connect().await;
        client.send(GET).await;
        let mut upstream = upstreamer.accept().await;
        upstream.head().await;
        clients.push(client);
        upstreams.push(upstream);
    }
    for (client, upstream) in clients.iter_mut().zip(&mut upstreams) {
        upstream.send(OK).await;
        assert_eq!(client.answer().await.body, "ok");
    }
    // The connection used last is taken first; the second execution is on a new one, whatever is idle.
    clients[0].send(GET).await;
    upstreams[3].head().await;
    drop(upstreams.pop());
    upstreamer.accept().await.head().await;
    assert_eq!(clients[0].answer().await.status, 502);
    assert_eq!(rig.tables.statistics(&key())[0].request_count, 4 + 2);
}

#[tokio::test]
async fn an_upstream_that_takes_no_more_of_a_request_is_504() {
    let upstreamer = Upstreamer::new().await;
    let mut balancing = quick();
    balancing.response_timeout = Duration::from_millis(50);
    let rig = Rig::new(to_upstreams(vec![upstreamer.upstream.clone()], WhenEmpty::Wait, balancing));
    let mut client = rig.connect().await;
    // More than the buffers of two sockets hold.
    let size = 64 << 20;
    client.send(&format!("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: {size}\r\n\r\n")).await;
    let _upstream = upstreamer.accept().await;
    let body = "x".repeat(1 << 20);
    let answer = {
        let (read, mut write) = client.stream.split();
        let upload =
            async { while tokio::io::AsyncWriteExt::write_all(&mut write, body.as_bytes()).await.is_ok() {} };
        tokio::select! {
            () = upload => panic!("nobody takes all of it"),
            readable = read.readable() => readable.unwrap(),
        }
        client.answer().await
    };
    assert_eq!((answer.status, answer.field("connection")), (504, Some("close")));
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_asked_for_again() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let mut client = rig.connect().await;
    client.send(GET).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 2").await;
    drop(upstream);
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(rig.tables.statistics(&key())[0].request_count, 1);
}

#[tokio::test]
async fn an_upstream_that_takes_too_long_is_504_and_its_connection_is_closed() {
    let upstreamer = Upstreamer::new().await;
    let mut balancing = quick();
    balancing.response_timeout = Duration::from_millis(30);
    let rig = Rig::new(to_upstreams(vec![upstreamer.upstream.clone()], WhenEmpty::Wait, balancing));
    let mut client = rig.connect().await;
    client.send(GET).await;
    let mut upstream = upstreamer.accept().await;
    upstream.head().await;
    assert_eq!(client.answer().await.status, 504);
    assert!(upstream.is_closed().await);
}

#[tokio::test]
async fn requests_wait_while_there_is_no_upstream_and_go_on_when_one_comes() {
    let (upstream, _seen) = Upstreamer::new().await.serving("hello");
    let rig = Rig::of(vec![]);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = rig.connect().await;
        client.send(POST).await;
        clients.push(client);
    }
    rig.tables.set_upstreams(&key(), vec![upstream], WhenEmpty::Wait);
    for mut client in clients {
        assert_eq!(client.answer().await.body, "hello");
    }
}

#[tokio::test]
async fn what_the_queue_cannot_hold_is_503_with_a_time_to_come_back() {
    let mut balancing = quick();
    balancing.queue.requests = 0;
    let rig = Rig::new(to_upstreams(vec![], WhenEmpty::Wait, balancing.clone()));
    let answer = rig.get("/").await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));

    balancing.queue.requests = 1;
    balancing.queue.bytes = 1000;
    rig.tables.set_routing(to_upstreams(vec![], WhenEmpty::Wait, balancing.clone()));
    assert_eq!(rig.get(&format!("/{}", "x".repeat(1000))).await.status, 503);

    balancing.queue.wait = Duration::from_millis(30);
    rig.tables.set_routing(to_upstreams(vec![], WhenEmpty::Wait, balancing));
    assert_eq!(rig.get("/").await.status, 503);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_queue() {
    let (upstream, _seen) = Upstreamer::new().await.serving("hello");
    let mut balancing = quick();
    balancing.queue.requests = 1;
    let rig = Rig::new(to_upstreams(vec![], WhenEmpty::Wait, balancing));
    let [mut one, mut other] = [rig.connect().await, rig.connect().await];
    one.send(GET).await;
    other.send(GET).await;
    // One of the two waits, the other is told that there is no room.
    let (waits, answer) = tokio::select! {
        answer = one.answer() => (other, answer),
        answer = other.answer() => (one, answer),
    };
    assert_eq!(answer.status, 503);
    drop(waits);
    // The front learns of it in its own time; from then on there is room for one.
    loop {
        let mut next = rig.connect().await;
        next.send(GET).await;
        let mut second = rig.connect().await;
        second.send(GET).await;
        let mut later = tokio::select! {
            biased;
            _ = second.answer() => next,
            _ = next.answer() => second,
        };
        rig.tables.set_upstreams(&key(), vec![upstream.clone()], WhenEmpty::Wait);
        let status = later.answer().await.status;
        rig.tables.set_upstreams(&key(), vec![], WhenEmpty::Wait);
        if status == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn a_destination_that_refuses_lets_nobody_wait() {
    let rig = Rig::new(to_upstreams(vec![], WhenEmpty::Refuse, quick()));
    assert_eq!(rig.get("/").await.status, 503);

    // Also those that wait already.
    rig.tables.set_upstreams(&key(), vec![], WhenEmpty::Wait);
    let mut client = rig.connect().await;
    client.send(GET).await;
    rig.tables.set_upstreams(&key(), vec![], WhenEmpty::Refuse);
    assert_eq!(client.answer().await.status, 503);
    rig.tables.set_upstreams(&key(), vec![], WhenEmpty::Wait);
    let mut client = rig.connect().await;
    client.send(GET).await;
    rig.tables.set_routing(Routing::default());
    assert!(matches!(client.answer().await.status, 503 | 421));
}

#[tokio::test]
async fn a_swap_of_the_routes_keeps_upstreams_and_counters_of_the_keys_that_stay() {
    let (upstream, _seen) = Upstreamer::new().await.serving("hello");
    let rig = Rig::of(vec![]);
    rig.tables.set_upstreams(&key(), vec![upstream.clone()], WhenEmpty::Wait);
    assert_eq!(rig.get("/").await.body, "hello");
    rig.tables.set_routing(to_upstreams(vec![], WhenEmpty::Refuse, quick()));
    assert_eq!(rig.get("/").await.body, "hello");
    assert_eq!(rig.tables.statistics(&key())[0].request_count, 2);

    // An upstream that comes back goes on where it was.
    rig.tables.set_upstreams(&key(), vec![dead_upstream()], WhenEmpty::Wait);
    rig.tables.set_upstreams(&key(), vec![upstream.clone()], WhenEmpty::Wait);
    assert_eq!(rig.tables.statistics(&key())[0].request_count, 2);

    rig.tables.set_routing(Routing::default());
    assert_eq!(rig.tables.statistics(&key()), []);
    assert_eq!(rig.get("/").await.status, 421);

    // Told before a route leads there, it is there when one does.
    rig.tables.set_upstreams(&key(), vec![upstream], WhenEmpty::Wait);
    rig.tables.set_routing(to_upstreams(vec![], WhenEmpty::Refuse, quick()));
    assert_eq!(rig.get("/").await.body, "hello");
}

#[tokio::test]
async fn routes_to_several_destinations_are_tried_in_order() {
    let (api, _seen) = Upstreamer::new().await.serving("api");
    let (web, _seen_too) = Upstreamer::new().await.serving("web");
    let [api_key, gone] = ["api", "gone"].map(DestinationKey::new);
    let to = |upstream| Destination::Upstreams(UpstreamSet::new(vec![upstream], WhenEmpty::Wait, quick()));
    let rig = Rig::new(Routing::new(
        vec![site(vec![
            route("/api/", Handler::Destination(api_key.clone())),
            route("/gone", Handler::Destination(gone)),
            route("_", Handler::Destination(key())),
        ])],
        BTreeMap::from([(api_key, to(api)), (key(), to(web))]),
    ));
    assert_eq!(rig.get("/api/x").await.body, "api");
    assert_eq!(rig.get("//api%2fx").await.body, "api");
    assert_eq!(rig.get("/x/../api/x").await.status, 400, "an app that leaves dots would see another's path");
    assert_eq!(rig.get("/api").await.body, "web");
    assert_eq!(rig.get("/gone").await.status, 503);
}
