//! Builds in place, as most people's are: what is served and started is made from what is checked out, also
//! after a revert and after an update that failed.

use std::{fs, path::Path};

use crate::harness::{Project, Server, web_manifest};

/// As `npm run build`: from the sources to `dist/`, which git ignores; what is run is there.
const BUILD: &str =
    "    build: sh -c 'mkdir -p dist && cp app.py version.txt dist/ && echo $PM3_BUILD >> ../../builds'\n";

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
}
