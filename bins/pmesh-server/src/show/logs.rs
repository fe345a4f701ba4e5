//! `logs`: what services have written, line by line.

use std::{iter::Peekable, str::Chars};

use pmesh_api::wire::LogEntry;
use pmesh_vcs::redact::is_unprintable;

use crate::terminal::{Colour, Style};

/// Shows lines one after the other; it remembers what it has to know of those before.
#[derive(Debug)]
pub(crate) struct LogLines {
    style: Style,
    shows_time: bool,
    /// The room for labels.
    width: usize,
    /// Whose line goes on.
    cut: Option<String>,
}

impl LogLines {
    pub(crate) fn new(style: Style, shows_time: bool) -> Self {
        Self { style, shows_time, width: 0, cut: None }
    }

    /// Makes room for the label of an entry, so that it stands in line with the others.
    pub(crate) fn make_room(&mut self, entry: &LogEntry) {
        self.width = self.width.max(label(entry).chars().count());
    }

    /// Makes room for the labels of a service of so many instances.
    pub(crate) fn make_room_for(&mut self, service: &str, instances: u32) {
        self.width = self.width.max(service.chars().count() + 1 + instances.to_string().len());
    }

    /// The text for a line, its end included; of a piece that goes on in the next one without it.
    pub(crate) fn show(&mut self, entry: &LogEntry) -> String {
        self.make_room(entry);
        let label = label(entry);
        let mut shown = String::new();
        let goes_on = self.cut.take_if(|cut| *cut == label).is_some();
        if !goes_on {
            shown.push_str(&self.end());
            let padding = " ".repeat(self.width - label.chars().count());
            let prefix = format!("{label}{padding} |");
            shown.extend([&*self.style.paint(Colour::Of(number(&entry.service)), &prefix), " "]);
            if self.shows_time {
                let time = entry.time.as_deref().unwrap_or("-");
                shown.extend([
                    &*self.style.paint(Colour::Grey, &format!("{:24}", shown_text(time, false))),
                    " ",
                ]);
            }
        }
        let text = entry.text.strip_suffix('\r').filter(|_| !entry.cut).unwrap_or(&entry.text);
        shown.push_str(&shown_text(text, self.style.colour));
        if entry.cut {
            self.cut = Some(label);
        } else {
            shown.push('\n');
        }
        shown
    }

    /// What has to come behind the last line.
    pub(crate) fn end(&mut self) -> String {
        if self.cut.take().is_some() { "\n".to_owned() } else { String::new() }
    }
}

/// Whose a line is: `web/1`, `web/build`, or `web` where nobody knows more.
fn label(entry: &LogEntry) -> String {
    let label = match (entry.instance, entry.stream.as_deref()) {
        (Some(instance), _) => format!("{}/{instance}", entry.service),
        (None, Some(stream)) => format!("{}/{stream}", entry.service),
        (None, None) => entry.service.clone(),
    };
    shown_text(&label, false)
}

/// A number that a service always has: FNV-1a of its name.
fn number(service: &str) -> usize {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    service.bytes().fold(0x811c_9dc5, step) as usize
}

