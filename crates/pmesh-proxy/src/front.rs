//! The front's threads: who accepts, who serves, how they end.

use std::{
    io,
    net::TcpListener,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use pmesh_sessions::Peers;
use pmesh_threads::{HostNames, NoThread, PoolLimits, Threads};
use rustix::net::sockopt;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::{
    accept::{self, ConnectionSpread, HandedConnection, ThreadLane},
    budget::Descriptors,
    context::{LocalHandler, ThreadContext},
    limits::{FrontLimits, FrontStage},
    occupancy::Occupancy,
    pool::Pool,
    relief::Relief,
    request_id::RequestIds,
    tables::Tables,
};

/// Who a peer is may have to be looked up in `/proc`; all who ask share a look.
const PROC: PoolLimits = PoolLimits::new(1, 1024);
/// Threads that read files, for each thread that serves.
const FILE_THREADS: usize = 4;
/// Reads of files that may wait: each has descriptors, of which there are fewer.
const FILE_QUEUE: usize = 1 << 16;
/// Descriptors of a thread's runtime.
const PER_THREAD: usize = 4;
/// Descriptors of a thread for each listener: its own handle to it, and a client that waits to be served.
const PER_LISTENER: usize = 2;

/// A running HTTP front: its listeners and its threads.
///
/// Each listener exists once and is shared by all threads; whichever accepts a connection hands it to
/// the thread with the fewest. Dropped, it ends at once and cuts what is under way;
/// [`shutdown`](Self::shutdown) is the polite way.
#[must_use = "dropped, it ends at once and cuts what is under way"]
#[derive(Debug)]
pub struct Front {
    threads: Vec<Thread>,
    stage: watch::Sender<FrontStage>,
    spread: Arc<ConnectionSpread>,
    _descriptors: Descriptors,
}

#[derive(Debug)]
struct Thread {
    handle: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<()>,
}

impl Front {
    /// Starts a thread per core, or fewer where those would take too much of the descriptors, and serves these
    /// listeners by these tables.
    ///
    /// `local` answers the host `pm3` (any port), on that runtime; without it `pm3` is a host like any
    /// other. An idle front wakes up for nothing.
    ///
    /// # Errors
    ///
    /// Those of the system when a listener cannot be shared or a thread not started; then nothing runs.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the threads take clones; what is given belongs to the front"
    )]
    pub fn serve(
        listeners: Vec<TcpListener>,
        tables: Tables,
        limits: FrontLimits,
        local: Option<(Arc<dyn LocalHandler>, Handle)>,
    ) -> io::Result<Self> {
        for listener in &listeners {
            listener.set_nonblocking(true)?;
            notice_vanished_clients(listener)?;
        }
        let limits = Arc::new(limits);
        let peers = Peers::open(Threads::start("front-proc", PROC)?);
        let (stage, stage_now) = watch::channel(FrontStage::Serving);
        let (mut threads, mut lanes, mut clients) = (Vec::new(), Vec::new(), Vec::new());
        let per_thread = PER_THREAD + PER_LISTENER * listeners.len();
        for _ in 0..tables.budget().threads(limits.threads, per_thread) {
            let (sender, inbox) = mpsc::unbounded_channel();
            let pool = Pool::new(limits.pool_connections, limits.pool_idle);
            let occupancy = Arc::<Occupancy>::default();
            lanes.push(ThreadLane { inbox: sender, occupancy: occupancy.clone() });
            threads.push((inbox, pool.clone()));
            clients.push((occupancy, pool));
        }
        let relief = Arc::new(Relief::new(tables.budget().clone(), limits.spared, clients));
        let spread = Arc::new(ConnectionSpread::over(lanes));
        let own = threads.len() * per_thread;
        let mut front = Self {
            threads: Vec::new(),
            stage,
            spread: spread.clone(),
            _descriptors: tables.budget().take_anyway(own),
        };
        let (files, names) = (file_threads(threads.len())?, HostNames::start()?);
        for (index, (inbox, pool)) in threads.into_iter().enumerate() {
            let shared = listeners.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>()?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let context = ThreadContext {
                tables: tables.clone(),
                limits: limits.clone(),
                local: local.clone(),
                pool,
                relief: relief.clone(),
                request_ids: RequestIds::default(),
                peers: peers.clone(),
                files: files.clone(),
                names: names.clone(),
                stage: stage_now.clone(),
            };
            let (ending, ended) = oneshot::channel();
            let run = FrontThread {
                index,
                listeners: shared,
                inbox,
                context: Arc::new(context),
                spread: spread.clone(),
            };
            let handle = thread::Builder::new().name(format!("front-{index}")).spawn(move || {
                run.until_the_end(runtime);
                drop(ending);
            })?;
            front.threads.push(Thread { handle: Some(handle), ended });
        }
        Ok(front)
    }

    /// How many connections each thread has.
    pub fn connections_per_thread(&self) -> Vec<usize> {
        self.spread.connections()
    }

    /// Stops accepting at once, closes idle connections, lets requests under way end (their answers say
    /// `Connection: close`) and cuts what is left after `grace`. Returns when all threads have ended.
    ///
    /// Dropped before its end, everything ends at once.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stage.send_replace(FrontStage::Draining { until: Instant::now() + grace });
        for thread in &mut self.threads {
            // The sender is dropped, never used.
            if (&mut thread.ended).await.is_err()
                && let Some(handle) = thread.handle.take()
                && handle.join().is_err()
            {
                tracing::error!("a front thread panicked");
            }
        }
    }
}

