//! Services that end by themselves.

use std::fs;

use serde_json::json;

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

#[test]
fn a_job_is_started_at_its_times_and_by_hand_and_tells_its_runs() {
    let manifest = "services:
  report: !App
    root: .
    schedule: every 1h
    timeout: 1m
    run: sh -c 'echo run >> told; while test ! -e end; do sleep 0.05; done; exit 3'
  often: !App
    root: .
    schedule: every 1s
    run: sh -c 'echo often >> told'
  yearly: !App
    root: .
    schedule: 0 0 29 2 *
    env: {TZ: Europe/Berlin}
    run: 'true'
";
    let project = Project::of(&[("pm3.yml", manifest), (".gitignore", "told\nend\n")], |_| ());
    let server = Server::serve(&project);
    let metrics = |name: &str| server.get(&format!("/service/metrics/{name}"));
    let report = metrics("report");
    assert_eq!((&report["status"], &report["total"], &report["runs"]), (&"OK".into(), &0.into(), &json!([])));
    assert_eq!(report["reason"], "it waits for its time");
    assert!(
        metrics("yearly")["next_try"].as_str().unwrap().contains("-02-28T23:00:0"),
        "{}",
        metrics("yearly")
    );

    let begun = server.post("/service/run/report");
    let operation = server.get(&format!("/operation/{}", begun["operation"].as_str().unwrap()));
    assert_eq!((&operation["kind"], &operation["state"]), (&"run".into(), &"done".into()));
    let (status, refused) = server.call("POST", "/service/run/report", &[], "");
    assert_eq!((status, &refused["code"]), (409, &"already_running".into()));
    assert_eq!(server.call("GET", "/service/run/report", &[], "").0, 405);
    assert_eq!(server.call("POST", "/service/run/nobody", &[], "").1["code"], "service_not_found");
    fs::write(project.work.join("end"), "").unwrap();
    wait_for("it has failed", || metrics("report")["status"] == "Degraded");
    let report = metrics("report");
    assert_eq!(
        (&report["runs"][0]["exit"], report["runs"].as_array().unwrap().len()),
        (&"exit code 3".into(), 1)
    );
    assert!(report["reason"].as_str().unwrap().contains("it ended with exit code 3 after "), "{report}");
    wait_for("it runs again and again", || {
        fs::read_to_string(project.work.join("told")).unwrap().matches("often").count() > 2
    });
    server.post("/service/stop/report");
    assert_eq!(server.call("POST", "/service/run/report", &[], "").1["code"], "not_runnable");
    assert_eq!(server.terminate(), Some(0));
}
