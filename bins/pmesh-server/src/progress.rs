//! What an operation is doing, for a person who waits for it at a terminal.

use std::time::Duration;

use pmesh_api::wire::{Operation, Step};
use time::OffsetDateTime;

use crate::{
    show::figures::{between, instant, span},
    terminal::{Colour, Style, harmless},
};

/// Steps that took less are not worth a line, unless they failed or are the whole project's.
const WORTH_A_LINE: Duration = Duration::from_millis(100);

/// Before what is said of a step that failed.
const INDENT: &str = "  ";

/// What has been shown of one operation.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// For each step whether it has been dealt with.
    dealt_with: Vec<bool>,
}

/// What is to be shown next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ProgressText {
    /// Lines that stay, each with its end.
    pub(crate) lines: String,
    /// The line that the next one takes the place of, without an end; empty when nothing runs.
    pub(crate) live: String,
}

impl Progress {
    /// Takes the operation as it is `now`.
    pub(crate) fn on_operation(
        &mut self,
        operation: &Operation,
        style: Style,
        now: OffsetDateTime,
    ) -> ProgressText {
        let mut shown = ProgressText::default();
        self.dealt_with.resize(operation.steps.len().max(self.dealt_with.len()), false);
        for (step, dealt_with) in operation.steps.iter().zip(&mut self.dealt_with) {
            if *dealt_with || step.state == "running" {
                continue;
            }
            *dealt_with = true;
            let took = took(step, now);
            if step.state == "failed" || step.service.is_none() || took >= WORTH_A_LINE {
                shown.lines.push_str(&line(step, took, style));
            }
        }
        shown.live = match operation.state.as_str() {
            "queued" => "waiting for its turn".to_owned(),
            "running" => live(operation, now),
            _ => String::new(),
        };
        shown.live = style.cut(&shown.live, 1);
        shown
    }
}

fn took(step: &Step, now: OffsetDateTime) -> Duration {
    instant(&step.started)
        .map_or(Duration::ZERO, |started| between(started, instant(&step.ended).unwrap_or(now)))
}

/// `ready  web  1.2 s  127.0.0.1:40001`. Of a failure nothing is left out: what was written last stands at its end.
fn line(step: &Step, took: Duration, style: Style) -> String {
    let service = step.service.as_deref().unwrap_or_default();
    let detail = step.detail.as_deref().unwrap_or_default().replace('\n', " | ");
    let begin = format!("{:<9} {service:<16} {:>7}", words(&step.name), span(took));
    if step.state != "failed" {
        let line = harmless(&format!("{begin}  {detail}"));
        return format!("{}\n", style.cut(line.trim_end(), 0));
    }
    let mut lines = vec![style.cut(harmless(&begin).trim_end(), 0)];
    if !detail.is_empty() {
        lines.extend(style.wrapped(&format!("{INDENT}{}", harmless(&detail)), 0));
    }
    let painted: Vec<String> = lines.iter().map(|line| style.paint(Colour::Red, line)).collect();
    format!("{}\n", painted.join("\n"))
}

/// `start: web, api and 3 more; 11 s`.
fn live(operation: &Operation, now: OffsetDateTime) -> String {
    /// More names would not be read in the time that the line stands.
    const NAMED: usize = 3;
    let running: Vec<&Step> = operation.steps.iter().filter(|step| step.state == "running").collect();
    let since = instant(&operation.started).map(|started| span(between(started, now))).unwrap_or_default();
    let Some(last) = running.last() else { return format!("{}; {since}", words(&operation.kind)) };
    let services: Vec<&str> = running
        .iter()
        .filter(|step| step.name == last.name)
        .filter_map(|step| step.service.as_deref())
        .collect();
    let names = match services.len() {
        0 => String::new(),
        1..=NAMED => format!(": {}", services.join(", ")),
        count => format!(": {} and {} more", services[..NAMED].join(", "), count - NAMED),
    };
    format!("{}{}; {since}", words(&last.name), harmless(&names))
}

