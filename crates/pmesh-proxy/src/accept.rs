//! Accepting clients, and which thread each is given to.

use std::{io, net::SocketAddr, pin::pin, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};

use crate::{
    at_work::PhaseCell,
    budget::{Descriptors, is_for_want_of_our_own},
    client_span::of_client,
    connection,
    context::ThreadContext,
    limits::FrontStage,
    occupancy::{Occupancy, Occupied, OccupiedPlace},
    seldom::Seldom,
};

/// Where an accepted connection goes.
#[derive(Debug)]
pub(crate) struct ConnectionSpread {
    lanes: Vec<ThreadLane>,
    /// Held while a thread is chosen, so that a burst that two threads accept is still even.
    choosing: Mutex<()>,
    said: Seldom,
}

/// The way to a thread.
#[derive(Debug)]
pub(crate) struct ThreadLane {
    /// Not bounded by itself: each entry holds a descriptor, and accepting pauses where those end.
    pub(crate) inbox: mpsc::UnboundedSender<HandedConnection>,
    pub(crate) occupancy: Arc<Occupancy>,
}

/// A connection on its way to the thread that serves it.
#[derive(Debug)]
pub(crate) struct HandedConnection {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    place: OccupiedPlace,
}

impl ConnectionSpread {
    pub(crate) fn over(lanes: Vec<ThreadLane>) -> Self {
        Self { lanes, choosing: Mutex::new(()), said: Seldom::default() }
    }

    /// How many connections each thread has.
    pub(crate) fn connections(&self) -> Vec<usize> {
        self.lanes.iter().map(|lane| lane.occupancy.connections()).collect()
    }

    /// The thread with the fewest connections, `own` among equals; it has one more from here.
    fn choose(&self, own: usize, descriptor: Descriptors) -> (usize, Occupied) {
        let _choosing = self.choosing.lock();
        let others = (0..self.lanes.len()).filter(|index| *index != own);
        let fewest = std::iter::once(own)
            .chain(others)
            .min_by_key(|index| self.lanes[*index].occupancy.connections())
            .unwrap_or(own);
        (fewest, self.lanes[fewest].occupancy.occupy(descriptor))
    }

    /// Returns when a thread has no connection left.
    pub(crate) async fn empty(&self, thread: usize) {
        self.lanes[thread].occupancy.empty().await;
    }
}

/// Serves the connections that other threads have accepted.
pub(crate) async fn take_in(
    mut inbox: mpsc::UnboundedReceiver<HandedConnection>,
    context: Arc<ThreadContext>,
) {
    while let Some(HandedConnection { stream, peer, place }) = inbox.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => serve(&context, stream, peer, place),
            Err(error) => tracing::warn!(%error, "a connection cannot be taken in"),
        }
    }
}

/// Accepts clients, as long as the front serves.
pub(crate) async fn accept(
    listener: TcpListener,
    own: usize,
    context: Arc<ThreadContext>,
    spread: Arc<ConnectionSpread>,
) {
    let mut stage = context.stage.clone();
    let mut end = pin!(stage.wait_for(|stage| matches!(stage, FrontStage::Draining { .. })));
    loop {
        tokio::select! {
            biased;
            _ = &mut end => return,
            () = next(&listener, own, &context, &spread) => {}
        }
    }
}

/// Accepts a client and gives it to a thread, or pauses where that fails.
async fn next(listener: &TcpListener, own: usize, context: &Arc<ThreadContext>, spread: &ConnectionSpread) {
    let (stream, peer) = match listener.accept().await {
        Ok(accepted) => accepted,
        // The client was gone before it was accepted.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return,
        Err(error) if is_for_want_of_our_own(&error) => return context.relief.after_a_lack().await,
        Err(error) => {
            if let Some(held_back) = spread.said.is_due(Instant::now()) {
                tracing::error!(%error, held_back, "clients cannot be accepted");
            }
            return context.relief.pause().await;
        }
    };
    // Until there is one, this client is in hand: each listener of a thread has a descriptor for that, and nobody's
    // connection is closed for a client that is not there.
    let descriptor = context.relief.for_client().await;
    let (chosen, occupied) = spread.choose(own, descriptor);
    // From here, not from when its thread comes to it: else, in a burst, those that say nothing yet could not be
    // found where somebody has to go.
    let place = OccupiedPlace::shown(occupied, PhaseCell::new(&context.limits));
    if chosen == own {
        return serve(context, stream, peer, place);
    }
    match stream.into_std() {
        Ok(stream) => {
            if spread.lanes[chosen].inbox.send(HandedConnection { stream, peer, place }).is_err() {
                tracing::debug!("a front thread has ended; a connection to it is closed");
            }
        }
        Err(error) => tracing::warn!(%error, "a connection cannot be handed over"),
    }
}

fn serve(context: &Arc<ThreadContext>, stream: TcpStream, peer: SocketAddr, place: OccupiedPlace) {
    tokio::spawn(of_client(peer, connection::serve(context.clone(), stream, peer, place)));
}
