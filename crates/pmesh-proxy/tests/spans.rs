//! Whom a line of the log is about. The log is the process's: nothing else is tested here.

use std::{
    io::{self, Write},
    net::TcpListener,
    sync::Mutex,
    time::Duration,
};

use pmesh_proxy::{Front, FrontLimits, Tables};
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
async fn what_is_said_of_a_clients_connection_is_said_in_its_span_which_names_the_client_once() {
    tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_ansi(false).with_writer(|| Log).init();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let limits = FrontLimits::default().with(|limits| limits.threads = 1);
    let front = Front::serve(vec![listener], Tables::default(), limits, None).unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let peer = client.local_addr().unwrap().to_string();
    client.write_all(b"this is no request\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    front.shutdown(Duration::from_secs(20)).await;

    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let line = log.lines().find(|line| line.contains("a client's connection ended")).expect(&log);
    assert!(line.contains(&format!("client{{peer={peer}}}")), "{line}");
    assert_eq!(line.matches(&peer).count(), 1, "{line}");
}
