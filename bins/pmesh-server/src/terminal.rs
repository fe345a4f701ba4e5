//! Writing for a person or a pipe.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

/// Writes `text` to stdout. A reader that has gone away wanted no more of it: that is no failure.
pub(crate) fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("pmesh-server: cannot write to stdout: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Writes `text` to stderr. Where nobody reads that, there is nobody to tell.
pub(crate) fn say(text: &str) {
    io::stderr().write_all(text.as_bytes()).unwrap_or_default();
}
