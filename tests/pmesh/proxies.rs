//! Other proxies on this machine, as Debian has them, before the API and before the `pm3` host: whoever asks them
//! is a visitor from anywhere, and no such one may use the API.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{Connection, Project, Server, has_program, is_root, signal, wait_for};

/// A proxy in the foreground that ends with this value.
struct Proxy {
    child: Child,
    address: String,
}

impl Proxy {
    fn start(mut command: Command, address: String, log: &Path) -> Self {
        let stderr = fs::File::create(log).unwrap();
        let child =
            command.stdin(Stdio::null()).stdout(stderr.try_clone().unwrap()).stderr(stderr).spawn().unwrap();
        let mut proxy = Self { child, address };
        wait_for("the proxy listens", || {
            let ended = proxy.child.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ended: {}", fs::read_to_string(log).unwrap());
            TcpStream::connect(&proxy.address).is_ok()
        });
        proxy
    }

    /// nginx, as the user that Debian's configuration names, with these lines in the location.
    fn nginx(folder: &Path, to: &str, user: &str, lines: &str) -> Self {
        let address = free_address();
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.display()))
            .concat();
        let text = format!(
            "{user}\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}\
             server {{ listen {address}; location / {{ proxy_pass http://{to}; {lines} }} }} }}\n",
            folder = folder.display()
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(file).args(["-g", "daemon off;"]);
        Self::start(command, address, &folder.join("nginx.log"))
    }

    /// `HAProxy` with Debian's global and default sections, but for the socket and the log of the service.
    fn haproxy(folder: &Path, to: &str, lines: &str) -> Self {
        let address = free_address();
        let packaged = fs::read_to_string("/etc/haproxy/haproxy.cfg").unwrap();
        let is_the_services =
            |line: &&str| ["stats ", "log", "daemon"].iter().any(|word| line.trim().starts_with(word));
        let packaged: Vec<&str> = packaged.lines().filter(|line| !is_the_services(line)).collect();
        let text = format!(
            "{}\nfrontend in\n  bind {address}\n  default_backend out\nbackend out\n  {lines}\n  server one {to}\n",
            packaged.join("\n")
        );
        let file = folder.join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file);
        Self::start(command, address, &folder.join("haproxy.log"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        signal(self.child.id(), "TERM");
        self.child.wait().unwrap();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The line of nginx's packaged configuration that names the workers' user.
fn packaged_user() -> String {
    let packaged = fs::read_to_string("/etc/nginx/nginx.conf").unwrap();
    packaged.lines().find(|line| line.starts_with("user ")).unwrap().to_owned()
}

/// Asks through a proxy what nobody may, by each name that the API answers to.
fn nothing_gets_through(server: &Server, proxy: &Proxy) {
    let before = server.get("/service");
    for host in ["pm3", "localhost", "127.0.0.1"] {
        for (method, path) in [("GET", "/service"), ("POST", "/service/stop"), ("GET", "/service/stop")] {
            let mut connection = Connection::to(&proxy.address);
            let (status, body) = connection.send(method, path, host, &[], "").unwrap();
            assert!([403, 421].contains(&status), "{method} {path} as {host}: {status} {body}");
            if status == 403 {
                let answer: Value = serde_json::from_str(&body).unwrap_or_default();
                assert_eq!(answer["code"], json!("not_internal"), "{method} {path} as {host}: {body}");
            } else {
                assert_ne!(host, "pm3", "the front has no other host");
            }
        }
    }
    assert_eq!(server.get("/service"), before);
}

#[test]
fn nginx_before_the_api_opens_it_to_nobody() {
    if !is_root() || !has_program("nginx") {
        return;
    }
    let project = Project::web(1);
    let server = Server::serve(&project);
    for to in [&server.api, &server.front] {
        let folder = tempfile::tempdir().unwrap();
        let keep_host = "proxy_set_header Host $host;";
        let proxy = Proxy::nginx(folder.path(), to, &packaged_user(), keep_host);
        nothing_gets_through(&server, &proxy);
        drop(proxy);
        // As root it is a user who may use the API; then what it says about its visitors counts.
        let names = "proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;";
        let proxy = Proxy::nginx(folder.path(), to, "user root;", names);
        nothing_gets_through(&server, &proxy);
    }
}

#[test]
fn haproxy_before_the_api_opens_it_to_nobody() {
    if !is_root() || !has_program("haproxy") {
        return;
    }
    let project = Project::web(1);
    let server = Server::serve(&project);
    for to in [&server.api, &server.front] {
        let folder = tempfile::tempdir().unwrap();
        for lines in ["", "option forwardfor"] {
            let proxy = Proxy::haproxy(folder.path(), to, lines);
            nothing_gets_through(&server, &proxy);
        }
    }
}
