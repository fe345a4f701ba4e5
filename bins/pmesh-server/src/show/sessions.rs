//! `sessions`.

use pmesh_api::wire::{NO_TIME, Sessions};
use time::OffsetDateTime;

use super::{
    figures::{ago, between, counted, instant, span},
    table::{Align, Row, Table},
};
use crate::terminal::{Colour, Style};

/// How many clients a person is shown; `--json` has all.
pub(crate) const SHOWN: usize = 50;

/// The clients with the most requests.
pub(crate) fn sessions(sessions: &Sessions, style: Style, now: OffsetDateTime) -> String {
    let mut shown = format!("{}\n", counted(sessions.num_clients, "client"));
    if sessions.sessions.0.is_empty() {
        return shown;
    }
    let mut table = Table::new(&[
        ("CLIENT", Align::Left),
        ("REQUESTS", Align::Right),
        ("PER SECOND", Align::Right),
        ("FIRST SEEN", Align::Left),
        ("BLOCKED", Align::Left),
    ]);
    for (address, session) in &sessions.sessions.0 {
        let row = Row::default()
            .cell(address)
            .cell(session.num_reqs.to_string())
            .cell(format!("{:.1}", session.avg_rps))
            .cell(ago(&session.first_seen, now));
        table.push(match instant(&session.blocked_until) {
            Some(until) if until > now => {
                row.painted(format!("for {}", span(between(now, until))), Colour::Red)
            }
            Some(_) | None => row.cell(if session.blocked_until == NO_TIME { "no" } else { "not any more" }),
        });
    }
    shown.push_str(&table.render(style));
    let more = sessions.num_clients.saturating_sub(sessions.sessions.0.len());
    if more > 0 {
        shown.extend(["and ", &more.to_string(), " more with fewer requests; --json has all\n"]);
    }
    shown
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::sessions;
    use crate::terminal::Style;

    const NOW: time::OffsetDateTime = datetime!(2024-03-09 12:00:00 UTC);

    #[test]
    fn clients_are_shown_with_their_traffic_and_how_many_more_there_are() {
        let answer = r#"{"num_clients": 5, "sessions": {
            "203.0.113.9": {"avg_rps": 12.34, "num_reqs": 412, "first_seen": "2024-03-09T11:50:00.000Z",
                "blocked_until": "2024-03-09T12:40:00.000Z"},
            "2001:db8:1:2::/64": {"avg_rps": 0, "num_reqs": 1, "first_seen": "2024-03-09T11:59:58.000Z",
                "blocked_until": "0001-01-01T00:00:00Z"}}}"#;
        let lines = [
            "5 clients",
            "CLIENT             REQUESTS  PER SECOND  FIRST SEEN  BLOCKED",
            "203.0.113.9             412        12.3  10 min ago  for 40 min",
            "2001:db8:1:2::/64         1         0.0  2.0 s ago   no",
            "and 3 more with fewer requests; --json has all",
            "",
        ];
        assert_eq!(sessions(&serde_json::from_str(answer).unwrap(), Style::PLAIN, NOW), lines.join("\n"));
    }

    #[test]
    fn without_clients_there_is_no_table() {
        let none = serde_json::from_str(r#"{"num_clients": 0, "sessions": {}}"#).unwrap();
        assert_eq!(sessions(&none, Style::PLAIN, NOW), "0 clients\n");
    }
}
