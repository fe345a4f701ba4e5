//! Exit codes beside 0 (done) and 1 (the action failed).

/// The exit code of a command line that is wrong; clap uses it too.
pub(crate) const WRONG_COMMAND_LINE: u8 = 2;

/// The exit code of a command that reached no server.
pub(crate) const NO_SERVER: u8 = 3;

/// The exit code of a server that had to leave something behind that no signal ends.
pub(crate) const HELD: u8 = 4;
