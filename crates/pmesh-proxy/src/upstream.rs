//! The live state of an upstream: its counters, what is in flight, and how that ends.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::spec::{DestinationKey, Upstream, UpstreamAddress};

/// What the front knows about an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatistics {
    /// The owner's name for it.
    pub id: u64,
    /// Where it listens.
    pub address: UpstreamAddress,
    /// Requests, websockets and streams under way.
    pub in_flight: usize,
    /// Requests that were handed to it, each try counted.
    pub request_count: u64,
    /// Tries without an answer: not connected, broken off or too slow.
    pub error_count: u64,
    /// Answers with a status of 500 or above.
    pub server_error_count: u64,
    /// Answers with a status of 400 to 499.
    pub client_error_count: u64,
}

/// One upstream of one destination, shared by all threads for as long as anything of it is left.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) key: DestinationKey,
    pub(crate) upstream: Upstream,
    in_flight: AtomicUsize,
    /// Open connections, idle ones included.
    connections: AtomicUsize,
    /// No idle connection is kept.
    withdrawn: AtomicBool,
    quiet: Notify,
    /// How often [`Live::cut`] was called: what began before the last time ends.
    cuts: AtomicU64,
    cut: Notify,
    request_count: AtomicU64,
    error_count: AtomicU64,
    server_error_count: AtomicU64,
    client_error_count: AtomicU64,
}

impl Live {
    pub(crate) fn new(key: DestinationKey, upstream: Upstream) -> Arc<Self> {
        Arc::new(Self {
            key,
            upstream,
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            withdrawn: AtomicBool::new(false),
            quiet: Notify::new(),
            cuts: AtomicU64::new(0),
            cut: Notify::new(),
            request_count: AtomicU64::new(0),
            error_count: AtomicU64::new(0),
            server_error_count: AtomicU64::new(0),
            client_error_count: AtomicU64::new(0),
        })
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::SeqCst)
    }

    pub(crate) fn set_withdrawn(&self, withdrawn: bool) {
        self.withdrawn.store(withdrawn, Ordering::SeqCst);
    }

    /// Returns when nothing is in flight and no connection is open.
    ///
    /// Asked after every thread has acknowledged the withdrawal; before that a thread may be about to
    /// begin a request.
    pub(crate) async fn quiet(&self) {
        loop {
            let mut quiet = std::pin::pin!(self.quiet.notified());
            quiet.as_mut().enable();
            if self.in_flight.load(Ordering::SeqCst) == 0 && self.connections.load(Ordering::SeqCst) == 0 {
                return;
            }
            quiet.await;
        }
    }

    /// Ends what is in flight at this moment.
    pub(crate) fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    pub(crate) fn count_answer(&self, status: http::StatusCode) {
        if status.is_server_error() {
            self.server_error_count.fetch_add(1, Ordering::Relaxed);
        } else if status.is_client_error() {
            self.client_error_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_error(&self) {
        self.error_count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn statistics(&self) -> UpstreamStatistics {
        UpstreamStatistics {
            id: self.upstream.id,
            address: self.upstream.address.clone(),
            in_flight: self.in_flight(),
            request_count: self.request_count.load(Ordering::Relaxed),
            error_count: self.error_count.load(Ordering::Relaxed),
            server_error_count: self.server_error_count.load(Ordering::Relaxed),
            client_error_count: self.client_error_count.load(Ordering::Relaxed),
        }
    }

    fn left(&self, counter: &AtomicUsize) {
        // Whoever takes the last one out tells those who wait for that; nobody does while it serves.
        if counter.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_withdrawn() {
            self.quiet.notify_waiters();
        }
    }
}

/// A request, websocket or stream that an upstream works on.
#[derive(Debug)]
pub(crate) struct InFlight {
    live: Arc<Live>,
    cuts: u64,
}

impl InFlight {
    pub(crate) fn begin(live: Arc<Live>) -> Self {
        live.in_flight.fetch_add(1, Ordering::SeqCst);
        live.request_count.fetch_add(1, Ordering::Relaxed);
        let cuts = live.cuts.load(Ordering::SeqCst);
        Self { live, cuts }
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    pub(crate) fn connecting(&self) -> OpenConnection {
        self.live.connections.fetch_add(1, Ordering::SeqCst);
        OpenConnection { live: self.live.clone(), cuts: self.cuts }
    }

    /// Returns when the upstream is cut.
    pub(crate) async fn cut(&self) {
        was_cut(&self.live, self.cuts).await;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.live.left(&self.live.in_flight);
    }
}

/// A connection to an upstream, from before it is made until it is closed.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    live: Arc<Live>,
    cuts: u64,
}

impl OpenConnection {
    /// Returns when the upstream is cut.
    pub(crate) async fn cut(&self) {
        was_cut(&self.live, self.cuts).await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.live.left(&self.live.connections);
    }
}

async fn was_cut(live: &Live, since: u64) {
    loop {
        let mut cut = std::pin::pin!(live.cut.notified());
        cut.as_mut().enable();
        if live.cuts.load(Ordering::SeqCst) != since {
            return;
        }
        cut.await;
    }
}
