//! The upstream of `front`: one thread that answers every request with the same kilobyte, as fast as it can, so
//! that what is measured is the proxy before it.
//!
//! It runs in a process of its own, because its CPU time is nobody's business, and ends when its standard input
//! does, which is when whoever started it has gone.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::processes::Running;

/// The word by which this program starts itself as the upstream of `front`.
pub(crate) const UPSTREAM: &str = "serve-upstream";

const BODY_BYTES: usize = 1024;
const LISTENER: u64 = 0;
const INPUT: u64 = 1;
const FIRST_CONNECTION: u64 = 2;

/// A running upstream; it ends when this is dropped.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    _process: Running,
}

impl Upstream {
    /// Starts this very program once more, as an upstream.
    pub(super) fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", UPSTREAM]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running::start(&mut command)?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("its output is a pipe")?).read_line(&mut line)?;
        let address = line.trim().parse().context("the upstream did not say where it listens")?;
        Ok(Self { address, _process: process })
    }
}

struct Connection {
    stream: TcpStream,
    /// What came of a request whose head has not ended yet.
    unfinished: Vec<u8>,
}

/// Serves on a free loopback port, printed as its first line, until standard input ends.
pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?);

    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY_BYTES}\r\n\r\n{}",
        "x".repeat(BODY_BYTES)
    );
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    epoll::add(&epoll, std::io::stdin(), EventData::new_u64(INPUT), EventFlags::IN)?;
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut next = FIRST_CONNECTION;
    let mut events = Vec::with_capacity(256);
    loop {
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                INPUT => return Ok(()),
                LISTENER => {
                    while let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(true)?;
                        stream.set_nodelay(true)?;
                        epoll::add(&epoll, &stream, EventData::new_u64(next), EventFlags::IN)?;
                        connections.insert(next, Connection { stream, unfinished: Vec::new() });
                        next += 1;
                    }
                }
                key => {
                    // Closing the descriptor takes it out of the epoll set.
                    if connections
                        .get_mut(&key)
                        .is_some_and(|connection| !connection.answer(answer.as_bytes()))
                    {
                        connections.remove(&key);
                    }
                }
            }
        }
    }
}

impl Connection {
    /// Answers every request that has arrived in full; `false` when the connection is over.
    fn answer(&mut self, answer: &[u8]) -> bool {
        let mut buffer = [0; 4096];
        let received = match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(received) => received,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        self.unfinished.extend_from_slice(&buffer[..received]);
        let mut open = true;
        while let Some(end) = self.unfinished.windows(4).position(|four| four == b"\r\n\r\n") {
            self.unfinished.drain(..end + 4);
            open &= self.stream.write_all(answer).is_ok();
        }
        open
    }
}
