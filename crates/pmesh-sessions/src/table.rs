//! The table of clients: fixed buckets of seven, each under a lock of its own.

use std::{
    cmp::Reverse,
    hash::{BuildHasher, RandomState},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

use crate::ClientKey;

/// Clients that share a bucket; the eighth evicts one of them.
const WAYS: usize = 7;
/// Buckets that are allocated together, a page or so.
const CHUNK: usize = 16;
/// A client without requests for longer than this is forgotten, unless it is blocked.
const IDLE: Duration = Duration::from_mins(30);

/// Bounds of [`Sessions`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionLimits {
    /// Clients that are remembered at a time. Each takes 41 bytes once it has been seen, the default of
    /// 2<sup>18</sup> thus 11 MB when it is full.
    pub clients: usize,
}

impl SessionLimits {
    /// The same with something changed: `limits.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { clients: 1 << 18 }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Allow,
    /// It is refused: the client is blocked.
    Blocked {
        /// When the block ends.
        until: Instant,
    },
}

/// The clients of a server and their recent traffic.
///
/// Shared by all threads: a request locks its client's bucket only, for some 100 ns. Where a bucket
/// stands is decided by a hash with a random key, so that nobody can aim at one.
#[derive(Debug)]
pub struct Sessions {
    /// Allocated when the first client falls into them, so that a quiet server stays small.
    chunks: Box<[OnceLock<Box<Chunk>>]>,
    buckets: u64,
    hash: RandomState,
    /// Times in the table are milliseconds since here.
    epoch: Instant,
}

type Chunk = [Mutex<Bucket>; CHUNK];
type Bucket = [ClientSlot; WAYS];

/// One client; free while `num_reqs` is 0.
#[derive(Clone, Copy, Debug, Default)]
struct ClientSlot {
    client: u64,
    num_reqs: u64,
    first_seen: u64,
    last_seen: u64,
    /// 0: never blocked.
    blocked_until: u64,
}

impl ClientSlot {
    fn is_blocked(&self, now: u64) -> bool {
        self.blocked_until > now
    }

    fn is_live(&self, now: u64) -> bool {
        let idle = u128::from(now.saturating_sub(self.last_seen));
        self.num_reqs > 0 && (idle <= IDLE.as_millis() || self.is_blocked(now))
    }
}

impl Sessions {
    /// An empty table.
    pub fn new(limits: &SessionLimits) -> Self {
        let buckets = limits.clients.div_ceil(WAYS).max(1);
        Self {
            chunks: std::iter::repeat_with(OnceLock::new).take(buckets.div_ceil(CHUNK)).collect(),
            buckets: buckets as u64,
            hash: RandomState::new(),
            epoch: Instant::now(),
        }
    }

    /// Counts a request of `client` and says what becomes of it.
    ///
    /// In a full bucket a client that has been idle for 30 minutes makes room, else the one that was
    /// seen longest ago and is not blocked, else the one whose block ends first.
    pub fn record(&self, client: ClientKey, now: Instant) -> Verdict {
        let now = self.millis(now);
        self.with_slot(client, now, |slot| {
            slot.num_reqs = slot.num_reqs.saturating_add(1);
            slot.last_seen = slot.last_seen.max(now);
            if slot.is_blocked(now) {
                Verdict::Blocked { until: self.epoch + Duration::from_millis(slot.blocked_until) }
            } else {
                Verdict::Allow
            }
        })
    }

    /// Refuses the requests of `client` until then; a time in the past lifts a block.
    ///
    /// A client that was never seen counts one request: a client session has at least one.
    pub fn block(&self, client: ClientKey, until: Instant, now: Instant) {
        let (until, now) = (self.millis(until), self.millis(now));
        self.with_slot(client, now, |slot| {
            if slot.num_reqs == 0 {
                slot.num_reqs = 1;
            }
            slot.blocked_until = until;
        });
    }

