//! Builds in place, as most people's are: what is served and started is made from what is checked out, also
//! after a revert and after an update that failed.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::harness::{Connection, Load, Project, Server, lives, signal, wait_for, web_manifest};

/// As `npm run build`: from the sources to `dist/`, which git ignores; what is run is there. It fills its own folder too.
const BUILD: &str = "    build: sh -c 'mkdir -p dist && cp app.py version.txt dist/ && cp version.txt .build/ && echo $PM3_BUILD >> ../../builds'\n";

/// One service that is built in place and runs from there.
fn project(instances: u32, more: &str) -> Project {
    let manifest = web_manifest(instances, &format!("{BUILD}{more}"));
    let project =
        Project::new(&manifest.replace("run: python3 app.py", "run: sh -c 'cd dist && exec python3 app.py'"));
    project.push(&[(".gitignore", ".build*\n.run\ndist/\nnode_modules/\n")]);
    crate::harness::git(&project.work, &["pull", "-q"]);
    project
}

/// How often it was built.
fn builds(project: &Project) -> usize {
    fs::read_to_string(project.folder.path().join("builds")).map_or(0, |builds| builds.lines().count())
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn serves(server: &Server, version: &str) -> bool {
    server.site("/").1.contains(&format!("\"version\": \"{version}\""))
}

#[test]
fn a_revert_of_a_revision_that_was_built_in_place_is_served() {
    let project = project(1, "");
    let server = Server::serve(&project);
    assert!(serves(&server, "v1"));
    for (version, count) in [("v2", 2), ("v1", 3), ("v2", 4)] {
        project.push(&[("web/version.txt", &format!("{version}\n"))]);
        server.post("/repo/update");
        assert!(serves(&server, version), "{}", server.site("/").1);
        assert_eq!(builds(&project), count);
        server.post("/service/restart/web");
        assert!(serves(&server, version));
        assert_eq!(builds(&project), count, "what the folder holds is not built again");
    }
    assert_eq!(read(&project.work.join("web/dist/version.txt")), "v2\n");
    assert_eq!(read(&project.work.join("web/.run/version.txt")), "v2\n");
}

#[test]
fn a_restart_without_what_was_built_says_how_it_is_built_again() {
    let project = project(1, "");
    let server = Server::serve(&project);
    fs::remove_dir_all(project.work.join("web/dist")).unwrap();
    let (status, answer) = server.call("POST", "/service/restart/web", &[], "");
    assert_eq!((status, &answer["code"]), (500, &"rollout_failed".into()), "{answer}");
    let said = answer["error"].as_str().unwrap();
    let remedy = "; if files are missing that its build makes, `pmesh-server restart --invalidate web` makes them again";
    assert!(said.contains("dist") && said.ends_with(remedy), "{said}");
    assert_eq!(server.post("/service/restart/web?invalidate")["count"], 1);
    assert!(serves(&server, "v1"));
}

/// Its steps, with the services that they are of.
fn steps(server: &Server, operation: &Value) -> Vec<String> {
    let steps = server.get(&format!("/operation/{}", operation.as_str().unwrap()))["steps"].clone();
    let word = |step: &Value| {
        let service = step["service"].as_str().map_or_else(String::new, |service| format!(" {service}"));
        format!("{}{service} {}", step["name"].as_str().unwrap(), step["state"].as_str().unwrap())
    };
    steps.as_array().unwrap().iter().map(word).collect()
}

/// The only instance ends.
fn crash(server: &Server) -> u32 {
    let pid = server.pids("web")[0];
    signal(pid, "KILL");
    wait_for("it is gone", || !lives(pid));
    pid
}

/// The only instance ends, and another one comes in its place.
fn crash_and_come_back(server: &Server) {
    let pid = crash(server);
    wait_for("another one", || server.pids("web").first().is_some_and(|&new| new != pid));
    server.settle();
}

#[test]
fn after_an_update_that_failed_the_old_revision_is_built_again_before_anything_is_started_from_it() {
    let project = project(1, "");
    let server = Server::serve(&project);
    let (before, pids) = (server.get("/service"), server.pids("web"));
    project.push(&[("web/version.txt", "broken\n")]);
    let load = Load::on(&server);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    load.ends_without_a_failure();
    assert_eq!(
        (status, &answer["rolled_back"], &answer["stuck"]),
        (500, &json!(true), &Value::Null),
        "{answer}"
    );
    assert_eq!((server.get("/service"), server.pids("web")), (before, pids), "the very same processes");
    assert_eq!((read(&project.work.join("web/dist/version.txt")).as_str(), builds(&project)), ("v1\n", 3));
    assert_eq!(read(&project.work.join("web/.run/version.txt")), "v1\n");
    let steps = steps(&server, &answer["operation"]);
    let back = steps.iter().position(|step| step == "roll_back web done").unwrap();
    assert_eq!(steps[back..], ["roll_back web done", "roll_back done", "build web done"]);

    crash_and_come_back(&server);
    assert!(serves(&server, "v1"), "an old instance that dies comes back with what it was");
    server.post("/service/restart/web");
    assert!(serves(&server, "v1"));
    assert_eq!(builds(&project), 3, "it is there, and is not built again");
}

#[test]
fn after_a_build_that_failed_half_way_the_old_revision_is_built_again() {
    let project = project(1, "");
    let server = Server::serve(&project);
    let half = BUILD.replace("cp app.py version.txt dist/", "rm -r dist && exit 3");
    let manifest = read(&project.work.join("pm3.yml")).replace(BUILD, &half);
    project.push(&[("pm3.yml", &manifest), ("web/version.txt", "v2\n")]);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!((status, &answer["rolled_back"]), (500, &json!(true)), "{answer}");
    assert_eq!(read(&project.work.join("web/dist/version.txt")), "v1\n");
    crash_and_come_back(&server);
    assert!(serves(&server, "v1"));
}

/// A project whose registry goes down behind the build of a revision that cannot start, and a server that was updated to
/// that.
fn stuck() -> (Project, Server, Value) {
    let build = BUILD.replace("mkdir", "test ! -e ../../down && mkdir").replace(
        "../../builds'",
        "../../builds && if grep -q broken version.txt; then touch ../../down; fi'",
    );
    let manifest =
        web_manifest(1, &build).replace("run: python3 app.py", "run: sh -c 'cd dist && exec python3 app.py'");
    let project = Project::new(&manifest);
    project.push(&[(".gitignore", ".build*\n.run\ndist/\n")]);
    crate::harness::git(&project.work, &["pull", "-q"]);
    let server = Server::serve(&project);
    project.push(&[("web/version.txt", "broken\n")]);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!(
        (status, &answer["code"], &answer["rolled_back"]),
        (500, &json!("rollout_failed"), &json!(false)),
        "{answer}"
    );
    (project, server, answer)
}

#[test]
fn what_cannot_be_built_again_is_stuck_serves_on_is_tried_again_and_ends_well() {
    let (project, server, answer) = stuck();
    let reason = answer["stuck"]["web"].as_str().unwrap();
    assert!(reason.contains("build step") && reason.contains("exit code 1"), "{answer}");
    assert!(answer["services"]["web"].as_str().unwrap().contains("frobnicate"), "{answer}");
    assert!(steps(&server, &answer["operation"]).contains(&"build web failed".to_owned()));
    assert!(serves(&server, "v1"), "what lives serves on");
    let health = server.get("/service/health/web");
    assert_eq!((&health["status"], &health["healthy"]), (&json!("Degraded"), &json!(1)), "{health}");
    assert!(health["reason"].as_str().unwrap().starts_with("it is not built: build step"), "{health}");
    assert!(health["next_try"].is_string(), "{health}");

    crash(&server);
    wait_for("it is down", || server.get("/service/health/web")["status"] == "Down");
    assert_eq!(server.pids("web"), [0; 0], "nothing is started from the other revision's files");
    fs::remove_file(project.folder.path().join("down")).unwrap();
    server.settle();
    assert!(serves(&server, "v1"));
    assert_eq!(read(&project.work.join("web/dist/version.txt")), "v1\n");
}

#[test]
fn a_restart_of_what_is_stuck_does_not_wait_for_its_next_try() {
    let (project, server, _) = stuck();
    assert_eq!(server.call("POST", "/service/restart/web", &[], "").0, 500, "the registry is still down");
    assert_eq!(server.get("/service/health/web")["status"], "Degraded");
    assert!(serves(&server, "v1"));
    fs::remove_file(project.folder.path().join("down")).unwrap();
    server.post("/service/restart/web");
    assert_eq!(server.get("/service/health/web")["status"], "OK");
    assert!(serves(&server, "v1"));
}

/// It reads what it is only when it may go on, and says so.
const SLOW: &str = r#"
import os, time
while not os.path.exists("../../go"): time.sleep(0.01)
exec(open("app.py").read().replace("s.serve_forever()", "open('../../seen', 'a').write(VERSION + chr(10)); s.serve_forever()"))
"#;

#[test]
fn an_instance_that_was_starting_while_the_files_changed_does_not_go_on_with_those_of_a_revision_that_failed()
{
    let manifest = web_manifest(2, "").replace("run: python3 app.py", "run: python3 slow.py");
    let project = Project::new(&manifest);
    project.push(&[("web/slow.py", SLOW)]);
    crate::harness::git(&project.work, &["pull", "-q"]);
    let (go, seen) = (project.folder.path().join("go"), project.folder.path().join("seen"));
    fs::write(&go, "").unwrap();
    let server = Server::serve(&project);
    fs::remove_file(&go).unwrap();
    let (pids, log) = (server.pids("web"), server.log().matches("it starts").count());
    signal(pids[0], "KILL");
    wait_for("it is started again", || server.log().matches("it starts").count() > log);
    // The build lets it go on, and waits until it has read the new revision.
    let build =
        "    build: sh -c 'touch ../../go; while ! grep -q v2 ../../seen; do sleep 0.01; done; exit 1'\n";
    let manifest = manifest.replace("server:\n", &format!("{build}server:\n"));
    project.push(&[("pm3.yml", &manifest), ("web/version.txt", "v2\n")]);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!((status, &answer["rolled_back"]), (500, &json!(true)), "{answer}");
    assert_eq!(read(&seen), "v1\nv1\nv2\n");
    wait_for("it is started anew", || read(&seen) == "v1\nv1\nv2\nv1\n");
    server.settle();
    assert!((0..10).all(|_| serves(&server, "v1")));
    assert!(server.pids("web").contains(&pids[1]), "the other one was left alone");
}

#[test]
fn files_through_an_apps_run_show_new_ones_at_the_switch_and_others_with_the_check_out() {
    let build = "    build: sh -c 'mkdir .build/public && cp version.txt .build/public/'\n";
    let manifest = web_manifest(1, build).replace("run: python3 app.py", "run: python3 slow.py").replace(
        "server:\n",
        "  pages: !FS web/.run/public\n  sources: !FS web\nserver:\n  pages.local: {router: [pages]}\n  sources.local: {router: [sources]}\n",
    );
    let project = Project::new(&manifest);
    project.push(&[("web/slow.py", SLOW)]);
    crate::harness::git(&project.work, &["pull", "-q"]);
    let (go, run) = (project.folder.path().join("go"), project.work.join("web/.run"));
    fs::write(&go, "").unwrap();
    let server = Server::serve(&project);
    let shows =
        |host: &str| Connection::to(&server.front).send("GET", "/version.txt", host, &[], "").unwrap();
    assert_eq!(shows("pages.local"), (200, "v1\n".to_owned()));

    // The new instance starts, and the link has moved for it; nothing is switched yet.
    let begin = |version: &str| {
        fs::remove_file(&go).unwrap();
        let before = fs::read_link(&run).unwrap();
        project.push(&[("web/version.txt", version)]);
        let operation = server.call("POST", "/repo/update?wait=false", &[], "").1["operation"].clone();
        wait_for("the link has moved", || fs::read_link(&run).unwrap() != before);
        operation
    };
    let end = |operation: &Value| {
        fs::write(&go, "").unwrap();
        server.get(&format!("/operation/{}?wait=30s", operation.as_str().unwrap()))["state"].clone()
    };
    let operation = begin("broken\n");
    assert_eq!((shows("pages.local").1.as_str(), shows("sources.local").1.as_str()), ("v1\n", "broken\n"));
    assert_eq!(end(&operation), "failed");
    assert_eq!((shows("pages.local").1.as_str(), shows("sources.local").1.as_str()), ("v1\n", "v1\n"));
    let operation = begin("v2\n");
    assert_eq!(shows("pages.local").1, "v1\n");
    assert_eq!(end(&operation), "done");
    assert_eq!(shows("pages.local"), (200, "v2\n".to_owned()));

    fs::write(project.work.join("web/version.txt"), "v3\n").unwrap();
    server.post("/service/restart/web");
    assert_eq!(shows("pages.local"), (200, "v3\n".to_owned()), "a restart switches them at its end");
}
