//! The state folder as somebody may have left it.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    process::Output,
};

use crate::harness::{Project, Server, pmesh};

/// Runs a server that is expected to refuse its state folder.
fn refused(project: &Project) -> Output {
    let mut command = pmesh();
    command.arg("run").arg(&project.work).args(["--http", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
    command.arg("--state-dir").arg(project.folder.path().join("state")).output().unwrap()
}

#[test]
fn a_state_folder_that_was_open_to_all_is_mended_and_what_was_planted_in_it_is_refused() {
    let project = Project::web(1);
    let state = project.folder.path().join("state");
    let logs = state.join("logs");
    fs::create_dir_all(&logs).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let victim = project.folder.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    symlink(&victim, logs.join("web.log")).unwrap();

    let output = refused(&project);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("logs/web.log in the state folder is a link") && text.contains("remove it"),
        "{text}"
    );

    fs::remove_file(logs.join("web.log")).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let server = Server::serve(&project);
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
    assert!(server.log().contains("had mode 0777"), "{}", server.log());
    assert!(fs::read_to_string(logs.join("web.log")).unwrap().contains("listening"));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
}
