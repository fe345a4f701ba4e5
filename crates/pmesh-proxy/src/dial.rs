//! Making connections to upstreams.

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    exchange::Connection,
    spec::{Upstream, UpstreamAddress},
    upstream::InFlight,
};

/// Makes a connection for a request.
///
/// Cancel-safe: a connection that is not yet made is given up.
pub(crate) async fn connect(in_flight: &InFlight, limit: Duration) -> io::Result<Box<Connection>> {
    let open = in_flight.connecting();
    let stream =
        timeout(limit, tcp(&in_flight.live().upstream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(Box::new(Connection::new(stream, open)))
}

async fn tcp(upstream: &Upstream) -> io::Result<TcpStream> {
    let stream = match &upstream.address {
        UpstreamAddress::Socket(address) => TcpStream::connect(address).await?,
        UpstreamAddress::Name(host, port) => TcpStream::connect((&**host, *port)).await?,
    };
    // Head and body of a request may be two writes: the second must not wait for the first's
    // acknowledgement.
    stream.set_nodelay(true)?;
    Ok(stream)
}
