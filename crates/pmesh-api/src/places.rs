//! Who gets one of the API's places, and who makes room. A plain type.

use std::{collections::HashMap, fmt, time::Instant};

use pmesh_sessions::ClientKey;

/// Who is at the other end, as far as places go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// A user of this machine.
    User(u32),
    /// An address or network elsewhere.
    Client(ClientKey),
    /// This server itself.
    Itself,
    /// Somebody on this machine of whom the kernel does not tell more.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user id {user}"),
            Self::Client(client) => client.fmt(f),
            Self::Itself => f.write_str("this server itself"),
            Self::Unknown => f.write_str("somebody on this machine"),
        }
    }
}

/// The most connections that are served at a time on one listener.
pub const MAX_CONNECTIONS: usize = 512;

/// How many places there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaceLimits {
    /// All of them.
    pub(crate) all: usize,
    /// Those that one peer may have.
    pub(crate) of_one_peer: usize,
    /// Those that are never taken by who is not let in anyway.
    pub(crate) reserved: usize,
}

impl Default for PlaceLimits {
    fn default() -> Self {
        Self { all: MAX_CONNECTIONS, of_one_peer: MAX_CONNECTIONS / 2, reserved: 64 }
    }
}

/// A place, for as long as somebody has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PlaceId(u64);

/// What becomes of somebody who wants a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It has the place; who had these loses them and is closed.
    Admit { id: PlaceId, close: Vec<PlaceId> },
    /// Nobody can make room: all are at work.
    Refuse,
}

/// What somebody with a place does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Nothing, or sending a request that is not whole yet: it is the peer's turn.
    Resting { since: Instant },
    /// A request is worked on, or its answer goes out.
    AtWork,
    /// It waits for an operation, which costs no place.
    Away,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    peer: Peer,
    /// Whether it would be let in; who is not may find out, but not keep the others out.
    is_welcome: bool,
    doing: Doing,
}

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    limits: PlaceLimits,
    taken: HashMap<PlaceId, Place>,
    next: u64,
}

impl Places {
    pub(crate) fn new(limits: PlaceLimits) -> Self {
        Self { limits, taken: HashMap::new(), next: 0 }
    }

    /// Somebody wants a place. At a limit the one that has rested longest, of those that the limit is about,
    /// makes room; who is not welcome takes the place of nobody who is.
    pub(crate) fn admit(&mut self, peer: Peer, is_welcome: bool, now: Instant) -> Admission {
        let is_peers = |place: &Place| place.peer == peer;
        let is_unwelcome = |place: &Place| !place.is_welcome;
        let may_go = |place: &Place| is_welcome || !place.is_welcome;
        let PlaceLimits { all, of_one_peer, reserved } = self.limits;
        let mut close = Vec::new();
        let mut made_room = self.make_room(&mut close, of_one_peer, is_peers, is_peers);
        if !is_welcome {
            let limit = all.saturating_sub(reserved);
            made_room = made_room && self.make_room(&mut close, limit, is_unwelcome, is_unwelcome);
        }
        if !(made_room && self.make_room(&mut close, all, |_| true, may_go)) {
            return Admission::Refuse;
        }
        for id in &close {
            self.taken.remove(id);
        }
        let id = PlaceId(self.next);
        self.next += 1;
        self.taken.insert(id, Place { peer, is_welcome, doing: Doing::Resting { since: now } });
        Admission::Admit { id, close }
    }

    /// Whether there is room for one more of those that are `counted`, if need be after somebody who `may_go`
    /// has gone as well. One is enough where more than there is room for have come back from waiting: those
    /// go when they have their answers.
    fn make_room(
        &self,
        close: &mut Vec<PlaceId>,
        limit: usize,
        counted: impl Fn(&Place) -> bool,
        may_go: impl Fn(&Place) -> bool,
    ) -> bool {
        let going = close.iter().filter_map(|id| self.taken.get(id)).filter(|place| counted(place)).count();
        if going > 0 || self.count(&counted) < limit {
            return true;
        }
        let longest = self.longest_resting(|id, place| may_go(place) && !close.contains(&id));
        close.extend(longest);
        longest.is_some()
    }

    fn count(&self, counted: impl Fn(&Place) -> bool) -> usize {
        self.taken.values().filter(|place| place.doing != Doing::Away && counted(place)).count()
    }

