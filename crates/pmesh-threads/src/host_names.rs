//! Names of hosts, by the system's resolver, which blocks.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    time::Duration,
};

use tokio::net::TcpStream;

use crate::{NoThread, PoolLimits, Threads};

/// How long the resolver has: two tries of 5 s with the first server, and some time with the next (resolv.conf(5)).
const LIMIT: Duration = Duration::from_secs(15);

const LIMITS: PoolLimits = PoolLimits { threads: 4, queue: 256, replacements: 4 };

/// Looks names of hosts up, on threads of its own; clones share them.
#[derive(Clone, Debug)]
pub struct HostNames(Threads);

impl HostNames {
    /// Starts the first thread.
    ///
    /// # Errors
    ///
    /// [`NoThread`].
    pub fn start() -> Result<Self, NoThread> {
        Threads::start("names", LIMITS).map(Self)
    }

    /// Looks up on these threads.
    pub fn on(threads: Threads) -> Self {
        Self(threads)
    }

    /// The addresses of `host`, which may be one itself. Within 15 s. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The resolver's, and [`Unanswered`](crate::Unanswered) as the inner error.
    pub async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let host = host.to_owned();
        self.0.run(LIMIT, move |_| (host.as_str(), port).to_socket_addrs().map(Iterator::collect)).await?
    }

    /// A connection to the first of the addresses of `host` that takes one. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As [`look_up`](Self::look_up), or that of the last address.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in self.look_up(host, port).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn an_address_needs_no_resolver_and_a_name_is_looked_up_on_a_thread() {
        let names = HostNames::start().unwrap();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        assert_eq!(names.look_up("127.0.0.1", 80).await.unwrap(), [loopback]);
        assert!(names.look_up("localhost", 80).await.unwrap().iter().all(|found| found.ip().is_loopback()));
        assert!(names.look_up("no such name", 80).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_is_made_to_the_address_that_takes_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let names = HostNames::start().unwrap();
        assert_eq!(names.connect("localhost", port).await.unwrap().peer_addr().unwrap().port(), port);
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_is_an_error_and_holds_up_no_runtime() {
        let limits = PoolLimits { threads: 1, queue: 1, replacements: 0 };
        let threads = Threads::start("names", limits).unwrap();
        let names = HostNames::on(threads.clone());
        let (_held, until) = std::sync::mpsc::channel::<()>();
        let hangs = threads.begin(Duration::ZERO, move |_| until.recv().is_ok()).unwrap();
        assert!(hangs.await.is_err());
        let error = names.look_up("localhost", 80).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(names.look_up("127.0.0.1", 80).await.is_ok());
    }
}
