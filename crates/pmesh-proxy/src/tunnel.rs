//! Websockets and other upgrades: bytes both ways, once the upstream has agreed.

use std::io;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
};

use crate::{
    occupancy::Occupied,
    upstream::{InFlight, OpenConnection},
};

/// The upstream's end of a tunnel.
pub(crate) struct UpstreamEnd {
    pub(crate) stream: TcpStream,
    /// What it has sent behind its answer.
    pub(crate) sent: Bytes,
    pub(crate) open: OpenConnection,
}

/// Passes bytes until both sides have ended or one has failed. What came in behind the request or the
/// answer comes first. Each direction holds 8 KiB.
pub(crate) async fn run(client: OnUpgrade, upstream: UpstreamEnd, in_flight: InFlight, occupied: Occupied) {
    let UpstreamEnd { stream, sent, open } = upstream;
    match pass(client, stream, &sent).await {
        Ok((up, down)) => tracing::debug!(up, down, "a tunnel ended"),
        Err(error) => tracing::debug!(%error, "a tunnel broke"),
    }
    drop((in_flight, open, occupied));
}

async fn pass(client: OnUpgrade, mut upstream: TcpStream, sent: &[u8]) -> io::Result<(u64, u64)> {
    let mut client = TokioIo::new(client.await.map_err(io::Error::other)?);
    client.write_all(sent).await?;
    copy_bidirectional(&mut client, &mut upstream).await
}
