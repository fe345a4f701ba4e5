//! Services that end by themselves.

use std::fs;

use crate::harness::{Project, Server, wait_for};

#[test]
fn a_job_that_is_done_is_ok_and_one_that_fails_for_good_is_down_and_neither_runs_again() {
    let job = |name: &str, policy: &str, script: &str| {
        format!(
            "  {name}: !App\n    root: .\n    background: true\n    restart: {policy}\n    run: sh -c 'echo {name} >> told; {script}'\n"
        )
    };
    let manifest = [
        "services:\n".to_owned(),
        job("once", "never", "exit 0"),
        job("broken", "never", "sleep 1.2; exit 3"),
        job("retried", "on-failure", "test -e there"),
    ];
    let project = Project::of(&[("pm3.yml", &manifest.concat()), (".gitignore", "told\nthere\n")], |_| ());
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    let health = |name: &str| server.get(&format!("/service/health/{name}"));
    let runs = |name: &str| {
        let told = fs::read_to_string(project.work.join("told")).unwrap_or_default();
        told.lines().filter(|line| *line == name).count()
    };
    wait_for("it is done", || health("once")["reason"] == "done");
    assert_eq!((&health("once")["status"], &health("once")["total"]), (&"OK".into(), &0.into()));
    wait_for("it has failed", || health("broken")["status"] == "Down");
    let broken = health("broken");
    assert!(broken["reason"].as_str().unwrap().contains("it ended with exit code 3 after "), "{broken}");
    assert!(broken.get("next_try").is_none(), "{broken}");
    wait_for("it is tried again", || runs("retried") > 2);
    fs::write(project.work.join("there"), "").unwrap();
    wait_for("it is done", || health("retried")["reason"] == "done");
    assert_eq!((runs("once"), runs("broken")), (1, 1));
    server.post("/service/restart/once");
    assert_eq!(runs("once"), 2);
    assert_eq!(server.terminate(), Some(0));
}
