//! `supervise`: services up, crashed, idle, measured, down, and their output, against supervisord and s6.
//!
//! The same child programs for all; each supervisor is started, told and asked as its users do it.

mod by_pmesh;
mod by_s6;
mod by_supervisord;
mod output;
mod roll_call;
mod rounds;
mod supervisor;

use std::io::stdout;
use std::path::Path;

use anyhow::{Context, Result};

use self::by_pmesh::Pmesh;
use self::by_s6::S6;
use self::by_supervisord::Supervisord;
pub(crate) use self::output::WRITER;
use self::rounds::QUANTITIES;
use self::supervisor::Supervisor;
use super::figures::PAIRS;
use super::peers;
use super::pmesh::Binary;
use super::side_by_side::{Contender, table};

/// Measures all that are here and answers with the table.
pub(super) fn measure(server: &Binary) -> Result<String> {
    let mut supervisors: Vec<Box<dyn Supervisor + '_>> = vec![Box::new(Pmesh(server))];
    let mut absent = Vec::new();
    for (peer, supervisor) in
        [(peers::SUPERVISORD, Box::new(Supervisord) as Box<dyn Supervisor>), (peers::S6, Box::new(S6))]
    {
        match peer.missing() {
            None => supervisors.push(supervisor),
            Some(remedy) => absent.push(format!("Without {}: {remedy}.", supervisor.name())),
        }
    }
    for line in &absent {
        println!("{line}");
    }

    let mut contenders = Vec::new();
    for supervisor in &supervisors {
        contenders.push(Contender { name: supervisor.name(), rounds: Vec::new() });
    }
    let mut containment = String::new();
    for round in 1..=PAIRS {
        for (supervisor, contender) in supervisors.iter().zip(&mut contenders) {
            let name = supervisor.name();
            println!("round {round} of {PAIRS}: {name}");
            let (measured, held) = rounds::measure(supervisor.as_ref()).context(name)?;
            containment = held.unwrap_or(containment);
            let values: Vec<_> = measured.iter().map(|(what, value)| format!("{what}: {value:.3}")).collect();
            println!("  {}", values.join("; "));
            contender.rounds.push(measured);
        }
    }
    let versions = supervisors.iter().map(|supervisor| supervisor.version()).collect::<Result<Vec<_>>>()?;
    let mut section = format!("{}. pmesh holds services by: {containment}.\n\n", versions.join("; "));
    for line in absent {
        section.push_str(&line);
        section.push_str("\n\n");
    }
    Ok(section + &table(QUANTITIES, &contenders))
}

/// Is the service with much output until `pipe` ends.
pub(super) fn write_output(pipe: &str) -> Result<()> {
    // A write that fails says that whoever reads has gone, and that there is nobody to tell.
    output::serve(Path::new(pipe), stdout().lock()).or_else(|error| {
        match error.downcast_ref::<std::io::Error>() {
            Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error),
        }
    })
}
