//! Reading the env files of a service from the disk.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use pmesh_threads::{Threads, Unanswered};

use crate::{SecretEnv, env_file};

/// How long reading all of a service's may take.
const LIMIT: Duration = Duration::from_secs(10);

/// As much as an `env` of the manifest may be; a process cannot be given much more.
const MAX_BYTES: u64 = 128 * 1024;

/// The bits of a file's mode for everybody who is neither its owner nor of its group.
const OTHERS: u32 = 0o006;

/// Why the env files of a service are not read. It names the file, and nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvFileError {
    #[error(
        "there is no env file {}; make it (`chmod 640`), or take it out of `env_file`",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("the env file {} is {what}; a plain file is wanted", path.display())]
    Special { path: PathBuf, what: &'static str },
    #[error(
        "every user of this machine may {what} the env file {}; `chmod o= {}` ends that",
        path.display(), path.display()
    )]
    Open { path: PathBuf, what: &'static str },
    #[error("the env file {} has more than {} KiB", .0.display(), MAX_BYTES / 1024)]
    Large(PathBuf),
    #[error("{}:{line}: {what}", path.display())]
    Mistake { path: PathBuf, line: usize, what: &'static str },
    #[error("cannot read the env file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot read the env files")]
    Unanswered(#[source] Unanswered),
}

/// Reads env files on a thread that may block; of two that set a variable the later one counts.
///
/// # Errors
///
/// [`EnvFileError`] for the first that is not there, that others may read or write, that is no plain file, is too large or has
/// a mistake; or none has been read in time.
pub(crate) async fn read(files: &[PathBuf], threads: &Threads) -> Result<SecretEnv, EnvFileError> {
    if files.is_empty() {
        return Ok(SecretEnv::default());
    }
    let files = files.to_vec();
    let read = threads.run(LIMIT, move |_| {
        let mut variables = BTreeMap::new();
        for path in &files {
            variables.extend(read_one(path)?);
        }
        Ok(SecretEnv::new(variables))
    });
    read.await.map_err(EnvFileError::Unanswered)?
}

/// What is wrong with an env file as it is now, in one line; none if nothing is. Blocks on the disk.
pub fn env_file_mistake(path: &Path) -> Option<String> {
    read_one(path).err().map(|error| crate::causes::with_causes(&error))
}

fn read_one(path: &Path) -> Result<BTreeMap<String, String>, EnvFileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => EnvFileError::Missing(path.to_owned()),
        _ => EnvFileError::Read { path: path.to_owned(), source },
    };
    // Looked at before: opening a device may do something. Links are followed, as secrets are often laid out by them.
    check(path, &fs::metadata(path).map_err(failed)?)?;
    // A pipe that has come meanwhile is not waited for.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    check(path, &file.metadata().map_err(failed)?)?;
    let bytes = contents(&file).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(EnvFileError::Large(path.to_owned()));
    }
    env_file::parse(&bytes).map_err(|mistake| EnvFileError::Mistake {
        path: path.to_owned(),
        line: mistake.line,
        what: mistake.what,
    })
}

fn contents(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), EnvFileError> {
    let kind = metadata.file_type();
    let what = if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if !kind.is_file() {
        "a device"
    } else {
        return match metadata.mode() & OTHERS {
            0 if metadata.len() > MAX_BYTES => Err(EnvFileError::Large(path.to_owned())),
            0 => Ok(()),
            others => Err(EnvFileError::Open {
                path: path.to_owned(),
                what: if others & 0o004 == 0 { "write" } else { "read" },
            }),
        };
    };
    Err(EnvFileError::Special { path: path.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt as _, net::UnixListener};

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_a_plain_file_of_some_size_that_others_can_neither_read_nor_write_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(&path("good"), "A=1\n", 0o640);
        write(&path("open"), "A=hunter2\n", 0o644);
        write(&path("loose"), "A=hunter2\n", 0o602);
        write(&path("wrong"), "A=1\nhunter2\n", 0o600);
        write(&path("large"), &"#\n".repeat(64 * 1024 + 1), 0o600);
        write(&path("just"), &"#\n".repeat(64 * 1024), 0o600);
        fs::create_dir(path("folder")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink("good", path("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
        for name in ["good", "link", "just"] {
            assert_eq!(env_file_mistake(&path(name)), None, "{name}");
        }
        for (name, said) in [
            ("open", "may read the env file"),
            ("loose", "may write the env file"),
            ("wrong", "wrong:2: expected `KEY=value`"),
            ("large", "more than 128 KiB"),
            ("folder", "is a folder"),
            ("pipe", "is a pipe"),
            ("socket", "is a socket"),
            ("absent", "there is no env file"),
            ("dangling", "there is no env file"),
            ("good/x", "cannot read the env file"),
        ] {
            let mistake = env_file_mistake(&path(name)).expect(name);
            assert!(mistake.contains(said), "{name}: {mistake}");
            assert!(mistake.contains(path(name).to_str().unwrap()), "{name}: {mistake}");
            assert!(!mistake.contains("hunter2"), "{mistake}");
        }
        assert!(env_file_mistake(Path::new("/dev/null")).unwrap().contains("is a device"));
    }
}
