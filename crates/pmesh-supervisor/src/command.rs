//! From a declared command to what a process is started with.

use std::{collections::BTreeMap, ffi::OsString};

use crate::{AppSpec, Command, Launch, Stdin, UserAccount};

/// The launch of a service's `command` with exactly the environment `env`; `resolve` gives the meaning of
/// each word.
pub(crate) fn launch(
    command: &Command,
    spec: &AppSpec,
    account: Option<&UserAccount>,
    resolve: impl Fn(&str) -> OsString,
    env: BTreeMap<OsString, OsString>,
    stdin: Stdin,
) -> Launch {
    Launch {
        program: resolve(&command.program),
        arguments: command.arguments.iter().map(|word| resolve(word)).collect(),
        folder: command
            .folder
            .as_ref()
            .map_or_else(|| spec.folder.clone(), |folder| spec.folder.join(folder)),
        env,
        nofile: Some(spec.nofile),
        account: account.cloned(),
        stdin,
    }
}
