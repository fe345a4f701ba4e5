//! `operations`.

use pmesh_api::wire::Operation;
use time::OffsetDateTime;

use super::{
    figures::{ago, between, instant, span},
    table::{Align, Row, Table},
};
use crate::{
    call::refusal,
    terminal::{Colour, Style},
};

/// The operations as the API lists them, newest first, with why the failed ones failed.
pub(crate) fn operations(operations: &[Operation], style: Style, now: OffsetDateTime) -> String {
    if operations.is_empty() {
        return "no operation yet\n".to_owned();
    }
    let mut table = Table::new(&[
        ("OPERATION", Align::Left),
        ("KIND", Align::Left),
        ("STATE", Align::Left),
        ("STARTED", Align::Left),
        ("TOOK", Align::Right),
    ]);
    for operation in operations {
        let took = instant(&operation.started)
            .map(|started| span(between(started, instant(&operation.ended).unwrap_or(now))));
        let row = Row::default()
            .cell(&operation.id)
            .cell(&operation.kind)
            .painted(&operation.state, colour(&operation.state))
            .cell(ago(&operation.started, now))
            .cell(took.unwrap_or_else(|| "-".to_owned()));
        table.push(match &operation.error {
            Some(error) => refusal(error).lines().fold(row, Row::told),
            None => row,
        });
    }
    table.render(style)
}

fn colour(state: &str) -> Colour {
    match state {
        "done" => Colour::Green,
        "failed" => Colour::Red,
        "queued" | "cancelled" => Colour::Grey,
        _ => Colour::Yellow,
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::operations;
    use crate::terminal::Style;

    #[test]
    fn operations_are_shown_with_how_they_ended() {
        let answer = r#"[
            {"id": "11", "kind": "stop", "state": "queued", "started": "0001-01-01T00:00:00Z",
                "ended": "0001-01-01T00:00:00Z", "steps": []},
            {"id": "10", "kind": "update", "state": "running", "started": "2024-03-09T11:59:48.000Z",
                "ended": "0001-01-01T00:00:00Z", "steps": []},
            {"id": "9", "kind": "restart", "state": "failed", "started": "2024-03-09T11:00:00.000Z",
                "ended": "2024-03-09T11:00:05.200Z", "steps": [],
                "error": {"error": "service web failed: exit code 1\nlast line", "code": "rollout_failed"}}]"#;
        let lines = [
            "OPERATION  KIND     STATE    STARTED     TOOK",
            "11         stop     queued   -              -",
            "10         update   running  12 s ago    12 s",
            "9          restart  failed   60 min ago  5.2 s",
            "  service web failed: exit code 1",
            "  last line",
            "",
        ];
        let shown = operations(
            &serde_json::from_str::<Vec<_>>(answer).unwrap(),
            Style::PLAIN,
            datetime!(2024-03-09 12:00 UTC),
        );
        let squeezed = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeezed(&shown), squeezed(&lines.join("\n")));
        assert_eq!(operations(&[], Style::PLAIN, datetime!(2024-03-09 12:00 UTC)), "no operation yet\n");
    }
}