/// A word of the API for a person: `check_out` is `check out`.
fn words(name: &str) -> String {
    harmless(&name.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use pmesh_api::wire::Operation;
    use serde_json::{Value, json};
    use time::{OffsetDateTime, macros::datetime};

    use super::{Progress, ProgressText};
    use crate::terminal::Style;

    const NOW: OffsetDateTime = datetime!(2024-03-09 12:00:11 UTC);
    const NO_TIME: &str = "0001-01-01T00:00:00Z";

    fn operation(state: &str, steps: &Value) -> Operation {
        let started = if state == "queued" { NO_TIME } else { "2024-03-09T12:00:00.000Z" };
        let operation = json!({"id": "7", "kind": "update", "state": state, "started": started, "ended": NO_TIME, "steps": steps});
        serde_json::from_value(operation).unwrap()
    }

    fn step(name: &str, service: Option<&str>, state: &str, ended: &str) -> Value {
        let mut step =
            json!({"name": name, "state": state, "started": "2024-03-09T12:00:00.000Z", "ended": ended});
        if let Some(service) = service {
            step["service"] = json!(service);
        }
        step
    }

    #[test]
    fn each_step_has_one_line_when_it_has_ended_and_what_runs_stands_in_the_last() {
        let mut progress = Progress::default();
        let mut shown = |operation: &Operation| progress.on_operation(operation, Style::PLAIN, NOW);
        assert_eq!(
            shown(&operation("queued", &json!([]))),
            ProgressText { lines: String::new(), live: "waiting for its turn".to_owned() }
        );
        let fetch = step("fetch", None, "done", "2024-03-09T12:00:00.800Z");
        let out = step("check_out", None, "done", "2024-03-09T12:00:00.010Z");
        let steps = json!([fetch, out, step("start", Some("web"), "running", NO_TIME)]);
        assert_eq!(
            shown(&operation("running", &steps)),
            ProgressText {
                lines: "fetch                        0.8 s\ncheck out                    0.0 s\n".to_owned(),
                live: "start: web; 11 s".to_owned()
            }
        );
        let start = step("start", Some("web"), "done", "2024-03-09T12:00:02.000Z");
        let quick = step("switch", Some("web"), "done", "2024-03-09T12:00:00.001Z");
        let mut failed = step("ready", Some("api"), "failed", "2024-03-09T12:00:00.000Z");
        failed["detail"] = json!("exit code 1\nlast line");
        let steps = json!([fetch, out, start, quick, failed]);
        assert_eq!(
            shown(&operation("failed", &steps)),
            ProgressText {
                lines: "start     web                2.0 s\nready     api                0.0 s\n  exit code 1 | last line\n".to_owned(),
                live: String::new()
            }
        );
    }

    #[test]
    fn of_a_failure_nothing_is_cut_and_of_everything_else_what_is_too_wide() {
        let narrow = Style { colour: false, width: Some(40) };
        let mut failed = step("ready", Some("api"), "failed", "2024-03-09T12:00:00.000Z");
        failed["detail"] =
            json!("instance 1: it ended with exit code 1; its last lines: Traceback | KeyError: 'URL'");
        let mut done = step("build", Some("web"), "done", "2024-03-09T12:00:02.000Z");
        done["detail"] = json!("0123456789abcdef");
        let operation = operation("failed", &json!([failed, done]));
        let shown = Progress::default().on_operation(&operation, narrow, NOW);
        let lines = [
            "ready     api                0.0 s",
            "  instance 1: it ended with exit code 1;",
            "  its last lines: Traceback | KeyError:",
            "  'URL'",
            "build     web                2.0 s  012…",
            "",
        ];
        assert_eq!(shown.lines, lines.join("\n"));
    }

    #[test]
    fn many_services_at_once_are_counted() {
        let steps = ["a", "b", "c", "d", "e"].map(|name| step("ready", Some(name), "running", NO_TIME));
        let shown = Progress::default().on_operation(&operation("running", &json!(steps)), Style::PLAIN, NOW);
        assert_eq!(shown.live, "ready: a, b, c and 2 more; 11 s");
        let nothing = Progress::default().on_operation(&operation("running", &json!([])), Style::PLAIN, NOW);
        assert_eq!(nothing.live, "update; 11 s");
    }
}
