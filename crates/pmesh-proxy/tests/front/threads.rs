//! Connections and threads.

use std::time::Duration;

use pmesh_proxy::{FrontLimits, Handler, Routing};

use crate::rig::{Client, Rig, one_thread, route, site};

fn hello() -> Routing {
    let handler = Handler::Return { status: http::StatusCode::OK, text: "hello".to_owned() };
    Routing::default().with(|routing| routing.sites = vec![site(vec![route("_", handler)])])
}

const GET: &str = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_made_at_once_are_shared_evenly() {
    let rig = Rig::with(hello(), FrontLimits::default().with(|limits| limits.threads = 2));
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let address = rig.address;
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                client.send(GET).await;
                assert_eq!(client.answer().await.body, "hello");
                client
            })
        })
        .collect();
    let mut kept = Vec::new();
    for client in clients {
        kept.push(client.await.unwrap());
    }
    assert_eq!(rig.front.connections_per_thread(), [32, 32]);
    for mut client in kept {
        client.send(GET).await;
        assert_eq!(client.answer().await.body, "hello");
    }
}

#[tokio::test]
async fn several_listeners_are_served_by_one_front() {
    let tables = crate::rig::tables();
    tables.set_routing(hello());
    let listeners: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let limits = FrontLimits::default().with(|limits| limits.threads = 2);
    let front = pmesh_proxy::Front::serve(listeners, tables, limits, None).unwrap();
    for address in addresses {
        let mut client = Client::connect(address).await;
        client.send(GET).await;
        assert_eq!(client.answer().await.body, "hello");
    }
    front.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_a_head_is_let_go() {
    let limits = one_thread().with(|limits| limits.header_timeout = Duration::from_millis(30));
    let rig = Rig::with(hello(), limits);
    for begin in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: site.test\r\n"] {
        let mut client = rig.connect().await;
        client.send(begin).await;
        assert_eq!(client.until_end().await, "");
    }
    // Between two requests the other limit holds, for the first byte of the next one this one again.
    let mut client = rig.connect().await;
    client.send(GET).await;
    client.answer().await;
    client.send("GET").await;
    assert_eq!(client.until_end().await, "");
}

#[tokio::test]
async fn the_begin_of_a_head_that_came_with_a_request_has_the_time_of_a_head() {
    let limits = one_thread().with(|limits| limits.header_timeout = Duration::from_millis(30));
    let rig = Rig::with(hello(), limits);
    for request in [GET, "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 2\r\n\r\nab"] {
        let mut client = rig.connect().await;
        client.send(&format!("{request}GET / HT")).await;
        assert_eq!(client.answer().await.body, "hello");
        assert_eq!(client.until_end().await, "");
    }
}

#[tokio::test]
async fn the_body_of_a_request_that_was_answered_has_no_limit_of_a_head() {
    let limits = one_thread().with(|limits| limits.header_timeout = Duration::from_millis(30));
    let rig = Rig::with(hello(), limits);
    let mut client = rig.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 2\r\n\r\n").await;
    client.answer().await;
    client.send("a").await;
    // Whoever is let go now came later, and had as long.
    for _ in 0..3 {
        assert_eq!(rig.connect().await.until_end().await, "");
    }
    client.send("b").await;
    client.send(GET).await;
    assert_eq!(client.answer().await.body, "hello");
}

#[tokio::test]
async fn a_client_that_asks_for_nothing_more_is_let_go() {
    let limits = one_thread().with(|limits| limits.idle_timeout = Duration::from_millis(30));
    let rig = Rig::with(hello(), limits);
    let mut client = rig.connect().await;
    client.send(GET).await;
    client.answer().await;
    assert_eq!(client.until_end().await, "");
}

#[tokio::test]
async fn clients_of_the_old_protocol_and_clients_that_say_so_are_closed_behind_the_answer() {
    let rig = Rig::new(hello());
    for request in [
        "GET / HTTP/1.0\r\nHost: site.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
    ] {
        let mut client = rig.connect().await;
        client.send(request).await;
        assert!(client.until_end().await.ends_with("\r\n\r\nhello"));
    }
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order() {
    let rig = Rig::new(Routing::default().with(|routing| {
        routing.sites = vec![site(
            ["a", "b"]
                .into_iter()
                .map(|name| {
                    let handler = Handler::Return { status: http::StatusCode::OK, text: name.to_owned() };
                    route(&format!("/{name}"), handler)
                })
                .collect(),
        )];
    }));
    let mut client = rig.connect().await;
    client.send("GET /a HTTP/1.1\r\nHost: site.test\r\n\r\nGET /b HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "a");
    assert_eq!(client.answer().await.body, "b");
}
