//! The host `pm3`.

use std::{sync::Arc, thread};

use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use pmesh_proxy::{BoxError, ConnectionInfo, Front, Handler, LocalBody, LocalHandler, RequestBody, Routing};

use crate::rig::{Client, one_thread, route, site, tables};

struct Echo;

impl LocalHandler for Echo {
    fn handle(
        &self,
        request: Request<RequestBody>,
        connection: ConnectionInfo,
    ) -> BoxFuture<'static, Response<LocalBody>> {
        async move {
            assert!(request.uri().path() != "/panic", "as it was asked to");
            let thread = thread::current().name().unwrap_or_default().to_owned();
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let text = format!("{path} {} {} {body:?}", thread.starts_with("front"), connection.peer.ip());
            Response::new(Full::from(text).map_err(|never| -> BoxError { match never {} }).boxed_unsync())
        }
        .boxed()
    }
}

/// Answers nobody, and tells when a request has come and when it is dropped.
struct Endless(tokio::sync::mpsc::UnboundedSender<&'static str>);

struct Dropped(tokio::sync::mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send("dropped").unwrap_or_default();
    }
}

impl LocalHandler for Endless {
    fn handle(&self, _: Request<RequestBody>, _: ConnectionInfo) -> BoxFuture<'static, Response<LocalBody>> {
        let dropped = Dropped(self.0.clone());
        async move {
            dropped.0.send("asked").unwrap();
            std::future::pending().await
        }
        .boxed()
    }
}

fn front(tables: &pmesh_proxy::Tables) -> (Front, std::net::SocketAddr) {
    front_with(tables, Arc::new(Echo))
}

fn front_with(tables: &pmesh_proxy::Tables, local: Arc<dyn LocalHandler>) -> (Front, std::net::SocketAddr) {
    tables.set_routing(Routing::default().with(|routing| {
        routing.sites = vec![site(vec![route("_", Handler::Status(http::StatusCode::IM_A_TEAPOT))])];
    }));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let local = Some((local, tokio::runtime::Handle::current()));
    (Front::serve(vec![listener], tables.clone(), one_thread(), local).unwrap(), address)
}

#[tokio::test]
async fn the_host_pm3_is_answered_by_its_handler_outside_the_front_threads_and_counts() {
    let tables = tables();
    let (_front, address) = front(&tables);
    let mut client = Client::connect(address).await;
    for host in ["pm3", "PM3:8080", "pm3."] {
        client
            .send(&format!(
                "POST /a/../b HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: x\r\nContent-Length: 2\r\n\r\nhi"
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "/a/../b false 127.0.0.1 b\"hi\""), "{host}");
        assert_eq!(answer.field("x-request-id"), Some("x"));
    }
    for (host, status) in [("a.pm3", 421), ("site.test", 418)] {
        client.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, status);
    }
    let seen = tables.sessions().snapshot(
        pmesh_sessions::Query::default(),
        std::time::Instant::now(),
        std::time::SystemTime::now(),
    );
    assert_eq!((seen.num_clients, seen.clients[0].num_reqs), (1, 5));
}

#[tokio::test]
async fn a_handler_can_be_asked_without_a_front() {
    let request = Request::post("/a").body(RequestBody::new(Full::from("hi"))).unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let connection = ConnectionInfo::new(address, address);
    let answer = Echo.handle(request, connection).await;
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "/a false 127.0.0.1 b\"hi\"");
}

#[tokio::test]
async fn a_handler_that_panics_is_500_and_takes_nothing_with_it() {
    let tables = tables();
    let (_front, address) = front(&tables);
    let mut client = Client::connect(address).await;
    for (path, status) in [("/panic", 500), ("/", 200)] {
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: pm3\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, status);
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_what_it_has_asked_the_host_pm3_for() {
    let tables = tables();
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let (_front, address) = front_with(&tables, Arc::new(Endless(told)));
    let mut client = Client::connect(address).await;
    client.send("GET /operation/1?wait=true HTTP/1.1\r\nHost: pm3\r\n\r\n").await;
    assert_eq!(tells.recv().await, Some("asked"));
    drop(client);
    assert_eq!(tells.recv().await, Some("dropped"));
}
