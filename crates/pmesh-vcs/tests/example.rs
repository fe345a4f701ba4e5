//! `examples/heads.rs` as somebody runs it.

use std::{env, process::Command};

#[test]
fn the_example_tells_the_head_of_a_real_repository() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pm3.yml"), "services: {}\n").unwrap();
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let output =
            Command::new("git").current_dir(folder.path()).args(identity).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "first"]);
    // Cargo builds examples beside the tests.
    let example = env::current_exe().unwrap().with_file_name("").join("../examples/heads");
    let output = Command::new(example).arg(folder.path().join("pm3.yml")).output().unwrap();
    let head = git(&["rev-parse", "HEAD"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("head {}\nremote none\n", head.trim()));
}