    /// The client sessions as of `now`, which is `wall` on the calendar.
    ///
    /// Locks one bucket at a time: requests go on meanwhile, so the sum is of no single moment. A full table
    /// takes some 100 ms: async callers have it done on a thread that may block. Besides the list it holds some 40 bytes
    /// for each client that the list may have, two of them for one where there is a limit.
    pub fn snapshot(&self, query: Query, now: Instant, wall: SystemTime) -> Snapshot {
        let now = self.millis(now);
        let on_calendar = |at: u64| {
            if at <= now {
                wall.checked_sub(Duration::from_millis(now - at)).unwrap_or(SystemTime::UNIX_EPOCH)
            } else {
                wall.checked_add(Duration::from_millis(at - now)).unwrap_or(wall)
            }
        };
        let by = |a: &ClientSlot, b: &ClientSlot| {
            let order = match query.sort {
                SortBy::NumReqs => b.num_reqs.cmp(&a.num_reqs),
                SortBy::AvgRps => avg_rps(b).total_cmp(&avg_rps(a)),
                SortBy::LastSeen => b.last_seen.cmp(&a.last_seen),
            };
            order.then_with(|| Reverse(b.client).cmp(&Reverse(a.client)))
        };
        let limit = query.limit.unwrap_or(usize::MAX);
        let mut slots: Vec<ClientSlot> = Vec::new();
        let mut num_clients = 0;
        for chunk in self.chunks.iter().filter_map(OnceLock::get) {
            for bucket in chunk.iter() {
                let bucket = *bucket.lock();
                for slot in bucket.into_iter().filter(|slot| slot.is_live(now)) {
                    num_clients += 1;
                    slots.push(slot);
                }
                // Twice as many as are asked for, and only then the rest is dropped: each slot is looked at
                // a few times, however many there are.
                if slots.len() / 2 > limit {
                    keep_first(&mut slots, limit, by);
                }
            }
        }
        keep_first(&mut slots, limit, by);
        slots.sort_unstable_by(by);
        let clients = slots
            .iter()
            .map(|slot| ClientSession {
                client: ClientKey::from_bits(slot.client),
                avg_rps: avg_rps(slot),
                num_reqs: slot.num_reqs,
                first_seen: on_calendar(slot.first_seen),
                last_seen: on_calendar(slot.last_seen),
                blocked_until: slot.is_blocked(now).then(|| on_calendar(slot.blocked_until)),
            })
            .collect();
        Snapshot { num_clients, clients }
    }

    /// Hands out the client's slot: its own, or one that was made free for it (with no requests yet).
    fn with_slot<T>(&self, client: ClientKey, now: u64, use_it: impl FnOnce(&mut ClientSlot) -> T) -> T {
        // The upper bits of a 64-bit product spread a hash over any number of buckets.
        let hash = u128::from(self.hash.hash_one(client.bits()));
        let index = usize::try_from((hash * u128::from(self.buckets)) >> 64)
            .expect("less than the number of buckets, a usize");
        let chunk = self.chunks[index / CHUNK].get_or_init(Box::default);
        let mut bucket = chunk[index % CHUNK].lock();
        let fresh =
            ClientSlot { client: client.bits(), first_seen: now, last_seen: now, ..ClientSlot::default() };
        if let Some(own) = bucket.iter_mut().find(|slot| slot.num_reqs > 0 && slot.client == fresh.client) {
            if !own.is_live(now) {
                *own = fresh;
            }
            return use_it(own);
        }
        let leaves_first = bucket
            .iter_mut()
            .min_by_key(|slot| {
                let blocked = slot.is_blocked(now);
                (slot.is_live(now), blocked, if blocked { slot.blocked_until } else { slot.last_seen })
            })
            .expect("a bucket has seven slots");
        *leaves_first = fresh;
        use_it(leaves_first)
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Leaves the first `limit` of `slots`, in no order.
fn keep_first(
    slots: &mut Vec<ClientSlot>,
    limit: usize,
    by: impl Fn(&ClientSlot, &ClientSlot) -> std::cmp::Ordering,
) {
    if limit < slots.len() {
        slots.select_nth_unstable_by(limit, by);
        slots.truncate(limit);
    }
}

/// What came after the first request, by the time that it took; a millisecond is the least we can tell.
fn avg_rps(slot: &ClientSlot) -> f64 {
    let seconds = Duration::from_millis((slot.last_seen - slot.first_seen).max(1)).as_secs_f64();
    slot.num_reqs.saturating_sub(1) as f64 / seconds
}

/// Which client sessions a [`Snapshot`] lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// At most so many; `None` for all.
    pub limit: Option<usize>,
    /// Which come first.
    pub sort: SortBy,
}

impl Query {
    /// The same, but for what `change` does to it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// What a list of client sessions is ordered by, the greatest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SortBy {
    /// Requests counted.
    #[default]
    NumReqs,
    /// Requests per second.
    AvgRps,
    /// Last request.
    LastSeen,
}

/// The clients at a moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// How many there are, also those that the list leaves out.
    pub num_clients: usize,
    /// The list.
    pub clients: Vec<ClientSession>,
}

