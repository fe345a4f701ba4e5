//! Writing for a person or a pipe.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd,
    process::ExitCode,
};

use pmesh_vcs::redact::is_unprintable;

/// Writes `text` to stdout. A reader that has gone away wanted no more of it: that is no failure.
pub(crate) fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cannot write to stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a sentence of the program's own to stderr, [`harmless`].
pub(crate) fn complain(sentence: &str) {
    say(&format!("pmesh-server: {}\n", harmless(sentence)));
}

/// Writes `text` to stderr. Where nobody reads that, there is nobody to tell.
pub(crate) fn say(text: &str) {
    io::stderr().write_all(text.as_bytes()).unwrap_or_default();
}

/// `text` without what would move the cursor of a terminal, change its colours or worse; lines stay.
///
/// Everything that comes from a server passes here before a person sees it: commit messages and the
/// output of services are other people's text.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(c),
            '\t' => shown.push_str("    "),
            c if is_unprintable(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// How text may look where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether colours are shown.
    pub(crate) colour: bool,
    /// The columns of the terminal; none for a pipe or file, where nothing is cut.
    pub(crate) width: Option<usize>,
}

impl Style {
    /// No colour, nothing cut.
    pub(crate) const PLAIN: Self = Self { colour: false, width: None };

    /// That of stdout.
    pub(crate) fn of_stdout() -> Self {
        Self::of(io::stdout())
    }

    /// That of stderr.
    pub(crate) fn of_stderr() -> Self {
        Self::of(io::stderr())
    }

    fn of(stream: impl AsFd + io::IsTerminal) -> Self {
        if !stream.is_terminal() {
            return Self::PLAIN;
        }
        let width = rustix::termios::tcgetwinsize(stream).map_or(0, |size| size.ws_col);
        Self {
            colour: wants_colour(env::var_os("NO_COLOR").as_deref(), env::var_os("TERM").as_deref()),
            // A terminal that does not know its size says 0.
            width: Some(if width == 0 { 80 } else { width.into() }),
        }
    }

    /// `text` in `colour`, where colours are shown.
    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        // ECMA-48, 8.3.117 (SGR).
        let code = match colour {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Grey => "90",
            Colour::Bold => "1",
            Colour::Of(name) => NAMES[name % NAMES.len()],
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The first line of what fits into `width` less `taken` columns; an ellipsis says that there is more.
    pub(crate) fn cut(self, text: &str, taken: usize) -> String {
        let Some(room) = self.width.map(|width| width.saturating_sub(taken)) else { return text.to_owned() };
        if text.chars().count() <= room {
            return text.to_owned();
        }
        let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
        cut.push('…');
        cut
    }

    /// `text` in lines that fit into `width` less `taken` columns, broken between words where that is possible; each
    /// begins in the column of the first.
    pub(crate) fn wrapped(self, text: &str, taken: usize) -> Vec<String> {
        /// Less would be a column of single letters.
        const LEAST: usize = 4;
        let Some(room) = self.width.map(|width| width.saturating_sub(taken)) else {
            return vec![text.to_owned()];
        };
        let indent = text.chars().take_while(|c| *c == ' ').count().min(room.saturating_sub(LEAST));
        let room = (room - indent.min(room)).max(LEAST);
        let mut lines = Vec::new();
        let mut rest: Vec<char> = text.trim_start_matches(' ').chars().collect();
        while rest.len() > room {
            let gap = rest[..=room].iter().rposition(|c| *c == ' ').filter(|gap| *gap > 0);
            let behind = rest.split_off(gap.unwrap_or(room));
            lines.push(std::mem::replace(&mut rest, behind));
            let spaces = rest.iter().take_while(|c| **c == ' ').count();
            rest.drain(..spaces);
        }
        lines.push(rest);
        let indent = " ".repeat(indent);
        lines.into_iter().map(|line| format!("{indent}{}", String::from_iter(line).trim_end())).collect()
    }
}

/// Whether both streams of this process are a person's terminal.
pub(crate) fn is_interactive() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// `NO_COLOR` counts when it is not empty (no-color.org).
fn wants_colour(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term.is_some_and(|term| term != "dumb")
}

/// The colours that mean something, and weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// As it should be.
    Green,
    /// Not quite, or not yet.
    Yellow,
    /// Wrong.
    Red,
    /// Nothing to look at.
    Grey,
    /// A heading.
    Bold,
    /// One of many things, by a number of its own: it means nothing else.
    Of(usize),
}

/// What tells things apart on a dark and on a light background.
const NAMES: [&str; 10] = ["36", "33", "32", "35", "34", "96", "93", "92", "95", "94"];

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{Colour, Style, harmless, wants_colour};

    #[test]
    fn colour_is_for_terminals_that_have_it_and_people_who_want_it() {
        let wanted = |no_color: Option<&str>, term: Option<&str>| {
            wants_colour(no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(wanted(None, Some("xterm")) && wanted(Some(""), Some("xterm")));
        assert!(!wanted(Some("1"), Some("xterm")));
        assert!(!wanted(None, Some("dumb")) && !wanted(None, None));
        assert_eq!(Style::PLAIN.paint(Colour::Red, "Down"), "Down");
        assert_eq!(Style { colour: true, width: None }.paint(Colour::Red, "Down"), "\x1b[31mDown\x1b[0m");
    }

    #[test]
    fn text_is_cut_for_a_terminal_and_never_for_a_pipe() {
        let narrow = Style { colour: false, width: Some(8) };
        assert_eq!(narrow.cut("123456", 2), "123456");
        assert_eq!(narrow.cut("1234567", 2), "12345…");
        assert_eq!(narrow.cut("ééééééé", 2), "ééééé…");
        assert_eq!(Style::PLAIN.cut(&"x".repeat(500), 2).len(), 500);
    }

    #[test]
    fn text_is_wrapped_between_words_and_else_where_the_line_ends() {
        let narrow = Style { colour: false, width: Some(10) };
        assert_eq!(narrow.wrapped("one two three", 2), ["one two", "three"]);
        assert_eq!(narrow.wrapped("12345678", 2), ["12345678"]);
        assert_eq!(narrow.wrapped("123456789 é", 2), ["12345678", "9 é"]);
        assert_eq!(narrow.wrapped("", 2), [""]);
        assert_eq!(narrow.wrapped("  at x:1 y", 2), ["  at x:1", "  y"]);
        assert_eq!(narrow.wrapped("                 deep", 2), ["    deep"]);
        assert_eq!(Style { colour: false, width: Some(1) }.wrapped("abcdef", 2), ["abcd", "ef"]);
        assert_eq!(Style::PLAIN.wrapped("one two three", 2), ["one two three"]);
    }

    #[test]
    fn other_peoples_text_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\r\u{9b}c\u{202e}d"), "a\\u{1b}[2Jb\\r\\u{9b}c\\u{202e}d");
        assert_eq!(harmless("\u{200f}\u{61c}\u{2028}"), "\\u{200f}\\u{61c}\\u{2028}");
        assert_eq!(harmless("one\ttwo\nthree ü"), "one    two\nthree ü");
    }
}
