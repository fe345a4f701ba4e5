//! Whom a warning is about where nobody wants to read more than warnings. The log is the process's: nothing else is tested here.

use std::{
    io::{self, Read as _, Write},
    net::TcpListener,
    sync::Mutex,
    time::Duration,
};

use pmesh_proxy::{Front, FrontLimits, Routing, Tables};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tracing::Level;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_warning_while_a_client_is_served_is_said_in_its_span_which_names_the_client_once() {
    tracing_subscriber::fmt().with_max_level(Level::WARN).with_ansi(false).with_writer(|| Log).init();
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let tables = Tables::default();
    tables.set_routing(Routing::to([app.local_addr().unwrap()]));
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = app.accept().unwrap();
        let read = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n").unwrap();
        read
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let limits = FrontLimits::default().with(|limits| limits.threads = 1);
    let front = Front::serve(vec![listener], tables, limits, None).unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let peer = client.local_addr().unwrap().to_string();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    front.shutdown(Duration::from_secs(20)).await;
    assert!(answering.join().unwrap() > 0);

    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let line = log.lines().find(|line| line.contains("an answer was refused")).expect(&log);
    assert!(line.contains(&format!("client{{peer={peer}}}")), "{line}");
    assert_eq!(line.matches(&peer).count(), 1, "{line}");
}
