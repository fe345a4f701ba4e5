//! Who gets one of the API's places, and who makes room. A plain type.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

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

/// Where there is no room, somebody new waits until another has rested for so long, and only then takes its place: of many
/// calls at a time most have ended by then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How many places there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaceLimits {
    /// All of them.
    pub(crate) all: usize,
    /// Those that one peer may have.
    pub(crate) of_one_peer: usize,
    /// Those that are kept from peers who would not be let in anyway.
    pub(crate) reserved: usize,
}

impl PlaceLimits {
    /// So many places: half of them for one peer, and 64 kept, or an eighth where that is less.
    pub(crate) fn of(all: usize) -> Self {
        Self { all, of_one_peer: all.div_ceil(2), reserved: 64.min(all / 8) }
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
    /// There is no room yet; ask again then, or when [`Places::has_room`] says that there is.
    Later(Instant),
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
struct TakenPlace {
    peer: Peer,
    /// Whether it would be let in. One who would not may have a place to be told so, but never takes one from those who
    /// would.
    is_welcome: bool,
    doing: Doing,
}

impl TakenPlace {
    fn costs(&self) -> bool {
        self.doing != Doing::Away
    }
}

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    limits: PlaceLimits,
    taken: HashMap<PlaceId, TakenPlace>,
    count: Count,
    /// Who waits for room, at most as many of each peer and of all as there are places.
    hopeful: HashMap<Peer, usize>,
    next: u64,
}

/// How many of the places are not held by waiting for an operation. It is kept so that they need not be counted each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Count {
    all: usize,
    unwelcome: usize,
    of_peer: HashMap<Peer, usize>,
}

impl Count {
    fn add(&mut self, place: &TakenPlace) {
        if place.costs() {
            self.all += 1;
            self.unwelcome += usize::from(!place.is_welcome);
            *self.of_peer.entry(place.peer).or_default() += 1;
        }
    }

    fn remove(&mut self, place: &TakenPlace) {
        if !place.costs() {
            return;
        }
        self.all -= 1;
        self.unwelcome -= usize::from(!place.is_welcome);
        if let Some(of_peer) = self.of_peer.get_mut(&place.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                self.of_peer.remove(&place.peer);
            }
        }
    }

    fn of_peer(&self, peer: Peer) -> usize {
        self.of_peer.get(&peer).copied().unwrap_or_default()
    }
}

impl Places {
    pub(crate) fn new(limits: PlaceLimits) -> Self {
        let (taken, count, hopeful) = (HashMap::new(), Count::default(), HashMap::new());
        Self { limits, taken, count, hopeful, next: 0 }
    }

    /// Whether there is room for one more, without anybody's going.
    pub(crate) fn has_room(&self, peer: Peer, is_welcome: bool) -> bool {
        let PlaceLimits { all, of_one_peer, reserved } = self.limits;
        self.count.all < all
            && self.count.of_peer(peer) < of_one_peer
            && (is_welcome || self.count.unwelcome < all.saturating_sub(reserved))
    }

    /// Somebody who came at a time wants a place. At a limit the one that has rested longest, of those that the
    /// limit is about, makes room; who is not welcome takes the place of nobody who is. Who has rested for
    /// less than [`PATIENCE`] is given that time, as long as not too many wait.
    pub(crate) fn admit(&mut self, peer: Peer, is_welcome: bool, came: Instant, now: Instant) -> Admission {
        let leaving = self.who_makes_room(peer, is_welcome);
        let soonest = match &leaving {
            Some(leaving) => leaving.iter().map(|&(since, _)| since).max().map(|since| since + PATIENCE),
            None => Some(came + PATIENCE),
        };
        if let Some(soonest) = soonest.map(|at| at.min(came + PATIENCE)).filter(|&at| now < at)
            && self.may_wait(peer)
        {
            return Admission::Later(soonest);
        }
        let Some(leaving) = leaving else { return Admission::Refuse };
        let close: Vec<PlaceId> = leaving.into_iter().map(|(_, id)| id).collect();
        for &id in &close {
            self.leave(id);
        }
        let id = PlaceId(self.next);
        self.next += 1;
        let place = TakenPlace { peer, is_welcome, doing: Doing::Resting { since: now } };
        self.count.add(&place);
        self.taken.insert(id, place);
        Admission::Admit { id, close }
    }

