//! Stands in for the wiring of the server.

use std::process::ExitCode;

use crate::arguments::RunArguments;

/// Serves a manifest until the server is told to stop.
pub(crate) fn run(arguments: RunArguments) -> ExitCode {
    eprintln!("pmesh-server: `run` is not wired in this build: {arguments:?}");
    ExitCode::FAILURE
}
