//! The API on real sockets, and the client that asks it.

use std::{future::pending, io, time::Duration};

use pmesh_api::{
    Api, Token,
    client::{Client, ClientError, Endpoint, service_path},
    serve_tcp, serve_unix,
    testing::TestApi,
    wire::{Counted, Named},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::{api_of, serving_manifest};

/// A server on a port of its own, its end, and the task that it runs in.
async fn over_tcp(api: Api) -> (Endpoint, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel();
    let server = tokio::spawn(serve_tcp(listener, api, async {
        ended.await.unwrap_or_default();
    }));
    (Endpoint::Http { host: address.ip().to_string(), port: address.port() }, end, server)
}

fn port(endpoint: &Endpoint) -> u16 {
    match endpoint {
        Endpoint::Http { port, .. } => *port,
        Endpoint::Unix(path) => panic!("{} has no port", path.display()),
    }
}

/// Sends bytes and reads all that comes back until the server closes.
async fn raw(endpoint: &Endpoint, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port(endpoint))).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn tcp_and_unix_socket_give_the_same_bytes() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let (endpoint, _end, _server) = over_tcp(api_of(&node)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let server = serve_unix(UnixListener::bind(&path).unwrap(), api_of(&node), pending());
    let server = tokio::spawn(server);
    for path_and_query in ["/repo?pretty", "/service", "/service/health", "/nope"] {
        let tcp = Client::new(endpoint.clone(), None).get(path_and_query).await.unwrap();
        let unix = Client::new(Endpoint::Unix(path.clone()), None).get(path_and_query).await.unwrap();
        assert_eq!((tcp.status, tcp.body), (unix.status, unix.body), "{path_and_query}");
    }
    server.abort();
}

#[tokio::test]
async fn the_client_acts_and_reads_typed_answers() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let (endpoint, _end, _server) = over_tcp(api_of(&node)).await;
    let client = Client::new(endpoint, None);
    let before: Named<String> = client.get("/service").await.unwrap().json().unwrap();

    let path = service_path("restart", Some("web"));
    let answer = client.post(&path, json!({"invalidate": true})).await.unwrap();
    let counted: Counted = answer.json().unwrap();
    assert_eq!((counted.count, counted.warnings), (1, Vec::new()));
    assert!(answer.headers.contains_key("operation-id"));

    let after: Named<String> = client.get("/service").await.unwrap().json().unwrap();
    assert_ne!(before, after);
    assert_eq!(client.manifest().await.unwrap(), Some(node.manifest()));
}

#[tokio::test]
async fn the_client_reads_errors() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let (endpoint, _end, _server) = over_tcp(api_of(&node)).await;
    let client = Client::new(endpoint, None);
    for (service, code) in
        [("a/b", "service_not_found"), ("", "service_name_missing"), ("é", "service_not_found")]
    {
        let answer = client.post(&service_path("stop", Some(service)), json!({})).await.unwrap();
        assert_eq!(answer.error().unwrap().unwrap().code, code, "{service:?}");
    }
    assert!(client.get("/ping").await.unwrap().error().unwrap().is_none());
    assert!(matches!(client.get("no path").await, Err(ClientError::BadPath { .. })));
    assert!(matches!(client.get("ping").await, Err(ClientError::BadPath { .. })));
}

#[tokio::test]
async fn the_client_tells_no_server_from_a_bad_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::Http { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let client = Client::new(endpoint, None);

    let rubbish = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhtml").await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.get("/ping"), rubbish);
    assert!(matches!(answer.unwrap().json::<Value>(), Err(ClientError::NotOurs { .. })));

    let broken_off = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nht").await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.get("/ping"), broken_off);
    assert!(matches!(answer, Err(ClientError::BrokenOff { .. })), "{answer:?}");

    drop(listener);
    assert!(matches!(client.get("/ping").await, Err(ClientError::Unreachable { .. })));
    let nowhere = Client::new(Endpoint::Unix("/nonexistent/api.sock".into()), None).get("/ping").await;
    assert!(matches!(
        nowhere, Err(ClientError::Unreachable { source, .. }) if source.kind() == io::ErrorKind::NotFound
    ));
}

