//! Header fields, as the upstream and the client see them.

use std::collections::BTreeSet;

use crate::rig::{Rig, Upstreamer, field, fields};

/// The lines of a head without the first, in lower case up to the colon, sorted.
fn lines(head: &str) -> BTreeSet<String> {
    head.lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            format!("{}:{value}", name.to_ascii_lowercase())
        })
        .collect()
}

/// What the upstream gets for this request.
async fn seen(rig: &Rig, upstreamer: &Upstreamer, request: &str) -> String {
    let mut client = rig.connect().await;
    client.send(request).await;
    let mut upstream = upstreamer.accept().await;
    let head = upstream.head().await;
    upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
    head
}

#[tokio::test]
async fn an_app_sees_the_request_as_it_was_sent_and_who_sent_it() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::trusting_nobody(vec![upstreamer.upstream.clone()]);
    let head = seen(
        &rig,
        &upstreamer,
        "PATCH /a%20b//c?d=%2e%2e/ HTTP/1.1\r\nhost: Site.Test:8080\r\nX-Custom: 1\r\nx-custom: 2\r\n\
         Cookie: a=b\r\nX-Request-Id: my-id\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert!(head.starts_with("PATCH /a%20b//c?d=%2e%2e/ HTTP/1.1\r\n"), "{head}");
    let expected = [
        "host: Site.Test:8080",
        "x-custom: 1",
        "x-custom: 2",
        "cookie: a=b",
        "content-length: 0",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: Site.Test:8080",
        "x-request-id: my-id",
        "p-ip: 127.0.0.1",
        "p-internal: 1",
    ];
    assert_eq!(lines(&head), expected.into_iter().map(str::to_owned).collect());
}

#[tokio::test]
async fn what_a_stranger_sends_under_the_names_of_the_front_never_reaches_an_app() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::trusting_nobody(vec![upstreamer.upstream.clone()]);
    let forged = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "Forwarded",
        "X-Real-IP",
        "CF-Connecting-IP",
        "P-Ip",
        "P-Internal",
        "P-Portal",
        "P_Ip",
        "P_Internal",
        "X_Forwarded_For",
        "X_Forwarded-For",
        "X_Request_Id",
        "X_Real_Ip",
    ];
    let forged = forged.map(|name| format!("{name}: 6.6.6.6\r\n")).concat();
    let head = seen(
        &rig,
        &upstreamer,
        &format!(
            "GET / HTTP/1.1\r\nHost: site.test\r\nMy_Own: 1\r\nP: 2\r\n{forged}X-Request-Id: a b\r\n\r\n"
        ),
    )
    .await;
    let id = field(&head, "x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let expected = [
        "host: site.test",
        "my_own: 1",
        "p: 2",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: site.test",
        &format!("x-request-id: {id}"),
        "p-ip: 127.0.0.1",
    ];
    assert_eq!(lines(&head), expected.into_iter().map(str::to_owned).collect());
}

#[tokio::test]
async fn a_request_that_any_field_calls_forwarded_is_not_internal() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::trusting_nobody(vec![upstreamer.upstream.clone()]);
    for name in
        ["Via", "X-Client-IP", "True_Client_IP", "CF-Ray", "Fly-Region", "X_Original_Host", "X-Envoy-Id"]
    {
        let request = format!("GET / HTTP/1.1\r\nHost: site.test\r\n{name}: 1\r\n\r\n");
        assert_eq!(field(&seen(&rig, &upstreamer, &request).await, "p-internal"), None, "{name}");
    }
    let head = seen(&rig, &upstreamer, "GET / HTTP/1.1\r\nHost: site.test\r\nX-Own: 1\r\n\r\n").await;
    assert_eq!(field(&head, "p-internal"), Some("1"));
}

