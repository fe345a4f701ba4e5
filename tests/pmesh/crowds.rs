//! Many connections to the API, of one user and of others.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use crate::harness::{Project, Server, skipped};

/// Opens connections that say nothing, half a head or half a body, and keeps them until its input ends.
const CROWD: &str = r#"
import resource, socket, sys
host, port = sys.argv[1].rsplit(":", 1)
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
half = [b"", b"GET /ping HT", b"POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"]
crowd = []
for number in range(1000):
    crowd.append(socket.create_connection((host, int(port))))
    crowd[-1].send(half[number % 3])
print("here", flush=True)
sys.stdin.read()
"#;

/// A crowd that goes when it is dropped.
struct Crowd(Child);

impl Crowd {
    fn at(address: &str, user: Option<u32>) -> Self {
        let mut command = Command::new("python3");
        if let Some(user) = user {
            command.uid(user);
        }
        let mut child = command
            .args(["-c", CROWD, address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "here\n");
        Self(child)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn a_crowd_of_half_requests_locks_neither_its_own_user_nor_others_out_of_the_api() {
    let project = Project::web(1);
    let server = Server::serve(&project);
    let mut crowds = vec![Crowd::at(&server.api, None)];
    assert_eq!(server.get("/service/health/web")["status"], "OK");
    if server.is_of_root() {
        crowds.push(Crowd::at(&server.api, Some(54_321)));
        crowds.push(Crowd::at(&server.api, Some(54_322)));
        assert_eq!(server.get("/service/health/web")["status"], "OK");
    } else {
        skipped("only root can be a crowd of other users");
    }
    server.post("/service/restart/web");
}
