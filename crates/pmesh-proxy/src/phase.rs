//! What a client's connection is doing, and what ends it: a value that takes events and the time.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    limits::FrontLimits,
    next_head::{BodyLength, NextHead},
};

/// What happened on a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEvent {
    /// Bytes came in.
    Read,
    /// More of a request was to be read, and the client has ended its side.
    ReadEnd,
    /// The client sends no more (FIN); what it has sent may be unread.
    Finished,
    /// The client, or the network for it, has broken off (RST).
    Reset,
    /// A request's head is whole.
    Asked,
    /// The request is for somebody who gives up when its client sends no more.
    HandedOver,
    /// The head of the answer goes out.
    Answered,
    /// From here on it is a tunnel: both ends may end their sides as they like.
    Switched,
    /// Nothing is left to do for the request, or to write of its answer's body.
    Done,
    /// The system took bytes for the client.
    Written,
    /// It takes no more: the client leaves bytes unread.
    Blocked,
}

/// What is to be done about a connection if nothing else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Nobody is there any more: everything ends now.
    Gone,
    /// It is closed then.
    Until(Instant),
    /// Nothing: it is not the client's turn.
    Open,
}

/// A connection on which nothing is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtRest {
    /// There was a request before, and the end of its answer may still be on its way.
    pub(crate) is_between_requests: bool,
    /// A part of a request has come.
    pub(crate) has_begun: bool,
    /// When bytes of an answer went over it last, or the first of a head came; or when it was made.
    pub(crate) since: Instant,
}

/// A client's connection, from one request to the next.
///
/// The end of what a client sends (FIN) says little: a program may send a request, end its side and wait for
/// the answer (RFC 9112, section 9.6), and one that was killed looks the same. It is taken for the end of the
/// client inside a request's body, where nothing can be done for the request, and once an answer has begun,
/// where those who half-close have done so long before. Behind a whole request it is a half-close; if nobody
/// is there after all, the first write says so (RST).
#[derive(Debug)]
pub(crate) struct Phases {
    phase: ConnectionPhase,
    /// The client has ended its side.
    is_finished: bool,
    /// Since when bytes wait that the client does not take.
    unread_since: Option<Instant>,
    next_head: NextHead,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_stall: Duration,
}

#[derive(Clone, Copy, Debug)]
enum ConnectionPhase {
    /// No request is there: until its first byte.
    Idle { until: Instant },
    /// The rest of a head, or the first byte of a connection.
    Head { until: Instant, has_begun: bool },
    /// A request is there, and no byte of its answer.
    Asked,
    /// An answer goes out, or whoever makes it gives up with its client.
    Answering,
    /// Bytes both ways.
    Tunnel,
    /// There is no client.
    Gone,
}

impl Phases {
    /// A connection that has just been made. One that says nothing at all gets the time of a head, not that
    /// between two requests.
    pub(crate) fn new(limits: &FrontLimits, now: Instant) -> Self {
        Self {
            phase: ConnectionPhase::Head { until: now + limits.header_timeout, has_begun: false },
            is_finished: false,
            unread_since: None,
            next_head: NextHead::new(),
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            write_stall: limits.write_stall,
        }
    }

