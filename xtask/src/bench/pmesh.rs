//! The server that is measured: its binary, and one run of it on free loopback ports.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::peers::first_line;
use super::processes::Running;

/// The server's program file.
pub(super) struct Binary {
    path: PathBuf,
    /// What `--version` says.
    pub(super) version: String,
}

/// A running server; it ends when this is dropped.
pub(super) struct Server {
    pub(super) process: Running,
    pub(super) front: SocketAddr,
    pub(super) api: SocketAddr,
}

impl Binary {
    pub(super) fn new(path: PathBuf) -> Result<Self> {
        let version = first_line(Command::new(&path).arg("--version"))?;
        Ok(Self { path, version })
    }

    /// Serves the manifest in `folder`; state and log go to `scratch`. Answers when the listeners are bound, which is
    /// before the services are ready.
    pub(super) fn serve(&self, folder: &Path, scratch: &Path) -> Result<Server> {
        let log = scratch.join("pmesh-server.log");
        let mut command = Command::new(&self.path);
        command.arg("run").arg(folder).arg("--state-dir").arg(scratch.join("state"));
        command.args(["--http", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-socket", "--log-level", "warn"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut process = Running::start(&mut command)?;
        let output = BufReader::new(process.stdout.take().context("its output is a pipe")?);
        let (mut front, mut api) = (None, None);
        for line in output.lines() {
            let line = line?;
            match line.split_once("http://") {
                Some((name, address)) if name.trim() == "front" => front = Some(address.trim().parse()?),
                Some((name, address)) if name.trim() == "api" => api = Some(address.trim().parse()?),
                _ => {}
            }
            if let (Some(front), Some(api)) = (front, api) {
                return Ok(Server { process, front, api });
            }
        }
        bail!("pmesh-server did not start: {}", std::fs::read_to_string(log)?.trim());
    }
}
