//! The curl examples of docs/api.md, run in their order against a server.

use std::{fs, path::Path, process::Command};

use crate::harness::{Project, Server, lives, wait_for, web_manifest};

#[test]
fn every_curl_example_of_the_api_document_works() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let document = fs::read_to_string(path).unwrap();
    let examples: Vec<&str> = document
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        // Whether a cancellation is in time is nothing that an example could say; there are tests of it.
        .filter(|example| example.contains("$API") && !example.contains("/cancel"))
        .collect();
    assert!(examples.len() >= 15, "only {} examples", examples.len());
    let report = "  report: !App\n    root: .\n    schedule: every 1h\n    run: 'true'\n";
    let project = Project::new(&web_manifest(1, report));
    let server = Server::serve(&project);
    let pid = server.pid();
    for example in examples {
        let output = Command::new("sh")
            .args(["-ec", example])
            .env("API", format!("http://{}", server.api))
            .env("SOCKET", server.state.join("api.sock"))
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !answer.contains("\"error\""), "{example}{answer}");
    }
    wait_for("the last example has ended the server", || !lives(pid));
}

#[test]
fn the_first_manifest_comes_with_its_two_lines_for_gitignore() {
    let readme = include_str!("../../README.md");
    let (_, first) = readme.split_once("## A first manifest of your own").expect("it is there");
    let (first, _) = first.split_once("\n## ").expect("another section follows");
    assert!([".gitignore", "`.build*`", "`.run`"].iter().all(|line| first.contains(line)), "{first}");
}
