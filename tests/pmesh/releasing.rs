//! Migrations: commands that run once for a commit and a build.

use std::fs;

use crate::harness::{Project, Server};

const MANIFEST: &str = "services:
  job: !App
    root: .
    background: true
    build: sh build.sh
    release: sh migrate.sh .run/product
    run: sleep 1033
";
/// Writes a line with the commit and what the build has made.
const MIGRATE: &str = "test ! -e fail || { echo no such table; exit 3; }
echo \"$PM3_COMMIT $(cat \"$1\") ${PORT-none}\" >> told
";

fn project() -> Project {
    let files = [
        ("pm3.yml", MANIFEST),
        ("build.sh", "echo built > \"$PM3_OUT/product\"\n"),
        ("migrate.sh", MIGRATE),
        (".gitignore", ".build*\n.run\ntold\nfail\n"),
    ];
    Project::of(&files, |_| ())
}

#[test]
fn migrations_run_before_what_needs_them_once_for_a_commit_and_where_they_fail_the_old_serves_on() {
    let project = project();
    let told = || fs::read_to_string(project.work.join("told")).unwrap_or_default();
    let server = Server::serve(&project);
    let first = format!("{} built none\n", project.head());
    assert_eq!(told(), first);
    server.post("/service/restart");
    server.post("/reload");
    assert_eq!(told(), first, "neither a restart nor a reload of the same commit");
    assert_eq!(server.terminate(), Some(0));
    let server = Server::serve(&project);
    assert_eq!(told(), first, "nor a new start");

    let before = server.pids("job");
    fs::write(project.work.join("fail"), "").unwrap();
    project.push(&[("a", "2")]);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!((status, &answer["code"]), (500, &"rollout_failed".into()), "{answer}");
    let message = answer["error"].as_str().unwrap();
    assert!(
        message.contains("release step `sh migrate.sh .run/product` ended with exit code 3"),
        "{message}"
    );
    assert_eq!((server.pids("job"), told()), (before, first.clone()));
    fs::remove_file(project.work.join("fail")).unwrap();
    server.post("/repo/update");
    assert_eq!(told(), format!("{first}{} built none\n", project.head()));
}
