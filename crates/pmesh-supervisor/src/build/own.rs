//! What in a service's folder is no content of the service: files of git, of pmesh, the server's state, logs.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// What in a service's folder is neither content of its builds nor made by them.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// The service's folder.
    root: PathBuf,
    /// The folder of its log.
    logs: Option<PathBuf>,
    /// The server's own folder.
    state: Option<PathBuf>,
}

impl Own {
    /// For the folder `root` of a service whose log file is `log`.
    pub(super) fn new(root: &Path, log: &Path, state: Option<&Path>) -> Self {
        Self {
            root: root.to_owned(),
            logs: log.parent().map(Path::to_owned),
            state: state.map(Path::to_owned),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a path below the folder is one of these.
    pub(super) fn has(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        let bytes = name.as_bytes();
        if bytes == b".git" || bytes == b".run" || bytes.starts_with(b".build") {
            return true;
        }
        if self.state.as_deref() == Some(path) {
            return true;
        }
        match &self.logs {
            Some(logs) if *logs == self.root => path.parent() == Some(&*self.root) && is_log(name),
            Some(logs) => path == logs,
            None => false,
        }
    }
}

/// `x.log` and `x.log.1`, and their indexes.
fn is_log(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let name = name.strip_suffix(b".index").unwrap_or(name);
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let name = if digits > 0 { name[..name.len() - digits].strip_suffix(b".") } else { Some(name) };
    name.is_some_and(|name| name.ends_with(b".log"))
}

#[cfg(test)]
mod tests {
    use super::is_log;

    #[test]
    fn logs_and_their_indexes_are_known_by_their_names() {
        for name in ["x.log", "x.log.1", "x.log.index", "x.log.12.index"] {
            assert!(is_log(name.as_ref()), "{name}");
        }
        for name in ["index", "x.index", "x.log.index.1", "x.log.txt", "x.log1"] {
            assert!(!is_log(name.as_ref()), "{name}");
        }
    }
}
