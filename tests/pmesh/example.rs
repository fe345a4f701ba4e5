//! The example of the README.

use std::path::Path;

use crate::harness::{Connection, Server, pmesh};

#[test]
fn the_example_serves_its_app_and_its_files_and_checks() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello");
    assert!(pmesh().arg("check").arg(&example).output().unwrap().status.success());
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&example, &folder.path().join("state"));
    server.settle();
    let get = |path| Connection::to(&server.front).send("GET", path, "localhost", &[], "").unwrap();
    let (status, body) = get("/");
    assert!(status == 200 && body.contains("\"greeting\": \"Hello\""), "{status} {body}");
    let (status, body) = get("/files/");
    assert!(status == 200 && body.contains("<h1>Hello</h1>"), "{status} {body}");
    let health = server.get("/service/health");
    assert_eq!(health.as_object().unwrap().keys().collect::<Vec<_>>(), ["web", "clock", "site"]);
    let (status, answer) = server.call("POST", "/repo/update", &[], "");
    assert_eq!((status, answer["code"].as_str()), (409, Some("update_disabled")));
}
