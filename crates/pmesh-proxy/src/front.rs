//! The front's threads: who accepts, who serves, how they end.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use pmesh_sessions::Peers;
use rustix::net::sockopt;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle, Runtime},
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    caller::{LocalHandler, ThreadContext},
    connection,
    limits::{FrontLimits, Stage},
    occupancy::{Occupancy, Occupied},
    pool::Pool,
    request_id::RequestIds,
    tables::Tables,
};

/// Threads of a front thread's own runtime that read files and look up names.
const BLOCKING_THREADS: usize = 4;
/// The first pause of accepting when no descriptor is left, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A running HTTP front: its listeners and its threads.
///
/// Each listener exists once and is shared by all threads; whichever accepts a connection hands it to
/// the thread with the fewest. Dropped, it ends at once and cuts what is under way;
/// [`shutdown`](Self::shutdown) is the polite way.
#[derive(Debug)]
pub struct Front {
    threads: Vec<Thread>,
    stage: watch::Sender<Stage>,
    spread: Arc<Spread>,
}

#[derive(Debug)]
struct Thread {
    handle: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<()>,
}

impl Front {
    /// Starts a thread per core and serves these listeners by these tables.
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
        let peers = Peers::open();
        let (stage, stage_now) = watch::channel(Stage::Serving);
        let mut inboxes = Vec::new();
        let mut lanes = Vec::new();
        for _ in 0..limits.threads.max(1) {
            let (sender, inbox) = mpsc::unbounded_channel();
            inboxes.push(inbox);
            lanes.push(Lane { inbox: sender, occupancy: Arc::default() });
        }
        let spread =
            Arc::new(Spread { lanes, choosing: Mutex::new(()), is_exhausted: AtomicBool::new(false) });
        let mut front = Self { threads: Vec::new(), stage, spread: spread.clone() };
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let shared = listeners.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>()?;
            let runtime =
                Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
            let context = ThreadContext {
                tables: tables.clone(),
                limits: limits.clone(),
                local: local.clone(),
                pool: Pool::new(limits.pool_connections, limits.pool_idle),
                request_ids: RequestIds::default(),
                peers: peers.clone(),
                stage: stage_now.clone(),
            };
            let (ending, ended) = oneshot::channel();
            let run =
                Run { index, listeners: shared, inbox, context: Arc::new(context), spread: spread.clone() };
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
        self.spread.lanes.iter().map(|lane| lane.occupancy.connections()).collect()
    }

    /// Stops accepting at once, closes idle connections, lets requests under way end (their answers say
    /// `Connection: close`) and cuts what is left after `grace`. Returns when all threads have ended.
    ///
    /// Dropped before its end, everything ends at once.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stage.send_replace(Stage::Draining { until: Instant::now() + grace });
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
        self.stage.send_replace(Stage::Draining { until: Instant::now() });
    }
}

/// Where an accepted connection goes.
#[derive(Debug)]
struct Spread {
    lanes: Vec<Lane>,
    /// Held while a thread is chosen, so that a burst that two threads accept is still even.
    choosing: Mutex<()>,
    /// No descriptor is left; so that it is said once.
    is_exhausted: AtomicBool,
}

#[derive(Debug)]
struct Lane {
    /// Not bounded by itself: each entry holds a descriptor, and accepting pauses where those end.
    inbox: mpsc::UnboundedSender<Handed>,
    occupancy: Arc<Occupancy>,
}

#[derive(Debug)]
struct Handed {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    occupied: Occupied,
}

impl Spread {
    /// The thread with the fewest connections, `own` among equals; it has one more from here.
    fn choose(&self, own: usize) -> (usize, Occupied) {
        let _choosing = self.choosing.lock();
        let others = (0..self.lanes.len()).filter(|index| *index != own);
        let fewest = std::iter::once(own)
            .chain(others)
            .min_by_key(|index| self.lanes[*index].occupancy.connections())
            .unwrap_or(own);
        (fewest, self.lanes[fewest].occupancy.occupy())
    }
}

/// What a front thread runs.
struct Run {
    index: usize,
    listeners: Vec<TcpListener>,
    inbox: mpsc::UnboundedReceiver<Handed>,
    context: Arc<ThreadContext>,
    spread: Arc<Spread>,
}

impl Run {
    fn until_the_end(self, runtime: Runtime) {
        let Self { index, listeners, inbox, context, spread } = self;
        runtime.block_on(async {
            let mut withdrawals = context.tables.register_thread();
            let pool = context.pool.clone();
            tokio::spawn(async move {
                while let Some(withdrawal) = withdrawals.recv().await {
                    pool.drop_idle(&withdrawal.lives);
                    if withdrawal.done.send(()).is_err() {
                        tracing::trace!("nobody waits for a withdrawal");
                    }
                }
            });
            let pool = context.pool.clone();
            tokio::spawn(async move { pool.reap().await });
            tokio::spawn(take_in(inbox, context.clone()));
            for listener in listeners {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        tokio::spawn(accept(listener, index, context.clone(), spread.clone()));
                    }
                    Err(error) => tracing::error!(%error, "a front thread cannot listen"),
                }
            }
            let mut stage = context.stage.clone();
            let until = match stage.wait_for(|stage| matches!(stage, Stage::Draining { .. })).await.as_deref() {
                Ok(Stage::Draining { until }) => *until,
                Ok(Stage::Serving) | Err(_) => Instant::now(),
            };
            tokio::select! {
                () = spread.lanes[index].occupancy.empty() => {}
                () = sleep_until(until) => tracing::debug!("the grace of a front is over; connections are cut"),
            }
        });
        // A name that is being looked up would hold the thread for as long as that takes.
        runtime.shutdown_background();
    }
}

async fn take_in(mut inbox: mpsc::UnboundedReceiver<Handed>, context: Arc<ThreadContext>) {
    while let Some(Handed { stream, peer, occupied }) = inbox.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => drop(tokio::spawn(connection::serve(context.clone(), stream, peer, occupied))),
            Err(error) => tracing::warn!(%error, "a connection cannot be taken in"),
        }
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    own: usize,
    context: Arc<ThreadContext>,
    spread: Arc<Spread>,
) {
    let mut stage = context.stage.clone();
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stage.wait_for(|stage| matches!(stage, Stage::Draining { .. })) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                spread.is_exhausted.store(false, Ordering::Relaxed);
                hand_over(stream, peer, own, &context, &spread);
            }
            // The client was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !spread.is_exhausted.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "accepting pauses; raise the limit of open files (ulimit -n)");
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn hand_over(stream: TcpStream, peer: SocketAddr, own: usize, context: &Arc<ThreadContext>, spread: &Spread) {
    let (chosen, occupied) = spread.choose(own);
    if chosen == own {
        tokio::spawn(connection::serve(context.clone(), stream, peer, occupied));
        return;
    }
    match stream.into_std() {
        Ok(stream) => {
            if spread.lanes[chosen].inbox.send(Handed { stream, peer, occupied }).is_err() {
                tracing::debug!("a front thread has ended; a connection to it is closed");
            }
        }
        Err(error) => tracing::warn!(%error, "a connection cannot be handed over"),
    }
}
