//! The live state of an upstream: its counters, what is in flight, and how that ends.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    bad_answer::BadAnswer,
    budget::Descriptors,
    client_span::in_client_span,
    seldom::Seldom,
    spec::{DestinationKey, Upstream, UpstreamAddress},
};

/// What the front knows about an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamStatistics {
    /// The owner's name for it.
    pub id: u64,
    /// Where it listens.
    pub address: UpstreamAddress,
    /// Requests, websockets and streams under way.
    pub in_flight: usize,
    /// Requests that were handed to it, each try counted.
    pub request_count: u64,
    /// Tries without a whole answer: not connected, broken off, too slow, or refused for what was sent.
    pub error_count: u64,
    /// Answers with a status of 500 or above.
    pub server_error_count: u64,
    /// Answers with a status of 400 to 499.
    pub client_error_count: u64,
}

/// One upstream of one destination, shared by all threads for as long as anything of it is left.
#[derive(Debug)]
pub(crate) struct LiveUpstream {
    pub(crate) key: DestinationKey,
    pub(crate) spec: Upstream,
    in_flight: AtomicUsize,
    /// Open connections, idle ones included.
    connections: AtomicUsize,
    /// No idle connection is kept.
    withdrawn: AtomicBool,
    quiet: Notify,
    request_count: AtomicU64,
    error_count: AtomicU64,
    server_error_count: AtomicU64,
    client_error_count: AtomicU64,
    /// What was said of its answers.
    said: Mutex<BTreeMap<BadAnswer, Seldom>>,
    /// Requests in a row that were not answered in their time, with none answered between; and [`TOLD`].
    timed_out: AtomicU32,
    /// Told when a request is answered after [`TOLD`].
    answered: Notify,
}

/// That somebody was told of requests without an answer, and none was answered since.
const TOLD: u32 = 1 << 31;

