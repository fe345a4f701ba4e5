//! `front`: the HTTP front before one upstream, against nginx before the same one, or against another build.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::api_client::Connection;
use super::figures::{PAIRS, Row, table};
use super::guard::scratch;
use super::peers::{NGINX, WRK, first_line, require};
use super::pmesh::{Binary, Server};
use super::processes::{Running, cpu_of_tree, until};
use super::upstream::Upstream;

const CONNECTIONS: &str = "64";
const RUN: &str = "4s";
const WARM_UP: &str = "1s";
const READY: Duration = Duration::from_secs(10);

/// What one run under load gave.
struct Outcome {
    requests_per_second: f64,
    cpu_micros_per_request: f64,
}

/// What `wrk` prints of one run.
#[derive(Debug, PartialEq)]
struct Load {
    requests: u64,
    per_second: f64,
    /// The lines that tell of failures.
    failures: Vec<String>,
}

/// Measures the server and nginx, and answers with the table.
pub(super) fn measure(server: &Binary) -> Result<String> {
    require(&[NGINX, WRK])?;
    let scratch = scratch()?;
    let upstream = Upstream::start()?;
    let pmesh = start_server(server, &scratch.path().join("pmesh"), upstream.address)?;
    let threads = std::thread::available_parallelism()?.get();
    let (nginx, nginx_address) = start_nginx(scratch.path(), threads, upstream.address)?;
    await_answer(nginx_address).context("nginx")?;

    let ours = Proxy { name: "pmesh-server", process: pmesh.process.id(), address: pmesh.front };
    let theirs = Proxy { name: "nginx", process: nginx.id(), address: nginx_address };
    let rows = rows(&in_pairs(&ours, &theirs)?);
    // What stands behind the version there is how it was built, and whose it is.
    let wrk = first_line(Command::new("wrk").arg("-v"))?;
    let wrk = wrk.split(" [").next().unwrap_or_default().to_owned();
    let versions = [server.version.clone(), first_line(Command::new("nginx").arg("-v"))?, wrk];
    Ok(format!("{}. Threads and workers: {threads} each.\n\n{}", versions.join("; "), table("nginx", &rows)))
}

/// Measures the server and another build of it, and answers with the table.
pub(super) fn compare(server: &Binary, other: &Binary) -> Result<String> {
    require(&[WRK])?;
    let scratch = scratch()?;
    let upstream = Upstream::start()?;
    let pmesh = start_server(server, &scratch.path().join("this"), upstream.address)?;
    let peer = start_server(other, &scratch.path().join("other"), upstream.address)?;
    let ours = Proxy { name: "this build", process: pmesh.process.id(), address: pmesh.front };
    let theirs = Proxy { name: "the other build", process: peer.process.id(), address: peer.front };
    let rows = rows(&in_pairs(&ours, &theirs)?);
    Ok(format!("{} against {}\n\n{}", server.version, other.version, table("other", &rows)))
}

/// A proxy under load.
struct Proxy {
    name: &'static str,
    process: u32,
    address: SocketAddr,
}

fn start_server(server: &Binary, scratch: &Path, upstream: SocketAddr) -> Result<Server> {
    let site = scratch.join("site");
    std::fs::create_dir_all(&site)?;
    std::fs::write(site.join("pm3.yml"), manifest(upstream))?;
    let server = server.serve(&site, scratch)?;
    await_answer(server.front).context("pmesh-server")?;
    Ok(server)
}

fn in_pairs(ours: &Proxy, theirs: &Proxy) -> Result<Vec<(Outcome, Outcome)>> {
    wrk(ours.address, WARM_UP)?;
    wrk(theirs.address, WARM_UP)?;
    let mut outcomes = Vec::new();
    for pair in 0..PAIRS {
        // Each goes first in turn: what a run leaves behind, a warm cache or a throttled core, favours neither.
        let (ours, theirs) = if pair % 2 == 0 {
            let ours = load(ours)?;
            (ours, load(theirs)?)
        } else {
            let theirs = load(theirs)?;
            (load(ours)?, theirs)
        };
        outcomes.push((ours, theirs));
    }
    Ok(outcomes)
}

fn rows(outcomes: &[(Outcome, Outcome)]) -> [Row; 2] {
    let row = |what, unit, of: fn(&Outcome) -> f64| Row {
        what,
        unit,
        pairs: outcomes.iter().map(|(ours, theirs)| (of(ours), of(theirs))).collect(),
    };
    [
        row("CPU per request", "µs", |outcome| outcome.cpu_micros_per_request),
        row("requests per second", "1/s", |outcome| outcome.requests_per_second),
    ]
}