    fn longest_resting(&self, may_go: impl Fn(PlaceId, &Place) -> bool) -> Option<PlaceId> {
        let resting = self.taken.iter().filter_map(|(&id, place)| match place.doing {
            Doing::Resting { since } if may_go(id, place) => Some((since, id)),
            Doing::Resting { .. } | Doing::AtWork | Doing::Away => None,
        });
        resting.min().map(|(_, id)| id)
    }

    /// A whole request is there. Whether its sender still has a place.
    pub(crate) fn work(&mut self, id: PlaceId) -> bool {
        self.set(id, Doing::AtWork)
    }

    /// It waits for an operation.
    pub(crate) fn step_away(&mut self, id: PlaceId) {
        self.set(id, Doing::Away);
    }

    /// It has its answer. Who loses its place, where more have come back from waiting than there is room for.
    pub(crate) fn rest(&mut self, id: PlaceId, now: Instant) -> Option<PlaceId> {
        let place = self.taken.get_mut(&id)?;
        place.doing = Doing::Resting { since: now };
        let peer = place.peer;
        let longest = if self.count(|place| place.peer == peer) > self.limits.of_one_peer {
            self.longest_resting(|_, place| place.peer == peer)
        } else if self.count(|_| true) > self.limits.all {
            self.longest_resting(|_, _| true)
        } else {
            None
        };
        if let Some(id) = longest {
            self.taken.remove(&id);
        }
        longest
    }

    /// It has shown that it is let in.
    pub(crate) fn welcome(&mut self, id: PlaceId) {
        if let Some(place) = self.taken.get_mut(&id) {
            place.is_welcome = true;
        }
    }

    /// It gives its place back.
    pub(crate) fn leave(&mut self, id: PlaceId) {
        self.taken.remove(&id);
    }

