//! Services that start after others and stop before them.

use std::fs;

use crate::harness::{Project, Server, wait_for};

/// A job `db` that fails until there is a file, and one that starts after it; each notes its start and its end.
fn project() -> Project {
    let manifest = "services:\n  web: !App\n    root: .\n    background: true\n    after: db\n    run: sh web.sh\n  db: !App\n    root: .\n    background: true\n    run: sh db.sh\n";
    let project = Project::new(manifest);
    let noted = |name: &str, before: &str| {
        format!(
            "{before}echo {name} starts >> told\ntrap 'echo {name} ends >> told; exit' TERM\nwhile :; do sleep 0.05; done\n"
        )
    };
    fs::write(project.work.join("web.sh"), noted("web", "")).unwrap();
    fs::write(project.work.join("db.sh"), noted("db", "[ -e there ] || exit 1\n")).unwrap();
    project
}

#[test]
fn a_service_waits_for_the_one_it_starts_after_and_ends_before_it() {
    let project = project();
    let told = || fs::read_to_string(project.work.join("told")).unwrap_or_default();
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    let health = |name: &str| server.get(&format!("/service/health/{name}"));
    wait_for("it waits", || health("web")["err"] == "it starts after `db`, which is not ready");
    assert_eq!((&health("web")["status"], told().as_str()), (&"Down".into(), ""));
    fs::write(project.work.join("there"), "").unwrap();
    wait_for("both run", || health("web")["status"] == "OK" && health("db")["status"] == "OK");
    assert_eq!(told(), "db starts\nweb starts\n");
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(told(), "db starts\nweb starts\nweb ends\ndb ends\n");
}
