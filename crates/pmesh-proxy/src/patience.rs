//! Whose turn it is in an exchange, and for how long.

use std::time::Duration;

use tokio::time::Instant;

/// How long an upstream that was asked whether it wants a body (`Expect`) may say nothing; then it gets the
/// body, as a client sends one that is not asked for (RFC 9110, section 10.1.1).
const ASK_ANYWAY: Duration = Duration::from_secs(1);

/// Who has to do something next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextTurn {
    /// The upstream: take what is there for it, or answer.
    Upstream,
    /// The upstream: say whether it wants the body.
    Expected,
    /// The client: send more of the body.
    Client,
}

/// How long each side may do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TurnLimits {
    pub(crate) upstream: Duration,
    pub(crate) client: Duration,
}

/// How long nothing has happened.
#[derive(Debug)]
pub(crate) struct Patience {
    limits: TurnLimits,
    since: Option<Since>,
}

#[derive(Debug)]
struct Since {
    turn: NextTurn,
    /// What had been done by then.
    progress: u64,
    until: Instant,
}

impl Patience {
    pub(crate) fn new(limits: TurnLimits) -> Self {
        Self { limits, since: None }
    }

    /// Until when whoever's turn it is has to do something; `progress` is a number that is another one once
    /// something was done. `now` is asked where a time begins.
    pub(crate) fn deadline(
        &mut self,
        turn: NextTurn,
        progress: u64,
        now: impl FnOnce() -> Instant,
    ) -> Instant {
        match &self.since {
            Some(since) if (since.turn, since.progress) == (turn, progress) => since.until,
            Some(_) | None => {
                let limit = match turn {
                    NextTurn::Upstream => self.limits.upstream,
                    NextTurn::Expected => ASK_ANYWAY,
                    NextTurn::Client => self.limits.client,
                };
                let until = now() + limit;
                self.since = Some(Since { turn, progress, until });
                until
            }
        }
    }

    /// Gives the upstream another time from here on.
    pub(crate) fn restart_with(&mut self, upstream: Duration) {
        self.limits.upstream = upstream;
        self.since = None;
    }

    /// Something happened that no number of progress tells.
    pub(crate) fn restart(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_time_begins_anew_with_each_turn_and_with_whatever_is_done() {
        let start = Instant::now();
        let mut patience = Patience::new(TurnLimits { upstream: 60 * SECOND, client: 30 * SECOND });
        let mut at = |turn, progress, seconds| {
            let until = patience.deadline(turn, progress, || start + seconds * SECOND);
            u32::try_from((until - start).as_secs()).unwrap()
        };
        assert_eq!(at(NextTurn::Upstream, 0, 0), 60);
        assert_eq!(at(NextTurn::Upstream, 0, 5), 60, "waiting buys no time");
        assert_eq!(at(NextTurn::Upstream, 1, 6), 66);
        assert_eq!(at(NextTurn::Expected, 1, 7), 8);
        assert_eq!(at(NextTurn::Client, 1, 8), 38);
        assert_eq!(at(NextTurn::Client, 2, 9), 39);
        patience.restart();
        assert_eq!(patience.deadline(NextTurn::Client, 2, || start + 20 * SECOND), start + 50 * SECOND);
    }
}
