//! s6: one s6-svscan, and for each service an s6-supervise and, since the others keep the output too, an s6-log with
//! its own s6-supervise.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::supervisor::{LOG_BYTES, OLD_LOGS, Run, Service, Supervisor};
use crate::bench::processes::Running;

pub(super) struct S6;

impl Supervisor for S6 {
    fn name(&self) -> &'static str {
        "s6"
    }

    /// Its programs do not tell; the package does.
    fn version(&self) -> Result<String> {
        let output = Command::new("dpkg-query").args(["--show", "--showformat=s6 ${Version}", "s6"]).output();
        let told = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        Ok(told.map_or_else(|| "s6".to_owned(), |told| String::from_utf8_lossy(&told).into_owned()))
    }

    fn start(&self, scratch: &Path, services: &[Service]) -> Result<Run> {
        let (folder, logs) = (scratch.join("services"), scratch.join("logs"));
        std::fs::create_dir(&logs)?;
        for Service { name, words } in services {
            let service = folder.join(name);
            DirBuilder::new().recursive(true).create(service.join("log"))?;
            script(&service.join("run"), &words.join(" "))?;
            let keep = format!("s6-log n{OLD_LOGS} s{LOG_BYTES} {}/{name}", logs.display());
            script(&service.join("log/run"), &keep)?;
        }
        let mut command = Command::new("s6-svscan");
        command.arg("-c").arg((services.len() + 100).to_string()).arg(&folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let since = Instant::now();
        let process = Running::start(&mut command)?;
        Ok(Run {
            process,
            since,
            is_ready: None,
            metrics: None,
            logs: Box::new(move |service| kept(&logs.join(service))),
        })
    }
}

fn script(path: &Path, command: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path);
    let mut file = file.with_context(|| format!("cannot make {}", path.display()))?;
    Ok(write!(file, "#!/bin/sh\nexec {command}\n")?)
}

/// `current`, then the older ones, whose names begin with the time at which they ended.
fn kept(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut old: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"@"))
        .map(|entry| entry.path())
        .collect();
    old.sort_unstable();
    [folder.join("current")].into_iter().chain(old.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn the_newest_file_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["@4000000000000002.s", "lock", "current", "@4000000000000003.s", "state"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> =
            kept(folder.path()).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["current", "@4000000000000003.s", "@4000000000000002.s"]);
    }
}
