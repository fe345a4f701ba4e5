//! Which upstream gets a request, when it waits, and what is tried again.

use pmesh_proxy::{Upstream, WhenEmpty};

use crate::rig::{Rig, Upstreamer, dead_upstream, key, quick, to_upstreams, within};

#[tokio::test]
async fn a_request_and_its_answer_pass_through_and_the_connection_is_used_again() {
    let (upstream, mut seen) = Upstreamer::new().await.serving("hello");
    let rig = Rig::of(vec![upstream]);
    let mut client = rig.connect().await;
    for path in ["/a?b=c", "/d"] {
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        let head = within(seen.recv()).await.unwrap();
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{head}");
    }
}

#[tokio::test]
async fn a_connection_that_is_refused_sends_the_request_to_the_next_upstream() {
    let (upstream, _seen) = Upstreamer::new().await.serving("hello");
    let rig = Rig::of(vec![dead_upstream(), upstream]);
    for _ in 0..4 {
        assert_eq!(rig.get("/").await.body, "hello");
    }
}

#[tokio::test]
async fn a_request_waits_while_there_is_no_upstream_and_goes_on_when_one_comes() {
    let (upstream, _seen) = Upstreamer::new().await.serving("hello");
    let rig = Rig::of(vec![]);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = rig.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
        clients.push(client);
    }
    rig.tables.set_upstreams(&key(), vec![upstream], WhenEmpty::Wait);
    for mut client in clients {
        assert_eq!(client.answer().await.body, "hello");
    }
}

#[tokio::test]
async fn where_no_upstream_answers_it_is_502() {
    let rig = Rig::new(to_upstreams(vec![dead_upstream()], WhenEmpty::Wait, quick()));
    assert_eq!(rig.get("/").await.status, 502);
    let none: Vec<Upstream> = Vec::new();
    rig.tables.set_upstreams(&key(), none, WhenEmpty::Refuse);
    assert_eq!(rig.get("/").await.status, 503);
}
