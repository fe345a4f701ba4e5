//! What a build is made from, as a hash.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use blake3::Hasher;
use ignore::WalkBuilder;

use super::{
    error::{BuildError, files},
    own::Own,
    product::BuildId,
};
use crate::{AppSpec, Command, MachineFacts, ServiceName};

/// Hashes the service's folder (paths, modes, contents, targets of links; git's ignore rules apply, and files
/// that are not the service's are left out), its build commands, its declared environment, its name, and the
/// folder's own path, because products record that. Blocks until all of it is read.
pub(super) fn identify(
    service: &ServiceName,
    spec: &AppSpec,
    machine: &MachineFacts,
    own: &Own,
) -> Result<BuildId, BuildError> {
    let mut hasher = Hasher::new();
    text(&mut hasher, b"pmesh build 1");
    text(&mut hasher, service.as_str().as_bytes());
    text(&mut hasher, spec.folder.as_os_str().as_bytes());
    list(&mut hasher, &spec.build, command);
    // What the steps find, wherever it was declared.
    environment(&mut hasher, machine.file_env.variables().iter().chain(&spec.env).collect());
    if let Some(account) = &machine.account {
        // The product is its own, and may not be another one's to write.
        text(&mut hasher, format!("of user {}", account.uid).as_bytes());
    }
    folder(&mut hasher, own)?;
    Ok(BuildId(hasher.finalize().to_hex()[..16].into()))
}

/// Hashes a text with its length before it, so that no two sequences of texts give the same bytes.
fn text(hasher: &mut Hasher, text: &[u8]) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text);
}

fn list<T>(hasher: &mut Hasher, items: &[T], each: impl Fn(&mut Hasher, &T)) {
    hasher.update(&(items.len() as u64).to_le_bytes());
    for item in items {
        each(hasher, item);
    }
}

fn command(hasher: &mut Hasher, command: &Command) {
    let folder = command.folder.as_deref().unwrap_or(Path::new(""));
    text(hasher, folder.as_os_str().as_bytes());
    text(hasher, command.program.as_bytes());
    list(hasher, &command.arguments, |hasher, word| text(hasher, word.as_bytes()));
    environment(hasher, command.env.iter().collect());
}

fn environment(hasher: &mut Hasher, env: BTreeMap<&String, &String>) {
    hasher.update(&(env.len() as u64).to_le_bytes());
    for (name, value) in env {
        text(hasher, name.as_bytes());
        text(hasher, value.as_bytes());
    }
}

fn folder(hasher: &mut Hasher, own: &Own) -> Result<(), BuildError> {
    let folder = own.root();
    let mut found = walk(own)?;
    found.sort();
    let mut buffer = vec![0; 256 * 1024];
    for path in &found {
        match file(hasher, folder, path, &mut buffer) {
            // The file was removed after the walk.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(files("read", path))?,
        }
    }
    Ok(())
}

/// The files and links below the folder that are content, and the folders that cannot be read.
fn walk(own: &Own) -> Result<Vec<PathBuf>, BuildError> {
    let folder = own.root();
    let own = own.clone();
    let walk = WalkBuilder::new(folder)
        .standard_filters(false)
        .git_ignore(true)
        .git_exclude(true)
        .require_git(false)
        .parents(true)
        .filter_entry(move |entry| entry.depth() == 0 || !own.has(entry.path()))
        .build();
    let mut found = Vec::new();
    for entry in walk {
        match entry {
            Ok(entry) if entry.file_type().is_some_and(|kind| !kind.is_dir()) => {
                found.push(entry.into_path());
            }
            Ok(_) => {}
            Err(error) => {
                let path = path_of(&error).unwrap_or(folder).to_owned();
                match error.into_io_error() {
                    Some(gone) if gone.kind() == io::ErrorKind::NotFound && folder.is_dir() => {}
                    // A folder that cannot be read counts like a file that cannot: by its name.
                    Some(refused) if refused.kind() == io::ErrorKind::PermissionDenied && path != folder => {
                        found.push(path);
                    }
                    Some(source) => return Err(files("read", &path)(source)),
                    // A line of an ignore file that is no valid pattern: git ignores it too.
                    None => {}
                }
            }
        }
    }
    Ok(found)
}

fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        _ => None,
    }
}

fn file(hasher: &mut Hasher, folder: &Path, path: &Path, buffer: &mut [u8]) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let name = path.strip_prefix(folder).unwrap_or(path).as_os_str().as_bytes();
    if metadata.is_symlink() {
        let target = fs::read_link(path)?;
        text(hasher, name);
        text(hasher, b"link");
        text(hasher, target.as_os_str().as_bytes());
    } else if metadata.is_dir() {
        unreadable(hasher, name);
    } else if metadata.is_file() {
        match File::open(path) {
            Ok(mut file) => {
                text(hasher, name);
                text(hasher, b"file");
                hasher.update(&(metadata.mode() & 0o777).to_le_bytes());
                contents(hasher, &mut file, buffer)?;
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unreadable(hasher, name),
            Err(error) => return Err(error),
        }
    }
    // Sockets, pipes and devices are not content.
    Ok(())
}

/// Hashes a file that cannot be read by its name alone. The build runs as the same user and cannot read the
/// file either, but may depend on whether it exists.
fn unreadable(hasher: &mut Hasher, name: &[u8]) {
    text(hasher, name);
    text(hasher, b"unreadable");
}

fn contents(hasher: &mut Hasher, file: &mut File, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = 0_u64;
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // After the bytes and not before them, because a file can grow while it is read.
    hasher.update(&length.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{SecretEnv, UserAccount};

    /// A project with a service in `web`, whose build id the tests compare.
    struct Project(tempfile::TempDir, AppSpec, MachineFacts);

    fn project() -> Project {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("web/src")).unwrap();
        let spec = AppSpec::new(&"web".parse().unwrap(), folder.path().join("web"));
        let project = Project(folder, spec, MachineFacts::default());
        project.write("web/src/a.js", "a");
        project
    }

    impl Project {
        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        fn id(&self) -> BuildId {
            self.id_with_log("logs/web.log")
        }

        fn id_with_log(&self, log: &str) -> BuildId {
            let own = Own::new(&self.1.folder, &self.path(log), None);
            identify(&"web".parse().unwrap(), &self.1, &self.2, &own).unwrap()
        }

        fn id_with_state(&self, state: &str) -> BuildId {
            let (log, state) = (self.path(state).join("logs/web.log"), self.path(state));
            let own = Own::new(&self.1.folder, &log, Some(&state));
            identify(&"web".parse().unwrap(), &self.1, &self.2, &own).unwrap()
        }

        /// Whether a change of the project changes the id.
        fn changes(&mut self, change: impl FnOnce(&mut Self)) -> bool {
            let before = self.id();
            change(self);
            self.id() != before
        }
    }

    #[test]
    fn an_id_is_16_hexadecimal_digits_and_stays() {
        let project = project();
        let id = project.id();
        assert!(id.as_str().len() == 16 && id.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(project.id(), id);
    }

    #[test]
    fn every_part_of_the_content_counts() {
        let mut project = project();
        assert!(project.changes(|project| project.write("web/src/a.js", "b")));
        assert!(project.changes(|project| project.write("web/.hidden", "")));
        assert!(project.changes(|project| {
            fs::rename(project.path("web/src/a.js"), project.path("web/src/b.js")).unwrap();
        }));
        assert!(project.changes(|project| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(project.path("web/src/b.js"), mode).unwrap();
        }));
        let link = |target: &'static str| {
            move |project: &mut Project| {
                drop(fs::remove_file(project.path("web/link")));
                std::os::unix::fs::symlink(target, project.path("web/link")).unwrap();
            }
        };
        assert!(project.changes(link("src")));
        assert!(project.changes(link("nowhere")));
    }

    #[test]
    fn the_commands_and_the_declared_environment_count() {
        let mut project = project();
        let step = |words: &[&str]| Command {
            program: words[0].to_owned(),
            arguments: words[1..].iter().map(|&word| word.to_owned()).collect(),
            ..Command::default()
        };
        assert!(project.changes(|project| project.1.build = vec![step(&["make", "a b"])]));
        assert!(project.changes(|project| project.1.build = vec![step(&["make", "a", "b"])]));
        assert!(project.changes(|project| project.1.build = vec![step(&["make"]), step(&["a", "b"])]));
        assert!(project.changes(|project| project.1.build[0].folder = Some("sub".into())));
        let name = |env: &mut BTreeMap<String, String>| env.insert("A".to_owned(), "1".to_owned());
        assert!(project.changes(|project| drop(name(&mut project.1.build[0].env))));
        assert!(project.changes(|project| drop(name(&mut project.1.env))));
        assert!(!project.changes(|project| project.1.instances = 7));
    }

    #[test]
    fn what_env_files_say_counts_as_far_as_it_is_what_the_steps_get() {
        let mut project = project();
        let file =
            |value: &str| MachineFacts::new(SecretEnv::new([("A".to_owned(), value.to_owned())].into()));
        assert!(project.changes(|project| project.2 = file("1")));
        assert!(project.changes(|project| project.2 = file("2")));
        let declared = |value: &str| ("A".to_owned(), value.to_owned());
        assert!(project.changes(|project| project.1.env = [declared("3")].into()));
        assert!(!project.changes(|project| project.2 = file("4")), "`env` wins");
        assert!(!project.changes(|project| project.2 = MachineFacts::default()));
        assert!(
            project.changes(|project| project.2.account = Some(UserAccount::of_number(7))),
            "whose it is"
        );
    }

    #[test]
    fn what_is_ignored_what_is_outside_and_what_pmesh_makes_does_not_count() {
        let mut project = project();
        fs::create_dir(project.path(".git")).unwrap();
        project.write(".gitignore", "node_modules/\n");
        project.write("web/.gitignore", "*.tmp\n");
        for name in ["web/node_modules", "web/.build-0123456789abcdef", "web/.git", "other"] {
            fs::create_dir(project.path(name)).unwrap();
        }
        for name in [
            "web/node_modules/x",
            "web/src/x.tmp",
            "web/.build-0123456789abcdef/x",
            "web/.build-0123456789abcdef.ok",
            "web/.git/HEAD",
            "other/x",
        ] {
            assert!(!project.changes(|project| project.write(name, "x")), "{name}");
        }
        assert!(!project.changes(|project| {
            std::os::unix::fs::symlink(".build-0123456789abcdef", project.path("web/.run")).unwrap();
        }));
        assert!(project.changes(|project| project.write("web/.ignore", "src\n")), "only git's rules");
    }

    #[test]
    fn a_folder_that_cannot_be_read_counts_by_its_being_there() {
        let mut project = project();
        let locked = project.path("web/locked");
        let mode = |mode| fs::Permissions::from_mode(mode);
        assert!(!project.changes(|_| fs::create_dir(&locked).unwrap()), "git knows no empty folders");
        fs::set_permissions(&locked, mode(0)).unwrap();
        // Root can read it in spite of its mode.
        if fs::read_dir(&locked).is_err() {
            let there = project.id();
            fs::remove_dir(&locked).unwrap();
            assert_ne!(project.id(), there);
        }
    }

    #[test]
    fn logs_in_the_folder_do_not_count() {
        let project = project();
        fs::create_dir(project.path("web/logs")).unwrap();
        let below = project.id_with_log("web/logs/web.log");
        project.write("web/logs/other.log", "x");
        assert_eq!(project.id_with_log("web/logs/web.log"), below);
        let beside = project.id_with_log("web/web.log");
        for name in ["web/web.log", "web/web.log.12", "web/other.log"] {
            project.write(name, "x");
        }
        assert_eq!(project.id_with_log("web/web.log"), beside);
        project.write("web/src/a.log", "x");
        assert_ne!(project.id_with_log("web/web.log"), beside);
    }

    #[test]
    fn the_servers_state_folder_does_not_count_wherever_it_is() {
        let project = project();
        for state in ["web/state", "web/src/deep/.state"] {
            let before = project.id_with_state(state);
            fs::create_dir_all(project.path(state).join("logs")).unwrap();
            for name in ["lock", "api.sock", "journal.json", "logs/web.log"] {
                project.write(&format!("{state}/{name}"), "x");
            }
            assert_eq!(project.id_with_state(state), before, "{state}");
            project.write(&format!("{state}-of-mine"), "x");
            assert_ne!(project.id_with_state(state), before, "{state}");
        }
    }
}