#[tokio::test]
async fn a_client_with_the_token_is_let_in_over_tcp() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "a-token-of-32-characters-0123456").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let token = Token::read(&path).unwrap();

    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let api =
        Api::new(node.handle(), TestApi::settings().with(|settings| settings.token = Some(token.clone())));
    let (endpoint, _end, _server) = over_tcp(api).await;
    let without = Client::new(endpoint.clone(), None).get("/ping").await.unwrap();
    assert_eq!(
        (without.status.as_u16(), &without.headers["www-authenticate"]),
        (401, &"Bearer".parse().unwrap())
    );
    assert_eq!(without.error().unwrap().unwrap().code, "token_required");
    let path = folder.path().join("other");
    std::fs::write(&path, "b-token-of-32-characters-0123456").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let wrong = Some(Token::read(&path).unwrap());
    let wrong = Client::new(endpoint.clone(), wrong).get("/ping").await.unwrap();
    assert_eq!((wrong.status.as_u16(), wrong.error().unwrap().unwrap().code.as_str()), (401, "token_wrong"));
    let with = Client::new(endpoint, Some(token)).get("/ping").await.unwrap();
    assert_eq!(with.status.as_u16(), 200);
}

/// A file with a token of its own, that the API and its clients can read.
fn token_in(folder: &std::path::Path, text: &str) -> Token {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(text);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Token::read(&path).unwrap()
}

/// Somebody of another user who listens, tells where, and repeats what is said to him.
const STRANGER: &str = r#"
import socket, sys
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
print(listener.accept()[0].recv(10000), flush=True)
"#;

#[tokio::test]
async fn a_wary_client_shows_its_token_to_this_user_and_root_alone() {
    use std::io::BufRead as _;
    let folder = tempfile::tempdir().unwrap();
    let token = token_in(folder.path(), "a-token-of-32-characters-0123456");
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let api =
        Api::new(node.handle(), TestApi::settings().with(|settings| settings.token = Some(token.clone())));
    let (endpoint, _end, _server) = over_tcp(api.clone()).await;
    let ours = Client::wary(endpoint, Some(token.clone())).get("/ping").await.unwrap();
    assert_eq!(ours.status.as_u16(), 200);
    let path = folder.path().join("api.sock");
    let server = tokio::spawn(serve_unix(UnixListener::bind(&path).unwrap(), api, pending()));
    let ours = Client::wary(Endpoint::Unix(path), Some(token.clone())).get("/ping").await.unwrap();
    assert_eq!(ours.status.as_u16(), 200);
    server.abort();

    if !rustix::process::geteuid().is_root() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
        eprintln!("skipped in part: only root can have somebody else listen");
        return;
    }
    let mut stranger = std::process::Command::new("python3");
    std::os::unix::process::CommandExt::uid(&mut stranger, 54_321);
    let stranger = stranger.args(["-c", STRANGER]).stdout(std::process::Stdio::piped()).spawn();
    let mut stranger = stranger.unwrap();
    let mut says = std::io::BufReader::new(stranger.stdout.take().unwrap()).lines();
    let port = says.next().unwrap().unwrap().parse().unwrap();
    let client = Client::wary(Endpoint::Http { host: "127.0.0.1".into(), port }, Some(token));
    let refused = client.get("/ping").await.unwrap_err();
    assert!(matches!(refused, ClientError::Stranger { user: Some(54_321), .. }), "{refused}");
    assert!(refused.to_string().contains("name it with --url"), "{refused}");
    assert_eq!(says.next().unwrap().unwrap(), "b''", "nothing at all was sent");
    stranger.wait().unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_ten_wrong_tokens_answers_come_once_a_second_and_not_all_requests_wait() {
    let folder = tempfile::tempdir().unwrap();
    let token = token_in(folder.path(), "a-token-of-32-characters-0123456");
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let api =
        Api::new(node.handle(), TestApi::settings().with(|settings| settings.token = Some(token.clone())));
    let from = |peer: &str| {
        let (local, peer) = ("192.0.2.1:9870".parse().unwrap(), format!("{peer}:5000").parse().unwrap());
        pmesh_api::Listener::Tcp { local, peer, owner: pmesh_sessions::PeerOwner::NotAsked }
    };
    let ask = |peer, token: &str| {
        let (api, listener) = (api.clone(), from(peer));
        let request = http::Request::get("/ping")
            .header("Host", "localhost")
            .header("Authorization", format!("Bearer {token}"))
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        tokio::spawn(async move { api.handle(request, listener).await.status().as_u16() })
    };
    let start = tokio::time::Instant::now();
    for _ in 0..10 {
        assert_eq!(ask("192.0.2.9", "wrong").await.unwrap(), 401);
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    for second in 1..=3 {
        assert_eq!(ask("192.0.2.9", "wrong").await.unwrap(), 401);
        assert_eq!(start.elapsed().as_secs(), second);
    }
    assert_eq!(ask("192.0.2.8", token.reveal()).await.unwrap(), 200);
    assert_eq!(start.elapsed().as_secs(), 3, "others do not wait");
    assert_eq!(ask("192.0.2.9", token.reveal()).await.unwrap(), 200);
    assert_eq!(start.elapsed().as_secs(), 4, "a right one is not told by how soon it is answered");
    let mut statuses = Vec::new();
    for asked in (0..40).map(|_| ask("192.0.2.9", "wrong")).collect::<Vec<_>>() {
        statuses.push(asked.await.unwrap());
    }
    let count = |status| statuses.iter().filter(|&&found| found == status).count();
    assert_eq!((count(401), count(503)), (15, 25));
}

#[tokio::test]
async fn a_head_has_the_length_of_the_body_and_no_body() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let (endpoint, _end, _server) = over_tcp(api_of(&node)).await;
    let request = "GET /service HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let get = raw(&endpoint, request.as_bytes()).await;
    let head = raw(&endpoint, request.replace("GET", "HEAD").as_bytes()).await;
    let (get_head, body) = get.split_once("\r\n\r\n").unwrap();
    let without_date = |head: &str| -> Vec<String> {
        head.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned).collect()
    };
    let (head, nothing) = head.split_once("\r\n\r\n").unwrap();
    assert_eq!((without_date(head), nothing), (without_date(get_head), ""));
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
}

