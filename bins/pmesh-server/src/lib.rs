//! The command line of pmesh: `pmesh-server`, as a library so that tests can build the same binary.
//!
//! [`main`] reads the arguments and does what they ask: `run` serves a manifest, `check` reads one,
//! and the other commands are calls of the API of a server that runs. `docs/cli.md` has every flag.
//!
//! ```
//! let (version, commit) = pmesh_server::VERSION.split_once('-').unwrap();
//! assert_eq!(version, concat!("v", env!("CARGO_PKG_VERSION")));
//! assert!(!commit.is_empty());
//! ```
//!
//! # Limits
//!
//! No decision about services, traffic or repositories is made here; the crates of the workspace do.

mod arguments;
mod bind;
mod call;
mod check;
mod control;
mod exit_code;
mod leftovers;
mod listen_option;
mod log;
mod log_following;
mod notify;
mod orphans;
mod ownership;
mod place;
mod progress;
mod remains;
mod repositories;
mod run;
mod server_search;
mod show;
mod terminal;
mod version;
mod work_tree_lock;

use std::{path::Path, process::ExitCode};

use arguments::Invocation;
use clap::error::ErrorKind;

use exit_code::WRONG_COMMAND_LINE;
pub use version::VERSION;

/// Runs the command line and returns its exit code: 0 done, 1 the action failed, 2 the command line is
/// wrong, 3 no server reached, 4 the server has ended and something stays behind that no signal ends.
pub fn main() -> ExitCode {
    match arguments::parse(std::env::args_os().collect(), Path::exists) {
        Ok(Invocation::Run(arguments)) => run::run(&arguments),
        Ok(Invocation::Check(arguments)) => check::check(&arguments),
        Ok(Invocation::Control(command)) => control::control(&command),
        Err(answer) => not_a_command(&answer),
    }
}

/// What clap has to say instead of a command: help, the version, or what is wrong.
fn not_a_command(answer: &clap::Error) -> ExitCode {
    match answer.kind() {
        ErrorKind::DisplayVersion => terminal::print(&format!("{VERSION}\n")),
        ErrorKind::DisplayHelp => answer.print().map_or_else(|_| terminal::print(""), |()| ExitCode::SUCCESS),
        _ => {
            answer.print().unwrap_or_default();
            ExitCode::from(WRONG_COMMAND_LINE)
        }
    }
}
