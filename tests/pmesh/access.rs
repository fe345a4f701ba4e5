//! What is refused is refused with its code, and changes nothing.

use serde_json::{Value, json};

use crate::harness::{Project, Server};

/// Method, path, headers and body; the status and code that they get.
type Case =
    (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str, u16, &'static str);

#[test]
fn bad_input_has_its_code_and_changes_nothing() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let before = server.get("/service");
    let cases: [Case; 17] = [
        ("POST", "/reload", &[], "{\"invalidate\": tru}", 400, "bad_request"),
        ("POST", "/reload", &[], "[1]", 400, "bad_request"),
        ("POST", "/reload", &[], "{\"invalidate\": 7}", 400, "bad_parameter"),
        ("POST", "/reload?invalidate=maybe", &[], "", 400, "bad_parameter"),
        ("POST", "/reload?invalidat", &[], "", 400, "unknown_parameter"),
        ("POST", "/reload", &[], "{\"force\": true}", 400, "unknown_parameter"),
        ("POST", "/service/restart/%zz", &[], "", 400, "bad_request"),
        ("POST", "/service/restart/nope", &[], "", 404, "service_not_found"),
        ("POST", "/service/stop/", &[], "", 400, "service_name_missing"),
        ("POST", "/service/restart/", &[], "", 400, "service_name_missing"),
        ("POST", "/nowhere", &[], "", 404, "route_not_found"),
        ("DELETE", "/service", &[], "", 405, "method_not_allowed"),
        ("POST", "/repo", &[], "", 405, "method_not_allowed"),
        ("POST", "/reload", &[("Origin", "http://evil.example")], "", 403, "cross_site"),
        ("POST", "/reload", &[("Sec-Fetch-Site", "cross-site")], "", 403, "cross_site"),
        ("GET", "/service/stop", &[("User-Agent", "Mozilla/5.0")], "", 403, "cross_site"),
        ("GET", "/operation/1", &[], "", 404, "operation_not_found"),
    ];
    for (method, path, headers, body, status, code) in cases {
        let (got, answer) = server.call(method, path, headers, body);
        assert_eq!((got, &answer["code"]), (status, &json!(code)), "{method} {path}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()));
    }
    let (status, answer) = server.call("POST", "/reload", &[], &"x".repeat(65 * 1024));
    assert_eq!((status, &answer["code"]), (413, &json!("body_too_large")));
    let mut connection = crate::harness::Connection::to(&server.api);
    let (status, answer) = connection.send("POST", "/service/stop", "evil.example", &[], "").unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["code"]), (403, &json!("host_not_allowed")));
    assert_eq!(server.get("/service"), before);
}

#[test]
fn the_pm3_host_the_port_and_the_socket_give_the_same_bytes() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let mut front = crate::harness::Connection::to(&server.front);
    let (_, by_front) = front.send("GET", "/repo?pretty", "pm3", &[], "").unwrap();
    let mut api = crate::harness::Connection::to(&server.api);
    let (_, by_api) = api.send("GET", "/repo?pretty", "pm3", &[], "").unwrap();
    assert_eq!(by_front, by_api);
    let mut socket = crate::harness::Connection::to_socket(&server.state.join("api.sock"));
    let (_, by_socket) = socket.send("GET", "/repo?pretty", "localhost", &[], "").unwrap();
    assert_eq!(by_front, by_socket);
    let mut forwarded = crate::harness::Connection::to(&server.front);
    let (status, answer) =
        forwarded.send("GET", "/repo", "pm3", &[("X-Forwarded-For", "1.2.3.4")], "").unwrap();
    assert_eq!(status, 403, "{answer}");
}
