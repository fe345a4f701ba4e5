//! Websockets and other upgrades: bytes both ways, once the upstream has agreed.

use std::{future::poll_fn, io, pin::pin};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    at_work::AtWork,
    live_upstream::{InFlight, OpenConnection},
    occupancy::Occupied,
};

/// The client's end of a tunnel.
pub(crate) struct ClientSide {
    pub(crate) upgrade: OnUpgrade,
    pub(crate) at_work: AtWork,
    pub(crate) occupied: Occupied,
}

/// The upstream's end of a tunnel.
pub(crate) struct UpstreamEnd {
    pub(crate) stream: TcpStream,
    /// What it has sent behind its answer.
    pub(crate) sent: Bytes,
    pub(crate) open: OpenConnection,
}

/// Passes bytes until both sides have ended or one has failed. What came in behind the request or the
/// answer comes first. Each direction holds 8 KiB. A client that leaves bytes unread for too long is given up.
pub(crate) async fn run(client: ClientSide, upstream: UpstreamEnd, in_flight: InFlight) {
    let ClientSide { upgrade, at_work, occupied } = client;
    let UpstreamEnd { stream, sent, open } = upstream;
    let mut alarm = pin!(sleep_until(Instant::now()));
    let passed = tokio::select! {
        // In this order: what passing notes is what the verdict sees.
        biased;
        passed = pass(upgrade, stream, &sent) => Some(passed),
        verdict = poll_fn(|cx| at_work.phases().poll_verdict(cx, alarm.as_mut())) => {
            tracing::debug!(?verdict, "a tunnel is closed");
            None
        }
    };
    match passed {
        Some(Ok((up, down))) => tracing::debug!(up, down, "a tunnel ended"),
        Some(Err(error)) => tracing::debug!(%error, "a tunnel broke"),
        None => {}
    }
    drop((in_flight, open, occupied));
}

async fn pass(client: OnUpgrade, mut upstream: TcpStream, sent: &[u8]) -> io::Result<(u64, u64)> {
    let mut client = TokioIo::new(client.await.map_err(io::Error::other)?);
    client.write_all(sent).await?;
    copy_bidirectional(&mut client, &mut upstream).await
}
