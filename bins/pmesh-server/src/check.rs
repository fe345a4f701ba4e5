//! `check`: what a manifest would run, or what is wrong with it.

use std::{path::Path, process::ExitCode};

use pmesh_manifest::{Manifest, ReadError, Unsupported};

use crate::{
    arguments::CheckArguments,
    terminal::{complain, harmless, print, say},
};

/// Reads the manifest that `arguments` name and prints what would run, with what is probably not meant and what
/// this machine lacks of it as warnings, or each mistake at its place.
pub(crate) fn check(arguments: &CheckArguments) -> ExitCode {
    let path = arguments.path.as_deref().unwrap_or(Path::new("."));
    let unsupported = if arguments.ignore_unsupported { Unsupported::Warn } else { Unsupported::Refuse };
    match read(path, unsupported) {
        Ok(manifest) => {
            for warning in manifest.warnings.iter().chain(&manifest.absent()) {
                say(&harmless(&format!(
                    "warning: {warning}
"
                )));
            }
            print(&harmless(&manifest.summary().to_string()))
        }
        Err(ReadError::Invalid(mistakes)) => {
            say(&harmless(&format!("{mistakes}\n")));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&pmesh_node::in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn read(path: &Path, unsupported: Unsupported) -> Result<Manifest, ReadError> {
    let file = pmesh_manifest::find(path)?;
    // As a person would write it.
    let file = file.strip_prefix(".").unwrap_or(&file);
    pmesh_manifest::read(file, unsupported)
}
