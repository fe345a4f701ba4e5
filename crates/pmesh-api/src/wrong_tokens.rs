//! Who shows wrong tokens is answered slowly. A plain type.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::{Duration, Instant},
};

use crate::seldom::Seldom;

/// So many wrong tokens in a minute are taken for slips, and cost nothing.
const FREE: usize = 10;

/// For how long a wrong token is remembered.
const MINUTE: Duration = Duration::from_mins(1);

/// The pause between two answers to a peer that has shown more.
const PAUSE: Duration = Duration::from_secs(1);

/// How many requests of one peer may wait for their turn.
const MAX_WAITING: u32 = 16;

/// How many peers are remembered. The one whose last wrong token is the oldest makes room.
const MAX_PEERS: usize = 1024;

/// Decides when a request that shows a token is looked at, so that no peer can try more than one token a second.
#[derive(Debug)]
pub(crate) struct WrongTokens<P> {
    peers: HashMap<P, PeerRecord>,
    said: Seldom,
}

#[derive(Debug, Default)]
struct PeerRecord {
    /// The last ones, at most [`FREE`], oldest first.
    wrong: VecDeque<Instant>,
    /// When the last request that had to wait has its turn.
    last_turn: Option<Instant>,
}

/// When a request is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenTurn {
    Now,
    At(Instant),
    /// Not at all: as many as may wait for their turn do.
    Never,
}

impl<P> Default for WrongTokens<P> {
    fn default() -> Self {
        Self { peers: HashMap::new(), said: Seldom::default() }
    }
}

impl<P: Copy + Eq + Hash> WrongTokens<P> {
    /// When a request of `peer` that shows a token is looked at. A right token waits as long as a wrong one: else how soon
    /// the answer comes would tell it.
    pub(crate) fn turn(&mut self, peer: P, now: Instant) -> TokenTurn {
        let Some(peer) = self.peers.get_mut(&peer) else { return TokenTurn::Now };
        let is_slow = peer.wrong.len() >= FREE
            && peer.wrong.front().is_some_and(|&oldest| now.duration_since(oldest) < MINUTE);
        let next = peer.last_turn.map_or(now, |last| now.max(last + PAUSE));
        if !is_slow {
            return TokenTurn::Now;
        }
        if next.duration_since(now) > PAUSE * (MAX_WAITING - 1) {
            return TokenTurn::Never;
        }
        peer.last_turn = Some(next);
        if next > now { TokenTurn::At(next) } else { TokenTurn::Now }
    }

    /// A token of `peer` was wrong. How many were since the last line in the log, if one is due.
    pub(crate) fn wrong(&mut self, peer: P, now: Instant) -> Option<u64> {
        if !self.peers.contains_key(&peer) {
            self.make_room(now);
        }
        let peer = self.peers.entry(peer).or_default();
        if peer.wrong.len() == FREE {
            peer.wrong.pop_front();
        }
        peer.wrong.push_back(now);
        if peer.wrong.len() == FREE && peer.last_turn.is_none_or(|last| last < now) {
            peer.last_turn = Some(now);
        }
        self.said.again(now)
    }

    fn make_room(&mut self, now: Instant) {
        if self.peers.len() < MAX_PEERS {
            return;
        }
        let last = |peer: &PeerRecord| peer.wrong.back().copied();
        self.peers.retain(|_, peer| last(peer).is_some_and(|last| now.duration_since(last) < MINUTE));
        if self.peers.len() >= MAX_PEERS
            && let Some((&oldest, _)) = self.peers.iter().min_by_key(|(_, peer)| last(peer))
        {
            self.peers.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A peer that has just shown as many wrong tokens as are free.
    fn guesser() -> (WrongTokens<u32>, Instant) {
        let (mut tokens, now) = (WrongTokens::default(), Instant::now());
        for _ in 0..FREE {
            assert_eq!(tokens.turn(1, now), TokenTurn::Now);
            tokens.wrong(1, now);
        }
        (tokens, now)
    }

    #[test]
    fn after_ten_wrong_tokens_in_a_minute_there_is_one_answer_a_second() {
        let (mut tokens, mut now) = guesser();
        for _ in 0..5 {
            let TokenTurn::At(at) = tokens.turn(1, now) else { panic!("it has to wait") };
            assert_eq!(at, now + PAUSE);
            now = at;
            tokens.wrong(1, now);
        }
        assert_eq!(tokens.turn(2, now), TokenTurn::Now, "others do not wait");
        assert_eq!(tokens.turn(1, now + MINUTE), TokenTurn::Now, "and neither does who has stopped");
    }

    #[test]
    fn no_more_than_sixteen_requests_of_a_peer_wait() {
        let (mut tokens, now) = guesser();
        let waiting = (0..100).take_while(|_| tokens.turn(1, now) != TokenTurn::Never).count();
        assert_eq!(waiting, MAX_WAITING as usize - 1);
        assert_eq!(tokens.turn(1, now + PAUSE), TokenTurn::At(now + PAUSE * MAX_WAITING));
    }

    #[test]
    fn one_line_a_minute_tells_how_many_there_were() {
        let (mut tokens, now) = (WrongTokens::default(), Instant::now());
        assert_eq!(tokens.wrong(1, now), Some(1));
        for peer in 0..100 {
            assert_eq!(tokens.wrong(peer, now + PAUSE), None);
        }
        assert_eq!(tokens.wrong(1, now + MINUTE), Some(101));
    }

    #[test]
    fn no_more_peers_are_remembered_than_there_is_room_for() {
        let (mut tokens, mut now) = guesser();
        for peer in 2..5000 {
            now += Duration::from_millis(1);
            tokens.wrong(peer, now);
            assert!(tokens.peers.len() <= MAX_PEERS);
        }
        assert_eq!(tokens.turn(1, now), TokenTurn::Now, "the oldest is forgotten");
    }

    proptest! {
        /// Whatever a peer does, it never gets more answers than ten a minute and one a second.
        #[test]
        fn no_peer_learns_more_than_the_limit(steps in prop::collection::vec(0_u64..3000, 1..400)) {
            let (mut tokens, start) = (WrongTokens::default(), Instant::now());
            let (mut now, mut answered) = (start, Vec::new());
            for step in steps {
                now += Duration::from_millis(step);
                let at = match tokens.turn(1, now) {
                    TokenTurn::Now => now,
                    TokenTurn::At(at) => at,
                    TokenTurn::Never => continue,
                };
                // The caller comes back when it has been answered.
                now = at;
                tokens.wrong(1, now);
                answered.push(at);
            }
            for (index, &from) in answered.iter().enumerate() {
                let window = answered[index..].iter().filter(|&&at| at < from + MINUTE).count();
                prop_assert!(window <= FREE + 60, "{window}");
            }
        }
    }
}
