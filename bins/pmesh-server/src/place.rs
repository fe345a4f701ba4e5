//! Where a server keeps its state, and where its socket is: the same answer for the server and for
//! the commands that look for it.

use std::{
    env,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The longest path of a socket that is safe everywhere: `sun_path` has 108 bytes (unix(7)), and
/// some clients use less.
const SOCKET_PATH_LIMIT: usize = 100;

/// What the places depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    pub(crate) is_root: bool,
    pub(crate) uid: u32,
    /// `XDG_STATE_HOME`, if it is absolute.
    pub(crate) state_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`, if it is absolute.
    pub(crate) runtime: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process. Relative paths are ignored (XDG Base Directory Specification).
    pub(crate) fn now() -> Self {
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let user = rustix::process::geteuid();
        Self {
            is_root: user.is_root(),
            uid: user.as_raw(),
            state_home: absolute("XDG_STATE_HOME"),
            runtime: absolute("XDG_RUNTIME_DIR"),
            home: absolute("HOME"),
        }
    }

    /// The default state folder of the server of this manifest (whose path has no links in it).
    pub(crate) fn state_folder(&self, manifest: &Path) -> PathBuf {
        let folder = manifest.parent().unwrap_or(manifest);
        let name = folder.file_name().unwrap_or("root".as_ref());
        let hash = blake3::hash(folder.as_os_str().as_bytes());
        let name = format!("{}-{}", name.to_string_lossy(), &hash.to_hex().as_str()[..8]);
        self.state_base().join("pmesh").join(name)
    }

    fn state_base(&self) -> PathBuf {
        if let Some(state_home) = &self.state_home {
            return state_home.clone();
        }
        match &self.home {
            Some(home) if !self.is_root => home.join(".local/state"),
            // A user without a home is a system user, such as a unit's DynamicUser.
            _ => PathBuf::from("/var/lib"),
        }
    }

    /// The API's socket of a server with this state folder.
    pub(crate) fn socket_path(&self, state: &Path) -> PathBuf {
        let socket = state.join("api.sock");
        if socket.as_os_str().len() <= SOCKET_PATH_LIMIT {
            return socket;
        }
        let runtime = self.runtime.clone().unwrap_or_else(|| {
            if self.is_root {
                PathBuf::from("/run")
            } else {
                PathBuf::from(format!("/run/user/{}", self.uid))
            }
        });
        let hash = blake3::hash(state.as_os_str().as_bytes());
        runtime.join(format!("pmesh-{}.sock", &hash.to_hex().as_str()[..16]))
    }
}

/// The default state folder of the server of this manifest.
pub(crate) fn state_folder(manifest: &Path) -> PathBuf {
    let manifest = manifest.canonicalize().unwrap_or_else(|_| manifest.to_owned());
    Surroundings::now().state_folder(&manifest)
}

/// The API's socket of a server with this state folder.
pub(crate) fn socket_path(state: &Path) -> PathBuf {
    Surroundings::now().socket_path(state)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::Surroundings;

    fn user() -> Surroundings {
        Surroundings { uid: 1000, home: Some("/home/ada".into()), ..Surroundings::default() }
    }

    #[test]
    fn each_project_has_a_state_folder_of_its_own() {
        let one = user().state_folder(Path::new("/srv/a/shop/pm3.yml"));
        let other = user().state_folder(Path::new("/srv/b/shop/pm3.yml"));
        assert_ne!(one, other);
        let name = one.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("shop-") && name.len() == "shop-".len() + 8, "{name}");
        assert!(one.starts_with("/home/ada/.local/state/pmesh"));
    }

    #[test]
    fn state_is_where_xdg_says_and_for_root_in_var_lib() {
        let xdg = Surroundings { state_home: Some("/x".into()), ..user() };
        assert!(xdg.state_folder(Path::new("/srv/shop/pm3.yml")).starts_with("/x/pmesh"));
        let root = Surroundings { is_root: true, home: Some("/root".into()), ..Surroundings::default() };
        assert!(root.state_folder(Path::new("/srv/shop/pm3.yml")).starts_with("/var/lib/pmesh"));
    }

    #[test]
    fn a_socket_whose_path_would_be_too_long_is_in_the_runtime_folder() {
        assert_eq!(user().socket_path(Path::new("/s")), PathBuf::from("/s/api.sock"));
        let long = PathBuf::from(format!("/{}", "x".repeat(100)));
        let socket = user().socket_path(&long);
        assert!(socket.starts_with("/run/user/1000"), "{}", socket.display());
        assert!(socket.as_os_str().len() <= 100);
    }
}
