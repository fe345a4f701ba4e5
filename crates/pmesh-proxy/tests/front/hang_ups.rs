//! Clients that go away: when that is seen, and when it is none.

use std::time::Duration;

use pmesh_proxy::{Destination, FilesSpec, Handler, Routing, WhenEmpty};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::rig::{Client, Rig, Upstreamer, key, one_thread, quick, route, site, to_upstreams, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nup\r\n";
/// The head of an answer and its first event.
const BEGUN: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n";

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaving {
    /// Its program has ended, or it half-closes: nobody can tell.
    Finishes,
    Resets,
}

impl Leaving {
    async fn leave(self, client: &mut Client) {
        match self {
            Self::Finishes => client.stream.shutdown().await.unwrap(),
            Self::Resets => {
                client.stream.set_zero_linger().unwrap();
                let gone =
                    std::mem::replace(client, Client::connect(client.stream.peer_addr().unwrap()).await);
                drop(gone);
            }
        }
    }
}

struct UnderWay {
    rig: Rig,
    upstreamer: Upstreamer,
    client: Client,
    upstream: Client,
}

async fn under_way(request: &str) -> UnderWay {
    let upstreamer = Upstreamer::new().await;
    let rig = Rig::of(vec![upstreamer.upstream.clone()]);
    let mut client = rig.connect().await;
    client.send(request).await;
    let mut upstream = upstreamer.accept().await;
    assert!(!upstream.head().await.is_empty());
    UnderWay { rig, upstreamer, client, upstream }
}

impl UnderWay {
    /// The app finds its connection closed, and nothing is left of the request.
    async fn told(mut self, what: &str) {
        // What was sent before the end may be read before it.
        self.upstream.until_end().await;
        within(self.rig.tables.withdraw(&key(), &[self.upstreamer.upstream.id])).await;
        println!("{what}: told");
    }
}

/// Sends what nobody takes, until there has been no room for it for a while.
async fn send_until_blocked(client: &mut Client) {
    let piece = vec![b'x'; 64 << 10];
    while timeout(Duration::from_millis(300), client.stream.write_all(&piece)).await.is_ok() {}
}

#[tokio::test]
async fn a_client_that_leaves_an_upload_which_is_being_answered_takes_it_along() {
    for leaving in [Leaving::Finishes, Leaving::Resets] {
        let mut it = under_way(UPLOAD).await;
        it.upstream.send(BEGUN).await;
        it.client.head().await;
        it.client.exactly(9).await;
        leaving.leave(&mut it.client).await;
        it.told("inside a body, once the answer has begun").await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_inside_a_body_takes_it_along() {
    for leaving in [Leaving::Finishes, Leaving::Resets] {
        let mut it = under_way(UPLOAD).await;
        leaving.leave(&mut it.client).await;
        it.told("inside a body").await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_an_answer_takes_it_along_also_with_a_request_behind_it() {
    for behind in ["", GET] {
        for leaving in [Leaving::Finishes, Leaving::Resets] {
            let mut it = under_way(&format!("{GET}{behind}")).await;
            it.upstream.send(BEGUN).await;
            it.client.head().await;
            leaving.leave(&mut it.client).await;
            it.told("inside an answer").await;
        }
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_before_its_answer_is_gone_whatever_was_sent() {
    for behind in ["", GET] {
        let mut it = under_way(&format!("{GET}{behind}")).await;
        Leaving::Resets.leave(&mut it.client).await;
        it.told("before an answer").await;
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_is_seen_also_where_nobody_reads_from_it() {
    let mut it = under_way("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 90000000\r\n\r\n").await;
    send_until_blocked(&mut it.client).await;
    Leaving::Resets.leave(&mut it.client).await;
    it.told("with an upload that nobody takes").await;
}

#[tokio::test]
async fn a_client_that_ends_its_side_behind_a_whole_request_gets_its_answer() {
    let with_length = "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 2\r\n\r\nup";
    let asked_first =
        "POST / HTTP/1.1\r\nHost: site.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nup";
    for request in [GET, with_length, &format!("{UPLOAD}0\r\n\r\n"), asked_first] {
        let mut it = under_way(request).await;
        Leaving::Finishes.leave(&mut it.client).await;
        if request == asked_first {
            assert!(it.client.head().await.starts_with("HTTP/1.1 100 "));
        }
        it.upstream.send(BEGUN).await;
        assert!(it.client.head().await.starts_with("HTTP/1.1 200 OK"), "{request}");
        for _ in 0..2 {
            it.upstream.send("4\r\nmore\r\n").await;
        }
        it.upstream.send("0\r\n\r\n").await;
        assert_eq!(
            it.client.until_end().await,
            "4\r\ndata\r\n4\r\nmore\r\n4\r\nmore\r\n0\r\n\r\n",
            "{request}"
        );
    }
}

#[tokio::test]
async fn the_first_write_to_nobody_ends_an_answer() {
    let mut it = under_way(GET).await;
    // To the front this is a half-close; but nobody waits for the answer.
    drop(std::mem::replace(&mut it.client, it.rig.connect().await));
    it.upstream.send(BEGUN).await;
    it.told("an answer for nobody").await;
}

#[tokio::test]
async fn requests_in_a_row_behind_which_a_client_ends_its_side_are_all_answered() {
    let (upstream, mut heads) = Upstreamer::new().await.serving("web");
    let rig = Rig::of(vec![upstream]);
    let mut client = rig.connect().await;
    client.send(&GET.repeat(3)).await;
    Leaving::Finishes.leave(&mut client).await;
    for _ in 0..3 {
        assert_eq!(client.answer().await.body, "web");
        heads.recv().await.unwrap();
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_answer_or_tunnel_that_nobody_reads_is_closed_and_its_app_told() {
    let limits = one_thread().with(|limits| limits.write_stall = Duration::from_millis(50));
    for (request, answer) in [
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n"),
        (
            "GET / HTTP/1.1\r\nHost: site.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
    ] {
        let upstreamer = Upstreamer::new().await;
        let routing = to_upstreams(vec![upstreamer.upstream.clone()], WhenEmpty::Wait, quick());
        let rig = Rig::with(routing, limits.clone());
        let mut client = rig.connect().await;
        client.send(request).await;
        let mut upstream = upstreamer.accept().await;
        upstream.head().await;
        upstream.send(answer).await;
        let piece = vec![b'x'; 64 << 10];
        within(async { while upstream.stream.write_all(&piece).await.is_ok() {} }).await;
        within(rig.tables.withdraw(&key(), &[upstreamer.upstream.id])).await;
    }
}

#[tokio::test]
async fn a_file_that_nobody_reads_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("large")).unwrap().set_len(100 << 20).unwrap();
    let files = Destination::Files(FilesSpec::of(folder.path().to_owned()));
    let routing =
        Routing::new(vec![site(vec![route("_", Handler::Destination(key()))])], [(key(), files)].into());
    let rig = Rig::with(routing, one_thread().with(|limits| limits.write_stall = Duration::from_millis(50)));
    let mut client = rig.connect().await;
    client.send("GET /large HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    client.head().await;
    // Whoever ends politely waits for what is under way.
    within(rig.front.shutdown(Duration::from_hours(1))).await;
}