/// One client and its recent traffic.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClientSession {
    /// Whose it is.
    pub client: ClientKey,
    /// Requests per second between the first and the last one; 0 with one.
    pub avg_rps: f64,
    /// Requests since `first_seen`.
    pub num_reqs: u64,
    /// When the first of them came.
    pub first_seen: SystemTime,
    /// When the last of them came.
    pub last_seen: SystemTime,
    /// When the block ends that is in force; `None` if there is none.
    pub blocked_until: Option<SystemTime>,
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use proptest::prelude::*;

    use super::*;

    const SEC: Duration = Duration::from_secs(1);
    const MIN: Duration = Duration::from_mins(1);

    fn client(number: u32) -> ClientKey {
        ClientKey::from(IpAddr::V4(number.into()))
    }

    fn table(clients: usize) -> (Sessions, Instant) {
        let sessions = Sessions::new(&SessionLimits { clients });
        let start = sessions.epoch;
        (sessions, start)
    }

    fn only(sessions: &Sessions, now: Instant) -> ClientSession {
        let seen = sessions.snapshot(Query::default(), now, SystemTime::UNIX_EPOCH + 60 * MIN);
        assert_eq!((seen.num_clients, seen.clients.len()), (1, 1));
        seen.clients[0].clone()
    }

    #[test]
    fn the_rate_is_that_between_the_first_and_the_last_request() {
        let (sessions, start) = table(100);
        sessions.record(client(1), start + SEC);
        assert_eq!(only(&sessions, start + 2 * SEC).avg_rps.to_bits(), 0.0_f64.to_bits());
        for tenth in 1..=20 {
            sessions.record(client(1), start + SEC + tenth * SEC / 10);
        }
        // What passes after the last request does not water it down.
        let seen = only(&sessions, start + 100 * SEC);
        assert!((seen.avg_rps - 10.0).abs() < 1e-9 && seen.num_reqs == 21, "{seen:?}");
        assert_eq!(seen.first_seen, SystemTime::UNIX_EPOCH + 60 * MIN - 99 * SEC);
        assert_eq!(seen.last_seen, SystemTime::UNIX_EPOCH + 60 * MIN - 97 * SEC);
        assert_eq!(seen.blocked_until, None);
    }

    #[test]
    fn a_client_is_forgotten_after_half_an_hour_of_silence() {
        let (sessions, start) = table(100);
        sessions.record(client(1), start);
        assert_eq!(only(&sessions, start + 30 * MIN).num_reqs, 1);
        let later = start + 30 * MIN + SEC;
        assert_eq!(sessions.snapshot(Query::default(), later, SystemTime::now()).num_clients, 0);
        sessions.record(client(1), later);
        assert_eq!(only(&sessions, later).num_reqs, 1);
        assert_eq!(only(&sessions, later).first_seen, SystemTime::UNIX_EPOCH + 60 * MIN);
    }

    #[test]
    fn a_block_outlives_half_an_hour_of_silence() {
        let (sessions, start) = table(100);
        let until = start + 24 * 60 * MIN;
        sessions.block(client(1), until, start);
        assert_eq!(sessions.record(client(1), start + 31 * MIN), Verdict::Blocked { until });
        let seen = only(&sessions, start + 31 * MIN);
        assert_eq!((seen.num_reqs, seen.blocked_until.is_some()), (2, true));
        assert_eq!(sessions.record(client(1), until), Verdict::Allow);
        assert_eq!(only(&sessions, until).num_reqs, 1, "the session before was long over");
    }

    #[test]
    fn a_block_is_lifted_by_one_that_has_ended() {
        let (sessions, start) = table(100);
        sessions.block(client(1), start + 60 * MIN, start);
        sessions.block(client(1), start, start);
        assert_eq!(sessions.record(client(1), start + SEC), Verdict::Allow);
    }

    #[test]
    fn a_flood_of_addresses_fills_the_table_and_not_the_memory() {
        let (sessions, start) = table(700);
        sessions.block(client(0), start + 60 * MIN, start);
        for number in 1..=20_000 {
            sessions.record(client(number), start + SEC);
        }
        let seen = sessions.snapshot(Query::default(), start + SEC, SystemTime::now());
        assert_eq!(seen.num_clients, 700);
        assert!(matches!(sessions.record(client(0), start + SEC), Verdict::Blocked { .. }));
    }

    #[test]
    fn an_idle_table_takes_no_memory_for_its_clients() {
        let (sessions, start) = table(1 << 18);
        sessions.record(client(1), start);
        assert_eq!(sessions.chunks.iter().filter(|chunk| chunk.get().is_some()).count(), 1);
        assert_eq!(size_of::<Bucket>() / WAYS, 40);
    }

    #[test]
    fn a_list_is_sorted_and_cut_but_the_count_is_of_all() {
        let (sessions, start) = table(1 << 12);
        for number in 0..50 {
            for request in 0..=number {
                sessions.record(client(number), start + SEC * number + SEC * request);
            }
        }
        let listed = |sort, limit| {
            let seen = sessions.snapshot(
                Query { limit, sort },
                start + 100 * SEC,
                SystemTime::UNIX_EPOCH + 60 * MIN,
            );
            assert_eq!(seen.num_clients, 50);
            seen.clients
        };
        let names = |sort| listed(sort, Some(2)).iter().map(|seen| seen.client).collect::<Vec<_>>();
        assert_eq!(names(SortBy::NumReqs), [client(49), client(48)]);
        assert_eq!(names(SortBy::LastSeen), [client(49), client(48)]);
        // All but the first have one request a second; equals stand in the order of their keys.
        assert_eq!(names(SortBy::AvgRps), [client(1), client(2)]);
        assert_eq!(listed(SortBy::NumReqs, None).len(), 50);
        assert_eq!(listed(SortBy::NumReqs, Some(0)).len(), 0);
        assert_eq!(listed(SortBy::NumReqs, Some(99)).len(), 50);
    }

    #[test]
    fn a_short_list_is_the_beginning_of_the_long_one() {
        let (sessions, start) = table(1 << 18);
        for number in 0..3000_u32 {
            for request in 0..=(number % 7) {
                sessions.record(client(number.reverse_bits()), start + SEC * (number % 50) + SEC * request);
            }
        }
        for sort in [SortBy::NumReqs, SortBy::AvgRps, SortBy::LastSeen] {
            let listed = |limit| {
                sessions.snapshot(Query { limit, sort }, start + 100 * SEC, SystemTime::UNIX_EPOCH + 60 * MIN)
            };
            let all = listed(None);
            for limit in [0, 1, 2, 10, 1499, 1500, 2999, 3000, 5000] {
                let short = listed(Some(limit));
                assert_eq!(short.num_clients, 3000);
                assert_eq!(short.clients, all.clients[..limit.min(3000)], "{sort:?} {limit}");
            }
        }
    }

    #[test]
    fn threads_lose_no_request() {
        let (sessions, start) = table(100);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        assert_eq!(sessions.record(client(1), start), Verdict::Allow);
                    }
                });
            }
        });
        assert_eq!(only(&sessions, start).num_reqs, 40_000);
    }

    /// What one bucket must remember, written down without buckets or slots.
    #[derive(Default)]
    struct Model(BTreeMap<u32, (u64, u64, u64, u64)>);

    impl Model {
        fn is_live(&(_, _, last, blocked): &(u64, u64, u64, u64), now: u64) -> bool {
            now - last <= 30 * 60_000 || blocked > now
        }

        fn entry(&mut self, number: u32, now: u64) -> &mut (u64, u64, u64, u64) {
            self.0.retain(|_, entry| Self::is_live(entry, now));
            if !self.0.contains_key(&number) && self.0.len() == WAYS {
                let oldest =
                    self.0.iter().filter(|(_, entry)| entry.3 <= now).min_by_key(|(_, entry)| entry.2);
                let soonest = self.0.iter().min_by_key(|(_, entry)| entry.3);
                let leaves = *oldest.or(soonest).unwrap().0;
                self.0.remove(&leaves);
            }
            self.0.entry(number).or_insert((0, now, now, 0))
        }
    }

    proptest! {
        #[test]
        fn one_bucket_remembers_what_the_exact_log_says(
            steps in prop::collection::vec((0_u32..12, 1_u64..600_000, prop::option::weighted(0.2, 0_u64..7_200_000)), 1..200)
        ) {
            let (sessions, start) = table(WAYS);
            let mut model = Model::default();
            let mut now = 0;
            for (number, pause, block) in steps {
                // Never the same millisecond twice: which of two equals is evicted is not specified.
                now += pause;
                let at = |millis| start + Duration::from_millis(millis);
                if let Some(block) = block {
                    sessions.block(client(number), at(now + block), at(now));
                    let entry = model.entry(number, now);
                    entry.0 = entry.0.max(1);
                    entry.3 = now + block;
                } else {
                    let verdict = sessions.record(client(number), at(now));
                    let entry = model.entry(number, now);
                    entry.0 += 1;
                    entry.2 = now;
                    let blocked = entry.3 > now;
                    prop_assert_eq!(verdict != Verdict::Allow, blocked);
                }
                let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(now);
                let seen = sessions.snapshot(Query::default(), at(now), wall);
                let seen: BTreeMap<_, _> = seen.clients.into_iter().map(|seen| (seen.client, seen)).collect();
                let live: Vec<_> = model.0.iter().filter(|(_, entry)| Model::is_live(entry, now)).collect();
                prop_assert_eq!(seen.len(), live.len());
                for (number, (requests, first, last, blocked)) in live {
                    let seen = &seen[&client(*number)];
                    let millis = |time: SystemTime| {
                        u64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
                    };
                    prop_assert_eq!(seen.num_reqs, *requests);
                    prop_assert_eq!((millis(seen.first_seen), millis(seen.last_seen)), (*first, *last));
                    prop_assert_eq!(seen.blocked_until.map(millis), Some(*blocked).filter(|until| *until > now));
                }
            }
        }
    }
}
