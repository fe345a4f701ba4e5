//! From a declared command to what a process is started with.

use std::{collections::BTreeMap, ffi::OsString};

use crate::{AppSpec, Build, Command, Launch, Stdin};

/// The launch of `command` of a service in exactly `env`; words that name `.run/` mean `build`.
pub(crate) fn launch(
    command: &Command,
    spec: &AppSpec,
    build: Option<&Build>,
    env: BTreeMap<OsString, OsString>,
    stdin: Stdin,
) -> Launch {
    let word = |word: &String| match build {
        Some(build) => build.resolve(word),
        None => OsString::from(word),
    };
    Launch {
        program: word(&command.program),
        arguments: command.arguments.iter().map(word).collect(),
        folder: command
            .folder
            .as_ref()
            .map_or_else(|| spec.folder.clone(), |folder| spec.folder.join(folder)),
        env,
        nofile: Some(spec.nofile),
        stdin,
    }
}