#[tokio::test]
async fn a_long_list_of_clients_comes_in_pieces_with_the_bytes_that_a_short_one_has() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    for client in 0..3000_u32 {
        let client = pmesh_sessions::ClientKey::from(std::net::IpAddr::from(client.to_be_bytes()));
        node.sessions().record(client, std::time::Instant::now());
    }
    let (endpoint, _end, _server) = over_tcp(api_of(&node)).await;
    let client = Client::new(endpoint.clone(), None);
    for (path, pretty) in [("/session", false), ("/session?pretty", true)] {
        let answer = client.get(path).await.unwrap();
        assert!(!answer.headers.contains_key("content-length"));
        let sessions: pmesh_api::wire::Sessions = answer.json().unwrap();
        assert_eq!((sessions.num_clients, sessions.sessions.0.len()), (3000, 3000));
        // Written anew from what was read, it is the same.
        let text =
            if pretty { serde_json::to_string_pretty(&sessions) } else { serde_json::to_string(&sessions) };
        assert_eq!(answer.body, text.unwrap() + "\n");
    }
    let short = client.get("/session?limit=10").await.unwrap();
    assert!(short.headers.contains_key("content-length"));
    let head = "HEAD /session HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let head = raw(&endpoint, head.as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    let old = "GET /session HTTP/1.0\r\nHost: localhost\r\n\r\n";
    assert!(raw(&endpoint, old.as_bytes()).await.ends_with("}}\n"), "its end is that of the connection");
}