impl LiveUpstream {
    pub(crate) fn new(key: DestinationKey, spec: Upstream) -> Arc<Self> {
        Arc::new(Self {
            key,
            spec,
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            withdrawn: AtomicBool::new(false),
            quiet: Notify::new(),
            request_count: AtomicU64::new(0),
            error_count: AtomicU64::new(0),
            server_error_count: AtomicU64::new(0),
            client_error_count: AtomicU64::new(0),
            said: Mutex::default(),
            timed_out: AtomicU32::new(0),
            answered: Notify::new(),
        })
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::SeqCst)
    }

    /// It leaves its set, and its idle connections are to be closed.
    pub(crate) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
    }

    /// It is in a set again; whoever waits for its end waits for nothing.
    pub(crate) fn come_back(&self) {
        if self.withdrawn.swap(false, Ordering::SeqCst) {
            self.quiet.notify_waiters();
        }
    }

    /// Returns when nothing is in flight and no connection is open, or when it has come back.
    ///
    /// Asked after every thread has acknowledged the withdrawal; before that a thread may be about to
    /// begin a request.
    pub(crate) async fn quiet(&self) {
        loop {
            let mut quiet = std::pin::pin!(self.quiet.notified());
            quiet.as_mut().enable();
            let is_quiet =
                || self.in_flight.load(Ordering::SeqCst) == 0 && self.connections.load(Ordering::SeqCst) == 0;
            if is_quiet() || !self.is_withdrawn() {
                return;
            }
            quiet.await;
        }
    }

    pub(crate) fn count_answer(&self, status: http::StatusCode) {
        // Written to only where it is another value: every thread reads it for every answer.
        if self.timed_out.load(Ordering::Relaxed) != 0
            && self.timed_out.swap(0, Ordering::Relaxed) & TOLD != 0
        {
            self.answered.notify_waiters();
        }
        if status.is_server_error() {
            self.server_error_count.fetch_add(1, Ordering::Relaxed);
        } else if status.is_client_error() {
            self.client_error_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request was not answered in its time.
    pub(crate) fn count_timeout(&self) {
        self.timed_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether so many requests in a row were not answered in their time; if so, they are counted anew.
    pub(crate) fn take_timeouts(&self, times: u32) -> bool {
        let enough = self.timed_out.load(Ordering::Relaxed) & !TOLD >= times;
        if enough {
            self.timed_out.store(TOLD, Ordering::Relaxed);
        }
        enough
    }

    /// Resolves when a request was answered since [`take_timeouts`](Self::take_timeouts) had enough.
    pub(crate) async fn answered(&self) {
        loop {
            let mut answered = std::pin::pin!(self.answered.notified());
            answered.as_mut().enable();
            if self.timed_out.load(Ordering::Relaxed) & TOLD == 0 {
                return;
            }
            answered.await;
        }
    }

    pub(crate) fn count_error(&self) {
        self.error_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer that was refused, or did not come, and says why: each reason once a minute.
    pub(crate) fn count_bad_answer(&self, why: BadAnswer, now: Instant) {
        self.count_error();
        let Some(not_said) = self.said.lock().entry(why).or_default().is_due(now) else { return };
        let (service, address) = (&self.key, &self.spec.address);
        in_client_span(|| tracing::warn!(%service, %address, reason = %why, not_said, "{}", why.event()));
    }

    pub(crate) fn statistics(&self) -> UpstreamStatistics {
        UpstreamStatistics {
            id: self.spec.id,
            address: self.spec.address.clone(),
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
    upstream: Arc<LiveUpstream>,
}

impl InFlight {
    pub(crate) fn begin(upstream: Arc<LiveUpstream>) -> Self {
        upstream.in_flight.fetch_add(1, Ordering::SeqCst);
        upstream.request_count.fetch_add(1, Ordering::Relaxed);
        Self { upstream }
    }

    pub(crate) fn upstream(&self) -> &Arc<LiveUpstream> {
        &self.upstream
    }

    pub(crate) fn connecting(&self, descriptor: Descriptors) -> OpenConnection {
        self.upstream.connections.fetch_add(1, Ordering::SeqCst);
        OpenConnection { upstream: self.upstream.clone(), _descriptor: descriptor }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.upstream.left(&self.upstream.in_flight);
    }
}

/// A connection to an upstream, from before it is made until it is closed.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    upstream: Arc<LiveUpstream>,
    _descriptor: Descriptors,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.upstream.left(&self.upstream.connections);
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use futures_util::poll;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn whoever_was_told_of_timeouts_is_told_of_the_next_answer_and_not_of_one_before() {
        let address = UpstreamAddress::Name("app.test".into(), 80);
        let upstream = LiveUpstream::new(DestinationKey::new("web"), Upstream { id: 1, address });
        for _ in 0..2 {
            upstream.count_timeout();
            upstream.count_answer(http::StatusCode::OK);
            upstream.count_timeout();
            assert!(!upstream.take_timeouts(2), "one was answered between");
            upstream.count_timeout();
            assert!(upstream.take_timeouts(2) && !upstream.take_timeouts(2), "counted anew");
            let mut answered = pin!(upstream.answered());
            assert!(poll!(&mut answered).is_pending());
            upstream.count_timeout();
            assert!(poll!(&mut answered).is_pending());
            upstream.count_answer(http::StatusCode::BAD_GATEWAY);
            assert!(poll!(&mut answered).is_ready());
            assert!(poll!(pin!(upstream.answered())).is_ready(), "also who asks later");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_end_of_one_that_comes_back_is_told() {
        let address = UpstreamAddress::Name("app.test".into(), 80);
        let upstream = LiveUpstream::new(DestinationKey::new("web"), Upstream { id: 1, address });
        let _request = InFlight::begin(upstream.clone());
        upstream.withdraw();
        let mut quiet = pin!(upstream.quiet());
        assert!(poll!(&mut quiet).is_pending());
        upstream.come_back();
        timeout(Duration::from_secs(1), quiet).await.expect("it is at work, and not waited for");
    }
}
