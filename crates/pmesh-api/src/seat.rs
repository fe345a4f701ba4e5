//! The places of a listener, shared by those who have one.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use crate::places::{Admission, Peer, PlaceId, PlaceLimits, Places};

/// The places of one listener. Clones share them.
#[derive(Clone)]
pub(crate) struct Seats(Arc<Shared>);

struct Shared {
    now: Mutex<SeatsNow>,
    /// Somebody has given a place back, or waits for an operation.
    freed: Notify,
    /// How many may wait for operations, at all listeners.
    away: Arc<Semaphore>,
}

struct SeatsNow {
    places: Places,
    /// How those are told who lose their place.
    told: HashMap<PlaceId, Weak<Notify>>,
}

/// Somebody's place. The last clone that is dropped gives it back.
#[derive(Clone, Debug)]
pub(crate) struct Seat(Arc<HeldPlace>);

struct HeldPlace {
    seats: Seats,
    id: PlaceId,
    evicted: Arc<Notify>,
}

/// Somebody who waits for a place.
struct Hopeful<'a> {
    seats: &'a Seats,
    peer: Peer,
}

enum Admitted<'a> {
    Seat(Seat),
    Refused,
    Later(Instant, Hopeful<'a>),
}

impl Seats {
    /// Places; `away` is shared by all who may wait for operations.
    pub(crate) fn new(limits: PlaceLimits, away: Arc<Semaphore>) -> Self {
        let now = SeatsNow { places: Places::new(limits), told: HashMap::new() };
        Self(Arc::new(Shared { now: Mutex::new(now), freed: Notify::new(), away }))
    }

    /// A place for somebody who has come just now, if there is one, or will be within a moment. Cancel-safe.
    pub(crate) async fn take(&self, peer: Peer, is_welcome: bool) -> Option<Seat> {
        let came = Instant::now();
        loop {
            let (at, _hope) = match self.ask(peer, is_welcome, came) {
                Admitted::Seat(seat) => return Some(seat),
                Admitted::Refused => return None,
                Admitted::Later(at, hope) => (at, hope),
            };
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.room(peer, is_welcome) => {}
            }
        }
    }

    fn ask(&self, peer: Peer, is_welcome: bool, came: Instant) -> Admitted<'_> {
        let mut now = self.0.now.lock();
        match now.places.admit(peer, is_welcome, came.into_std(), Instant::now().into_std()) {
            Admission::Admit { id, close } => {
                for id in close {
                    now.evict(id);
                }
                let evicted = Arc::new(Notify::new());
                now.told.insert(id, Arc::downgrade(&evicted));
                Admitted::Seat(Seat(Arc::new(HeldPlace { seats: self.clone(), id, evicted })))
            }
            Admission::Refuse => Admitted::Refused,
            Admission::Later(at) => {
                now.places.hope(peer);
                Admitted::Later(at.into(), Hopeful { seats: self, peer })
            }
        }
    }

    /// Returns when there is room for one more.
    async fn room(&self, peer: Peer, is_welcome: bool) {
        loop {
            let mut freed = pin!(self.0.freed.notified());
            // From here on it is told when a place is given back, so nothing is missed between the question and the wait.
            freed.as_mut().enable();
            if self.0.now.lock().places.has_room(peer, is_welcome) {
                return;
            }
            freed.await;
        }
    }
}

impl SeatsNow {
    fn evict(&mut self, id: PlaceId) {
        if let Some(told) = self.told.remove(&id).and_then(|told| told.upgrade()) {
            told.notify_one();
        }
    }
}

impl Seat {
    /// Returns when the place is somebody else's. For one who waits. Cancel-safe.
    pub(crate) async fn lost(&self) {
        self.0.evicted.notified().await;
    }

    /// A whole request is there; false if the place is somebody else's already.
    pub(crate) fn work(&self) -> bool {
        self.0.seats.0.now.lock().places.work(self.0.id)
    }

    /// It has shown that it is let in.
    pub(crate) fn welcome(&self) {
        self.0.seats.0.now.lock().places.welcome(self.0.id);
        self.0.seats.0.freed.notify_waiters();
    }

    /// Costs no place as long as the value lives, unless as many wait for operations as may: then it goes on to cost one.
    pub(crate) fn step_away(&self) -> Option<Away> {
        let permit = Arc::clone(&self.0.seats.0.away).try_acquire_owned().ok()?;
        self.0.seats.0.now.lock().places.step_away(self.0.id);
        self.0.seats.0.freed.notify_waiters();
        Some(Away { seat: self.clone(), _permit: permit })
    }

    /// With this value the answer ends, and it is the peer's turn again.
    pub(crate) fn rest_behind(&self) -> Resting {
        Resting(self.clone())
    }
}

/// Somebody who waits for an operation.
#[derive(Debug)]
pub(crate) struct Away {
    seat: Seat,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Away {
    fn drop(&mut self) {
        self.seat.work();
    }
}

/// An answer that is on its way.
#[derive(Debug)]
pub(crate) struct Resting(Seat);

impl Drop for Resting {
    fn drop(&mut self) {
        let HeldPlace { seats, id, evicted: _ } = &*self.0.0;
        let mut now = seats.0.now.lock();
        if let Some(other) = now.places.rest(*id, Instant::now().into_std()) {
            now.evict(other);
        }
    }
}

impl Drop for Hopeful<'_> {
    fn drop(&mut self) {
        self.seats.0.now.lock().places.give_up_hope(self.peer);
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        {
            let mut now = self.seats.0.now.lock();
            now.places.leave(self.id);
            now.told.remove(&self.id);
        }
        self.seats.0.freed.notify_waiters();
    }
}

impl fmt::Debug for HeldPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldPlace").field("id", &self.id).finish_non_exhaustive()
    }
}