fn manifest(upstream: SocketAddr) -> String {
    format!("services:\n  app: !Proxy\n    upstreams: {upstream}\nserver:\n  _:\n    router:\n      - app\n")
}

/// Starts nginx in the foreground, with as many workers as the front has threads. Connections are kept for as many
/// requests as the load sends, on both sides, as pmesh keeps them.
fn start_nginx(scratch: &Path, workers: usize, upstream: SocketAddr) -> Result<(Running, SocketAddr)> {
    // nginx cannot be asked for a free port. Between this and its start somebody else might take it; then it fails.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder = scratch.join("nginx");
    std::fs::create_dir(&folder)?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", folder.display()))
        .concat();
    let config = format!(
        "daemon off;\nworker_processes {workers};\npid {folder}/nginx.pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n{temporary}  keepalive_requests 1000000000;\n\
         \x20 upstream app {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}\n\
         \x20 server {{\n    listen {address};\n    location / {{\n      proxy_pass http://app;\n\
         \x20     proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n\
         \x20     proxy_set_header Host $host;\n      proxy_set_header X-Forwarded-For $remote_addr;\n\
         \x20     proxy_set_header X-Forwarded-Proto $scheme;\n    }}\n  }}\n}}\n",
        folder = folder.display(),
    );
    let path = folder.join("nginx.conf");
    std::fs::write(&path, config)?;
    let log = File::create(folder.join("stderr.log"))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).arg("-c").arg(&path).arg("-e").arg(folder.join("error.log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok((Running::start(&mut command)?, address))
}

/// Waits until a request through the proxy is answered by the upstream.
fn await_answer(proxy: SocketAddr) -> Result<()> {
    let mut last = String::from("nothing listens");
    let answered = until(READY, || {
        match Connection::open(proxy).and_then(|mut connection| connection.get("/x")) {
            Ok((200, _)) => return Ok(true),
            Ok((status, body)) => last = format!("{status} {}", String::from_utf8_lossy(&body)),
            Err(error) => last = format!("{error:#}"),
        }
        Ok(false)
    })?;
    if !answered {
        bail!("not ready after {} s: {last}", READY.as_secs());
    }
    Ok(())
}

/// One run: requests, and the CPU time of the proxy's process tree for them.
fn load(proxy: &Proxy) -> Result<Outcome> {
    let before = cpu_of_tree(proxy.process)?;
    let load = wrk(proxy.address, RUN).context(proxy.name)?;
    let cpu = cpu_of_tree(proxy.process)?.saturating_sub(before);
    Ok(Outcome {
        requests_per_second: load.per_second,
        cpu_micros_per_request: cpu.as_secs_f64() * 1e6 / load.requests as f64,
    })
}

fn wrk(address: SocketAddr, duration: &str) -> Result<Load> {
    let output = Command::new("wrk")
        .args(["-t1", "-c", CONNECTIONS, "-d", duration])
        .arg(format!("http://{address}/x"))
        .output()
        .context("cannot run wrk")?;
    let load =
        Load::parse(&String::from_utf8_lossy(&output.stdout)).context("wrk says nothing that is known")?;
    if !load.failures.is_empty() {
        bail!("requests failed: {}", load.failures.join("; "));
    }
    Ok(load)
}

impl Load {
    fn parse(printed: &str) -> Option<Self> {
        let lines = || printed.lines().map(str::trim);
        let requests = lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok())?;
        let per_second = lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok())?;
        let tells_of_failure = |line: &&str| line.starts_with("Socket errors") || line.starts_with("Non-2xx");
        let failures = lines().filter(tells_of_failure).map(str::to_owned).collect();
        Some(Self { requests, per_second, failures })
    }
}

#[cfg(test)]
mod tests {
    use super::Load;

    #[test]
    fn what_wrk_prints_is_read_with_its_failures() {
        let printed = "Running 4s test @ http://127.0.0.1:1/x\n  1 threads and 64 connections\n  \
                       205316 requests in 4.10s, 235.20MB read\n  Socket errors: connect 0, read 2, write 0, timeout 0\n\
                       Requests/sec:  50077.56\nTransfer/sec:     57.36MB\n";
        let load = Load::parse(printed).unwrap();
        assert_eq!(load.requests, 205_316);
        assert_eq!(load.failures, ["Socket errors: connect 0, read 2, write 0, timeout 0"]);
        assert!((load.per_second - 50_077.56).abs() < 0.001);
        assert_eq!(Load::parse("unable to connect"), None);
    }
}
