//! Where a project's state is: the folder that `run` uses by default, and the API's socket, which the
//! other commands look for.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Component, Path, PathBuf},
};

/// The longest path of a socket, in bytes: `sun_path` has 108 (unix(7)), and not all programs use the
/// last of them.
const MAX_SOCKET_PATH_LEN: usize = 100;

/// The state folder of the project whose manifest is `manifest`, named by that path as it is given: through a link
/// that is moved on to the next release (`current`), it stays the same. Nothing is created.
pub(crate) fn state_folder(manifest: &Path) -> PathBuf {
    PlaceInputs::of_this_process().state_folder(folder_of(&given(manifest)))
}

/// A manifest's file as an absolute path, its links kept.
pub(crate) fn given(manifest: &Path) -> PathBuf {
    let folder = as_given(folder_of(manifest), current_folder().as_deref());
    manifest.file_name().map_or_else(|| folder.clone(), |name| folder.join(name))
}

/// The same for a server that was given the path without links.
pub(crate) fn state_folder_without_links(manifest: &Path) -> PathBuf {
    let folder = folder_of(manifest);
    // A folder that is gone has no canonical path, and nobody will find its state anyway.
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    PlaceInputs::of_this_process().state_folder(&folder)
}

/// The file that locks the work tree `root` where its git directory cannot be written. Nothing is created.
pub(crate) fn work_tree_lock(root: &Path) -> PathBuf {
    let PlaceInputs { user, state_home, .. } = PlaceInputs::of_this_process();
    let name = format!("work-tree-{}", digits(root, 16));
    match state_home {
        Some(home) => home.join("pmesh").join(name),
        None => PathBuf::from(format!("/var/tmp/pmesh-{user}-{name}")),
    }
}

/// The current folder as the shell names it, with the links that led there (`pwd -L`, POSIX.1): `$PWD`, if that is
/// it. None where the folder is gone.
pub(crate) fn current_folder() -> Option<PathBuf> {
    let named = absolute("PWD").filter(|folder| folder.components().eq(lexical(folder).components()));
    named.filter(|folder| is_same(folder, Path::new("."))).or_else(|| env::current_dir().ok())
}

fn folder_of(manifest: &Path) -> &Path {
    match manifest.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// `folder` as an absolute path without `.` and `..`, its links kept, but for those that a `..` climbs out of in
/// another way than its text says.
fn as_given(folder: &Path, current: Option<&Path>) -> PathBuf {
    let absolute = current.map_or_else(|| folder.to_owned(), |current| current.join(folder));
    let given = lexical(&absolute);
    if given.is_absolute() && is_same(&given, folder) {
        return given;
    }
    folder.canonicalize().unwrap_or(given)
}

/// A path without `.` and `..`, as its text says.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(component),
        }
    }
    plain
}

/// Whether both paths lead to one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

/// The path of the API's socket for a server with the state folder `state`, the same whatever way that
/// is named. Nothing is created; the folder that it is in exists once the state folder does.
pub(crate) fn socket_path(state: &Path) -> PathBuf {
    // Without its state folder no server runs, and none will be found.
    let state = state.canonicalize().unwrap_or_else(|_| state.to_owned());
    PlaceInputs::of_this_process().socket_path(&state)
}

/// Whether a socket is at `path` that this user or root has made. In a folder that all can write to,
/// somebody else could have put one there.
pub(crate) fn is_trusted_socket(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.file_type().is_socket() && [0, own_user()].contains(&metadata.uid()))
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What the places depend on.
#[derive(Debug)]
struct PlaceInputs {
    user: u32,
    /// Where state folders are; none if the environment does not tell.
    state_home: Option<PathBuf>,
    /// A folder of the user alone, for sockets.
    runtime: Option<PathBuf>,
}

impl PlaceInputs {
    /// Asks the environment and looks for the runtime folder.
    fn of_this_process() -> Self {
        let user = own_user();
        let runtime = absolute("XDG_RUNTIME_DIR")
            .into_iter()
            .chain([format!("/run/user/{user}").into()])
            .find(|folder| {
                // Who owns the folder can replace a socket in it.
                fs::metadata(folder).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user)
            });
        let default = || match user {
            0 => Some("/var/lib".into()),
            _ => absolute("HOME").map(|home| home.join(".local/state")),
        };
        Self { user, state_home: absolute("XDG_STATE_HOME").or_else(default), runtime }
    }

    fn state_folder(&self, project: &Path) -> PathBuf {
        let name = state_name(project);
        match &self.state_home {
            Some(home) => home.join("pmesh").join(name),
            // One level below a folder of everybody's: what is in between would be somebody else's.
            None => {
                let mut own = OsString::from(format!("pmesh-{}-", self.user));
                own.push(name);
                Path::new("/var/tmp").join(own)
            }
        }
    }

    fn socket_path(&self, state: &Path) -> PathBuf {
        let fits = |path: &Path| path.as_os_str().len() <= MAX_SOCKET_PATH_LEN;
        let in_state = state.join("api.sock");
        if fits(&in_state) {
            return in_state;
        }
        let hash = digits(state, 16);
        let in_runtime = self.runtime.as_ref().map(|folder| folder.join(format!("pmesh-{hash}.sock")));
        in_runtime
            .filter(|path| fits(path))
            .unwrap_or_else(|| PathBuf::from(format!("/tmp/pmesh-{}-{hash}.sock", self.user)))
    }
}