    fn set(&mut self, id: PlaceId, doing: Doing) -> bool {
        let place = self.taken.get_mut(&id);
        place.map(|place| place.doing = doing).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SMALL: PlaceLimits = PlaceLimits { all: 8, of_one_peer: 4, reserved: 2 };
    const SECOND: Duration = Duration::from_secs(1);

    fn admitted(admission: Admission) -> (PlaceId, Vec<PlaceId>) {
        match admission {
            Admission::Admit { id, close } => (id, close),
            Admission::Refuse => panic!("it is refused"),
        }
    }

    /// So many of a peer, one second after the other.
    fn many(
        places: &mut Places,
        peer: Peer,
        is_welcome: bool,
        count: usize,
        now: &mut Instant,
    ) -> Vec<PlaceId> {
        let one = |_| {
            *now += SECOND;
            let (id, close) = admitted(places.admit(peer, is_welcome, *now));
            assert_eq!(close, []);
            id
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn a_peer_with_half_of_the_places_replaces_its_own_that_has_rested_longest() {
        let (mut places, mut now) = (Places::new(SMALL), Instant::now());
        let own = many(&mut places, Peer::User(1), true, 4, &mut now);
        places.work(own[0]);
        places.rest(own[0], now + SECOND);
        assert_eq!(admitted(places.admit(Peer::User(1), true, now)).1, [own[1]]);
        assert_eq!(admitted(places.admit(Peer::User(2), true, now)).1, []);
    }

    #[test]
    fn a_peer_all_of_whose_requests_are_worked_on_gets_no_more_and_others_do() {
        let (mut places, mut now) = (Places::new(SMALL), Instant::now());
        for id in many(&mut places, Peer::User(1), true, 4, &mut now) {
            assert!(places.work(id));
        }
        assert_eq!(places.admit(Peer::User(1), true, now), Admission::Refuse);
        assert_eq!(admitted(places.admit(Peer::User(2), true, now)).1, []);
    }

    #[test]
    fn who_is_not_let_in_never_takes_the_last_places_nor_that_of_somebody_who_is() {
        let (mut places, mut now) = (Places::new(SMALL), Instant::now());
        let welcome = many(&mut places, Peer::User(0), true, 2, &mut now);
        let first = many(&mut places, Peer::User(1), false, 4, &mut now);
        many(&mut places, Peer::User(2), false, 2, &mut now);
        assert_eq!(admitted(places.admit(Peer::User(3), false, now)).1, [first[0]]);
        assert!(welcome.iter().all(|&id| places.work(id)), "they are still there");
        assert_eq!(admitted(places.admit(Peer::User(0), true, now)).1, [first[1]]);
    }

    #[test]
    fn whoever_waits_for_an_operation_costs_no_place() {
        let (mut places, mut now) = (Places::new(SMALL), Instant::now());
        let mut waiting = Vec::new();
        for _ in 0..20 {
            for id in many(&mut places, Peer::User(0), true, 4, &mut now) {
                places.work(id);
                places.step_away(id);
                waiting.push(id);
            }
        }
        many(&mut places, Peer::User(0), true, 4, &mut now);
        // Their operation has ended: all get their answers, and then there are too many.
        for &id in &waiting {
            assert!(places.work(id));
        }
        let closed: Vec<_> = waiting.iter().filter_map(|&id| places.rest(id, now)).collect();
        assert_eq!(closed.len(), 80 + 4 - SMALL.of_one_peer);
        assert_eq!(places.count(|_| true), SMALL.of_one_peer);
    }

    #[test]
    fn who_has_lost_its_place_is_not_worked_for() {
        let (mut places, mut now) = (Places::new(SMALL), Instant::now());
        let own = many(&mut places, Peer::Unknown, false, 4, &mut now);
        admitted(places.admit(Peer::Unknown, false, now));
        assert!(!places.work(own[0]) && places.work(own[1]));
        places.leave(own[1]);
        assert!(!places.work(own[1]));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Admit(u32, bool),
        Work(usize),
        Rest(usize),
        Away(usize),
        Welcome(usize),
        Leave(usize),
    }

    fn steps(peers: u32) -> impl Strategy<Value = Vec<Step>> {
        let which = 0..40_usize;
        let step = prop_oneof![
            4 => (0..peers, any::<bool>()).prop_map(|(peer, is_welcome)| Step::Admit(peer, is_welcome)),
            2 => which.clone().prop_map(Step::Work),
            2 => which.clone().prop_map(Step::Rest),
            1 => which.clone().prop_map(Step::Away),
            1 => which.clone().prop_map(Step::Welcome),
            1 => which.prop_map(Step::Leave),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// Does a step, and checks what holds for each.
    fn do_step(places: &mut Places, ids: &mut Vec<PlaceId>, step: Step, now: Instant) {
        let id_of = |which: usize| ids.get(ids.len().wrapping_sub(which + 1)).copied();
        let unwelcome = |place: &Place| !place.is_welcome;
        match step {
            Step::Admit(user, is_welcome) => {
                let peer = Peer::User(user);
                let before = places.taken.clone();
                let counts = |places: &Places| {
                    [
                        places.count(|_| true),
                        places.count(|place| place.peer == peer),
                        places.count(unwelcome),
                    ]
                };
                let had = counts(places);
                let admission = places.admit(peer, is_welcome, now);
                let has = counts(places);
                let Admission::Admit { id, close } = admission else {
                    assert_eq!(had, has, "who is refused changes nothing");
                    return;
                };
                ids.push(id);
                let limits = [SMALL.all, SMALL.of_one_peer, SMALL.all - SMALL.reserved];
                let concerned = if is_welcome { 2 } else { 3 };
                for index in 0..concerned {
                    assert!(has[index] <= limits[index].max(had[index]), "{index}: {had:?} {has:?}");
                }
                for id in close {
                    let place = before[&id];
                    assert!(matches!(place.doing, Doing::Resting { .. }));
                    assert!(is_welcome || !place.is_welcome || place.peer == peer);
                    assert!(!places.taken.contains_key(&id));
                }
            }
            Step::Work(which) => drop(id_of(which).map(|id| places.work(id))),
            Step::Rest(which) => drop(id_of(which).map(|id| places.rest(id, now))),
            Step::Away(which) => drop(id_of(which).map(|id| places.step_away(id))),
            Step::Welcome(which) => drop(id_of(which).map(|id| places.welcome(id))),
            Step::Leave(which) => drop(id_of(which).map(|id| places.leave(id))),
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_no_limit_is_passed_by_admitting(steps in steps(4)) {
            let (mut places, mut now, mut ids) = (Places::new(SMALL), Instant::now(), Vec::new());
            for step in steps {
                now += SECOND;
                do_step(&mut places, &mut ids, step, now);
            }
        }

        #[test]
        fn whatever_one_peer_does_another_gets_a_place(steps in steps(1), is_welcome: bool) {
            let (mut places, mut now, mut ids) = (Places::new(SMALL), Instant::now(), Vec::new());
            for step in steps {
                now += SECOND;
                // Those who wait come back only when what they wait for has ended: that is not the peer's to do.
                if !matches!(step, Step::Away(_)) {
                    do_step(&mut places, &mut ids, step, now);
                }
            }
            prop_assert_ne!(places.admit(Peer::User(7), is_welcome, now), Admission::Refuse);
        }
    }
}
