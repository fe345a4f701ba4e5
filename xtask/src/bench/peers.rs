//! The programs that the server is measured against and with, from Debian's packages where they are missing.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program and the package that has it.
pub(super) struct Peer {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

pub(super) const NGINX: Peer = Peer { program: "nginx", package: "nginx-light" };
pub(super) const WRK: Peer = Peer { program: "wrk", package: "wrk" };
pub(super) const SUPERVISORD: Peer = Peer { program: "supervisord", package: "supervisor" };

/// Installs what is missing.
pub(super) fn install(peers: &[Peer]) -> Result<()> {
    let missing: Vec<&str> = peers.iter().filter(|peer| !peer.is_here()).map(|peer| peer.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(", "));
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat())
        .with_context(|| format!("install {} by hand", missing.join(", ")))
}

impl Peer {
    fn is_here(&self) -> bool {
        // Debian has nginx in a folder that not every user's path names.
        let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        folders.split(':').any(|folder| std::path::Path::new(folder).join(self.program).is_file())
    }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(["--quiet", "--quiet"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot run apt-get, which this needs for what is missing")?;
    if !status.success() {
        bail!("apt-get {} failed; only root may install", arguments.join(" "));
    }
    Ok(())
}

/// The first line that a program prints, wherever it prints it and whatever its exit code: nginx tells its version on
/// standard error, and wrk calls `-v` a mistake.
pub(super) fn first_line(command: &mut Command) -> Result<String> {
    let output =
        command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let printed = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let line = printed.lines().next().map(|line| line.trim().to_owned());
    line.filter(|line| !line.is_empty())
        .with_context(|| format!("{} says nothing", command.get_program().display()))
}