#[tokio::test]
async fn the_word_of_a_trusted_proxy_about_its_client_is_passed_on() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let head = seen(
        &rig,
        &upstreamer,
        "GET / HTTP/1.1\r\nHost: site.test\r\nX-Forwarded-For: 9.9.9.9, 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: outer.test\r\nP-Ip: 6.6.6.6\r\nP-Internal: 1\r\n\r\n",
    )
    .await;
    assert_eq!(fields(&head, "x-forwarded-for"), ["9.9.9.9, 203.0.113.9, 127.0.0.1"]);
    assert_eq!(fields(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(fields(&head, "x-forwarded-host"), ["outer.test"]);
    assert_eq!(fields(&head, "p-ip"), ["203.0.113.9"]);
    assert_eq!(field(&head, "p-internal"), None);
    let query = pmesh_sessions::Query::default();
    let seen = rig.tables.sessions().snapshot(query, std::time::Instant::now(), std::time::SystemTime::now());
    assert_eq!(seen.clients[0].client.to_string(), "203.0.113.9");
}

#[tokio::test]
async fn fields_of_one_connection_stay_there_in_both_directions() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let mut client = rig.connect().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: site.test\r\nConnection: X-Secret, keep-alive, Host, P-Ip, Cookie\r\n\
             Connection: X-Other\r\nX-Secret: 1\r\nX-Other: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\
             Proxy-Connection: close\r\nProxy-Authorization: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
             Cookie: a\r\nExpect: nothing\r\n\r\n",
        )
        .await;
    let mut upstream = upstreamer.accept().await;
    let head = upstream.head().await;
    for name in [
        "connection",
        "x-secret",
        "x-other",
        "keep-alive",
        "te",
        "proxy-connection",
        "proxy-authorization",
        "upgrade",
        "expect",
    ] {
        assert_eq!(field(&head, name), None, "{name} in {head}");
    }
    assert_eq!((field(&head, "host"), field(&head, "cookie")), (Some("site.test"), Some("a")));
    assert_eq!(field(&head, "p-ip"), Some("127.0.0.1"));
    upstream
        .send(
            "HTTP/1.1 200 Fine\r\nConnection: X-Up, Content-Length, Set-Cookie\r\nX-Up: 1\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Authenticate: x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Request-Id: theirs\r\n\
             Content-Length: 2\r\n\r\nok",
        )
        .await;
    let answer = client.answer().await;
    for name in ["connection", "x-up", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.field(name), None, "{name} in {}", answer.head);
    }
    assert_eq!(fields(&answer.head, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.body, "ok");
    assert_eq!(fields(&answer.head, "x-request-id").len(), 1);
    assert_eq!(answer.field("x-request-id"), field(&head, "x-request-id"));
}

#[tokio::test]
async fn the_target_of_a_request_to_a_proxy_names_the_host() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let head =
        seen(&rig, &upstreamer, "GET http://alias.test:81/a?b HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert_eq!(fields(&head, "host"), ["alias.test:81"]);
}

#[tokio::test]
async fn the_target_of_a_request_to_a_proxy_may_have_no_path() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    for (target, sent) in [("http://site.test?b", "/?b"), ("http://site.test", "/")] {
        let head =
            seen(&rig, &upstreamer, &format!("GET {target} HTTP/1.1\r\nHost: site.test\r\n\r\n")).await;
        assert!(head.starts_with(&format!("GET {sent} HTTP/1.1\r\n")), "{head}");
    }
}

#[tokio::test]
async fn the_path_is_passed_on_as_the_client_wrote_it() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    for sent in [
        "/a/./b/../c?x=/../y",
        "/a/%2e%2e/c",
        "//a//b/",
        "/%61/%2F?",
        "/a%2fb%252f",
        "/a;v=1/b",
        "/%ff%0a",
        "/?a",
        "/a?b%00\\//..",
    ] {
        let head = seen(&rig, &upstreamer, &format!("GET {sent} HTTP/1.1\r\nHost: site.test\r\n\r\n")).await;
        assert!(head.starts_with(&format!("GET {sent} HTTP/1.1\r\n")), "{head}");
    }
}

#[tokio::test]
async fn a_request_of_the_old_protocol_is_passed_on_as_one_of_ours() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let head = seen(&rig, &upstreamer, "GET / HTTP/1.0\r\nHost: site.test\r\n\r\n").await;
    assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn no_spelling_of_a_field_that_frames_a_request_or_names_a_proxy_reaches_an_app() {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    for name in [
        "Transfer_Encoding",
        "Content_Length",
        "content.length",
        "Keep_Alive",
        "Proxy_Authorization",
        "Proxy",
        "X_Forwarded_For",
        "X.Forwarded_Host",
        "True_Client_IP",
        "P!Ip",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: site.test\r\n{name}: forged\r\nX_Own: 1\r\n\r\n");
        let head = seen(&rig, &upstreamer, &request).await;
        assert!(!head.contains("forged"), "{name} in {head}");
        assert_eq!(field(&head, "x_own"), Some("1"));
    }
}
