//! `examples/embed.rs` as somebody runs it: a node of real processes in a server that is not ours.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

/// Ended also where a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn ask(address: &str, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let fields = "Host: localhost\r\nConnection: close\r\nContent-Length: 0";
    write!(stream, "{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_example_serves_the_api_of_real_services_and_leaves_none_behind() {
    let project = tempfile::tempdir().unwrap();
    let manifest = "services:\n  job: !App\n    root: .\n    run: sh -c 'echo $$ > pid; exec sleep 1000'\n    background: true\n";
    std::fs::write(project.path().join("pm3.yml"), manifest).unwrap();
    // Cargo builds examples beside the tests.
    let example = env::current_exe().unwrap().with_file_name("").join("../examples/embed");
    let child = Command::new(example).arg(project.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut example = Running(child);
    let mut line = String::new();
    BufReader::new(example.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("curl http://").unwrap().strip_suffix("/service/health").unwrap();

    // An operation that has nothing to do ends behind those before it, the start among them.
    assert!(ask(address, "POST", "/reload").contains("200 OK"));
    assert!(ask(address, "GET", "/service/health").contains("\"OK\""));
    let pid = std::fs::read_to_string(project.path().join("pid")).unwrap();
    assert!(ask(address, "POST", "/shutdown").contains("200 OK"));
    assert!(example.0.wait().unwrap().success());
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists());
}