/// Threads that read files, for so many that serve.
fn file_threads(serving: usize) -> Result<Threads, NoThread> {
    let limits = PoolLimits::new(FILE_THREADS * serving, FILE_QUEUE);
    Threads::start("files", limits)
}

/// A client that is gone without a word (a phone in a tunnel, with a websocket) is noticed after two minutes.
/// What a listener accepts inherits this (tcp(7)).
fn notice_vanished_clients(listener: &TcpListener) -> io::Result<()> {
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, Duration::from_mins(1))?;
    sockopt::set_tcp_keepintvl(listener, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(listener, 6)?;
    Ok(())
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stage.send_replace(FrontStage::Draining { until: Instant::now() });
    }
}

/// What a front thread runs.
struct FrontThread {
    index: usize,
    listeners: Vec<TcpListener>,
    inbox: mpsc::UnboundedReceiver<HandedConnection>,
    context: Arc<ThreadContext>,
    spread: Arc<ConnectionSpread>,
}

impl FrontThread {
    fn until_the_end(self, runtime: Runtime) {
        let Self { index, listeners, inbox, context, spread } = self;
        runtime.block_on(async {
            let mut withdrawals = context.tables.register_thread();
            let pool = context.pool.clone();
            tokio::spawn(async move {
                while let Some(withdrawal) = withdrawals.recv().await {
                    pool.drop_idle(&withdrawal.upstreams);
                    if withdrawal.done.send(()).is_err() {
                        tracing::trace!("nobody waits for a withdrawal");
                    }
                }
            });
            let pool = context.pool.clone();
            tokio::spawn(async move { pool.reap().await });
            tokio::spawn(accept::take_in(inbox, context.clone()));
            for listener in listeners {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        tokio::spawn(accept::accept(listener, index, context.clone(), spread.clone()));
                    }
                    Err(error) => tracing::error!(%error, "a front thread cannot listen"),
                }
            }
            let mut stage = context.stage.clone();
            let until = match stage.wait_for(|stage| matches!(stage, FrontStage::Draining { .. })).await.as_deref() {
                Ok(FrontStage::Draining { until }) => *until,
                Ok(FrontStage::Serving) | Err(_) => Instant::now(),
            };
            tokio::select! {
                () = spread.empty(index) => {}
                () = sleep_until(until) => tracing::debug!("the grace of a front is over; connections are cut"),
            }
        });
        // A name that is being looked up would hold the thread for as long as that takes.
        runtime.shutdown_background();
    }
}
