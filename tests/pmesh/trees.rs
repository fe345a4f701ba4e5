//! Processes that get away from their instance.

use std::fs;

use crate::harness::{Project, Server, lives, signal, wait_for, web_manifest};

/// A project with a job that leaves two processes in a session of their own whose parent has ended, the second without an
/// environment.
fn project() -> Project {
    let job = "  job: !App\n    root: .\n    background: true\n    run: sh job.sh\n";
    let project = Project::new(&web_manifest(1, job));
    let script = "setsid sh -c 'sleep 1031 & echo $! > away'\nsetsid sh -c 'env -i sleep 1032 & echo $! > bare'\necho > ready\nexec sleep 1033\n";
    fs::write(project.work.join("job.sh"), script).unwrap();
    project
}

fn pid(project: &Project, name: &str) -> u32 {
    let file = project.work.join(name);
    wait_for("it has told its pid", || fs::read_to_string(&file).is_ok_and(|pid| pid.ends_with('\n')));
    fs::read_to_string(&file).unwrap().trim().parse().unwrap()
}

/// Those of the two that must end with their instance: all in control groups.
fn owned(server: &Server, project: &Project) -> Vec<u32> {
    wait_for("the job has started both", || project.work.join("ready").exists());
    let pids = ["away", "bare"].map(|name| pid(project, name));
    match server.get("/service/metrics/job")["containment"].as_str().unwrap() {
        "cgroup" => pids.to_vec(),
        "mark" => {
            signal(pids[1], "KILL");
            vec![pids[0]]
        }
        other => panic!("{other}"),
    }
}

#[test]
fn what_gets_away_from_its_instance_ends_with_it_at_a_stop_a_restart_a_crash_and_the_servers_end() {
    let project = project();
    let server = Server::serve(&project);
    for end in ["stop", "restart", "crash", "end"] {
        let owned = owned(&server, &project);
        assert!(owned.iter().all(|&pid| lives(pid)), "{end}");
        fs::remove_file(project.work.join("ready")).unwrap();
        match end {
            "stop" => {
                server.post("/service/stop/job");
                assert!(!owned.iter().any(|&pid| lives(pid)), "{end}");
                server.post("/service/restart/job");
            }
            "restart" => drop(server.post("/service/restart/job")),
            "crash" => {
                let leader = server.get("/service/metrics/job")["processes"][0]["pid"].as_u64().unwrap();
                signal(u32::try_from(leader).unwrap(), "KILL");
            }
            _ => {
                signal(server.pid(), "TERM");
                wait_for("the server has ended", || !lives(server.pid()));
            }
        }
        wait_for("nothing is left of it", || !owned.iter().any(|&pid| lives(pid)));
    }
}

#[test]
fn what_had_got_away_from_a_killed_server_ends_before_the_next_one_starts_anything() {
    let project = project();
    let server = Server::serve(&project);
    let owned = owned(&server, &project);
    signal(server.pid(), "KILL");
    drop(server);
    assert!(owned.iter().all(|&pid| lives(pid)));
    let server = Server::serve(&project);
    assert!(!owned.iter().any(|&pid| lives(pid)), "{}", server.log());
}

#[test]
fn a_daemon_that_a_build_leaves_behind_ends_with_the_build() {
    let job = "  job: !App\n    root: .\n    background: true\n    build: sh build.sh\n    run: sleep 1033\n";
    let project = Project::new(&web_manifest(1, job));
    let script = "setsid sh -c 'sleep 1031 & echo $! > away'\necho > \"$PM3_OUT/product\"\n";
    fs::write(project.work.join("build.sh"), script).unwrap();
    let server = Server::serve(&project);
    assert_eq!(server.get("/service/health/job")["status"], "OK");
    assert!(!lives(pid(&project, "away")));
}

#[test]
fn a_hundred_services_with_what_got_away_from_them_end_with_the_server() {
    let job =
        |number| format!("  job{number}: !App\n    root: .\n    background: true\n    run: sh job.sh\n");
    let jobs = (0..100).map(job).collect::<Vec<String>>().concat();
    let project = Project::new(&web_manifest(1, &jobs));
    let script = "setsid sh -c 'sleep 1031 & echo $! >> pids'\necho $$ >> pids\nexec sleep 1033\n";
    fs::write(project.work.join("job.sh"), script).unwrap();
    let server = Server::serve(&project);
    let pids = || -> Vec<u32> {
        let text = fs::read_to_string(project.work.join("pids")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    wait_for("all have told their pids", || pids().len() == 200);
    assert_eq!(server.terminate(), Some(0));
    let living: Vec<u32> = pids().into_iter().filter(|&pid| lives(pid)).collect();
    assert_eq!(living, [] as [u32; 0]);
}