    /// Somebody begins to wait for room.
    pub(crate) fn hope(&mut self, peer: Peer) {
        *self.hopeful.entry(peer).or_default() += 1;
    }

    /// It waits no more.
    pub(crate) fn give_up_hope(&mut self, peer: Peer) {
        if let Some(count) = self.hopeful.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.hopeful.remove(&peer);
            }
        }
    }

    fn may_wait(&self, peer: Peer) -> bool {
        let of_peer = self.hopeful.get(&peer).copied().unwrap_or_default();
        of_peer < self.limits.of_one_peer && self.hopeful.values().sum::<usize>() < self.limits.all
    }

    /// Who has to go for one more, and since when each of them has rested; none where nobody can.
    ///
    /// One for each limit is enough, also where more come back from waiting than there is room for: those go when they have
    /// their answers.
    fn who_makes_room(&self, peer: Peer, is_welcome: bool) -> Option<Vec<(Instant, PlaceId)>> {
        let mut leaving: Vec<(Instant, PlaceId)> = Vec::new();
        let PlaceLimits { all, of_one_peer, reserved } = self.limits;
        if self.count.of_peer(peer) >= of_one_peer {
            leaving.push(self.longest_resting(|place| place.peer == peer)?);
        }
        // Somebody who goes because of one limit may be enough for another limit as well.
        let goes = |leaving: &[(Instant, PlaceId)], is_meant: fn(&TakenPlace) -> bool| {
            leaving.iter().any(|(_, id)| self.taken.get(id).is_some_and(is_meant))
        };
        let is_unwelcome = |place: &TakenPlace| !place.is_welcome;
        if !is_welcome
            && self.count.unwelcome >= all.saturating_sub(reserved)
            && !goes(&leaving, is_unwelcome)
        {
            leaving.push(self.longest_resting(is_unwelcome)?);
        }
        if self.count.all >= all && leaving.is_empty() {
            leaving.push(self.longest_resting(|place| is_welcome || !place.is_welcome)?);
        }
        Some(leaving)
    }

    fn longest_resting(&self, may_go: impl Fn(&TakenPlace) -> bool) -> Option<(Instant, PlaceId)> {
        let resting = self.taken.iter().filter_map(|(&id, place)| match place.doing {
            Doing::Resting { since } if may_go(place) => Some((since, id)),
            Doing::Resting { .. } | Doing::AtWork | Doing::Away => None,
        });
        resting.min()
    }

    /// A whole request is there. Whether its sender still has a place.
    pub(crate) fn work(&mut self, id: PlaceId) -> bool {
        self.change(id, |place| place.doing = Doing::AtWork).is_some()
    }

    /// It waits for an operation.
    pub(crate) fn step_away(&mut self, id: PlaceId) {
        self.change(id, |place| place.doing = Doing::Away);
    }

    /// It has its answer. Who loses its place, where more have come back from waiting than there is room for.
    pub(crate) fn rest(&mut self, id: PlaceId, now: Instant) -> Option<PlaceId> {
        let peer = self.change(id, |place| {
            place.doing = Doing::Resting { since: now };
            place.peer
        })?;
        let (_, longest) = if self.count.of_peer(peer) > self.limits.of_one_peer {
            self.longest_resting(|place| place.peer == peer)
        } else if self.count.all > self.limits.all {
            self.longest_resting(|_| true)
        } else {
            None
        }?;
        self.leave(longest);
        Some(longest)
    }

    /// It has shown that it is let in.
    pub(crate) fn welcome(&mut self, id: PlaceId) {
        self.change(id, |place| place.is_welcome = true);
    }

    /// It gives its place back.
    pub(crate) fn leave(&mut self, id: PlaceId) {
        if let Some(place) = self.taken.remove(&id) {
            self.count.remove(&place);
        }
    }

    fn change<T>(&mut self, id: PlaceId, change: impl FnOnce(&mut TakenPlace) -> T) -> Option<T> {
        let place = self.taken.get_mut(&id)?;
        self.count.remove(place);
        let changed = change(place);
        self.count.add(place);
        Some(changed)
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
            other => panic!("{other:?}"),
        }
    }

    /// Somebody who has waited as long as anybody does.
    fn late(places: &mut Places, peer: Peer, is_welcome: bool, now: Instant) -> Admission {
        places.admit(peer, is_welcome, now, now + PATIENCE)
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
            let (id, close) = admitted(places.admit(peer, is_welcome, *now, *now));
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
        assert_eq!(admitted(late(&mut places, Peer::User(1), true, now)).1, [own[1]]);
        assert_eq!(admitted(late(&mut places, Peer::User(2), true, now)).1, []);
    }

    #[test]
    fn a_peer_all_of_whose_requests_are_worked_on_gets_no_more_and_others_do() {
        let (mut places, mut now) = (Places::new(SMALL), Instant::now());
        for id in many(&mut places, Peer::User(1), true, 4, &mut now) {
            assert!(places.work(id));
        }
        assert_eq!(late(&mut places, Peer::User(1), true, now), Admission::Refuse);
        assert_eq!(admitted(late(&mut places, Peer::User(2), true, now)).1, []);
    }

    #[test]
    fn who_is_not_let_in_never_takes_the_last_places_nor_that_of_somebody_who_is() {
        let (mut places, mut now) = (Places::new(SMALL), Instant::now());
        let welcome = many(&mut places, Peer::User(0), true, 2, &mut now);
        let first = many(&mut places, Peer::User(1), false, 4, &mut now);
        many(&mut places, Peer::User(2), false, 2, &mut now);
        assert_eq!(admitted(late(&mut places, Peer::User(3), false, now)).1, [first[0]]);
        assert!(welcome.iter().all(|&id| places.work(id)), "they are still there");
        assert_eq!(admitted(late(&mut places, Peer::User(0), true, now)).1, [first[1]]);
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
        assert_eq!(places.count.all, SMALL.of_one_peer);
    }

    #[test]
    fn somebody_new_waits_a_second_before_another_goes_that_has_just_come() {
        let (mut places, mut now) = (Places::new(SMALL), Instant::now());
        let own = many(&mut places, Peer::User(1), true, 4, &mut now);
        for &id in &own[..3] {
            places.work(id);
        }
        // The last one came just now.
        let half = PATIENCE / 2;
        assert_eq!(
            places.admit(Peer::User(1), true, now + half, now + half),
            Admission::Later(now + PATIENCE)
        );
        assert!(!places.has_room(Peer::User(1), true) && places.has_room(Peer::User(2), true));
        places.leave(own[0]);
        assert!(places.has_room(Peer::User(1), true));
        many(&mut places, Peer::User(1), true, 1, &mut now);
        places.work(own[3]);
        let close = admitted(places.admit(Peer::User(1), true, now + half, now + PATIENCE)).1;
        assert_eq!(close.len(), 1, "it has rested for a second");
    }

    #[test]
    fn no_more_wait_for_room_than_there_are_places_and_half_of_them_of_one_peer() {
        let (mut places, mut now) = (Places::new(SMALL), Instant::now());
        for user in [1, 2] {
            for id in many(&mut places, Peer::User(user), true, 4, &mut now) {
                places.work(id);
            }
        }
        for user in [1, 2, 3] {
            let peer = Peer::User(user);
            let expected = if user == 3 { 0 } else { 4 };
            for _ in 0..expected {
                assert_eq!(places.admit(peer, true, now, now), Admission::Later(now + PATIENCE));
                places.hope(peer);
            }
            assert_eq!(places.admit(peer, true, now, now), Admission::Refuse);
        }
        places.give_up_hope(Peer::User(1));
        assert_eq!(places.admit(Peer::User(3), true, now, now), Admission::Later(now + PATIENCE));
    }

    #[test]
    fn who_has_lost_its_place_is_not_worked_for() {
        let (mut places, mut now) = (Places::new(SMALL), Instant::now());
        let own = many(&mut places, Peer::Unknown, false, 4, &mut now);
        admitted(late(&mut places, Peer::Unknown, false, now));
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
        match step {
            Step::Admit(user, is_welcome) => {
                let peer = Peer::User(user);
                let before = places.taken.clone();
                let counts =
                    |places: &Places| [places.count.all, places.count.of_peer(peer), places.count.unwelcome];
                let had = counts(places);
                let admission = late(places, peer, is_welcome, now);
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
        let mut count = Count::default();
        places.taken.values().for_each(|place| count.add(place));
        assert_eq!(places.count, count);
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
            prop_assert_ne!(late(&mut places, Peer::User(7), is_welcome, now), Admission::Refuse);
        }
    }
}