    /// Takes bytes that came in.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8], now: impl FnOnce() -> Instant) {
        match self.phase {
            ConnectionPhase::Idle { .. } | ConnectionPhase::Head { .. } => {
                self.next_head.on_head_bytes(bytes);
            }
            ConnectionPhase::Asked | ConnectionPhase::Answering => self.next_head.on_later_bytes(bytes),
            ConnectionPhase::Tunnel | ConnectionPhase::Gone => {}
        }
        self.on(ConnectionEvent::Read, now);
    }

    /// A request's head is whole, and this is its body.
    pub(crate) fn on_head(&mut self, body: BodyLength, now: impl FnOnce() -> Instant) {
        self.next_head.on_head(body);
        self.on(ConnectionEvent::Asked, now);
    }

    /// Takes an event. `now` is asked only where the time matters, which is once a request at most.
    pub(crate) fn on(&mut self, event: ConnectionEvent, now: impl FnOnce() -> Instant) {
        match (event, self.phase) {
            // It is over: nothing that happens changes that.
            (_, ConnectionPhase::Gone) => {}
            (ConnectionEvent::Reset, _)
            | (ConnectionEvent::ReadEnd, ConnectionPhase::Asked | ConnectionPhase::Answering)
            | (ConnectionEvent::Finished, ConnectionPhase::Answering) => self.phase = ConnectionPhase::Gone,
            // Whoever reads heads closes the connection by itself.
            (
                ConnectionEvent::ReadEnd,
                ConnectionPhase::Idle { .. } | ConnectionPhase::Head { .. } | ConnectionPhase::Tunnel,
            ) => {}
            (
                ConnectionEvent::Finished,
                ConnectionPhase::Idle { .. }
                | ConnectionPhase::Head { .. }
                | ConnectionPhase::Asked
                | ConnectionPhase::Tunnel,
            ) => {
                self.is_finished = true;
            }

            (ConnectionEvent::Read, ConnectionPhase::Idle { .. }) => {
                self.phase = ConnectionPhase::Head { until: now() + self.header_timeout, has_begun: true }
            }
            (ConnectionEvent::Read, ConnectionPhase::Head { until, .. }) => {
                self.phase = ConnectionPhase::Head { until, has_begun: true }
            }
            (
                ConnectionEvent::Read,
                ConnectionPhase::Asked | ConnectionPhase::Answering | ConnectionPhase::Tunnel,
            ) => {}

            (ConnectionEvent::Asked, _) => self.phase = ConnectionPhase::Asked,
            (ConnectionEvent::HandedOver, _) => {
                self.phase = if self.is_finished { ConnectionPhase::Gone } else { ConnectionPhase::Answering }
            }
            (ConnectionEvent::Answered, ConnectionPhase::Tunnel) => {}
            (ConnectionEvent::Answered, _) => self.phase = ConnectionPhase::Answering,
            (ConnectionEvent::Switched, _) => self.phase = ConnectionPhase::Tunnel,
            (ConnectionEvent::Done, ConnectionPhase::Tunnel) => {
                self.phase = ConnectionPhase::Idle { until: now() + self.idle_timeout }
            }
            (ConnectionEvent::Done, _) => {
                self.phase = if self.next_head.on_done() {
                    ConnectionPhase::Head { until: now() + self.header_timeout, has_begun: true }
                } else {
                    ConnectionPhase::Idle { until: now() + self.idle_timeout }
                }
            }

            // The end of an answer may still be on its way to a slow client.
            (ConnectionEvent::Written, ConnectionPhase::Idle { .. }) => {
                self.unread_since = None;
                self.phase = ConnectionPhase::Idle { until: now() + self.idle_timeout };
            }
            (ConnectionEvent::Written, ConnectionPhase::Head { has_begun, .. }) => {
                self.unread_since = None;
                self.phase = ConnectionPhase::Head { until: now() + self.header_timeout, has_begun };
            }
            (
                ConnectionEvent::Written,
                ConnectionPhase::Asked | ConnectionPhase::Answering | ConnectionPhase::Tunnel,
            ) => {
                self.unread_since = None;
            }
            (
                ConnectionEvent::Blocked,
                ConnectionPhase::Idle { .. }
                | ConnectionPhase::Head { .. }
                | ConnectionPhase::Asked
                | ConnectionPhase::Answering
                | ConnectionPhase::Tunnel,
            ) => {
                self.unread_since.get_or_insert_with(now);
            }
        }
    }

    /// What comes next by itself.
    pub(crate) fn outlook(&self) -> Outlook {
        let turn = match self.phase {
            ConnectionPhase::Gone => return Outlook::Gone,
            ConnectionPhase::Idle { until } | ConnectionPhase::Head { until, .. } => Some(until),
            ConnectionPhase::Asked | ConnectionPhase::Answering | ConnectionPhase::Tunnel => None,
        };
        let stalled = self.unread_since.map(|since| since + self.write_stall);
        turn.into_iter().chain(stalled).min().map_or(Outlook::Open, Outlook::Until)
    }

    /// How long nothing has been asked on it; none while something is.
    pub(crate) fn at_rest(&self) -> Option<AtRest> {
        let (until, limit, has_begun) = match self.phase {
            ConnectionPhase::Idle { until } => (until, self.idle_timeout, false),
            ConnectionPhase::Head { until, has_begun } => (until, self.header_timeout, has_begun),
            ConnectionPhase::Asked
            | ConnectionPhase::Answering
            | ConnectionPhase::Tunnel
            | ConnectionPhase::Gone => return None,
        };
        Some(AtRest {
            is_between_requests: matches!(self.phase, ConnectionPhase::Idle { .. }),
            has_begun,
            since: until.checked_sub(limit).unwrap_or(until),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn connection() -> (Phases, Instant) {
        let now = Instant::now();
        (Phases::new(&FrontLimits::default(), now), now)
    }

    fn after(events: &[ConnectionEvent]) -> Outlook {
        let (mut phases, now) = connection();
        for event in events {
            phases.on(*event, || now);
        }
        phases.outlook()
    }

    #[test]
    fn a_client_that_breaks_off_is_gone_at_any_time() {
        use ConnectionEvent::{Answered, Asked, Done, Read, Reset};
        let life = [Read, Asked, Answered, Done, Read];
        for until in 0..=life.len() {
            let mut events = life[..until].to_vec();
            events.push(Reset);
            assert_eq!(after(&events), Outlook::Gone, "{events:?}");
        }
    }

    #[test]
    fn the_end_of_what_a_client_sends_is_its_end_inside_a_body_and_once_an_answer_has_begun() {
        use ConnectionEvent::{Answered, Asked, Finished, HandedOver, Read, ReadEnd};
        for (events, expected) in [
            (&[Read, Asked, Finished][..], Outlook::Open),
            (&[Read, Finished, Asked], Outlook::Open),
            (&[Read, Asked, Finished, Answered], Outlook::Open),
            (&[Read, Asked, Answered, Finished], Outlook::Gone),
            (&[Read, Asked, Finished, ReadEnd], Outlook::Gone),
            (&[Read, Asked, ReadEnd], Outlook::Gone),
            (&[Read, Asked, Answered, ReadEnd], Outlook::Gone),
            (&[Read, Asked, HandedOver, Finished], Outlook::Gone),
            (&[Read, Asked, Finished, HandedOver], Outlook::Gone),
        ] {
            assert_eq!(after(events), expected, "{events:?}");
        }
    }

    #[test]
    fn either_end_of_a_tunnel_may_end_its_side_and_one_that_brings_nothing_is_left_alone() {
        use ConnectionEvent::{Answered, Asked, Blocked, Finished, Read, ReadEnd, Reset, Switched, Written};
        let open = [Asked, Switched, Answered, Finished, Written, Read, ReadEnd];
        assert_eq!(after(&open), Outlook::Open);
        assert_eq!(after(&[&open[..], &[Reset]].concat()), Outlook::Gone);
        assert!(matches!(after(&[&open[..], &[Blocked]].concat()), Outlook::Until(_)));
    }

    #[test]
    fn behind_a_tunnel_that_has_ended_a_connection_is_idle_as_behind_any_request() {
        use ConnectionEvent::{Asked, Done, Switched};
        let (mut phases, now) = connection();
        for event in [Asked, Switched, Done] {
            phases.on(event, || now);
        }
        assert_eq!(phases.outlook(), Outlook::Until(now + FrontLimits::default().idle_timeout));
    }

    #[test]
    fn a_request_that_was_behind_another_is_asked_anew() {
        use ConnectionEvent::{Answered, Asked, Done, Finished, Read};
        assert_eq!(after(&[Read, Asked, Finished, Answered, Done, Asked]), Outlook::Open);
    }

    #[test]
    fn a_client_has_one_time_for_a_head_and_another_between_requests() {
        let (mut phases, start) = connection();
        let limits = FrontLimits::default();
        assert_eq!(phases.outlook(), Outlook::Until(start + limits.header_timeout));
        phases.on(ConnectionEvent::Read, || start + SECOND);
        assert_eq!(
            phases.outlook(),
            Outlook::Until(start + limits.header_timeout),
            "a byte more buys no time"
        );
        phases.on(ConnectionEvent::Asked, || start + SECOND);
        assert_eq!(phases.outlook(), Outlook::Open);
        phases.on(ConnectionEvent::Done, || start + 2 * SECOND);
        assert_eq!(phases.outlook(), Outlook::Until(start + 2 * SECOND + limits.idle_timeout));
        phases.on(ConnectionEvent::Written, || start + 3 * SECOND);
        assert_eq!(phases.outlook(), Outlook::Until(start + 3 * SECOND + limits.idle_timeout));
        phases.on(ConnectionEvent::Read, || start + 4 * SECOND);
        assert_eq!(phases.outlook(), Outlook::Until(start + 4 * SECOND + limits.header_timeout));
    }

    #[test]
    fn the_begin_of_a_head_that_came_with_the_request_before_it_has_the_time_of_a_head() {
        let limits = FrontLimits::default();
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
        for (behind, timeout) in [("", limits.idle_timeout), ("GET /next", limits.header_timeout)] {
            let (mut phases, start) = connection();
            phases.on_bytes(format!("{request}{behind}").as_bytes(), || start);
            phases.on_head(BodyLength::Exact(2), || start);
            for event in [ConnectionEvent::Answered, ConnectionEvent::Done] {
                phases.on(event, || start + SECOND);
            }
            assert_eq!(phases.outlook(), Outlook::Until(start + SECOND + timeout), "{behind:?}");
            phases.on(ConnectionEvent::Written, || start + 2 * SECOND);
            assert_eq!(phases.outlook(), Outlook::Until(start + 2 * SECOND + timeout), "{behind:?}");
            assert_eq!(phases.at_rest().unwrap().has_begun, !behind.is_empty());
        }
    }

    #[test]
    fn a_connection_is_at_rest_since_its_last_answer_or_the_begin_of_a_head() {
        let (mut phases, start) = connection();
        let at = |seconds| start + seconds * SECOND;
        let rest = |is_between_requests, has_begun, seconds| {
            Some(AtRest { is_between_requests, has_begun, since: at(seconds) })
        };
        assert_eq!(phases.at_rest(), rest(false, false, 0));
        for (seconds, event, expected) in [
            (1, ConnectionEvent::Read, rest(false, true, 0)),
            (2, ConnectionEvent::Asked, None),
            (3, ConnectionEvent::Answered, None),
            (4, ConnectionEvent::Done, rest(true, false, 4)),
            (5, ConnectionEvent::Written, rest(true, false, 5)),
            (6, ConnectionEvent::Read, rest(false, true, 6)),
            (7, ConnectionEvent::Reset, None),
        ] {
            phases.on(event, || at(seconds));
            assert_eq!(phases.at_rest(), expected, "{event:?}");
        }
    }

    #[test]
    fn an_answer_that_nobody_reads_is_closed_and_one_that_brings_nothing_is_not() {
        let (mut phases, start) = connection();
        let stall = FrontLimits::default().write_stall;
        for event in [ConnectionEvent::Asked, ConnectionEvent::Answered, ConnectionEvent::Written] {
            phases.on(event, || start);
        }
        assert_eq!(phases.outlook(), Outlook::Open);
        phases.on(ConnectionEvent::Blocked, || start + SECOND);
        phases.on(ConnectionEvent::Blocked, || start + 2 * SECOND);
        assert_eq!(phases.outlook(), Outlook::Until(start + SECOND + stall));
        phases.on(ConnectionEvent::Written, || start + 3 * SECOND);
        assert_eq!(phases.outlook(), Outlook::Open, "it reads on");
        phases.on(ConnectionEvent::Blocked, || start + 4 * SECOND);
        phases.on(ConnectionEvent::Done, || start + 5 * SECOND);
        assert_eq!(phases.outlook(), Outlook::Until(start + 4 * SECOND + stall), "its end waits as well");
    }
}
