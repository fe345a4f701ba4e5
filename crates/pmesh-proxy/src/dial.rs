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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use pmesh_threads::{PoolLimits, Threads};

    use super::*;
    use crate::{DestinationKey, budget::DescriptorBudget, live_upstream::LiveUpstream};

    /// What a request for an upstream with this name gets, where these are the threads for names.
    async fn dialled(host: &str, port: u16, threads: &Threads) -> Result<(), DialError> {
        let address = UpstreamAddress::Name(host.into(), port);
        let upstream = LiveUpstream::new(DestinationKey::new("web"), Upstream { id: 1, address });
        let relief = Relief::new(DescriptorBudget::unlimited(), Duration::from_secs(1), Vec::new());
        let names = HostNames::on(threads.clone());
        connect(&InFlight::begin(upstream), &relief, &names, Duration::from_millis(200)).await.map(drop)
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_or_has_too_much_to_do_fails_the_request_in_its_time_and_no_address() {
        let app = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = app.local_addr().unwrap().port();
        let limits = PoolLimits::new(1, 1).with(|limits| limits.replacements = 0);
        let (_held, until) = mpsc::channel::<()>();
        let hangs = Threads::start("names", limits).unwrap();
        assert!(hangs.begin(Duration::ZERO, move |_| until.recv().is_ok()).unwrap().await.is_err());
        assert!(matches!(dialled("localhost", port, &hangs).await, Err(DialError::Upstream(_))));
        assert!(dialled("127.0.0.1", port, &hangs).await.is_ok());

        // It is nobody's fault but the server's own: as with descriptors.
        let busy = Threads::start("names", limits).unwrap();
        let ((go_on, until), (begun, has_begun)) = (mpsc::channel::<()>(), mpsc::channel());
        let slow = busy.begin(Duration::MAX, move |_| (begun.send(()), until.recv()).1).unwrap();
        has_begun.recv().unwrap();
        let waits = busy.begin(Duration::MAX, |_| ()).unwrap();
        assert!(matches!(dialled("localhost", port, &busy).await, Err(DialError::NoDescriptor)));
        go_on.send(()).unwrap();
        slow.await.unwrap().unwrap();
        waits.await.unwrap();
        assert!(dialled("localhost", port, &busy).await.is_ok());
    }
}