/// The absolute path in an environment variable; any other counts as unset (XDG Base Directory
/// Specification, "Environment variables").
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The name of a state folder: the project folder's name, which a person knows, and enough of a hash
/// to tell folders of one name apart.
fn state_name(project: &Path) -> OsString {
    /// With the hash it is still a file's name, whatever the length of the folder's.
    const MAX_SHOWN_LEN: usize = 100;
    let name = project.file_name().unwrap_or(OsStr::new("root"));
    let shown = match name.to_str() {
        Some(text) => &text.as_bytes()[..text.floor_char_boundary(MAX_SHOWN_LEN)],
        None => &name.as_bytes()[..name.len().min(MAX_SHOWN_LEN)],
    };
    let mut name = OsString::from_vec(shown.to_vec());
    name.push("-");
    name.push(digits(project, 8));
    name
}

/// The first hexadecimal digits of a path's hash.
fn digits(path: &Path, count: usize) -> String {
    blake3::hash(path.as_os_str().as_bytes()).to_hex()[..count].to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{
        PlaceInputs, as_given, is_trusted_socket, socket_path, state_folder, state_folder_without_links,
    };

    fn of_a_user() -> PlaceInputs {
        PlaceInputs {
            user: 1000,
            state_home: Some("/home/ada/.local/state".into()),
            runtime: Some("/run/user/1000".into()),
        }
    }

    #[test]
    fn a_state_folder_is_named_after_the_project_and_its_place() {
        let shop = of_a_user().state_folder(Path::new("/srv/shop"));
        assert_eq!(shop.parent(), Some(Path::new("/home/ada/.local/state/pmesh")));
        let name = shop.file_name().unwrap().to_str().unwrap();
        let (folder, hash) = name.rsplit_once('-').unwrap();
        assert_eq!((folder, hash.len()), ("shop", 8));
        assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(shop, of_a_user().state_folder(Path::new("/home/ada/shop")));
        assert_eq!(shop, of_a_user().state_folder(Path::new("/srv/shop")));
    }

    #[test]
    fn a_project_in_the_root_folder_has_a_name_too() {
        let folder = of_a_user().state_folder(Path::new("/"));
        assert!(folder.file_name().unwrap().to_str().unwrap().starts_with("root-"));
    }

    #[test]
    fn a_user_without_a_home_has_a_folder_that_nobody_else_can_stand_before() {
        let homeless = PlaceInputs { state_home: None, ..of_a_user() };
        let folder = homeless.state_folder(Path::new("/srv/shop"));
        assert_eq!(folder.parent(), Some(Path::new("/var/tmp")));
        assert!(folder.file_name().unwrap().to_str().unwrap().starts_with("pmesh-1000-shop-"));
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let project = PathBuf::from(format!("/srv/x{}", "é".repeat(120)));
        let folder = of_a_user().state_folder(&project);
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert_eq!(name.len(), 99 + 1 + 8);
    }

    #[test]
    fn a_state_folder_is_named_by_the_path_as_it_is_given_with_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let (shop, link) = (folder.path().join("shop"), folder.path().join("link"));
        std::fs::create_dir(&shop).unwrap();
        std::os::unix::fs::symlink(&shop, &link).unwrap();
        let expected = state_folder(&shop.join("pm3.yml"));
        let by_link = state_folder(&link.join("pm3.yml"));
        assert_ne!(by_link, expected);
        assert_eq!(state_folder(&shop.join("../shop/./pm3.yaml")), expected);
        assert_eq!(state_folder(&shop.join("../link/pm3.yml")), by_link);
        assert_eq!(state_folder_without_links(&link.join("pm3.yml")), expected);
        // The link moves on, as at a release: what is named by it stays.
        let next = folder.path().join("next");
        std::fs::create_dir(&next).unwrap();
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&next, &link).unwrap();
        assert_eq!(state_folder(&link.join("pm3.yml")), by_link);
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&shop, &link).unwrap();
        // Also where the path is too long for a socket in the folder itself.
        let long = shop.join("s".repeat(100));
        std::fs::create_dir(&long).unwrap();
        assert_eq!(socket_path(&link.join(long.file_name().unwrap())), socket_path(&long));
    }

    #[test]
    fn a_path_is_taken_from_the_folder_that_the_shell_names_and_a_climb_out_of_a_link_from_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (inner, link) = (root.join("releases/2"), root.join("current"));
        std::fs::create_dir_all(inner.join("web")).unwrap();
        std::os::unix::fs::symlink(&inner, &link).unwrap();
        assert_eq!(as_given(&link.join("web/.."), Some(&root)), link);
        // By its text this would be the root; the system climbs to `releases`.
        assert_eq!(as_given(&link.join(".."), Some(&root)), root.join("releases"));
    }

    #[test]
    fn a_socket_is_in_the_state_folder_as_long_as_its_path_fits() {
        let longest = format!("/{}", "s".repeat(90));
        assert_eq!(
            of_a_user().socket_path(Path::new(&longest)),
            PathBuf::from(format!("{longest}/api.sock"))
        );
        let longer = format!("{longest}s");
        let socket = of_a_user().socket_path(Path::new(&longer));
        assert_eq!(socket.parent(), Some(Path::new("/run/user/1000")));
        assert_ne!(socket, of_a_user().socket_path(Path::new(&format!("{longer}s"))));
    }

    #[test]
    fn without_a_runtime_folder_of_a_fitting_length_a_socket_is_in_tmp_under_the_users_number() {
        let state = PathBuf::from(format!("/{}", "s".repeat(100)));
        for runtime in [None, Some(PathBuf::from(format!("/{}", "r".repeat(80))))] {
            let socket = PlaceInputs { runtime, ..of_a_user() }.socket_path(&state);
            assert!(socket.to_str().unwrap().starts_with("/tmp/pmesh-1000-"), "{}", socket.display());
        }
    }

    #[test]
    fn only_a_socket_is_trusted_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("api.sock");
        assert!(!is_trusted_socket(&socket));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(is_trusted_socket(&socket));
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        assert!(!is_trusted_socket(&file) && !is_trusted_socket(&link));
    }
}
