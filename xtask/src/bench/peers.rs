//! The programs that the server is measured against and with; they are in Debian's packages.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A program and the package that has it.
pub(super) struct Peer {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

pub(super) const NGINX: Peer = Peer { program: "nginx", package: "nginx-light" };
pub(super) const WRK: Peer = Peer { program: "wrk", package: "wrk" };
pub(super) const SUPERVISORD: Peer = Peer { program: "supervisord", package: "supervisor" };

pub(super) const S6: Peer = Peer { program: "s6-svscan", package: "s6" };

/// Fails with what to install where one of them is missing. Nothing is ever installed from here.
pub(super) fn require(peers: &[Peer]) -> Result<()> {
    let missing: Vec<String> = peers.iter().filter_map(Peer::missing).collect();
    ensure!(missing.is_empty(), "{}", missing.join("; "));
    Ok(())
}

impl Peer {
    /// What to do where it is not installed.
    pub(super) fn missing(&self) -> Option<String> {
        let path = std::env::var("PATH").unwrap_or_default();
        (!is_in(&path, self.program))
            .then(|| format!("{} is not installed (apt-get install {})", self.program, self.package))
    }
}

fn is_in(path: &str, program: &str) -> bool {
    // Debian has nginx in a folder that not every user's path names.
    path.split(':').chain(["/usr/sbin"]).any(|folder| Path::new(folder).join(program).is_file())
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

#[cfg(test)]
mod tests {
    use super::{Peer, is_in, require};

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let folder = tempfile::tempdir().unwrap();
        let path = format!("/nonexistent:{}", folder.path().display());
        assert!(!is_in(&path, "no-such-supervisor"));
        std::fs::write(folder.path().join("no-such-supervisor"), "").unwrap();
        assert!(is_in(&path, "no-such-supervisor"));
        let absent = Peer { program: "no-such-supervisor", package: "such" };
        assert_eq!(
            require(&[absent]).unwrap_err().to_string(),
            "no-such-supervisor is not installed (apt-get install such)"
        );
    }
}
