//! Operations that somebody cancels.

use std::fs;

use crate::harness::{Project, Server, pmesh, wait_for};

#[test]
fn an_update_that_hangs_in_a_build_is_cancelled_and_everything_is_as_it_was() {
    let manifest = "services:\n  job: !App\n    root: .\n    background: true\n    build: sh build.sh\n    run: sleep 1033\n";
    let quick = "echo > \"$PM3_OUT/product\"\n";
    let files = [("pm3.yml", manifest), ("build.sh", quick), (".gitignore", ".build*\n.run\npid\n")];
    let project = Project::of(&files, |_| ());
    let server = Server::serve(&project);
    let (head, pids) = (project.head(), server.pids("job"));
    project.push(&[("build.sh", "echo $$ > pid\nexec sleep 1034\n")]);
    let (status, begun) = server.call("POST", "/repo/update?wait=false", &[], "");
    assert_eq!(status, 202, "{begun}");
    let id = begun["operation"].as_str().unwrap().to_owned();
    wait_for("it builds", || {
        fs::read_to_string(project.work.join("pid")).is_ok_and(|pid| pid.ends_with('\n'))
    });
    let output = pmesh().args(["cancel", &id, "--url", &format!("http://{}", server.api)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let operation = server.get(&format!("/operation/{id}?wait=true"));
    assert_eq!(
        (&operation["state"], &operation["error"]["code"]),
        (&"cancelled".into(), &"cancelled".into())
    );
    assert_eq!((project.head(), server.pids("job")), (head, pids));
    assert_eq!(server.get("/service/health/job")["status"], "OK");
    let (status, refused) = server.call("POST", &format!("/operation/{id}/cancel"), &[], "");
    assert_eq!((status, &refused["code"]), (409, &"operation_ended".into()));
    assert_eq!(server.call("POST", "/operation/1/cancel", &[], "").1["code"], "operation_not_found");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn twenty_restarts_of_twenty_services_run_side_by_side() {
    // Each old instance ends when there is a file.
    let script = "trap 'while ! test -e go; do sleep 0.1; done; exit' TERM\necho > begun-$PM3_SERVICE\nwhile :; do sleep 0.1; done\n";
    let job = |number| {
        format!(
            "  job{number}: !App\n    root: .\n    background: true\n    stop_timeout: 10m\n    run: sh job.sh\n"
        )
    };
    let jobs: String = (0..20).map(job).collect();
    let project = Project::of(
        &[("pm3.yml", &format!("services:\n{jobs}")), ("job.sh", script), (".gitignore", "begun*\ngo\n")],
        |_| (),
    );
    let server = Server::serve(&project);
    let has_begun = |number| project.work.join(format!("begun-job{number}")).exists();
    wait_for("each listens to signals", || (0..20).all(has_begun));
    let pid = |number| server.get(&format!("/service/metrics/job{number}"))["processes"][0]["pid"].clone();
    let pids = || (0..20).map(pid).collect::<Vec<_>>();
    let before = pids();
    let ids: Vec<String> = (0..20)
        .map(|number| {
            let (_, begun) =
                server.call("POST", &format!("/service/restart/job{number}?wait=false"), &[], "");
            begun["operation"].as_str().unwrap().to_owned()
        })
        .collect();
    let state = |id: &String| server.get(&format!("/operation/{id}"))["state"].as_str().unwrap().to_owned();
    wait_for("all of them run", || ids.iter().all(|id| state(id) == "running"));
    fs::write(project.work.join("go"), "").unwrap();
    for id in ids {
        let operation = server.get(&format!("/operation/{id}?wait=true"));
        assert_eq!((&operation["state"], &operation["result"]["count"]), (&"done".into(), &1.into()));
    }
    let after = pids();
    assert!(after.len() == 20 && !after.iter().any(|pid| before.contains(pid)), "{after:?}");
    assert_eq!(server.terminate(), Some(0));
}