/// A line as a terminal may have it: with the colours that it has, or without them, and nothing else that would steer
/// it.
fn shown_text(text: &str, keeps_colours: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut is_coloured = false;
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match colour(&mut chars) {
                Some(parameters) if keeps_colours => {
                    is_coloured = true;
                    shown.extend(["\u{1b}[", &parameters, "m"]);
                }
                Some(_) => {}
                None => shown.extend(c.escape_default()),
            },
            '\t' => shown.push(c),
            c if is_unprintable(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    if is_coloured {
        // What comes behind is another's.
        shown.push_str("\u{1b}[0m");
    }
    shown
}

/// What stands behind ESC, if that is a colour or a weight (ECMA-48, 8.3.117, SGR): its parameters. Else nothing is taken.
fn colour(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut ahead = chars.clone();
    ahead.next_if_eq(&'[')?;
    let mut parameters = String::new();
    while let Some(c) = ahead.next_if(|c| c.is_ascii_digit() || matches!(c, ';' | ':')) {
        parameters.push(c);
    }
    ahead.next_if_eq(&'m')?;
    *chars = ahead;
    Some(parameters)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const COLOURED: Style = Style { colour: true, width: Some(80) };

    fn entry(value: Value) -> LogEntry {
        serde_json::from_value(value).unwrap()
    }

    fn shown(style: Style, shows_time: bool, entries: &[LogEntry]) -> String {
        let mut lines = LogLines::new(style, shows_time);
        for entry in entries {
            lines.make_room(entry);
        }
        let mut shown: String = entries.iter().map(|entry| lines.show(entry)).collect();
        shown.push_str(&lines.end());
        shown
    }

    #[test]
    fn each_line_says_whose_it_is_and_the_labels_are_in_line() {
        let time = "2026-03-09T02:02:52.662Z";
        let entries = [
            entry(
                json!({"time": time, "service": "web", "instance": 1, "stream": "stdout", "text": "one\r"}),
            ),
            entry(
                json!({"time": time, "service": "worker", "instance": 12, "stream": "stderr", "text": "\ttwo"}),
            ),
            entry(json!({"time": time, "service": "web", "stream": "build", "text": "built"})),
            entry(json!({"service": "web", "text": "from before"})),
        ];
        assert_eq!(
            shown(Style::PLAIN, false, &entries),
            "web/1     | one\nworker/12 | \ttwo\nweb/build | built\nweb       | from before\n"
        );
        let timed = shown(Style::PLAIN, true, &entries);
        assert!(timed.starts_with(&format!("web/1     | {time} one\n")), "{timed}");
        assert!(timed.ends_with("\nweb       | -                        from before\n"), "{timed}");
    }

    #[test]
    fn a_service_always_has_the_same_colour_and_nothing_is_coloured_that_is_no_terminal() {
        let line = |service: &str| entry(json!({"service": service, "instance": 1, "text": "x"}));
        let one = shown(COLOURED, false, &[line("web"), line("web")]);
        let lines: Vec<&str> = one.lines().collect();
        assert!(
            lines[0] == lines[1]
                && lines[0].starts_with("\u{1b}[")
                && lines[0].ends_with("web/1 |\u{1b}[0m x"),
            "{one:?}"
        );
        assert_ne!(number("web") % 10, number("api") % 10);
        assert!(!shown(Style::PLAIN, false, &[line("web")]).contains('\u{1b}'));
    }

    #[test]
    fn an_apps_colours_stay_on_a_terminal_and_everything_else_is_shown_and_not_obeyed() {
        let colours = "\u{1b}[1;31mred\u{1b}[0m \u{1b}[38:5:1mx";
        assert_eq!(shown_text(colours, true), format!("{colours}\u{1b}[0m"));
        assert_eq!(shown_text(colours, false), "red x");
        for (text, harmless) in [
            ("\u{1b}[2Ja", "\\u{1b}[2Ja"),
            ("\u{1b}]0;title\u{7}a", "\\u{1b}]0;title\\u{7}a"),
            ("\u{1b}[>4;2ma", "\\u{1b}[>4;2ma"),
            ("\u{1b}[?25l", "\\u{1b}[?25l"),
            ("\u{1b}[31", "\\u{1b}[31"),
            ("\u{1b}\u{1b}[31mx", "\\u{1b}x"),
            ("a\rb\u{8}c", "a\\rb\\u{8}c"),
            ("\u{9b}31ma\u{202e}", "\\u{9b}31ma\\u{202e}"),
        ] {
            assert_eq!(shown_text(text, false), harmless);
        }
        assert_eq!(shown_text("\u{1b}c\u{1b}[H", true), "\\u{1b}c\\u{1b}[H");
    }

    #[test]
    fn pieces_of_a_line_stand_together_unless_another_comes_between() {
        let piece = |instance: u32, text: &str, cut: bool| {
            entry(
                json!({"service": "web", "instance": instance, "stream": "stdout", "text": text, "cut": cut}),
            )
        };
        let together =
            [piece(1, "a\r", true), piece(1, "b", true), piece(1, "c", false), piece(2, "d", true)];
        assert_eq!(shown(Style::PLAIN, false, &together), "web/1 | a\\rbc\nweb/2 | d\n");
        let apart = [piece(1, "a", true), piece(2, "b", false), piece(1, "c", false)];
        assert_eq!(shown(Style::PLAIN, false, &apart), "web/1 | a\nweb/2 | b\nweb/1 | c\n");
    }
}
