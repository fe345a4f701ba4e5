//! Making connections to upstreams.

use std::{io, time::Duration};

use pmesh_threads::{HostNames, is_refusal};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    budget::is_for_want_of_our_own,
    live_upstream::InFlight,
    relief::Relief,
    spec::{Upstream, UpstreamAddress},
    upstream_connection::UpstreamConnection,
};

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum DialError {
    /// No descriptor of our own was left for as long as a connection may take. It says nothing about the
    /// upstream.
    NoDescriptor,
    Upstream(io::Error),
}

/// Makes a connection for a request. Waits `limit` at most for a descriptor, and then for the upstream.
///
/// Cancel-safe: a connection that is not yet made is given up.
pub(crate) async fn connect(
    in_flight: &InFlight,
    relief: &Relief,
    names: &HostNames,
    limit: Duration,
) -> Result<Box<UpstreamConnection>, DialError> {
    let begun = Instant::now();
    loop {
        let descriptor = relief.for_work(1, limit).await.ok_or(DialError::NoDescriptor)?;
        let open = in_flight.connecting(descriptor);
        let made = timeout(limit, tcp(&in_flight.upstream().spec, names)).await;
        match made.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok(Box::new(UpstreamConnection::new(stream, open))),
            Err(error) if !is_for_want_of_our_own(&error) && !is_refusal(&error) => {
                return Err(DialError::Upstream(error));
            }
            Err(_) if begun.elapsed() >= limit => return Err(DialError::NoDescriptor),
            Err(_) => {
                drop(open);
                relief.after_a_lack().await;
            }
        }
    }
}

async fn tcp(upstream: &Upstream, names: &HostNames) -> io::Result<TcpStream> {
    let stream = match &upstream.address {
        UpstreamAddress::Socket(address) => TcpStream::connect(address).await?,
        UpstreamAddress::Name(host, port) => names.connect(host, *port).await?,
    };
    // Head and body of a request may be two writes: the second must not wait for the first's
    // acknowledgement.
    stream.set_nodelay(true)?;
    Ok(stream)
}
