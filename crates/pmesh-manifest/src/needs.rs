//! What a manifest needs to find on the disk of the machine that serves it. Reading a manifest looks at no
//! file, because it may be one of a commit; who serves it asks here what is absent.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use pmesh_supervisor::{AppSpec, Command, ServiceKind};

use crate::{Manifest, Mistake, mistake::quoted};

/// Something that has to be there, and where the manifest says so.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    /// Its place, with an empty message.
    pub(crate) place: Mistake,
    pub(crate) what: Needed,
}

/// All of them. Manifests that declare the same are equal wherever in their texts that stands.
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

impl Manifest {
    /// The folders and programs that this machine lacks, each with the place that names it, in their order.
    /// What a build may make (files of its service's folder) is none of them. Blocks on the disk.
    pub fn absent(&self) -> Vec<Mistake> {
        let mut absent: Vec<Mistake> = Vec::new();
        for Need { place, what } in &self.needs.0 {
            if let Some(message) = self.absence(what) {
                let mistake = Mistake { message, ..place.clone() };
                // An anchored value is one, however often it is used.
                if absent.last() != Some(&mistake) {
                    absent.push(mistake);
                }
            }
        }
        absent
    }

    /// Why something is not as it has to be.
    fn absence(&self, needed: &Needed) -> Option<String> {
        match needed {
            Needed::Folder(folder) => {
                no_folder(folder).map(|why| format!("{why}, where its commands start; `root` names another"))
            }
            Needed::Files(folder) if self.is_built(folder) => None,
            Needed::Files(folder) => no_folder(folder).map(|why| format!("{why}, whose files it serves")),
            // That of the service is a need of its own.
            Needed::Program { folder, in_own: true, .. } if !folder.is_dir() => None,
            Needed::Program { folder, .. } if !folder.is_dir() => no_folder(folder),
            Needed::Program { program, built, .. } if *built && program.contains('/') => None,
            Needed::Program { program, folder, path, .. } => {
                no_program(program, folder, path.as_ref().map(OsString::from))
            }
        }
    }

    /// Whether a folder is in that of a service which has a build, and so may be made by it.
    fn is_built(&self, folder: &Path) -> bool {
        self.services.iter().any(|service| match &service.spec.kind {
            ServiceKind::App(app) => !app.build.is_empty() && folder.starts_with(&app.folder),
            ServiceKind::External(_) | ServiceKind::Files => false,
        })
    }
}

fn no_folder(folder: &Path) -> Option<String> {
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => None,
        Ok(_) => Some(format!("{} is no folder", folder.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Some(format!("there is no folder {}", folder.display()))
        }
        Err(error) => Some(format!("the folder {} cannot be looked at: {error}", folder.display())),
    }
}

/// Looked up as an instance's would be (execvp(3)), in this process's `PATH` where the manifest has none.
fn no_program(program: &str, folder: &Path, path: Option<OsString>) -> Option<String> {
    let is_executable = |file: &Path| {
        fs::metadata(file)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        let file = folder.join(program);
        return match file.is_file() {
            _ if is_executable(&file) => None,
            true => Some(format!("{} is not executable; `chmod +x` makes it so", file.display())),
            false => Some(format!("there is no program {}", file.display())),
        };
    }
    let path = path
        .or_else(|| env::var_os("PATH"))
        .unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    let found = env::split_paths(&path).any(|entry| is_executable(&folder.join(entry).join(program)));
    (!found).then(|| format!("there is no program {} in {}", quoted(program), path.display()))
}
