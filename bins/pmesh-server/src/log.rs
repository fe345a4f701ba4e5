//! The server's own log, on stderr.

use std::io::{self, IsTerminal};

use tracing_subscriber::fmt;

use crate::arguments::LogFormat;

/// Begins to log. Text for a terminal, JSON for a program, unless the arguments say.
pub(crate) fn start(format: Option<LogFormat>, level: tracing::Level) {
    let is_terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if is_terminal { LogFormat::Text } else { LogFormat::Json });
    let log = fmt().with_writer(io::stderr).with_max_level(level).with_target(false);
    let started = match format {
        LogFormat::Text => {
            let colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            tracing::subscriber::set_global_default(log.with_ansi(colour).finish())
        }
        LogFormat::Json => tracing::subscriber::set_global_default(log.json().flatten_event(true).finish()),
    };
    if started.is_err() {
        tracing::debug!("somebody logs already");
    }
}
