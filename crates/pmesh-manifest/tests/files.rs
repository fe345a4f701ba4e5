//! Finding and reading the file.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use pmesh_manifest::{ReadError, Unsupported, find, read};

const GOOD: &str = "services: {a: !App {run: x}}\n";

#[test]
fn a_folder_has_one_manifest_under_either_name() {
    for name in ["pm3.yml", "pm3.yaml"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::write(&file, GOOD).unwrap();
        assert_eq!(find(folder.path()).unwrap(), file);
        assert_eq!(find(&file).unwrap(), file);
    }
}

#[test]
fn two_manifests_or_none_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(find(folder.path()), Err(ReadError::NotFound(at)) if at == folder.path()));
    fs::write(folder.path().join("pm3.yml"), GOOD).unwrap();
    fs::write(folder.path().join("pm3.yaml"), GOOD).unwrap();
    let error = find(folder.path()).unwrap_err();
    assert!(matches!(error, ReadError::Ambiguous(_)));
    assert!(error.to_string().starts_with("both pm3.yml and pm3.yaml in "));
}

#[test]
fn a_path_that_is_not_there_is_named() {
    let error = find(Path::new("/nonexistent/x")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nonexistent/x");
    assert!(matches!(
        read(Path::new("/nonexistent/pm3.yml"), Unsupported::Refuse),
        Err(ReadError::Io { .. })
    ));
}

#[test]
fn the_folder_of_the_file_is_the_root_with_links_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().canonicalize().unwrap().join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("pm3.yml"), GOOD).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let manifest = read(&link.join("pm3.yml"), Unsupported::Refuse).unwrap();
    assert_eq!(manifest.root, real);
}

#[test]
fn a_mistake_shows_the_file_as_it_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pm3.yml");
    fs::write(&file, "x: 1\n").unwrap();
    let error = read(&file, Unsupported::Refuse).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}:1:1: unknown key \"x\"", file.display())));
    assert!(matches!(error, ReadError::Invalid(_)));
}

#[test]
fn a_file_above_1_mib_is_not_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pm3.yml");
    // A hole of a terabyte: reading it whole would not end.
    fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    let error = read(&file, Unsupported::Refuse).unwrap_err();
    assert!(error.to_string().ends_with("the file is larger than 1048576 bytes"));
}

/// Manifests that are none, each in a folder of its own.
fn no_files(folder: &Path) -> [(PathBuf, &'static str); 4] {
    let [pipe, socket, device, inner] =
        ["pipe", "socket", "device", "folder"].map(|name| folder.join(name).join("pm3.yml"));
    for file in [&pipe, &socket, &device, &inner] {
        fs::create_dir(file.parent().unwrap()).unwrap();
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    // It would be read up to the limit, and a terminal for ever.
    std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
    fs::create_dir(&inner).unwrap();
    [(pipe, "a pipe"), (socket, "a socket"), (device, "a device"), (inner, "a folder")]
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_whoever_names_it() {
    let folder = tempfile::tempdir().unwrap();
    for (file, expected) in no_files(folder.path()) {
        let is_refused = |result: Result<PathBuf, ReadError>| match result {
            Err(ReadError::NotAFile { file: found, what }) => found == file && what == expected,
            other => panic!("{}: {other:?}", file.display()),
        };
        assert!(is_refused(find(file.parent().unwrap())));
        // A folder may have a manifest inside: that is what `find` is for.
        if expected != "a folder" {
            assert!(is_refused(find(&file)));
        }
        match (read(&file, Unsupported::Refuse), expected) {
            // Only what can be opened can be asked (open(2), ENXIO).
            (Err(ReadError::Io { .. }), "a socket") => {}
            (read, _) => assert!(is_refused(read.map(|_| file.clone()))),
        }
    }
}

#[test]
fn a_link_out_of_the_project_is_refused_and_what_it_leads_to_is_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
    fs::create_dir_all(at("app/sub")).unwrap();
    fs::write(at("secret"), "root:$6$hunter2:19000\n").unwrap();
    std::os::unix::fs::symlink("../secret", at("app/pm3.yml")).unwrap();
    let error = read(&at("app/pm3.yml"), Unsupported::Refuse).unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(!said.contains("hunter2") && !said.contains("root:"), "{said}");
    assert!(
        matches!(error, ReadError::Outside { target, top, .. } if target == at("secret") && top == at("app"))
    );
    // Further down it is the same: without a repository the manifest's own folder is the project.
    std::os::unix::fs::symlink("../../secret", at("app/sub/pm3.yml")).unwrap();
    assert!(matches!(read(&at("app/sub/pm3.yml"), Unsupported::Refuse), Err(ReadError::Outside { .. })));
}

#[test]
fn a_link_within_the_repository_is_followed_and_a_strangers_repository_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
    fs::create_dir_all(at("app/deploy")).unwrap();
    fs::create_dir_all(at(".git")).unwrap();
    fs::write(at("real.yml"), GOOD).unwrap();
    std::os::unix::fs::symlink("../../real.yml", at("app/deploy/pm3.yml")).unwrap();
    let manifest = read(&at("app/deploy/pm3.yml"), Unsupported::Refuse).unwrap();
    assert_eq!(manifest.root, at("app/deploy"));
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
        eprintln!("skipped: only root can give a folder away");
        return;
    }
    std::os::unix::fs::chown(at("app/deploy"), Some(65534), None).unwrap();
    let error = read(&at("app/deploy/pm3.yml"), Unsupported::Refuse).unwrap_err();
    assert!(matches!(error, ReadError::Outside { .. }), "{error}");
}
