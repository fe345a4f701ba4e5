//! Nobody is locked out of the API by what others do with their connections.

use std::{
    future::{pending, ready},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::Request;
use http_body_util::{Empty, StreamBody};
use hyper::body::Frame;
use pmesh_api::{
    Api, ApiBody, Callers, Listener,
    serve::{HEADER_TIMEOUT, MAX_CONNECTIONS},
    serve_tcp,
    testing::{FakeCallers, TestApi},
};
use pmesh_sessions::{Descent, PeerOwner, PeerSocket};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use crate::{Started, serving_manifest};

/// From 127.0.0.1 comes this process's user, from 127.0.0.N another user for each N.
#[derive(Debug)]
struct UsersByAddress;

fn user_at(address: IpAddr) -> PeerOwner {
    let user = match address {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => rustix::process::geteuid().as_raw(),
        IpAddr::V4(other) => 50_000 + u32::from(other.octets()[3]),
        IpAddr::V6(_) => panic!("nobody connects by IPv6 here"),
    };
    PeerOwner::Socket(PeerSocket { user, inode: 1 })
}

impl Callers for UsersByAddress {
    fn owner(&self, _local: SocketAddr, peer: SocketAddr) -> BoxFuture<'_, PeerOwner> {
        Box::pin(ready(user_at(peer.ip())))
    }

    fn exact(&self, owner: PeerOwner, _local: SocketAddr, _peer: SocketAddr) -> BoxFuture<'_, PeerOwner> {
        Box::pin(ready(owner))
    }

    fn descent(&self, listener: Listener) -> BoxFuture<'_, Descent> {
        Box::pin(async move { FakeCallers(Descent::Stranger).descent(listener).await })
    }
}

async fn serving(node: &Started) -> SocketAddr {
    // Both ends of all connections are in this process.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    let settings = TestApi::settings().with(|settings| settings.callers = Some(Arc::new(UsersByAddress)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_tcp(listener, Api::new(node.handle(), settings), pending()));
    address
}

/// A connection from 127.0.0.`host`, on which `text` was sent.
async fn connection(to: SocketAddr, host: u8, text: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

const PING: &str = "GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const HALF_HEAD: &str = "GET /ping HTTP/1.1\r\nHost: local";
const HALF_BODY: &str = "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";

/// All that comes back, if it comes before a connection that says nothing would have been closed anyway.
async fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    timeout(HEADER_TIMEOUT / 2, stream.read_to_string(&mut answer)).await.expect("it is answered").unwrap();
    answer
}

#[tokio::test]
async fn connections_of_others_that_say_nothing_or_half_of_it_lock_nobody_out() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let address = serving(&node).await;
    let mut silent = Vec::new();
    for host in [2, 3, 4] {
        for number in 0..300 {
            let text = ["", HALF_HEAD, HALF_BODY][number % 3];
            silent.push(connection(address, host, text).await);
        }
    }
    let answered = answer(connection(address, 1, PING).await).await;
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    let refused = answer(connection(address, 5, PING).await).await;
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("not_internal"), "{refused}");
}

#[tokio::test]
async fn a_peer_with_half_of_all_connections_goes_on_and_loses_the_one_that_has_rested_longest() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let address = serving(&node).await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS / 2 {
        silent.push(connection(address, 1, HALF_HEAD).await);
    }
    let answered = answer(connection(address, 1, PING).await).await;
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    let mut oldest = silent.remove(0);
    let mut rest = Vec::new();
    let ended = timeout(HEADER_TIMEOUT / 2, oldest.read_to_end(&mut rest)).await.expect("it is closed");
    // With bytes unread that is a reset.
    assert!(ended.is_err() || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn more_calls_of_one_user_at_a_time_than_it_may_have_connections_are_all_answered() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let address = serving(&node).await;
    let calls = (0..MAX_CONNECTIONS / 2 + 200)
        .map(|_| async move { answer(connection(address, 1, PING).await).await });
    for answered in join_all(calls).await {
        assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    }
}

#[tokio::test]
async fn those_who_wait_for_operations_cost_no_connection() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let address = serving(&node).await;
    let api = TestApi(crate::api_of(&node));
    node.prober.hold(true);
    let accepted = api.post("/service/restart/web?wait=false").await;
    let id = accepted.json["operation"].as_str().unwrap().to_owned();
    let read =
        format!("GET /operation/{id}?wait=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let list = "GET /operation?wait=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let act = "POST /service/restart?wait=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut waiting = Vec::new();
    for number in 0..MAX_CONNECTIONS + 100 {
        waiting.push(connection(address, 1, [&*read, list, act][number % 3]).await);
    }
    let answered = answer(connection(address, 1, PING).await).await;
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    node.prober.hold(false);
    for answered in join_all(waiting.into_iter().map(answer)).await {
        assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    }
}

#[tokio::test]
async fn at_the_pm3_host_the_request_that_has_rested_longest_makes_room() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let api = crate::api_of(&node);
    let own = rustix::process::geteuid().as_raw();
    let from = |user| {
        let owner = PeerOwner::Socket(PeerSocket { user, inode: 1 });
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        (at(80), at(40_000), owner)
    };
    let half = |user| {
        let api = api.clone();
        let body = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        let request = Request::post("/reload").header("Host", "pm3").body(body).unwrap();
        tokio::spawn(async move { api.handle_at_front(request, from(user)).await })
    };
    let whole = |user| {
        let request = Request::get("/ping").header("Host", "pm3").body(Empty::<Bytes>::new()).unwrap();
        api.handle_at_front(request, from(user))
    };
    let mut resting = Vec::new();
    for _ in 0..MAX_CONNECTIONS / 2 {
        resting.push(half(own));
        tokio::task::yield_now().await;
    }
    assert_eq!(whole(own).await.status(), 200);
    let refused: http::Response<ApiBody> = resting.remove(0).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(TestApi::read(refused).await.json["code"], json!("busy"));
    assert!(resting.iter().all(|one| !one.is_finished()));
    for one in resting {
        one.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_kept_takes_a_place_until_it_is_dropped() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let api = crate::api_of(&node);
    let owner = PeerOwner::Socket(PeerSocket { user: rustix::process::geteuid().as_raw(), inode: 1 });
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ping = || {
        let request = Request::get("/ping").header("Host", "pm3").body(Empty::<Bytes>::new()).unwrap();
        api.handle_at_front(request, (at(80), at(40_000), owner))
    };
    let mut kept = Vec::new();
    for _ in 0..MAX_CONNECTIONS / 2 {
        kept.push(ping().await);
    }
    assert_eq!(ping().await.status(), 503, "all that this user may have are at work");
    kept.pop();
    assert_eq!(timeout(Duration::from_secs(1), ping()).await.unwrap().status(), 200);
}