#[tokio::test]
async fn two_long_lists_that_nobody_reads_keep_short_ones_from_nobody() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    for client in 0..3000_u32 {
        let client = pmesh_sessions::ClientKey::from(std::net::IpAddr::from(client.to_be_bytes()));
        node.sessions().record(client, std::time::Instant::now());
    }
    let api = TestApi(api_of(&node));
    let long = || {
        let request = http::Request::get("/session").header("Host", "localhost");
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        api.0.handle(request, TestApi::loopback())
    };
    let unread = (long().await, long().await);
    assert_eq!(api.get("/session?limit=5").await.json["num_clients"], 3000);
    let mut third = std::pin::pin!(long());
    assert!(futures_util::poll!(third.as_mut()).is_pending());
    drop(unread);
    let answer = TestApi::read(third.await).await;
    assert_eq!(answer.json["num_clients"], 3000);
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_refused_without_a_body() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let (endpoint, _end, _server) = over_tcp(api_of(&node)).await;
    let long = "x".repeat(200_000);
    for (request, status) in [
        ("GET /ping\r\n\r\n".to_owned(), 400),
        ("GET /ping HTTP/1.1\r\nHost : localhost\r\n\r\n".to_owned(), 400),
        ("GET /ping HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(), 400),
        (format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 431),
        (format!("GET /ping HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"), 431),
    ] {
        let answer = raw(&endpoint, request.as_bytes()).await;
        let shown = &request[..request.len().min(60)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
        assert!(answer.contains("content-length: 0\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_an_answer_that_arrives() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let (endpoint, _end, _server) = over_tcp(api_of(&node)).await;
    for length in [Api::MAX_BODY_LEN + 1, 10 * Api::MAX_BODY_LEN] {
        let head = format!(
            "POST /reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let answer = raw(&endpoint, &[head.as_bytes(), &vec![b' '; length]].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("body_too_large"), "{answer}");
    }
    let chunk = format!("{:x}\r\n{}\r\n", 40_000, "x".repeat(40_000));
    let head =
        "POST /reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = raw(&endpoint, format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_refusal_before_the_body_came_takes_the_body_and_the_connection_goes_on() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let (endpoint, _end, _server) = over_tcp(api_of(&node)).await;
    let mut connection = TcpStream::connect(("127.0.0.1", port(&endpoint))).await.unwrap();
    for (path, host) in [("/nothing", "localhost"), ("/reload", "site.test")] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 200\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&[b' '; 200]).await.unwrap();
    }
    let last = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    connection.write_all(last).await.unwrap();
    let mut answers = String::new();
    connection.read_to_string(&mut answers).await.unwrap();
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["404", "403", "200"], "{answers}");
}

#[tokio::test]
async fn a_refusal_that_leaves_a_body_on_the_connection_says_that_it_closes() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let (endpoint, _end, _server) = over_tcp(api_of(&node)).await;
    for fields in ["Content-Length: 90000000", "Content-Length: 5\r\nExpect: 100-continue"] {
        let head = format!("POST /nothing HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n");
        let answer = raw(&endpoint, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn who_asks_before_sending_too_much_is_told_not_to() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let (endpoint, _end, _server) = over_tcp(api_of(&node)).await;
    let head =
        "POST /reload HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n";
    let answer = raw(&endpoint, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn at_the_end_idle_connections_are_closed_and_requests_in_flight_are_answered() {
    let node = serving_manifest("services:\n  web: !App\n    run: web\n").await;
    let (endpoint, end, server) = over_tcp(api_of(&node)).await;
    let mut idle = TcpStream::connect(("127.0.0.1", port(&endpoint))).await.unwrap();
    idle.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(idle.read_u8().await.unwrap(), b'H');
    let silent = TcpStream::connect(("127.0.0.1", port(&endpoint))).await.unwrap();
    // Its body is not there yet, so the request is in flight.
    let mut in_flight = TcpStream::connect(("127.0.0.1", port(&endpoint))).await.unwrap();
    let head =
        "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    in_flight.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    in_flight.read_exact(&mut go_on).await.unwrap();

    end.send(()).unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(!server.is_finished());
    in_flight.write_all(b"{}").await.unwrap();
    let mut answer = String::new();
    in_flight.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    timeout(Duration::from_secs(5), server).await.expect("the server ends when its requests have").unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port(&endpoint))).await.is_err());
    drop(silent);
}
