//! pmesh-server: a repository with one commit, its manifest, and the API.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::supervisor::{OLD_LOGS, Run, Service, Supervisor};
use crate::bench::api_client::Connection;
use crate::bench::pmesh::Binary;

/// The server, by its program file.
pub(super) struct Pmesh<'a>(pub(super) &'a Binary);

impl Supervisor for Pmesh<'_> {
    fn name(&self) -> &'static str {
        "pmesh"
    }

    fn version(&self) -> Result<String> {
        Ok(self.0.version.clone())
    }

    fn start(&self, scratch: &Path, services: &[Service]) -> Result<Run> {
        let folder = scratch.join("project");
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("pm3.yml"), manifest(services))?;
        git(&folder, &["init", "--quiet", "--initial-branch=main"])?;
        git(&folder, &["add", "--all"])?;
        git(&folder, &["commit", "--quiet", "--message", "Add the services"])?;

        let since = Instant::now();
        let server = self.0.serve(&folder, scratch)?;
        let (api, count) = (server.api, services.len());
        let mut connection = None;
        let is_ready = move || {
            let connection = match &mut connection {
                Some(connection) => connection,
                none => none.insert(Connection::open(api)?),
            };
            let health = connection.json("/service/health")?;
            let health = health.as_object().context("/service/health is no object")?;
            Ok(health.len() == count && health.values().all(|health| health["status"] == "OK"))
        };
        let logs = scratch.join("state/logs");
        Ok(Run {
            process: server.process,
            since,
            is_ready: Some(Box::new(is_ready)),
            metrics: Some(api),
            logs: Box::new(move |service| {
                let old = (1..=OLD_LOGS).map(|number| format!("{service}.log.{number}"));
                [format!("{service}.log")].into_iter().chain(old).map(|name| logs.join(name)).collect()
            }),
        })
    }
}

fn manifest(services: &[Service]) -> String {
    let mut manifest = String::from("services:\n");
    for Service { name, words } in services {
        writeln!(manifest, "  {name}: !App {{ root: ., run: {}, background: true }}", words.join(" "))
            .expect("a string takes whatever is written to it");
    }
    manifest
}

/// Runs git with no configuration but this and the repository's own.
fn git(folder: &Path, words: &[&str]) -> Result<()> {
    let status = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "gc.auto=0"])
        .args(words)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .status()
        .context("cannot run git")?;
    ensure!(status.success(), "git {} failed", words.join(" "));
    Ok(())
}
