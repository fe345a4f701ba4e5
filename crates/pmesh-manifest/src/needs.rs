//! What a manifest needs to find on the disk of the machine that serves it. Reading a manifest looks at no
//! file, because it may be one of a commit.

use std::{collections::BTreeMap, path::PathBuf};

use pmesh_supervisor::{AppSpec, Command};

use crate::Mistake;

/// Something that has to be there, and where the manifest says so.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    /// Its place, with an empty message.
    pub(crate) place: Mistake,
    pub(crate) what: Needed,
}

/// All needs of a manifest. They are all equal to each other: manifests that declare the same are equal, wherever in their
/// texts they say so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs(pub(crate) Vec<Need>);

impl PartialEq for Needs {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Needed {
    /// The folder that commands of a service start in.
    Folder(PathBuf),
    /// The folder of files.
    Files(PathBuf),
    /// A file of environment.
    EnvFile(PathBuf),
    /// Somebody to run as.
    User(String),
    /// The program of a command, which starts in a folder with this environment on top of the server's.
    Program { program: String, folder: PathBuf, path: Option<String>, in_own: bool, built: bool },
}

impl Needed {
    /// The program of a command of `spec`.
    pub(crate) fn program(command: &Command, spec: &AppSpec) -> Self {
        let variable = |env: &BTreeMap<String, String>| env.get("PATH").cloned();
        Self::Program {
            program: command.program.clone(),
            folder: command.folder.as_ref().map_or_else(|| spec.folder.clone(), |own| spec.folder.join(own)),
            path: variable(&command.env).or_else(|| variable(&spec.env)),
            in_own: command.folder.is_none(),
            built: !spec.build.is_empty(),
        }
    }
}
