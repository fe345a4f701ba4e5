//! What a manifest needs and this machine lacks. Whoever serves a manifest asks here; reading one looks at no file.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use pmesh_supervisor::{ServiceKind, env_file_mistake, missing_interpreter, user_mistake};

use crate::{
    Manifest, Mistake,
    mistake::quoted,
    needs::{Need, Needed},
};

impl Manifest {
    /// The folders, programs, env files and users that this machine lacks or cannot use, each with the place that names it, in their order.
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
            Needed::EnvFile(file) => env_file_mistake(file),
            Needed::User(user) => user_mistake(user),
            // The service's own folder is a need by itself, and is told there.
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

/// Why a program cannot be run, looked up as an instance's is (execvp(3)): in this process's `PATH` where the manifest sets
/// none.
fn no_program(program: &str, folder: &Path, path: Option<OsString>) -> Option<String> {
    let is_executable = |file: &Path| {
        fs::metadata(file)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let path = path
        .or_else(|| env::var_os("PATH"))
        .unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    if program.contains('/') {
        // Without the `.` of a `./program`.
        let file: PathBuf = folder.join(program).components().collect();
        return match file.is_file() {
            _ if is_executable(&file) => no_interpreter(&file, &path),
            true => Some(format!("{} is not executable; `chmod +x` makes it so", file.display())),
            false if file.is_dir() => Some(format!("{} is a folder and no program", file.display())),
            false => Some(format!("there is no program {}", file.display())),
        };
    }
    let mut files = env::split_paths(&path)
        .map(|entry| folder.join(entry).join(program).components().collect::<PathBuf>());
    match files.find(|file| is_executable(file)) {
        Some(file) => no_interpreter(&file, &path),
        None => Some(format!("there is no program {} in {}", quoted(program), path.display())),
    }
}

/// What a script lacks.
fn no_interpreter(script: &Path, path: &OsString) -> Option<String> {
    missing_interpreter(script, Some(path))
        .map(|missing| format!("{} cannot start: {missing}", script.display()))
}
