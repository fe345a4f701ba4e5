//! The front's own answers: what it refuses, and in which form.

use pmesh_proxy::{Handler, Routing};
use pmesh_sessions::{ClientKey, Query};

use crate::rig::{Rig, dead_upstream, route, site};

fn nothing() -> Rig {
    Rig::new(Routing::default().with(|routing| {
        routing.sites = vec![site(vec![
            route(
                "/text",
                Handler::Return { status: http::StatusCode::CREATED, text: "a \u{fc}".to_owned() },
            ),
            route("/status", Handler::Status(http::StatusCode::GONE)),
            route("/away", Handler::Redirect("https://site.test/b?c".to_owned())),
            route(
                "/list/",
                Handler::Mux(vec![route("/list/x", Handler::Status(http::StatusCode::ACCEPTED))]),
            ),
        ])];
    }))
}

fn requests_counted(rig: &Rig) -> u64 {
    let seen = rig.tables.sessions().snapshot(
        Query::default(),
        std::time::Instant::now(),
        std::time::SystemTime::now(),
    );
    seen.clients.iter().map(|client| client.num_reqs).sum()
}

#[tokio::test]
async fn a_rule_holds_for_every_spelling_of_its_path() {
    let rig = Rig::new(Routing::default().with(|routing| {
        routing.sites = vec![site(vec![
            route("/admin/", Handler::Status(http::StatusCode::FORBIDDEN)),
            route("_", Handler::Return { status: http::StatusCode::OK, text: "open".to_owned() }),
        ])];
    }));
    for (target, status) in [
        ("/admin/x", 403),
        ("//admin/x", 403),
        ("/admin//x", 403),
        ("///admin///", 403),
        ("/admin%2fx", 403),
        ("/admin%2F", 403),
        ("/%2fadmin/x", 403),
        ("/%61dmin/x", 403),
        ("/./admin/x", 403),
        ("/x/../admin/x", 403),
        ("/x/%2e%2E/admin/x", 403),
        ("/admin/x/..", 403),
        ("/admin/.", 403),
        ("http://site.test//admin/x", 403),
        ("/admin/#x", 403),
        ("/admin%5cx", 400),
        ("/admin%c0%afx", 400),
        ("/x/..%2fadmin/x", 400),
        ("/../admin/x", 400),
        // Other paths, to whoever decodes once.
        ("/admin", 200),
        ("/Admin/", 200),
        ("/admin%252fx", 200),
        ("/admin;x/", 200),
        ("/admin%3fx", 200),
        ("/?/admin/", 200),
    ] {
        let answer = rig.ask(&format!("GET {target} HTTP/1.1\r\nHost: site.test\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{target}");
    }
}

#[tokio::test]
async fn directives_finish_a_request() {
    let rig = nothing();
    let answer = rig.get("/text").await;
    assert_eq!((answer.status, answer.body.as_str()), (201, "a \u{fc}"));
    assert_eq!(answer.field("content-type"), Some("text/plain; charset=utf-8"));
    let answer = rig.get("/status").await;
    assert_eq!((answer.status, answer.body.as_str()), (410, "410 Gone: Gone\n"));
    let answer = rig.get("/away").await;
    assert_eq!((answer.status, answer.field("location")), (302, Some("https://site.test/b?c")));
    assert_eq!(rig.get("/list/x").await.status, 202);
    assert_eq!(rig.get("/list/y").await.status, 404);
}

#[tokio::test]
async fn a_refusal_has_the_form_that_was_asked_for() {
    let rig = nothing();
    for (accept, content_type, body) in [
        ("*/*", "text/plain; charset=utf-8", "404 Not Found: nothing is here\n"),
        (
            "application/json",
            "application/json; charset=utf-8",
            "{\"error\":\"nothing is here\",\"code\":\"route_not_found\"}\n",
        ),
    ] {
        let answer = rig.ask(&format!("GET / HTTP/1.1\r\nHost: site.test\r\nAccept: {accept}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.field("content-type")), (404, Some(content_type)));
        assert_eq!(answer.body, body);
        assert_eq!(answer.field("x-request-id").map(str::len), Some(32));
    }
    let answer = rig.ask("GET / HTTP/1.1\r\nHost: site.test\r\nAccept: text/html,*/*;q=0.8\r\n\r\n").await;
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.body.contains("<h1>404 Not Found</h1>"), "{}", answer.body);

    let mut client = rig.connect().await;
    client.send("HEAD / HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n").await;
    let all = client.until_end().await;
    assert!(
        all.starts_with("HTTP/1.1 404 ")
            && all.contains("content-length: 31\r\n")
            && all.ends_with("\r\n\r\n")
    );
}

#[tokio::test]
async fn a_host_that_nobody_named_is_421_and_one_without_a_route_404() {
    let rig = nothing();
    for (host, status) in [
        ("other.test", 421),
        ("site.test", 404),
        ("SITE.TEST.:80", 404),
        ("www.alias.test", 404),
        ("test", 421),
    ] {
        let answer = rig.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{host}");
    }
    assert_eq!(rig.ask("GET / HTTP/1.0\r\n\r\n").await.status, 421);
    assert_eq!(rig.ask("OPTIONS * HTTP/1.1\r\nHost: site.test\r\n\r\n").await.status, 204);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_502_in_json_too() {
    let rig = Rig::of(vec![dead_upstream()]);
    let answer = rig.ask("GET / HTTP/1.1\r\nHost: site.test\r\nAccept: application/json\r\n\r\n").await;
    assert_eq!(answer.body, "{\"error\":\"this service did not answer\",\"code\":\"bad_upstream\"}\n");
}

#[tokio::test]
async fn what_breaks_the_protocol_or_can_be_read_in_two_ways_is_400_and_closes_the_connection() {
    let rig = nothing();
    let long = "x".repeat(40 << 10);
    for (status, request) in [
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: site.test\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: site.test/evil\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: x@site.test\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned()),
        (400, "GET ftp://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "GET http://x@site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "GET /%00 HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "GET /a%5cb HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "GET /a%c0%afb HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "GET /a%2 HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "GET /a/..;/b HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "GET /../b HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "GET /\u{e4} HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: site.test\r\nNo colon\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: site.test\r\nSpace : x\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: site.test\r\nA: b\r\n folded\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: site.test\r\nA: b\0c\r\n\r\n".to_owned()),
        (400, "G@T / HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: +1\r\n\r\na".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1, 1\r\n\r\na".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (
            400,
            "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n\
             0\r\n\r\n"
                .to_owned(),
        ),
        (400, "POST / HTTP/1.0\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (405, "CONNECT site.test:80 HTTP/1.1\r\nHost: site.test:80\r\n\r\n".to_owned()),
        (405, "TRACE / HTTP/1.1\r\nHost: site.test\r\n\r\n".to_owned()),
        (431, format!("GET / HTTP/1.1\r\nHost: site.test\r\nA: {long}\r\n\r\n")),
    ] {
        let mut client = rig.connect().await;
        client.send(&request).await;
        let all = client.until_end().await;
        assert!(all.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.80} got {all:?}");
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{request:.80} got {all:?}");
    }
    let path = "x".repeat(20 << 10);
    assert_eq!(rig.get(&format!("/{path}")).await.status, 414);
}

#[tokio::test]
async fn every_request_counts_for_its_client_also_one_that_is_refused_before_it_is_read() {
    let rig = nothing();
    let mut counted = 0;
    for request in [
        "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: site.test\r\nNo colon\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut client = rig.connect().await;
        client.send(request).await;
        assert!(client.answer().await.status >= 400);
        // The one thread of this front has done with the broken one when it answers the next.
        rig.get("/").await;
        counted += 2;
        assert_eq!(requests_counted(&rig), counted, "{request}");
    }
}

#[tokio::test]
async fn a_blocked_client_is_403_until_the_block_ends() {
    let rig = nothing();
    let client = ClientKey::from(rig.address.ip());
    let now = std::time::Instant::now();
    rig.tables.sessions().block(client, now + std::time::Duration::from_hours(1), now);
    assert_eq!(rig.get("/text").await.status, 403);
    rig.tables.sessions().block(client, now, now);
    assert_eq!(rig.get("/text").await.status, 201);
}

#[tokio::test]
async fn an_answer_that_needs_no_body_reads_a_small_one_away_and_the_connection_goes_on() {
    let rig = nothing();
    let mut client = rig.connect().await;
    for path in ["/status", "/text", "/nowhere"] {
        let size = 200_000;
        client
            .send(&format!("POST {path} HTTP/1.1\r\nHost: site.test\r\nContent-Length: {size}\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.field("connection"), None, "{path}");
        client.send(&"x".repeat(size)).await;
    }
    client.send("GET /status HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 410);
}

#[tokio::test]
async fn an_answer_that_needs_no_body_says_that_it_closes_where_the_body_is_too_much_to_read() {
    let rig = nothing();
    for (fields, body) in [
        ("Content-Length: 2000000", "x".repeat(2_000_000)),
        ("Transfer-Encoding: chunked", format!("{:x}\r\n{}\r\n0\r\n\r\n", 300_000, "x".repeat(300_000))),
    ] {
        let mut client = rig.connect().await;
        client.send(&format!("POST /status HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (410, Some("close")), "{fields}");
        // All of it is taken: closed over bytes that nobody read, the answer could be lost.
        client.send(&body).await;
        assert!(client.is_closed().await, "{fields}");
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_answered_instead() {
    let rig = nothing();
    let mut client = rig.connect().await;
    client
        .send("POST /status HTTP/1.1\r\nHost: site.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (410, Some("close")));
    assert!(client.is_closed().await);
}
