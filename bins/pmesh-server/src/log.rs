//! The server's own log, on stderr.

use std::io::{self, IsTerminal, Write};

use pmesh_vcs::redact::{is_unprintable, printable_json};
use tracing_subscriber::{fmt, fmt::MakeWriter};

use crate::arguments::LogFormat;

/// Begins to log. Text for a terminal, JSON for a program, unless the arguments say.
pub(crate) fn start(format: Option<LogFormat>, level: tracing::Level) {
    let is_terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if is_terminal { LogFormat::Text } else { LogFormat::Json });
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = fmt().with_max_level(level).with_target(false);
    let started = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(
            log.with_ansi(colour).with_writer(Printable { writer: io::stderr, format, colour }).finish(),
        ),
        LogFormat::Json => tracing::subscriber::set_global_default(
            log.json()
                .flatten_event(true)
                .with_writer(Printable { writer: io::stderr, format, colour })
                .finish(),
        ),
    };
    if started.is_err() {
        tracing::debug!("somebody logs already");
    }
}

/// Where the log goes: each event, which is one write, with everything escaped that steers a terminal. Remotes, services and
/// files have their words in it.
#[derive(Clone, Copy, Debug)]
struct Printable<W> {
    writer: W,
    format: LogFormat,
    /// Whether the colours of the log's own stay.
    colour: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Printable<W> {
    type Writer = Printable<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Printable { writer: self.writer.make_writer(), format: self.format, colour: self.colour }
    }
}

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let shown = match self.format {
            LogFormat::Text => line(&text, self.colour),
            LogFormat::Json => printable_json(&text),
        };
        self.writer.write_all(shown.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// An event as text. Its further lines are indented, so that none of them looks like an event of its own.
fn line(text: &str, colour: bool) -> String {
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text.strip_suffix('\n').unwrap_or(text);
    while let Some(c) = rest.chars().next() {
        let length = colour.then(|| colour_length(rest)).flatten().unwrap_or(0);
        if length > 0 {
            shown.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        match c {
            '\n' => shown.push_str("\n    "),
            c if is_unprintable(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    shown.push('\n');
    shown
}

/// The length of the colour with which `text` begins (ECMA-48, 8.3.117), if it does.
fn colour_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some("\u{1b}[".len() + end + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A writer that all its clones write to.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const WORDS: &str = "a\u{1b}[2J\u{9b}31m\u{202e}\u{200f}\r\u{7f}\n2026-01-01 ERROR forged";

    fn logged(format: LogFormat, colour: bool) -> String {
        let shared = Shared::default();
        let clone = shared.clone();
        let writer = Printable { writer: move || clone.clone(), format, colour };
        let log = fmt().with_target(false).with_ansi(colour);
        let event = || {
            let span = tracing::info_span!("span", named = WORDS);
            let _inside = span.enter();
            tracing::error!(text = WORDS, shown = %WORDS, written = ?WORDS, "{WORDS}");
        };
        match format {
            LogFormat::Text => tracing::subscriber::with_default(log.with_writer(writer).finish(), event),
            LogFormat::Json => {
                tracing::subscriber::with_default(
                    log.json().flatten_event(true).with_writer(writer).finish(),
                    event,
                );
            }
        }
        let bytes = shared.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn no_word_of_a_stranger_steers_the_terminal_that_shows_the_log() {
        for (format, colour) in [(LogFormat::Text, false), (LogFormat::Text, true), (LogFormat::Json, false)]
        {
            let text = logged(format, colour);
            let mut rest = text.as_str();
            while let Some(at) = rest.find(is_unprintable) {
                rest = &rest[at..];
                let length = colour_length(rest).filter(|_| colour);
                assert!(rest.starts_with('\n') || length.is_some(), "{format:?}: {text:?}");
                rest = &rest[length.unwrap_or(1)..];
            }
            assert!(text.contains("forged"));
            for line in text.lines().skip(1) {
                assert!(line.starts_with("    "), "{format:?}: a line of its own: {text}");
            }
        }
    }

    #[test]
    fn a_colour_is_one_and_nothing_else_is() {
        assert_eq!(colour_length("\u{1b}[31;1mx"), Some(7));
        assert_eq!(colour_length("\u{1b}[m"), Some(3));
        for other in ["\u{1b}[2J", "\u{1b}]0;m", "\u{1b}[31", "x", ""] {
            assert_eq!(colour_length(other), None, "{other:?}");
        }
    }

    #[test]
    fn an_event_of_json_is_the_same_value() {
        let value: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, false)).unwrap();
        assert_eq!(value["shown"], WORDS);
    }
}
