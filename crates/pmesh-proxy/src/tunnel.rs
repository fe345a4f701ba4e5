//! Websockets and other upgrades: bytes both ways, once the upstream has agreed.

use std::io;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::{connection::Occupied, upstream::InFlight};

/// Passes bytes until both sides have ended, one has failed or the upstream is cut. What came in
/// behind the request or the answer comes first. Each direction holds 8 KiB.
pub(crate) async fn run(client: OnUpgrade, upstream: OnUpgrade, in_flight: InFlight, occupied: Occupied) {
    tokio::select! {
        passed = pass(client, upstream) => match passed {
            Ok((up, down)) => tracing::debug!(up, down, "a tunnel ended"),
            Err(error) => tracing::debug!(%error, "a tunnel broke"),
        },
        () = in_flight.cut() => tracing::debug!("a tunnel was cut: its upstream's drain time is over"),
    }
    drop((in_flight, occupied));
}

async fn pass(client: OnUpgrade, upstream: OnUpgrade) -> io::Result<(u64, u64)> {
    let (client, upstream) =
        futures_util::future::try_join(client, upstream).await.map_err(io::Error::other)?;
    tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await
}
